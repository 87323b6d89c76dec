use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset as Position, TopicPartitionList};

use crate::client::ReaderContext;
use crate::error::is_transient;
use crate::topics::{first_and_next, partition_counts};
use crate::{Connection, Error, Record};

/// How long to retry a request for the end of a partition.
const END_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the broker may send nothing before the end of a partition is reached.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
const OPEN_TRANSACTION_PAUSE: Duration = Duration::from_millis(100);
/// How many KiB are fetched ahead. One value may have 20 MiB, so this bounds only small records.
const FETCH_BUFFER_KIB: &str = "16384";

/// The committed records of a dead-letter topic up to its end at the time of creation. Reading a
/// partition twice returns the same records, except for those that retention removes meanwhile.
pub struct DeadLetterView {
    topic: String,
    consumer: BaseConsumer<ReaderContext>,
    /// The first and the next offset of each partition.
    ends: Vec<(i64, i64)>,
}

/// A record and its time.
pub struct Entry<'a> {
    pub record: Record<'a>,
    /// When the producer wrote it, by its own clock: UTC milliseconds since the Unix epoch.
    pub written_at: i64,
}

impl DeadLetterView {
    /// Returns a view of the records that are committed now, without those after the start of an open
    /// transaction.
    ///
    /// # Errors
    /// [`Error::Topic`] if the topic is missing.
    pub fn committed(connection: &Connection, topic: &str) -> Result<Self, Error> {
        let counts = partition_counts(connection)?;
        let partitions = *counts.get(topic).ok_or_else(|| Error::Topic {
            topic: topic.to_owned(),
            problem: "is missing or has no leader; check kafka.bootstrap and kafka.prefix".into(),
        })?;
        let consumer = reader(connection, "read_committed")?;
        let ends = ends(&consumer, topic, partitions)?;
        Ok(Self { topic: topic.to_owned(), consumer, ends })
    }

    /// Like [`DeadLetterView::committed`], but first waits until every record written before the call
    /// is committed or aborted: an open transaction hides all later records, even committed ones.
    ///
    /// # Errors
    /// As [`DeadLetterView::committed`], and if a transaction stays open for longer than `timeout`.
    pub(super) fn settled(
        connection: &Connection,
        topic: &str,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let deadline = Instant::now() + timeout;
        let mut view = Self::committed(connection, topic)?;
        let uncommitted = reader(connection, "read_uncommitted")?;
        let written = ends(&uncommitted, topic, view.partitions())?;
        for (partition, (_, end)) in (0..).zip(written) {
            let index = partition as usize;
            while view.ends[index].1 < end {
                if Instant::now() >= deadline {
                    let problem = format!("has an open transaction on partition {partition}");
                    return Err(Error::Topic { topic: topic.to_owned(), problem });
                }
                std::thread::sleep(OPEN_TRANSACTION_PAUSE);
                view.ends[index] = first_and_next(&view.consumer, topic, partition, deadline)?;
            }
        }
        Ok(view)
    }

    /// Returns the number of partitions.
    pub fn partitions(&self) -> i32 {
        self.ends.len() as i32
    }

    pub(super) fn group_metadata(&self) -> Result<ConsumerGroupMetadata, Error> {
        Ok(self.consumer.group_metadata().ok_or(KafkaError::Canceled)?)
    }

    /// Passes the records of a partition from offset `from` to `visit`, one at a time, until it
    /// breaks. A partition that does not exist has no records.
    ///
    /// # Errors
    /// Those of `visit`, and [`Error::Topic`] if the broker stops sending.
    pub fn read<E: From<Error>>(
        &self,
        partition: i32,
        from: i64,
        mut visit: impl FnMut(&Entry<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let ends = usize::try_from(partition).ok().and_then(|index| self.ends.get(index));
        let Some(&(first, next)) = ends.filter(|(first, next)| from.max(*first) < *next) else {
            return Ok(());
        };
        self.assign(partition, from.max(first))?;
        let mut received = Instant::now();
        while received.elapsed() < READ_TIMEOUT {
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) if message.offset() >= next => return Ok(()),
                Some(Ok(message)) => {
                    let written_at = message.timestamp().to_millis().unwrap_or_default();
                    let entry = Entry { record: Record(&message), written_at };
                    if visit(&entry)?.is_break() {
                        return Ok(());
                    }
                    received = Instant::now(); // `visit` may have taken long
                }
                // The last offsets may belong to markers of transactions, which are no records.
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => return Ok(()),
                Some(Err(error)) if is_transient(&error) => {
                    tracing::warn!(%error, topic = self.topic, "Kafka poll failed; retrying");
                }
                Some(Err(error)) => return Err(Error::from(error).into()),
            }
        }
        let seconds = READ_TIMEOUT.as_secs();
        let problem = format!("sent nothing of partition {partition} for {seconds} s");
        Err(Error::Topic { topic: self.topic.clone(), problem }.into())
    }

    fn assign(&self, partition: i32, from: i64) -> Result<(), Error> {
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&self.topic, partition, Position::Offset(from))?;
        Ok(self.consumer.assign(&assignment)?)
    }
}

fn ends(
    consumer: &BaseConsumer<ReaderContext>,
    topic: &str,
    partitions: i32,
) -> Result<Vec<(i64, i64)>, Error> {
    let deadline = Instant::now() + END_TIMEOUT;
    (0..partitions).map(|partition| first_and_next(consumer, topic, partition, deadline)).collect()
}

fn reader(connection: &Connection, isolation: &str) -> Result<BaseConsumer<ReaderContext>, Error> {
    connection
        .reader("letters", "mailpulse-letters")
        .set("isolation.level", isolation)
        .set("queued.max.messages.kbytes", FETCH_BUFFER_KIB)
        .create_with_context(ReaderContext)
        .map_err(|error| Error::settings(&error))
}
