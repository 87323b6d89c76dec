//! What lies in a topic and how far a group has read it. For tests and the operator's tool: nothing
//! on an event's way is built on it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::changelog::is_passing;
use crate::connection::Quiet;
use crate::{Connection, OwnedRecord, Record, StreamError, admin};

const CALL: Duration = Duration::from_secs(30);

/// Every committed record of a topic as of now, by partition in the order of their offsets. All of
/// it in memory.
///
/// # Errors
/// [`StreamError::Topic`] when the topic is not there or was not read within `deadline`.
pub fn committed_records(
    connection: &Connection,
    topic: &str,
    deadline: Duration,
) -> Result<Vec<OwnedRecord>, StreamError> {
    let until = Instant::now() + deadline;
    let problem =
        |problem: &str| StreamError::Topic { topic: topic.to_owned(), problem: problem.to_owned() };
    let partitions =
        *admin::partition_counts(connection)?.get(topic).ok_or_else(|| problem("is missing"))?;
    let consumer = reader(connection, "mailpulse-inspect")?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut unfinished: HashSet<i32> = (0..partitions).collect();
    let mut records = Vec::new();
    while !unfinished.is_empty() {
        if Instant::now() >= until {
            return Err(problem("was not read in time"));
        }
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => records.push(Record(&message).to_owned()),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unfinished.remove(&partition);
            }
            Some(Err(error)) if is_passing(&error) => tracing::warn!(%error, topic, "inspect"),
            Some(Err(error)) => return Err(error.into()),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// The group's committed offset of each partition of a topic, and its metadata; `None` where
/// nothing was committed yet. Waits for open transactions over them.
pub fn committed_offsets(
    connection: &Connection,
    group: &str,
    topic: &str,
    partitions: i32,
) -> Result<Vec<Option<(i64, String)>>, StreamError> {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let committed = reader(connection, group)?.committed_offsets(list, CALL)?;
    Ok(committed
        .elements()
        .iter()
        .map(|element| {
            let offset = element.offset().to_raw().filter(|&offset| offset >= 0)?;
            Some((offset, element.metadata().to_owned()))
        })
        .collect())
}

fn reader(connection: &Connection, group: &str) -> Result<BaseConsumer<Quiet>, StreamError> {
    connection
        .reader("inspect", group)
        .create_with_context(Quiet)
        .map_err(|error| StreamError::Settings(error.to_string()))
}
