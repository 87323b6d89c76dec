//! Publishes the backlog when Kafka is available, and reports if the ingress is ready.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kafka::{Cluster, PublishError};
use service::Health;
use spool::SpoolError;
use tokio::sync::oneshot;

use crate::backlog::Backlog;
use crate::publish_segment::{Progress, publish_segment};
use crate::raw_publisher::RawPublisher;
use crate::time_writer::TimeWriter;

/// How often we check if Kafka is reachable and if a full disk has free space again.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long to wait after the backlog could not be published.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long Kafka may take to answer a check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How often we look what an operator has removed from the quarantine.
const QUARANTINE_INTERVAL: Duration = Duration::from_secs(10);

/// Why the backlog could not be published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DrainError {
    #[error("Kafka is not reachable")]
    Unreachable,
    #[error("{0}")]
    Publish(#[from] PublishError),
    #[error("{0}")]
    Spool(#[from] SpoolError),
}

/// Drains the backlog and writes time records until the process ends.
///
/// # Errors
/// Returns an error if the topics differ from the settings. Temporary failures are retried.
pub(crate) async fn drain_backlog(
    publisher: Arc<RawPublisher>,
    backlog: Arc<Backlog>,
    cluster: Cluster,
    health: Health,
    time_writer: Arc<TimeWriter>,
) -> anyhow::Result<()> {
    let (prepared, topics) = oneshot::channel();
    tokio::select! {
        failed = drain_forever(&publisher, &backlog, cluster, &health, prepared) => failed,
        never = time_writer.write_forever(topics) => match never {},
        never = watch_capacity(&backlog, &health) => match never {},
        never = watch_quarantine(&backlog) => match never {},
    }
}

async fn drain_forever(
    publisher: &Arc<RawPublisher>,
    backlog: &Backlog,
    cluster: Cluster,
    health: &Health,
    prepared: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    wait_for_topics(cluster, backlog, health).await?;
    // The receiver is dropped only with this task.
    let _ = prepared.send(());
    if !backlog.is_empty() {
        report_readiness(backlog, health); // a large backlog may take minutes
    }
    let mut progress = Progress::default();
    loop {
        let drained = with_reports(drain(publisher, backlog, &mut progress), || {
            report_readiness(backlog, health);
            metrics::gauge!("mailpulse_ingress_in_flight_records")
                .set(publisher.publisher().in_flight() as f64);
        });
        match drained.await {
            Ok(()) => backlog.wait_for_change(CHECK_INTERVAL).await,
            Err(error) => {
                backlog.start_spooling(&error.to_string());
                tracing::warn!(%error, "publishing the backlog failed; retrying");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// Makes the ingress ready as soon as the spool can store requests again, even if Kafka is still
/// unavailable.
async fn watch_capacity(backlog: &Backlog, health: &Health) -> Infallible {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if backlog.recheck_capacity().await {
            report_readiness(backlog, health);
        }
    }
}

async fn watch_quarantine(backlog: &Backlog) -> Infallible {
    loop {
        tokio::time::sleep(QUARANTINE_INTERVAL).await;
        backlog.refresh_quarantined().await;
    }
}

/// Runs `work` to its end, and calls `report` at intervals and at the end. The work may take as
/// long as Kafka is unavailable.
async fn with_reports<T>(work: impl Future<Output = T>, report: impl Fn()) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(CHECK_INTERVAL, &mut work).await {
            Ok(done) => {
                report();
                return done;
            }
            Err(_) => report(),
        }
    }
}

/// Returns when all topics exist. Until then, requests are spooled.
async fn wait_for_topics(
    cluster: Cluster,
    backlog: &Backlog,
    health: &Health,
) -> anyhow::Result<()> {
    let cluster = Arc::new(cluster);
    loop {
        let blocking_cluster = Arc::clone(&cluster);
        let mut prepared = tokio::task::spawn_blocking(move || blocking_cluster.prepare());
        let prepared = loop {
            match tokio::time::timeout(CHECK_TIMEOUT, &mut prepared).await {
                Ok(prepared) => break prepared,
                Err(_) => {
                    tracing::warn!("waiting for Kafka at startup; requests go to the spool");
                    report_readiness(backlog, health);
                }
            }
        };
        match prepared.context("preparing the topics failed")? {
            Ok(()) => return Ok(()),
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "waiting for the topics at startup; requests go to the spool");
                report_readiness(backlog, health);
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The ingress is ready while it can store requests in Kafka or in the spool.
fn report_readiness(backlog: &Backlog, health: &Health) {
    match backlog.spool_error() {
        None => health.ready(),
        Some(code) => health.hold(format!(
            "requests are rejected: Kafka is unavailable and the spool cannot store them ({code})"
        )),
    }
}

/// Publishes the backlog. Returns when it is empty and requests go to Kafka. After an error, it
/// continues at `progress`.
async fn drain(
    publisher: &Arc<RawPublisher>,
    backlog: &Backlog,
    progress: &mut Progress,
) -> Result<(), DrainError> {
    let blocking_publisher = Arc::clone(publisher);
    let is_reachable = tokio::task::spawn_blocking(move || {
        blocking_publisher.publisher().is_reachable(CHECK_TIMEOUT)
    });
    if !is_reachable.await.unwrap_or(false) {
        return Err(DrainError::Unreachable);
    }
    if backlog.is_direct() && backlog.is_empty() {
        return Ok(());
    }
    loop {
        while let Some((number, segment)) = backlog.first_segment().await? {
            progress.start(number);
            publish_segment(publisher, backlog, &segment, progress).await?;
            backlog.remove_segment(number).await?;
            backlog.watermark().segment_published(&segment);
        }
        if backlog.try_resume() {
            return Ok(());
        }
        backlog.wait_for_change(RETRY_AFTER).await;
    }
}
