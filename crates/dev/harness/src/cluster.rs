//! Topics of one test on a Kafka that other tests use at the same time.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset};
use record::{Layout, TopicSpec, Topics};

use crate::reader::{client, consumer, partition_count, read_to_end};
use crate::{DEADLINE, Outgoing, Producer, Reader, Record, eventually, seen};

/// How long one request may take; it is repeated until the test's deadline.
const REQUEST: Duration = Duration::from_secs(30);

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The offset after the last processed record.
    pub offset: i64,
    /// The text that was committed with it.
    pub metadata: String,
}

/// Returns a layout with these partition counts, one replica, and the time for which dedupe remembers by
/// default.
pub const fn layout(recipient_partitions: i32, scope_partitions: i32) -> Layout {
    Layout {
        recipient_partitions,
        scope_partitions,
        replication: 1,
        dedupe_horizon_hours: 9 * 24,
        max_message_bytes: 20 << 20,
    }
}

/// A Kafka cluster and the topics of one test in it.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// The names of Mailpulse's topics under this test's prefix.
    pub topics: Topics,
    /// Their partition counts.
    pub layout: Layout,
    /// Opened when it is first needed, and shared by all clones: opening takes longer than producing.
    producer: Arc<OnceLock<Producer>>,
}

impl Cluster {
    /// Creates all of Mailpulse's topics on the Kafka that this test program shares. The prefix
    /// begins with `name` and is unique.
    pub fn new(name: &str, layout: Layout) -> Self {
        let cluster = Self::without_topics(name, layout);
        cluster.create_topics();
        cluster
    }

    /// Returns a prefix on the shared Kafka and leaves the topics to the service under test.
    pub fn without_topics(name: &str, layout: Layout) -> Self {
        Self::on(devstack::shared_kafka(), name, layout)
    }

    /// Returns a prefix on another Kafka, for example one that the test stops.
    pub fn on(bootstrap: &str, name: &str, layout: Layout) -> Self {
        Self::existing(bootstrap, &format!("{name}-{}.", uuid::Uuid::new_v4().simple()), layout)
    }

    /// Returns the topics that exist under a prefix.
    pub fn existing(bootstrap: &str, prefix: &str, layout: Layout) -> Self {
        let (bootstrap, topics) = (bootstrap.to_owned(), Topics::new(prefix));
        Self { bootstrap, topics, layout, producer: Arc::default() }
    }

    /// Creates all of Mailpulse's topics.
    pub fn create_topics(&self) {
        self.create(&self.topics.specs(self.layout));
    }

    /// Creates one topic for each name and number of partitions, and returns when all have leaders.
    /// The names get this test's prefix.
    pub fn create_plain(&self, topics: &[(&str, i32)]) {
        let specs: Vec<_> = topics
            .iter()
            .map(|&(name, partitions)| TopicSpec {
                name: self.name(name),
                partitions,
                replication: 1,
                settings: Vec::new(),
            })
            .collect();
        self.create(&specs);
    }

