//! `archive` writes the records of Kafka topics to ClickHouse. Every record becomes exactly one
//! row.
//!
//! Input: `mail.events`, `mail.rates`, `mail.alerts`, `mail.incidents`, `mail.actions`, `mail.suppressions`,
//! `mail.dead-letters`. Output: the ClickHouse tables of the same names, described in `schemas/clickhouse/`.
//!
//! ```text
//! poll ─▶ tables ────▶ partition ─────▶ record range (Kafka) ─▶ insert (ClickHouse) ─▶ record next
//!         records to   rows to batches  first-last              token topic/partition/first-last
//!         rows
//! ```
//!
//! A batch is a fixed range of offsets of one partition. The range is recorded in the group's
//! offset metadata before the insert. If the process crashes, the next owner of the partition
//! builds the same block with the same deduplication token, and ClickHouse stores only what is
//! missing. A record that cannot become a row goes to `mail.dead-letters` without affecting others.
//! After any other error the partition is held, which shows in the metrics and in `/readyz`.

mod archive;
mod batch;
mod clickhouse_error;
mod event_key;
mod https;
mod inserter;
mod meters;
pub mod native;
mod partition;
mod replicas;
pub mod retention;
pub mod rollup;
pub mod schema;
pub mod server;
mod settings;
pub mod tables;

use std::sync::Mutex;

use erasure::Erased;
use kafka::ranges::Ranges;
use kafka::{Cluster, DeadLetterWriter};
use service::Service;

pub use clickhouse_error::ClickHouseError;
pub use https::HttpsError;
pub use retention::Retention;
pub use schema::SchemaError;
pub use settings::ArchiveSettings;

use crate::archive::Archive;
use crate::inserter::Inserter;
use crate::server::Server;
use crate::tables::Table;

/// The stage in dead letters, in the ledger and in redriven records.
const STAGE: record::Stage = record::Stage::Archive;

/// Creates the tables if `archive.migrate` is set, and checks them. Waits while ClickHouse is away.
/// Returns false if shutdown is requested meanwhile.
///
/// # Errors
/// Fails if the tables cannot be used, for example because they do not deduplicate inserts.
pub async fn prepare(
    server: &mut Server,
    settings: &ArchiveSettings,
    service: &Service,
) -> Result<bool, SchemaError> {
    server.set_rows_and_sums_kept(settings.retention.of_rows_and_sums());
    let mut pauses = settings.pauses();
    loop {
        let attempt = async {
            if settings.migrate {
                schema::migrate(server).await?;
                retention::apply(server, &settings.retention).await?;
            }
            schema::check(server).await
        };
        let error = match attempt.await {
            Ok(()) => return Ok(true),
            Err(error) if error.is_temporary() => error,
            Err(error) => return Err(error),
        };
        tracing::warn!(%error, code = error.code(), "ClickHouse is not available; retrying");
        service.health.hold(error.to_string());
        let pause = pauses.next().unwrap_or(settings.retry_max);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.shutdown.wait() => return Ok(false),
        }
    }
}

/// Archives until shutdown is requested. Blocks the thread.
///
/// # Errors
/// Fails if Kafka reports an error from which only a new process recovers.
pub fn run(
    cluster: &Cluster,
    server: Server,
    settings: ArchiveSettings,
    erased: Erased,
    runtime: tokio::runtime::Handle,
    service: &Service,
) -> Result<(), kafka::Error> {
    let topics = &cluster.topics;
    let inputs = Table::ALL.map(|table| table.topic(topics));
    // Events, actions, suppressions and dead letters are keyed by recipient; rates and alerts by scope, and incidents have
    // as many partitions.
    let by_key =
        [(4, cluster.partitions.recipient_partitions), (3, cluster.partitions.scope_partitions)];
    let partitions = by_key.iter().map(|&(topics, n)| topics * usize::try_from(n).unwrap_or(1));
    let partitions = partitions.sum();
    let group = topics.group(STAGE.code());
    let ranges = Ranges::open(&cluster.connection, STAGE.code(), &group, &inputs, partitions)?;
    let inserter = Inserter {
        server,
        dead_letters: DeadLetterWriter::open(cluster, STAGE)?,
        settings,
        filled: Mutex::default(),
    };
    Archive::new(&ranges, topics, inserter, erased, runtime, &service.health).run(&service.shutdown)
}
