//! Queries over ClickHouse's HTTP interface, for services that only read. Each query is bounded in time and in the
//! size of its answer. With several URLs, a query goes to the first server that answers.
//!
//! `archive` and the operator's tool use the crate `clickhouse` instead, because they insert rows in its native format.
//!
//! ```no_run
//! # async fn ask(settings: &service::ClickHouseSettings) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! let format = [("default_format", "JSONEachRow")];
//! let client = clickhouse_http::Client::new(settings, "mailpulse-example/0.1.0", &format)?;
//! let limits = clickhouse_http::Limits { timeout: Duration::from_secs(5), answer_bytes: 64 << 10 };
//! let sql = "SELECT count() FROM events WHERE source = {source:String}";
//! let answer = client.query(sql, &[("source", "acme")], limits).await?;
//! # Ok(())
//! # }
//! ```

mod client;
pub mod endpoints;
mod error;

pub use client::{Client, Limits};
pub use error::{Error, SettingError};
