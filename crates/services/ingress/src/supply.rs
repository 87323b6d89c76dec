//! Keeps the way to Kafka open: waits for its topics at the start, hands the backlog on when Kafka
//! is back, and says whether requests can be kept at all.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use service::Health;
use spool::{Records, SpoolError};
use kafka::{Batch, Cluster, PublishError};

use crate::backlog::Backlog;
use crate::envelope::Envelope;
use crate::outlet::Outlet;

/// How often Kafka is asked whether it is there, and a full disk whether it has room again.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// After a failure to hand something on.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Of a probe.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the backlog stays.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error("kafka does not answer")]
    Unreachable,
    #[error("{0}")]
    Publish(#[from] PublishError),
    #[error("{0}")]
    Spool(#[from] SpoolError),
}

/// Runs until the process ends.
///
/// # Errors
/// When the topics are not as the settings say; nothing that may pass is an error.
pub(crate) async fn supply(
    outlet: Arc<Outlet>,
    backlog: Arc<Backlog>,
    cluster: Cluster,
    health: Health,
) -> anyhow::Result<()> {
    tokio::select! {
        failed = keep_open(&outlet, &backlog, cluster, &health) => failed,
        never = watch_room(&backlog, &health) => match never {},
    }
}

/// The way to Kafka.
async fn keep_open(
    outlet: &Arc<Outlet>,
    backlog: &Backlog,
    cluster: Cluster,
    health: &Health,
) -> anyhow::Result<()> {
    await_topics(cluster, backlog, health).await?;
    if !backlog.is_empty() {
        report(backlog, health); // handing on may take its time
    }
    loop {
        let handed_on = reporting(hand_on(outlet, backlog), || {
            report(backlog, health);
            metrics::gauge!("mailpulse_ingress_in_flight_records")
                .set(outlet.publisher().in_flight() as f64);
        });
        match handed_on.await {
            Ok(()) => backlog.change(PROBE_EVERY).await,
            Err(error) => {
                backlog.divert_all(&error.to_string());
                tracing::warn!(%error, "the spool is not handed on");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

/// The way to the disk: ready as soon as there is room again, whether or not Kafka is back.
async fn watch_room(backlog: &Backlog, health: &Health) -> Infallible {
    loop {
        tokio::time::sleep(PROBE_EVERY).await;
        if backlog.recheck().await {
            report(backlog, health);
        }
    }
}

/// Runs `work` to its end, which may take as long as Kafka is away; reports every now and then.
async fn reporting<T>(work: impl Future<Output = T>, report: impl Fn()) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(PROBE_EVERY, &mut work).await {
            Ok(done) => {
                report();
                return done;
            }
            Err(_) => report(),
        }
    }
}

/// Returns when the topics are there; meanwhile requests are kept on the disk.
async fn await_topics(cluster: Cluster, backlog: &Backlog, health: &Health) -> anyhow::Result<()> {
    let cluster = Arc::new(cluster);
    loop {
        let asked = Arc::clone(&cluster);
        let mut prepared = tokio::task::spawn_blocking(move || asked.prepare());
        let prepared = loop {
            match tokio::time::timeout(PATIENCE, &mut prepared).await {
                Ok(prepared) => break prepared,
                Err(_) => {
                    tracing::warn!("kafka is not there yet; requests go to the spool");
                    report(backlog, health);
                }
            }
        };
        match prepared.context("asking for the topics")? {
            Ok(()) => return Ok(()),
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "the topics are not there yet");
                report(backlog, health);
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ready while requests can be kept, be it on the disk.
fn report(backlog: &Backlog, health: &Health) {
    match backlog.refuses() {
        None => health.ready(),
        Some(code) => health.hold(format!("kafka is away and the spool takes nothing: {code}")),
    }
}

/// Returns when nothing waits, and requests go to Kafka.
async fn hand_on(outlet: &Arc<Outlet>, backlog: &Backlog) -> Result<(), Stuck> {
    let asked = Arc::clone(outlet);
    let probe = tokio::task::spawn_blocking(move || asked.publisher().reachable(PATIENCE));
    if !probe.await.unwrap_or(false) {
        return Err(Stuck::Unreachable);
    }
    if backlog.is_direct() && backlog.is_empty() {
        return Ok(());
    }
    loop {
        while let Some((number, entries)) = backlog.first().await? {
            publish(outlet, backlog, &entries).await?;
            backlog.remove(number).await?;
        }
        if backlog.resume() {
            return Ok(());
        }
        backlog.change(RETRY_AFTER).await;
    }
}

/// Publishes entries in their order; all are durable when this returns. After an error, or a crash,
/// they are published again as a whole: `dedupe` drops what had got through.
async fn publish(outlet: &Outlet, backlog: &Backlog, entries: &[u8]) -> Result<(), PublishError> {
    let mut batch = outlet.patient_batch();
    for entry in Records::of(entries) {
        match send(outlet, entry, &batch) {
            Err(PublishError::QueueFull) => {
                let full = std::mem::replace(&mut batch, outlet.patient_batch());
                acknowledged(outlet, backlog, full).await?;
                send(outlet, entry, &batch)?;
            }
            sent => sent?,
        }
    }
    acknowledged(outlet, backlog, batch).await
}

/// Returns when Kafka has every record of the batch, however long that takes: to give one up that
/// has others behind it would put these before it. Newcomers do not wait for that.
async fn acknowledged(
    outlet: &Outlet,
    backlog: &Backlog,
    batch: Batch<'_>,
) -> Result<(), PublishError> {
    let mut acknowledged = std::pin::pin!(batch.acknowledged());
    match tokio::time::timeout(outlet.ack_timeout(), &mut acknowledged).await {
        Ok(done) => done,
        Err(_) => {
            backlog.divert_all(PublishError::Timeout.code());
            acknowledged.await
        }
    }
}

fn send(outlet: &Outlet, entry: &[u8], batch: &Batch<'_>) -> Result<(), PublishError> {
    match Envelope::open(entry) {
        Some((envelope, body)) => outlet.send(&envelope, body, batch).map(drop),
        None => {
            tracing::error!("an entry of the spool is of an unknown form; kept as a dead letter");
            outlet.dead_letter_entry(entry, batch)
        }
    }
}
