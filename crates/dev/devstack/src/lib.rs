//! Real Kafka and ClickHouse servers for the demo, the tests and the benchmarks. Not for production.
//!
//! Each server comes from the first of these that is available:
//! 1. a running one: `MAILPULSE_KAFKA` (bootstrap servers) or `MAILPULSE_CLICKHOUSE` (URL) names it;
//!    `MAILPULSE_KAFKA_PROPERTIES` has the properties of Kafka's clients, if they need any;
//! 2. the service `kafka` or `clickhouse` of the repository's `docker-compose.yml`, if a Docker
//!    engine answers;
//! 3. a child process: Kafka's jars, fetched once by Maven, or `chdb-server` over libchdb, fetched
//!    once by npm.

pub mod clickhouse;
mod compose;
mod dirs;
mod error;
pub mod kafka;
mod network;
pub mod process;
pub mod retention;
mod running;
pub mod tls;

use std::collections::BTreeMap;
use std::sync::OnceLock;

pub use ::fetch;
pub use clickhouse::ClickHouse;
pub use dirs::Dirs;
pub use error::Error;
pub use kafka::Kafka;
pub use running::Running;
pub use tls::{Authority, Identity, TlsFront};

/// How a server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// It ran before, and an environment variable names it.
    External,
    /// Docker Compose runs it. It keeps running for the next user until `docker compose down`.
    Compose,
    /// It is a child of this process and ends with it.
    Child,
}

/// Returns the bootstrap servers of the Kafka that all tests of this process share. The first call
/// starts it. The kernel kills a child process when this process ends.
///
/// # Panics
/// If Kafka cannot be started: a test without its Kafka must fail, not pass without a check.
#[allow(clippy::panic, reason = "a test has no caller that could handle the error")]
pub fn shared_kafka() -> &'static str {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED
        .get_or_init(|| match Dirs::new().and_then(|dirs| Kafka::start(&dirs)) {
            Ok(kafka) => kafka,
            Err(error) => panic!("the tests need Kafka: {error} [{}]", error.code()),
        })
        .bootstrap()
}

/// Returns librdkafka's properties for the clients of the Kafka that `MAILPULSE_KAFKA` names, if `bootstrap` is that
/// one: the texts of the JSON object `MAILPULSE_KAFKA_PROPERTIES`. Other brokers need none.
///
/// # Panics
/// If the variable is no such object.
#[allow(clippy::panic, reason = "a test has no caller that could handle the error")]
pub fn kafka_properties(bootstrap: &str) -> BTreeMap<String, String> {
    let is_named = std::env::var(kafka::VARIABLE).is_ok_and(|named| named == bootstrap);
    let Some(text) = std::env::var(PROPERTIES_VARIABLE).ok().filter(|_| is_named) else {
        return BTreeMap::new();
    };
    match serde_json::from_str(&text) {
        Ok(properties) => properties,
        Err(error) => panic!("{PROPERTIES_VARIABLE} is no JSON object of texts: {error}"),
    }
}

/// Names the properties of clients; see [`kafka_properties`].
pub const PROPERTIES_VARIABLE: &str = "MAILPULSE_KAFKA_PROPERTIES";

/// Returns the URL of the ClickHouse that all tests of this process share. The first call starts it.
/// The kernel kills a child process when this process ends.
///
/// # Panics
/// If ClickHouse cannot be started: a test without its ClickHouse must fail, not pass without a
/// check.
#[allow(clippy::panic, reason = "a test has no caller that could handle the error")]
pub fn shared_clickhouse() -> &'static str {
    static SHARED: OnceLock<ClickHouse> = OnceLock::new();
    SHARED
        .get_or_init(|| match Dirs::new().and_then(|dirs| ClickHouse::start(&dirs)) {
            Ok(clickhouse) => clickhouse,
            Err(error) => panic!("the tests need ClickHouse: {error} [{}]", error.code()),
        })
        .url()
}
