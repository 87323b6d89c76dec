use std::time::Duration;

use record::{DeadLetter, Reason, Stage, fit};

use crate::stage::{SMALLER_DEAD_LETTERS, count_dead_letters, count_source_refusals};
use crate::{
    Cluster, Error, OwnedRecord, PreparedHeaders, PublishError, Publisher, PublisherSettings,
};

/// Dead letters are few, so this producer needs little memory. Its timeout bounds one attempt; callers
/// retry.
const PUBLISHER: PublisherSettings = PublisherSettings {
    linger: Duration::from_millis(5),
    queue_bytes: 32 << 20,
    ack_timeout: Some(Duration::from_secs(30)),
};

/// A record that a stage gives up on, and the reason.
#[derive(Debug, Clone)]
pub struct FailedRecord {
    pub record: OwnedRecord,
    pub reason: Reason,
    /// An explanation for people.
    pub detail: String,
}

/// Writes the dead letters of a service that does not run a [`crate::Stage`].
pub struct DeadLetterWriter {
    publisher: Publisher,
    topic: String,
    stage: Stage,
    /// The largest record, in bytes.
    max_bytes: usize,
}

impl DeadLetterWriter {
    /// Connects in the background.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn open(cluster: &Cluster, stage: Stage) -> Result<Self, Error> {
        let publisher = Publisher::open(&cluster.connection, stage.code(), PUBLISHER)?;
        let max_bytes = cluster.connection.max_message_bytes;
        Ok(Self { publisher, topic: cluster.topics.dead_letters.clone(), stage, max_bytes })
    }

    /// Writes as many of the records as the producer's queue accepts, in order, and waits until they
    /// are durable. Returns how many these are: at least one, unless `records` is empty. The metric
    /// counts them when they are durable. A record that would be too large is cut; if the topic accepts
    /// less than the settings say, it is cut further.
    ///
    /// # Errors
    /// Fails if not all of them became durable. Write all of them again; those that are durable then
    /// exist twice, with the same origin.
    pub async fn write(&self, records: &[FailedRecord]) -> Result<usize, PublishError> {
        let written = match self.try_write(records, self.max_bytes).await {
            Err(PublishError::TooLarge) if !records.is_empty() => self.write_first(records).await,
            written => written,
        }?;
        for failed in &records[..written] {
            count_dead_letters(self.stage, failed.reason, 1);
            count_source_refusals(self.stage, failed.record.source(), 1);
        }
        Ok(written)
    }

    /// Writes the first of the records alone, as large as the topic accepts.
    async fn write_first(&self, records: &[FailedRecord]) -> Result<usize, PublishError> {
        let first = &records[..1];
        let mut written = self.try_write(first, self.max_bytes).await;
        for max_bytes in SMALLER_DEAD_LETTERS {
            if written != Err(PublishError::TooLarge) {
                break;
            }
            written = self.try_write(first, max_bytes).await;
        }
        written
    }

    async fn try_write(
        &self,
        records: &[FailedRecord],
        max_bytes: usize,
    ) -> Result<usize, PublishError> {
        let batch = self.publisher.batch();
        let mut sent = 0;
        for FailedRecord { record, reason, detail } in records {
            let origin = Some(record.origin());
            let dead_letter = DeadLetter { stage: self.stage, reason: *reason, detail, origin };
            let original = record.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
            let value = record.value.as_deref();
            let fitted = fit(dead_letter, &record.key, value, original, max_bytes);
            let headers = fitted.headers.iter().map(|(name, value)| (*name, &value[..]));
            let headers = PreparedHeaders::new(&headers.collect::<Vec<_>>());
            let value = fitted.value.unwrap_or_default();
            match batch.send(&self.topic, fitted.key, value, &headers) {
                Ok(()) => sent += 1,
                Err(PublishError::QueueFull) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        batch.acknowledged().await?;
        Ok(sent)
    }
}
