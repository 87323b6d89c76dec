use std::time::Duration;

use record::{DeadLetter, Reason, Stage};

use crate::stage::count_dead_letters;
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
}

impl DeadLetterWriter {
    /// Connects in the background.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn open(cluster: &Cluster, stage: Stage) -> Result<Self, Error> {
        let publisher = Publisher::open(&cluster.connection, stage.code(), PUBLISHER)?;
        Ok(Self { publisher, topic: cluster.topics.dead_letters.clone(), stage })
    }

    /// Writes as many of the records as the producer's queue accepts, in order, and waits until they
    /// are durable. Returns how many these are: at least one, unless `records` is empty. The metric
    /// counts them when they are durable.
    ///
    /// # Errors
    /// Fails if not all of them became durable. Write all of them again; those that are durable then
    /// exist twice, with the same origin.
    pub async fn write(&self, records: &[FailedRecord]) -> Result<usize, PublishError> {
        let batch = self.publisher.batch();
        let mut sent = 0;
        for FailedRecord { record, reason, detail } in records {
            let origin = Some(record.origin());
            let added = DeadLetter { stage: self.stage, reason: *reason, detail, origin }.headers();
            let added = added.iter().map(|(name, value)| (*name, &value[..]));
            let original = record.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
            let headers = PreparedHeaders::new(&original.chain(added).collect::<Vec<_>>());
            let value = record.value.as_deref().unwrap_or_default();
            match batch.send(&self.topic, &record.key, value, &headers) {
                Ok(()) => sent += 1,
                Err(PublishError::QueueFull) if sent > 0 => break,
                Err(error) => return Err(error),
            }
        }
        batch.acknowledged().await?;
        for failed in &records[..sent] {
            count_dead_letters(self.stage, failed.reason, 1);
        }
        Ok(sent)
    }
}
