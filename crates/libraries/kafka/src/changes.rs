//! Reads a compacted topic from given offsets, without a consumer group: for services that hold a whole topic in memory,
//! and for feeds of what has changed.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset as Position, TopicPartitionList};

use crate::client::ReaderContext;
use crate::error::is_transient;
use crate::{Connection, Error, Record, topics};

/// How many KiB of records are fetched ahead, so that a long topic takes no more memory than what is made of it.
const FETCH_BUFFER_KIB: &str = "4096";
/// The largest response for a partition, in bytes.
const FETCH_BYTES: &str = "1048576";

/// What a poll has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// A committed record, which was passed on.
    Record,
    /// There was none within the timeout.
    Nothing,
    /// Kafka does not answer for now, for this reason. The client goes on by itself.
    Away(String),
}

/// A reader of all partitions of a topic. It commits no offsets.
pub struct Changes {
    topic: String,
    consumer: BaseConsumer<ReaderContext>,
    /// The offset after the last record of each partition.
    next: Vec<i64>,
    /// The partitions whose end was not reached yet.
    behind: HashSet<i32>,
}

impl Changes {
    /// Opens a topic, which must exist, at the first record of each partition. `component` becomes part of the client id.
    ///
    /// # Errors
    /// [`Error::Topic`] if the topic is missing, [`Error::Settings`] or [`Error::Kafka`].
    pub fn open(connection: &Connection, component: &str, topic: &str) -> Result<Self, Error> {
        let partitions = topics::partitions_of(connection, topic)?;
        let mut config = connection.reader(component, "mailpulse-changes");
        config
            .set("queued.max.messages.kbytes", FETCH_BUFFER_KIB)
            .set("queued.min.messages", "10000")
            .set("max.partition.fetch.bytes", FETCH_BYTES)
            .set("fetch.queue.backoff.ms", "20");
        let consumer: BaseConsumer<ReaderContext> =
            config.create_with_context(ReaderContext).map_err(|error| Error::settings(&error))?;
        let partitions = usize::try_from(partitions).unwrap_or(0);
        let mut changes =
            Self { topic: topic.to_owned(), consumer, next: Vec::new(), behind: HashSet::new() };
        changes.seek(&vec![0; partitions])?;
        Ok(changes)
    }

    /// Returns the number of partitions.
    pub fn partitions(&self) -> usize {
        self.next.len()
    }

    /// Continues at these offsets, one for each partition. An offset before the first record means the first record.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn seek(&mut self, offsets: &[i64]) -> Result<(), Error> {
        let mut assignment = TopicPartitionList::new();
        for (partition, &offset) in (0..).zip(offsets) {
            let position = if offset == 0 { Position::Beginning } else { Position::Offset(offset) };
            assignment.add_partition_offset(&self.topic, partition, position)?;
        }
        self.consumer.assign(&assignment)?;
        self.next = offsets.to_vec();
        self.behind = (0..).zip(offsets).map(|(partition, _)| partition).collect();
        Ok(())
    }

    /// Passes the next record to `receive`, in the order of its partition.
    ///
    /// # Errors
    /// [`Error::Kafka`] for errors from which only a new client recovers.
    pub fn poll(
        &mut self,
        timeout: Duration,
        receive: &mut dyn FnMut(&Record<'_>),
    ) -> Result<Polled, Error> {
        match self.consumer.poll(timeout) {
            None => Ok(Polled::Nothing),
            Some(Ok(message)) => {
                let index = usize::try_from(message.partition()).ok();
                if let Some(next) = index.and_then(|index| self.next.get_mut(index)) {
                    *next = message.offset() + 1;
                }
                receive(&Record(&message));
                Ok(Polled::Record)
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.behind.remove(&partition);
                Ok(Polled::Nothing)
            }
            Some(Err(error)) if is_transient(&error) => Ok(Polled::Away(error.to_string())),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Goes on where it is; [`Self::has_caught_up`] is false until the end of every partition is reached again.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn catch_up_again(&mut self) -> Result<(), Error> {
        // A reader is told once that it has reached an end, and markers of transactions hide where the end is.
        self.seek(&self.next.clone())
    }

    /// Returns the offset after the last record of each partition.
    pub fn next_offsets(&self) -> &[i64] {
        &self.next
    }

    /// Returns whether the end of every partition was reached since the last [`Self::seek`].
    pub fn has_caught_up(&self) -> bool {
        self.behind.is_empty()
    }

    /// Returns whether Kafka answers a question about every partition, each within `timeout`. After [`Polled::Away`],
    /// no record may come for long although Kafka is back.
    pub fn answers(&self, timeout: Duration) -> bool {
        let answers = |number| self.consumer.fetch_watermarks(&self.topic, number, timeout).is_ok();
        (0..).zip(&self.next).all(|(number, _)| answers(number))
    }
}