    /// Creates topics with their settings, and returns when all have leaders.
    pub fn create(&self, specs: &[TopicSpec]) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let new: Vec<NewTopic<'_>> = specs
            .iter()
            .map(|spec| {
                let replication = TopicReplication::Fixed(spec.replication);
                let topic = NewTopic::new(&spec.name, spec.partitions, replication);
                spec.settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
            })
            .collect();
        let options =
            AdminOptions::new().operation_timeout(Some(REQUEST)).request_timeout(Some(REQUEST));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        eventually("the topics to be created", DEADLINE, || {
            let results = runtime.block_on(admin.create_topics(&new, &options));
            for result in results.map_err(|error| error.to_string())? {
                match result {
                    Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                    Err((topic, code)) => return Err(format!("{topic}: {code}")),
                }
            }
            Ok(())
        });
        let consumer = consumer(&self.bootstrap, "harness");
        for spec in specs {
            assert_eq!(partition_count(&consumer, &spec.name), spec.partitions, "{}", spec.name);
        }
    }

    /// Returns a name under this test's prefix, for a topic, a group or a transactional id.
    pub fn name(&self, rest: &str) -> String {
        format!("{}{rest}", self.topics.prefix)
    }

    /// Returns the sections `[kafka]` and `[topics]` for a service on these topics.
    pub fn toml(&self) -> String {
        let Layout { recipient_partitions, scope_partitions, replication, .. } = self.layout;
        format!(
            "[kafka]\nbootstrap = {:?}\nprefix = {:?}\n[topics]\n\
             recipient_partitions = {recipient_partitions}\n\
             scope_partitions = {scope_partitions}\nreplication = {replication}\n",
            self.bootstrap, self.topics.prefix
        )
    }

    /// Opens a producer.
    pub fn producer(&self) -> Producer {
        Producer::open(&self.bootstrap, None)
    }

    /// Opens a transactional producer. It fences earlier producers of the same id.
    pub fn transactional_producer(&self, id: &str) -> Producer {
        Producer::open(&self.bootstrap, Some(id))
    }

    /// Produces records and returns when all are acknowledged.
    pub fn produce(&self, records: &[Outgoing]) {
        self.producer.get_or_init(|| self.producer()).produce(records);
    }

    /// Reads everything of a topic that is committed now, by partition and offset. Records behind an
    /// open transaction are not part of it.
    ///
    /// A transaction becomes visible on one partition after the other: that its offsets are committed,
    /// or that its producer has ended, does not mean that its records can be read. Use
    /// [`Cluster::read_settled`] for that.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        read_to_end(&self.bootstrap, topic)
    }

    /// Waits until no transaction is open on any partition of a topic, and reads everything, by
    /// partition and offset.
    pub fn read_settled(&self, topic: &str) -> Vec<Record> {
        self.await_settled(topic);
        self.read(topic)
    }

    fn await_settled(&self, topic: &str) {
        let committed = consumer(&self.bootstrap, "harness");
        let ends = self.end_offsets(topic);
        for (partition, end) in (0..).zip(ends) {
            let what = format!("the transactions on {topic}/{partition} to end before {end}");
            eventually(&what, DEADLINE, || {
                let watermarks = committed.fetch_watermarks(topic, partition, REQUEST);
                let (_, stable) = watermarks.map_err(|error| error.to_string())?;
                seen(stable, |stable| *stable >= end)
            });
        }
    }

    /// Opens a reader that follows topics from their beginning.
    pub fn reader(&self, topics: &[&str]) -> Reader {
        Reader::open(&self.bootstrap, topics)
    }

    /// Returns the committed offset of each partition of a topic; `None` where there is none.
    pub fn committed(&self, group: &str, topic: &str) -> Vec<Option<Committed>> {
        let consumer = consumer(&self.bootstrap, group);
        let mut list = TopicPartitionList::new();
        for partition in 0..partition_count(&consumer, topic) {
            list.add_partition(topic, partition);
        }
        let committed = eventually(&format!("the committed offsets of {group}"), DEADLINE, || {
            consumer.committed_offsets(list.clone(), REQUEST)
        });
        let elements = committed.elements();
        let offsets = elements.iter().map(|element| match element.offset() {
            Offset::Offset(offset) => {
                Some(Committed { offset, metadata: element.metadata().to_owned() })
            }
            _ => None,
        });
        offsets.collect()
    }

    /// Commits an offset of partition 0 as another program than Mailpulse does. The group must be empty.
    pub fn commit(&self, group: &str, topic: &str, offset: i64) {
        let consumer = consumer(&self.bootstrap, group);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
        eventually(&format!("the commit of {group}"), DEADLINE, || {
            consumer.commit(&list, CommitMode::Sync)
        });
    }

    /// Deletes a group with its offsets, as Kafka does after `offsets.retention.minutes`. Waits until it is
    /// empty.
    pub fn delete_group(&self, group: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let options = AdminOptions::new().request_timeout(Some(REQUEST));
        eventually(&format!("the group {group} to be deleted"), DEADLINE, || {
            let results = runtime.block_on(admin.delete_groups(&[group], &options));
            let results = results.map_err(|error| error.to_string())?;
            results.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| format!("{error:?}"))
        });
    }

    /// Deletes a topic, and returns when it is gone.
    pub fn delete_topic(&self, topic: &str) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(REQUEST));
        runtime.block_on(admin.delete_topics(&[topic], &options)).unwrap();
        let consumer = consumer(&self.bootstrap, "harness");
        eventually(&format!("the topic {topic} to be gone"), DEADLINE, || {
            let metadata =
                consumer.fetch_metadata(None, REQUEST).map_err(|error| error.to_string())?;
            let exists = metadata.topics().iter().any(|found| found.name() == topic);
            seen(exists, |exists| !exists)
        });
    }

    /// Deletes the records of partition 0 before an offset, as the retention of the topic does.
    pub fn delete_records(&self, topic: &str, before: i64) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let options = AdminOptions::new().operation_timeout(Some(REQUEST));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(before)).unwrap();
        let deleted = runtime.block_on(admin.delete_records(&list, &options)).unwrap();
        deleted.elements().iter().for_each(|element| element.error().unwrap());
    }

    /// Returns the sum of a group's committed offsets of a topic.
    pub fn committed_sum(&self, group: &str, topic: &str) -> i64 {
        self.committed(group, topic).iter().flatten().map(|committed| committed.offset).sum()
    }

    /// Returns the end offset of each partition, with the records of open and aborted transactions.
    pub fn end_offsets(&self, topic: &str) -> Vec<i64> {
        let consumer: BaseConsumer =
            self.config().set("isolation.level", "read_uncommitted").create().unwrap();
        let partitions = 0..partition_count(&consumer, topic);
        partitions
            .map(|partition| {
                eventually(&format!("the end of {topic}/{partition}"), DEADLINE, || {
                    consumer.fetch_watermarks(topic, partition, REQUEST).map(|(_, end)| end)
                })
            })
            .collect()
    }

    /// Waits until a group has committed the present end of a topic.
    pub fn await_all_read(&self, group: &str, topic: &str) {
        let ends: i64 = self.end_offsets(topic).iter().sum();
        self.await_committed(group, topic, ends);
    }

    /// Waits until the sum of a group's committed offsets is at least `wanted`.
    pub fn await_committed(&self, group: &str, topic: &str, wanted: i64) {
        let what = format!("the offsets of {group} to reach {wanted}");
        eventually(&what, DEADLINE, || {
            seen(self.committed_sum(group, topic), |sum| *sum >= wanted)
        });
    }

    fn config(&self) -> ClientConfig {
        client(&self.bootstrap)
    }

    /// Returns librdkafka's properties for clients, which a cluster that requires TLS needs.
    pub fn properties(&self) -> BTreeMap<String, String> {
        devstack::kafka_properties(&self.bootstrap)
    }
}
