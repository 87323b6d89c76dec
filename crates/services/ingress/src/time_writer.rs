//! Writes time records, so that time also passes in the log without events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use kafka::{Cluster, PublishError};
use record::TimeRecord;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::backlog::Backlog;
use crate::raw_publisher::RawPublisher;
use crate::settings::IngressSettings;

/// How long the last time record may take, while the process ends.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of the name of this instance its id contains, in bytes.
const NAME_BYTES: usize = 20;

pub(crate) struct TimeWriter {
    publisher: Arc<RawPublisher>,
    backlog: Arc<Backlog>,
    /// The number of partitions of each raw topic.
    partitions: i32,
    every: Duration,
    /// The id of this process.
    id: String,
}

impl TimeWriter {
    pub(crate) fn new(
        publisher: &Arc<RawPublisher>,
        backlog: &Arc<Backlog>,
        cluster: &Cluster,
        settings: &IngressSettings,
    ) -> Self {
        Self {
            publisher: Arc::clone(publisher),
            backlog: Arc::clone(backlog),
            partitions: cluster.partitions.recipient_partitions,
            every: settings.time_every,
            id: new_id(&cluster.connection.instance),
        }
    }

    /// Writes a time record to all raw partitions at every interval, once the topics exist. Waits for the
    /// acknowledgements of one before it writes the next.
    pub(crate) async fn write_forever(&self, topics: oneshot::Receiver<()>) -> Infallible {
        if self.every.is_zero() || topics.await.is_err() {
            return std::future::pending().await;
        }
        let mut interval = tokio::time::interval(self.every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let behind = metrics::gauge!("mailpulse_ingress_time_behind_seconds");
        let mut failed = false;
        loop {
            interval.tick().await;
            let Some(time) = self.backlog.watermark().time() else { continue };
            let now = self.backlog.watermark().now().micros();
            behind.set((now - time) as f64 / 1e6);
            let written = self.write(time, false).await;
            if let Err(error) = written
                && !failed
            {
                tracing::warn!(%error, "time records could not be written; trying again");
            }
            failed = written.is_err();
        }
    }

    /// Writes the last time record, after which no stage waits for another one of this process. If the
    /// spool has requests, there is none: they were received before.
    pub(crate) async fn write_last(&self) {
        if self.every.is_zero() || !self.backlog.is_direct() {
            return;
        }
        let Some(time) = self.backlog.watermark().time() else { return };
        let written = tokio::time::timeout(LAST_TIMEOUT, self.write(time, true));
        if let Err(error) = written.await.unwrap_or(Err(PublishError::Timeout)) {
            tracing::warn!(
                %error,
                "the last time record could not be written; other stages wait a minute for this process"
            );
        }
    }

    async fn write(&self, time: i64, is_last: bool) -> Result<(), PublishError> {
        let record = TimeRecord { time, id: Some(&self.id), is_last };
        self.publisher.publish_time(&record, self.partitions).await
    }
}

/// Returns an id for this process: the name of the instance, and random digits.
fn new_id(instance: &str) -> String {
    let name: String =
        instance.chars().filter(|it| it.is_ascii_alphanumeric() || ".-_".contains(*it)).collect();
    let name = &name[..name.len().min(NAME_BYTES)];
    let random = uuid::Uuid::new_v4().simple().to_string();
    format!("{name}-{}", &random[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_valid_and_differ_between_processes() {
        for instance in ["", "ingress-0", "räuber@host/1", &"x".repeat(500)] {
            let id = new_id(instance);
            assert!(TimeRecord::is_id(&id), "{id}");
            assert_ne!(id, new_id(instance));
        }
        assert!(new_id("ingress-0").starts_with("ingress-0-"));
    }
}
