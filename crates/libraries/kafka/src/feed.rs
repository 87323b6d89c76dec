//! At-least-once consumption: an item is taken again after a crash unless it was marked done.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;

use crate::changelog::is_passing;
use crate::rebalance::Group;
use crate::{Connection, OwnedRecord, Record, StreamError};

/// A member of a consumer group that reads committed records.
pub struct Feed {
    consumer: Group,
}

/// One record of a feed.
pub type Item = OwnedRecord;

impl Feed {
    /// Joins the group. `job` is who reads, for client ids and metrics.
    pub fn open(
        connection: &Connection,
        job: &'static str,
        group: &str,
        topics: &[&str],
    ) -> Result<Self, StreamError> {
        let mut config = connection.consumer(job, group, 16);
        config.set("enable.auto.commit", "true").set("auto.commit.interval.ms", "500");
        Ok(Self { consumer: Group::join(connection, config, job, group, topics)? })
    }

    /// The next item, or `None` when there is none within `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Item>, StreamError> {
        self.consumer.check()?;
        let polled = self.consumer.poll(timeout);
        // Who owns what does not matter here: an item of a partition that went is done twice.
        drop(self.consumer.changes());
        match polled {
            None | Some(Err(KafkaError::PartitionEOF(_))) => Ok(None),
            Some(Ok(message)) => Ok(Some(Record(&message).to_owned())),
            Some(Err(error)) if is_passing(&error) => {
                tracing::warn!(%error, "feed");
                Ok(None)
            }
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Marks the item, and all before it in its partition, as done. Committed in the background
    /// every half second and when the feed is dropped. An item whose partition has moved to another
    /// member meanwhile is left to that member.
    pub fn done(&mut self, item: &Item) -> Result<(), StreamError> {
        match self.consumer.store_offset(&item.topic, item.partition, item.offset) {
            Err(KafkaError::StoreOffset(rdkafka::types::RDKafkaErrorCode::State)) => Ok(()),
            other => Ok(other?),
        }
    }
}
