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

mod archive;
mod batch;
mod clickhouse_error;
mod deliver;
mod meters;
pub mod native;
mod partition;
mod rollup;
pub mod schema;
pub mod server;
mod settings;
pub mod tables;

use std::time::Duration;

use service::Service;
use kafka::ranges::Ranges;
use kafka::{Cluster, Publisher, PublisherSettings, StreamError};

pub use clickhouse_error::ClickHouseError;
pub use schema::SchemaError;
pub use settings::ArchiveSettings;

use crate::server::Server;
use crate::tables::Table;

/// For the few records that become dead letters.
const LETTERS: PublisherSettings = PublisherSettings {
    linger: Duration::from_millis(5),
    queue_bytes: 32 << 20,
    ack_timeout: Some(Duration::from_secs(30)),
};

/// Makes the tables if `archive.migrate` says so, and checks them. Waits for a ClickHouse that is
/// away; false when told to stop before it came.
///
/// # Errors
/// When the tables are not such that each row comes once.
pub async fn prepare(
    server: &mut Server,
    settings: &ArchiveSettings,
    service: &Service,
) -> Result<bool, SchemaError> {
    let mut pauses = settings.pauses();
    loop {
        let attempt = async {
            if settings.migrate {
                schema::migrate(server).await?;
            }
            schema::check(server).await
        };
        let error = match attempt.await {
            Ok(()) => return Ok(true),
            Err(error) if error.may_pass() => error,
            Err(error) => return Err(error),
        };
        tracing::warn!(%error, code = error.code(), "waiting for ClickHouse");
        service.health.hold(error.to_string());
        let pause = pauses.next().unwrap_or(settings.retry_max);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.shutdown.wait() => return Ok(false),
        }
    }
}

/// Archives until told to stop. Blocks.
///
/// # Errors
/// When Kafka says something that no retry mends.
pub fn run(
    cluster: &Cluster,
    server: Server,
    settings: ArchiveSettings,
    runtime: tokio::runtime::Handle,
    service: &Service,
) -> Result<(), StreamError> {
    let topics = &cluster.topics;
    let sources = Table::ALL.map(|table| table.topic(topics));
    let by_topic = [cluster.partitions.recipient_partitions, cluster.partitions.scope_partitions];
    // Events and dead letters are keyed by recipient, rates and alerts by scope.
    let partitions = by_topic.iter().map(|&n| 2 * usize::try_from(n).unwrap_or(1)).sum();
    let ranges = Ranges::open(
        &cluster.connection,
        "archive",
        &topics.group("archive"),
        &sources,
        partitions,
    )?;
    let courier = deliver::Courier {
        server,
        publisher: Publisher::open(&cluster.connection, LETTERS)?,
        dead_letters: topics.dead_letters.clone(),
        settings,
    };
    archive::Archive::new(&ranges, topics, courier, runtime, &service.health).run(&service.shutdown)
}
