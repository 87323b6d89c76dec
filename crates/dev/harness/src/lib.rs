//! What the integration tests of all services share.
//!
//! Tests run the real binaries against a real Kafka and a real ClickHouse. `devstack` provides both:
//! the servers that `MAILPULSE_KAFKA` and `MAILPULSE_CLICKHOUSE` name, or those of Docker Compose, or
//! child processes of the test program. Every test has its own topic prefix and its own database, so
//! tests run in parallel, and the data of an earlier run does not matter.
//!
//! The harness produces, reads and asks through `rdkafka` and `clickhouse` directly. It shares no
//! code with the crate `kafka` and the services, which it helps to test.
//!
//! Every function panics if it cannot do its work: a test must fail, not skip, without its servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a failed test panics; there is no caller to handle an error"
)]

mod cluster;
mod database;
mod eventually;
pub mod http;
mod metrics;
mod ports;
mod producer;
mod reader;
pub mod records;
mod service;

pub use cluster::{Cluster, Committed, layout};
pub use database::Database;
pub use eventually::{Attempt, DEADLINE, eventually, holds_for, seen};
pub use http::Response;
pub use metrics::Metrics;
pub use ports::free_port;
pub use producer::Producer;
pub use reader::Reader;
pub use records::{Outgoing, Record};
pub use service::{Launch, Service};

pub use devstack::{shared_clickhouse, shared_kafka};
