//! Reads the records of a topic and the committed offsets of a group. For tests and the operator's
//! tool; no service uses it to process events.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset as Position, TopicPartitionList};

use crate::client::{KAFKA_REQUEST_TIMEOUT, ReaderContext};
use crate::error::is_transient;
use crate::{Connection, Error, OwnedRecord, Record, topics};

/// Returns all committed records of a topic, ordered by partition and offset.
///
/// # Errors
/// [`Error::Topic`] if the topic is missing or could not be read within `deadline`.
pub fn committed_records(
    connection: &Connection,
    topic: &str,
    deadline: Duration,
) -> Result<Vec<OwnedRecord>, Error> {
    let mut records = Vec::new();
    for_each_committed(connection, topic, deadline, |record| records.push(record.to_owned()))?;
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// Passes all committed records of a topic to `receive`, those of each partition in their order. Needs no
/// memory for the topic as a whole.
///
/// # Errors
/// As [`committed_records`].
pub fn for_each_committed(
    connection: &Connection,
    topic: &str,
    deadline: Duration,
    mut receive: impl FnMut(&Record<'_>),
) -> Result<(), Error> {
    let until = Instant::now() + deadline;
    let problem =
        |problem: &str| Error::Topic { topic: topic.to_owned(), problem: problem.to_owned() };
    let partitions = topics::partitions_of(connection, topic)?;
    let consumer = reader(connection, "mailpulse-inspect")?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Position::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut unfinished: HashSet<i32> = (0..partitions).collect();
    while !unfinished.is_empty() {
        if Instant::now() >= until {
            return Err(problem("could not be read in time"));
        }
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => receive(&Record(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unfinished.remove(&partition);
            }
            Some(Err(error)) if is_transient(&error) => {
                tracing::warn!(%error, topic, "Kafka poll failed; retrying");
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Where [`scan`] reads.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// The full name of the topic.
    pub topic: &'a str,
    /// Only this partition. `None`: all.
    pub partition: Option<i32>,
    /// The time of the first record, by the clock of its producer: UTC milliseconds.
    pub since: i64,
    /// How long it may take.
    pub deadline: Duration,
}

/// Passes committed records of a topic to `visit`, those of each partition in their order, until it breaks or the
/// end of every partition is reached.
///
/// # Errors
/// [`Error::Topic`] if the topic or the partition is missing, or if the ends were not reached in time.
pub fn scan(
    connection: &Connection,
    scan: Scan<'_>,
    mut visit: impl FnMut(&Record<'_>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let Scan { topic, partition, since, deadline } = scan;
    let until = Instant::now() + deadline;
    let problem =
        |problem: &str| Error::Topic { topic: topic.to_owned(), problem: problem.to_owned() };
    let existing = 0..topics::partitions_of(connection, topic)?;
    let mut unfinished: HashSet<i32> = match partition {
        Some(number) if existing.contains(&number) => HashSet::from([number]),
        Some(_) => return Err(problem("has no such partition")),
        None => existing.collect(),
    };
    let consumer = reader(connection, "mailpulse-inspect")?;
    let mut assignment = TopicPartitionList::new();
    for number in &unfinished {
        assignment.add_partition_offset(topic, *number, Position::Offset(since))?;
    }
    // A partition without a record of that time is read from its end.
    consumer.assign(&consumer.offsets_for_times(assignment, KAFKA_REQUEST_TIMEOUT)?)?;
    while !unfinished.is_empty() {
        if Instant::now() >= until {
            return Err(problem("could not be read in time"));
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if visit(&Record(&message)).is_break() => return Ok(()),
            None | Some(Ok(_)) => {}
            Some(Err(KafkaError::PartitionEOF(number))) => {
                unfinished.remove(&number);
            }
            Some(Err(error)) if is_transient(&error) => {
                tracing::warn!(%error, topic, "Kafka poll failed; retrying");
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Returns the offset and the metadata that the group has committed for each partition of a topic, or
/// `None` before the first commit. Waits for open transactions over these offsets.
pub fn committed_offsets(
    connection: &Connection,
    group: &str,
    topic: &str,
    partitions: i32,
) -> Result<Vec<Option<(i64, String)>>, Error> {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let committed = reader(connection, group)?.committed_offsets(list, KAFKA_REQUEST_TIMEOUT)?;
    Ok(committed
        .elements()
        .iter()
        .map(|element| {
            let offset = element.offset().to_raw().filter(|&offset| offset >= 0)?;
            Some((offset, element.metadata().to_owned()))
        })
        .collect())
}

/// A partition that a group has not read up to an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// The number of the partition.
    pub partition: usize,
    /// The offset that the group should have committed.
    pub wanted: i64,
    /// The offset that it has committed; 0 before the first commit.
    pub found: i64,
}

/// Returns the first partition of a topic of which a group has not committed the offset in `ends`, which has one for
/// each partition. Returns `None` if the group has committed them all.
///
/// # Errors
/// See [`committed_offsets`].
pub fn first_behind(
    connection: &Connection,
    group: &str,
    topic: &str,
    ends: &[i64],
) -> Result<Option<Behind>, Error> {
    let partitions = i32::try_from(ends.len()).unwrap_or(i32::MAX);
    let committed = committed_offsets(connection, group, topic, partitions)?;
    let committed = committed.into_iter().map(|it| it.map_or(0, |(offset, _)| offset));
    let pairs = ends.iter().zip(committed).enumerate();
    let mut behind = pairs.map(|(partition, (&wanted, found))| Behind { partition, wanted, found });
    Ok(behind.find(|it| it.found < it.wanted))
}

/// Returns for each partition of a topic the offset after its last committed record, or 0 if there is none among its
/// last offsets. Unlike the end of the partition, a consumer of committed records can reach it.
///
/// # Errors
/// [`Error::Topic`] if the topic could not be read within `deadline`.
pub fn after_last_records(
    connection: &Connection,
    topic: &str,
    partitions: i32,
    deadline: Duration,
) -> Result<Vec<i64>, Error> {
    /// More than the offsets that the ends of transactions take behind a record.
    const LAST_OFFSETS: i64 = 1_000;
    let until = Instant::now() + deadline;
    let consumer = reader(connection, "mailpulse-inspect")?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Position::OffsetTail(LAST_OFFSETS))?;
    }
    consumer.assign(&assignment)?;
    let mut next = vec![0; usize::try_from(partitions).unwrap_or(0)];
    let mut unfinished: HashSet<i32> = (0..partitions).collect();
    while !unfinished.is_empty() {
        if Instant::now() >= until {
            let (topic, problem) = (topic.to_owned(), "could not be read in time".to_owned());
            return Err(Error::Topic { topic, problem });
        }
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => {
                let index = usize::try_from(message.partition()).ok();
                if let Some(next) = index.and_then(|index| next.get_mut(index)) {
                    *next = message.offset() + 1;
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unfinished.remove(&partition);
            }
            Some(Err(error)) if is_transient(&error) => {
                tracing::warn!(%error, topic, "Kafka poll failed; retrying");
            }
            Some(Err(error)) => return Err(error.into()),
        }
    }
    Ok(next)
}

fn reader(connection: &Connection, group: &str) -> Result<BaseConsumer<ReaderContext>, Error> {
    connection
        .reader("inspect", group)
        .create_with_context(ReaderContext)
        .map_err(|error| Error::settings(&error))
}
