//! The archive against real Kafka and real ClickHouse.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod actions;
mod encrypted;
mod erased;
mod exactly_once;
mod faults;
mod https;
mod migrations;
mod native;
mod records;
mod repeated;
mod replicas;
mod retention;
mod schemas;
mod stack;
mod suppressions;
