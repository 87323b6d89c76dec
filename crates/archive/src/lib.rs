//! `archive`: what Kafka has, ClickHouse gets, each row once.
//!
//! In: `mail.events`, `mail.rates`, `mail.alerts`, `mail.dead-letters`. Out: the ClickHouse tables
//! of the same names, described in `schemas/clickhouse/`.
//!
//! ```text
//! poll ─▶ tables ─▶ partition ─▶ mark pending (Kafka) ─▶ insert (ClickHouse) ─▶ next mark
//!         row by row  a fixed range    first-last             token topic/partition/first-last
//!         into columns of offsets
//! ```
//!
//! A batch is a fixed offset range of one partition. It is recorded in the group's offset metadata
//! before it is inserted, so whoever takes the partition over builds the same block with the same
//! deduplication token, and ClickHouse drops what it has. A row that cannot be a row goes to
//! `mail.dead-letters`, alone; anything not understood holds the partition, visibly.

pub mod native;
pub mod tables;
pub mod schema;
pub mod server;

mod clickhouse_error;

pub use clickhouse_error::ClickHouseError;
