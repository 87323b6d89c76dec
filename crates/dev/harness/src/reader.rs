//! Readers of committed records. They belong to no group.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::{DEADLINE, Record, eventually, seen};

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(100);
/// For how long no further record may appear before a reader believes that there is none.
const QUIET: Duration = Duration::from_secs(1);

/// Returns the configuration that all clients of a Kafka share.
pub(crate) fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    for (name, value) in devstack::kafka_properties(bootstrap) {
        config.set(name, value);
    }
    config
}

/// Opens a consumer that reads committed records. `group` is used for committed offsets only.
pub(crate) fn consumer(bootstrap: &str, group: &str) -> BaseConsumer {
    client(bootstrap)
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

/// Reads topics from their beginning, and waits for further records.
pub struct Reader {
    consumer: BaseConsumer,
    last_error: Option<KafkaError>,
}

impl Reader {
    /// Waits until the topics exist and reads them from their beginning.
    pub(crate) fn open(bootstrap: &str, topics: &[&str]) -> Self {
        let consumer = consumer(bootstrap, "harness-reader");
        let mut assignment = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..partition_count(&consumer, topic) {
                assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            }
        }
        consumer.assign(&assignment).unwrap();
        Self { consumer, last_error: None }
    }

    /// Returns the next record, or `None` if there is none within `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Option<Record> {
        let start = Instant::now();
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            match self.consumer.poll(left)? {
                Ok(message) => return Some(owned(&message)),
                Err(KafkaError::PartitionEOF(_)) => {}
                // librdkafka retries; the caller's deadline decides when to give up.
                Err(error) => self.last_error = Some(error),
            }
        }
    }

    /// Reads until there are `count` records and then for another second, so that a record too many
    /// is returned as well.
    ///
    /// # Panics
    /// If there are fewer records at the deadline.
    pub fn records(&mut self, count: usize) -> Vec<Record> {
        let start = Instant::now();
        let mut records = Vec::new();
        loop {
            let timeout = if records.len() < count { POLL } else { QUIET };
            match self.next(timeout) {
                Some(record) => records.push(record),
                None if records.len() >= count => return records,
                None => assert!(
                    start.elapsed() < DEADLINE,
                    "waited {DEADLINE:?} for {count} records; there are {}; last error: {:?}",
                    records.len(),
                    self.last_error
                ),
            }
        }
    }
}

/// Reads everything of a topic that is committed now: to the end of every partition, or to the
/// oldest open transaction in it. Sorted by partition and offset.
///
/// # Panics
/// If the ends are not reached before the deadline.
pub(crate) fn read_to_end(bootstrap: &str, topic: &str) -> Vec<Record> {
    let mut reader = Reader::open(bootstrap, &[topic]);
    let partitions = reader.consumer.assignment().unwrap().count();
    let start = Instant::now();
    let (mut at_end, mut records) = (HashSet::new(), Vec::new());
    while at_end.len() < partitions {
        assert!(
            start.elapsed() < DEADLINE,
            "waited {DEADLINE:?} for the end of {topic}; last error: {:?}",
            reader.last_error
        );
        match reader.consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => records.push(owned(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(at_end.insert(partition)),
            Some(Err(error)) => reader.last_error = Some(error),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Waits until a topic exists and all of its partitions have leaders.
pub(crate) fn partition_count(consumer: &BaseConsumer, topic: &str) -> i32 {
    eventually(&format!("the topic {topic}"), DEADLINE, || {
        let metadata =
            consumer.fetch_metadata(Some(topic), DEADLINE).map_err(|error| error.to_string())?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or("no metadata")?;
        if let Some(error) = found.error() {
            return Err(format!("{error:?}"));
        }
        let leaders: Vec<i32> = found.partitions().iter().map(|p| p.leader()).collect();
        let leaders =
            seen(leaders, |all| !all.is_empty() && all.iter().all(|leader| *leader >= 0))?;
        Ok(i32::try_from(leaders.len()).unwrap())
    })
}

fn owned(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let owned = headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()));
        owned.collect()
    });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
