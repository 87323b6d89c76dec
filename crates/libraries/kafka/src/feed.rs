//! At-least-once consumption: after a crash an item is delivered again unless it was marked done.

use std::time::Duration;

use rdkafka::error::KafkaError;

use crate::error::is_transient;
use crate::group::{Group, is_out_of_range};
use crate::{Connection, Error, OwnedRecord, Record};

/// A member of a consumer group that reads committed records.
pub struct Feed {
    group: Group,
}

/// One record of a feed.
pub type Item = OwnedRecord;

/// How many partitions to expect when the fetch buffer is divided.
const EXPECTED_PARTITIONS: usize = 16;

impl Feed {
    /// Joins the group. `component` names the reader in client ids and metrics.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Kafka`].
    pub fn open(
        connection: &Connection,
        component: &'static str,
        group: &str,
        topics: &[&str],
    ) -> Result<Self, Error> {
        let mut config = connection.consumer(component, group, EXPECTED_PARTITIONS);
        config.set("enable.auto.commit", "true").set("auto.commit.interval.ms", "500");
        Ok(Self { group: Group::join(connection, config, component, group, topics)? })
    }

    /// Returns the next item, or `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// Errors from which only a new process recovers.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Item>, Error> {
        self.group.check_progress()?;
        let polled = self.group.poll(timeout);
        // Ownership does not matter here: an item of a partition that moved is delivered twice.
        drop(self.group.take_changes());
        match polled {
            None | Some(Err(KafkaError::PartitionEOF(_))) => Ok(None),
            Some(Ok(message)) => Ok(Some(Record(&message).to_owned())),
            Some(Err(error)) if is_out_of_range(&error) => Err(self.group.out_of_range()),
            Some(Err(error)) if is_transient(&error) => {
                tracing::warn!(%error, "Kafka poll failed; retrying");
                Ok(None)
            }
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Marks the item, and all items before it in its partition, as done. This is committed in the
    /// background every half second, and when the feed is dropped. If the partition has moved to
    /// another member, that member delivers the item again.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn done(&mut self, item: &Item) -> Result<(), Error> {
        match self.group.store_offset(&item.topic, item.partition, item.offset) {
            Err(KafkaError::StoreOffset(rdkafka::types::RDKafkaErrorCode::State)) => Ok(()),
            other => Ok(other?),
        }
    }
}
