//! Publishes raw events and time records, as the ingress does.

use std::time::Duration;

use kafka::{Batch, Connection, PreparedHeaders, PublishError, Publisher, PublisherSettings};
use record::{RawHeaders, TimeRecord, Topics};

use crate::pipeline::Pipeline;

/// A producer in place of an ingress.
pub(crate) struct RawFeed {
    publisher: Publisher,
    pub(crate) topics: Topics,
    /// The partitions of each raw topic.
    partitions: i32,
    /// The id of the ingress in time records.
    ingress: &'static str,
}

impl RawFeed {
    pub(crate) fn open(
        pipeline: &Pipeline,
        partitions: i32,
        ingress: &'static str,
    ) -> anyhow::Result<Self> {
        let connection: Connection = pipeline.connection(ingress);
        let settings = PublisherSettings {
            linger: Duration::from_millis(5),
            queue_bytes: 256 << 20,
            ack_timeout: None,
        };
        let publisher = Publisher::open(&connection, ingress, settings)?;
        Ok(Self { publisher, topics: Topics::new(pipeline.kafka_prefix()), partitions, ingress })
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        self.publisher.batch()
    }

    /// Writes a time record to every partition of all raw topics. `time` is in UTC microseconds.
    pub(crate) fn send_time(&self, batch: &Batch<'_>, time: i64) -> Result<(), PublishError> {
        let record = TimeRecord { time, id: Some(self.ingress), is_last: false };
        let headers: Vec<_> = record.headers().collect();
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let headers = PreparedHeaders::new(&headers);
        for topic in self.topics.all_raw() {
            for partition in 0..self.partitions {
                batch.send_to_partition(topic, partition, &headers)?;
            }
        }
        Ok(())
    }

    /// Writes a raw event to the topic of its kind.
    pub(crate) fn send(
        &self,
        batch: &Batch<'_>,
        kind: event::Kind,
        headers: &RawHeaders<'_>,
        recipient: &str,
        value: &[u8],
    ) -> Result<(), PublishError> {
        let headers: Vec<_> = headers.headers().collect();
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let headers = PreparedHeaders::new(&headers);
        batch.send(self.topics.raw(kind), recipient.as_bytes(), value, &headers)
    }
}
