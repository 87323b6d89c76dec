//! Reads a whole topic and then goes on, without a consumer group: every process reads all partitions. For
//! services that show what is happening and keep nothing.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset as Position, TopicPartitionList};

use crate::client::{KAFKA_REQUEST_TIMEOUT, ReaderContext};
use crate::error::is_transient;
use crate::{Connection, Error, OwnedRecord, Record, topics};

/// Where a topic is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The first record.
    Beginning,
    /// The first record of each partition that was written at this time or later, in UTC milliseconds.
    At(i64),
}

/// What happened next.
#[derive(Debug)]
pub enum Next {
    /// A committed record.
    Record(OwnedRecord),
    /// There was none within the timeout.
    Nothing,
    /// Kafka does not answer for now, for this reason. The client goes on by itself.
    Away(String),
}

/// A reader of all partitions of a topic. It commits no offsets.
pub struct Tail {
    topic: String,
    consumer: BaseConsumer<ReaderContext>,
    /// The partitions whose end was not reached yet.
    behind: HashSet<i32>,
}

impl Tail {
    /// Opens a topic, which must exist. `component` becomes part of the client id.
    ///
    /// # Errors
    /// [`Error::Topic`] if the topic is missing, [`Error::Settings`] or [`Error::Kafka`].
    pub fn open(
        connection: &Connection,
        component: &str,
        topic: &str,
        start: Start,
    ) -> Result<Self, Error> {
        let partitions = topics::partitions_of(connection, topic)?;
        let consumer: BaseConsumer<ReaderContext> = connection
            .reader(component, "mailpulse-tail")
            .create_with_context(ReaderContext)
            .map_err(|error| Error::settings(&error))?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            let position = match start {
                Start::Beginning => Position::Beginning,
                // Replaced below.
                Start::At(milliseconds) => Position::Offset(milliseconds),
            };
            assignment.add_partition_offset(topic, partition, position)?;
        }
        if let Start::At(_) = start {
            assignment = consumer.offsets_for_times(assignment, KAFKA_REQUEST_TIMEOUT)?;
        }
        consumer.assign(&assignment)?;
        Ok(Self { topic: topic.to_owned(), consumer, behind: (0..partitions).collect() })
    }

    /// Returns the next record, in the order of its partition.
    ///
    /// # Errors
    /// [`Error::Kafka`] for errors from which only a new client recovers.
    pub fn next(&mut self, timeout: Duration) -> Result<Next, Error> {
        match self.consumer.poll(timeout) {
            None => Ok(Next::Nothing),
            Some(Ok(message)) => Ok(Next::Record(Record(&message).to_owned())),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.behind.remove(&partition);
                Ok(Next::Nothing)
            }
            Some(Err(error)) if is_transient(&error) => Ok(Next::Away(error.to_string())),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Returns whether Kafka answers a question about the topic within `timeout`. After [`Next::Away`], no record
    /// may come for long although Kafka is back.
    pub fn answers(&self, timeout: Duration) -> bool {
        self.consumer.fetch_watermarks(&self.topic, 0, timeout).is_ok()
    }

    /// Returns whether the end of every partition was reached once.
    pub fn has_caught_up(&self) -> bool {
        self.behind.is_empty()
    }
}
