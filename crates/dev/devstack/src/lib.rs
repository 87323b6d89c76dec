//! Real Kafka and ClickHouse for the demo, the tests and the benchmarks.
//!
//! Each part is taken from the first of these that is there:
//! 1. a running one, named by `MAILPULSE_KAFKA` (bootstrap servers) or `MAILPULSE_CLICKHOUSE` (URL);
//! 2. the service `kafka` or `clickhouse` of the repository's `docker-compose.yml`, when a Docker
//!    engine answers;
//! 3. the real software fetched once by Maven or npm and run as a process of ours.
//!
//! Nothing here is for production.

pub mod clickhouse;
mod compose;
mod dirs;
pub mod embedded;
mod error;
pub mod fetch;
pub mod kafka;
pub mod process;
mod running;

use std::sync::OnceLock;

pub use clickhouse::ClickHouse;
pub use dirs::Dirs;
pub use error::Error;
pub use kafka::Kafka;
pub use running::Running;

/// Where a part came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was running already, and an environment variable names it.
    Running,
    /// Docker Compose runs it. It is left running for the next user; `docker compose down` stops it.
    Compose,
    /// It was fetched, and is a process of ours, which ends with us.
    Fetched,
}

/// The bootstrap servers of the one Kafka of this process, started at first use. For tests.
///
/// A process of ours is killed by the kernel when this process ends.
///
/// # Panics
/// When it cannot be started: a test without its Kafka must fail, not pass by skipping.
#[allow(clippy::panic, reason = "for tests, where there is nobody to hand the error to")]
pub fn shared_kafka() -> &'static str {
    static SHARED: OnceLock<Kafka> = OnceLock::new();
    SHARED
        .get_or_init(|| match Dirs::new().and_then(|dirs| Kafka::start(&dirs)) {
            Ok(kafka) => kafka,
            Err(error) => panic!("the tests need Kafka: {error} [{}]", error.code()),
        })
        .bootstrap()
}

/// The URL of the one ClickHouse of this process, started at first use. For tests.
///
/// A process of ours is killed by the kernel when this process ends.
///
/// # Panics
/// When it cannot be started: a test without its ClickHouse must fail, not pass by skipping.
#[allow(clippy::panic, reason = "for tests, where there is nobody to hand the error to")]
pub fn shared_clickhouse() -> &'static str {
    static SHARED: OnceLock<ClickHouse> = OnceLock::new();
    SHARED
        .get_or_init(|| match Dirs::new().and_then(|dirs| ClickHouse::start(&dirs)) {
            Ok(clickhouse) => clickhouse,
            Err(error) => panic!("the tests need ClickHouse: {error} [{}]", error.code()),
        })
        .url()
}

/// Tells the user what takes time, or changes the machine.
#[allow(clippy::print_stderr, reason = "runs under xtask and test harnesses, for a person to read")]
pub(crate) fn notice(message: &str) {
    eprintln!("devstack: {message}");
}
