//! Consumers in groups, and what becomes of their partitions.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, ClientContext, Statistics, TopicPartitionList};

use crate::connection::log_error;
use crate::watch::{STATISTICS_MS, Sight, Watch};
use crate::{Connection, StreamError, TopicPartition};

/// A member of a consumer group, with somebody who watches that it hears everything.
pub(crate) struct Group {
    consumer: BaseConsumer<Ownership>,
    _watch: Watch,
}

impl Group {
    /// Joins. `config` is one of [`Connection::consumer`] for the same job and group.
    pub(crate) fn join(
        connection: &Connection,
        mut config: ClientConfig,
        job: &'static str,
        group: &str,
        topics: &[&str],
    ) -> Result<Self, StreamError> {
        let ownership = Ownership::default();
        let watch = Watch::start(connection, job, group, &ownership.sight)?;
        let consumer: BaseConsumer<Ownership> = config
            .set("statistics.interval.ms", STATISTICS_MS)
            .create_with_context(ownership)
            .map_err(|error| StreamError::Settings(error.to_string()))?;
        consumer.subscribe(topics)?;
        Ok(Self { consumer, _watch: watch })
    }

    /// Ownership changes since the last call.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.consumer.context().take()
    }

    /// Whether [`changes`](Self::changes) has something to tell.
    pub(crate) fn has_changed(&self) -> bool {
        self.consumer.context().has_changed()
    }

    /// [`StreamError::Silent`] once a partition of ours has fallen silent: only a new process helps.
    pub(crate) fn check(&self) -> Result<(), StreamError> {
        self.consumer.context().sight.check()
    }

    /// Stops fetching a partition; records already fetched are kept back too.
    pub(crate) fn pause(&self, partition: &TopicPartition) -> Result<(), StreamError> {
        self.consumer.context().sight.paused(partition);
        Ok(self.consumer.pause(&one(partition))?)
    }

    /// Goes on fetching a partition.
    pub(crate) fn resume(&self, partition: &TopicPartition) -> Result<(), StreamError> {
        self.consumer.context().sight.resumed(partition);
        Ok(self.consumer.resume(&one(partition))?)
    }
}

impl Deref for Group {
    type Target = BaseConsumer<Ownership>;

    fn deref(&self) -> &Self::Target {
        &self.consumer
    }
}

fn one(partition: &TopicPartition) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(&partition.topic, partition.partition);
    list
}

/// A change of ownership, in the order it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
}

/// Notes ownership changes for the loop that polls; librdkafka tells them inside `poll`, on the
/// same thread, so nothing is ever processed between a change and its being seen.
#[derive(Default)]
pub(crate) struct Ownership {
    changed: AtomicBool,
    changes: Mutex<Vec<Change>>,
    sight: Arc<Sight>,
}

impl Ownership {
    fn take(&self) -> Vec<Change> {
        if !self.changed.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    fn note(&self, change: Change) {
        if let Change::Revoked(partitions) = &change {
            partitions.iter().for_each(|partition| self.sight.resumed(partition));
        }
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        self.changed.store(true, Ordering::Release);
    }
}

impl ClientContext for Ownership {
    fn error(&self, error: KafkaError, reason: &str) {
        log_error("consumer", &error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.sight.report(&statistics);
    }
}

impl ConsumerContext for Ownership {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            self.note(Change::Revoked(list(partitions)));
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => self.note(Change::Assigned(list(partitions))),
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "rebalance"),
        }
    }
}

fn list(partitions: &TopicPartitionList) -> Vec<TopicPartition> {
    partitions
        .elements()
        .iter()
        .map(|e| TopicPartition { topic: e.topic().to_owned(), partition: e.partition() })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rdkafka::message::Message;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use record::TopicSpec;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn connection() -> Connection {
        Connection {
            bootstrap: devstack::shared_kafka().to_owned(),
            instance: "watched".to_owned(),
            group_protocol: "consumer".to_owned(),
            compression: "lz4".to_owned(),
            ..Connection::default()
        }
    }

    fn put(connection: &Connection, topic: &str, count: usize) {
        let producer: BaseProducer = connection.producer("test").create().unwrap();
        for _ in 0..count {
            producer.send(BaseRecord::to(topic).key("k").payload("v")).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }

    fn created(connection: &Connection) -> String {
        let name = format!("watched-{}", uuid::Uuid::new_v4().simple());
        let spec =
            TopicSpec { name: name.clone(), partitions: 1, replication: 1, settings: Vec::new() };
        let create = crate::admin::create_topics(connection, std::slice::from_ref(&spec), PATIENCE);
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(create).unwrap();
        name
    }

    #[test]
    fn a_partition_that_the_client_has_stopped_fetching_is_noticed() {
        let connection = connection();
        let topic = created(&connection);
        let ownership = Ownership::default();
        let period = Duration::from_millis(300);
        let watch = Watch::every(period, &connection, "watched", &topic, &ownership.sight).unwrap();
        let consumer: BaseConsumer<Ownership> = connection
            .consumer("watched", &topic, 1)
            .set("statistics.interval.ms", "100")
            .create_with_context(ownership)
            .unwrap();
        consumer.subscribe(&[&topic]).unwrap();
        let group = Group { consumer, _watch: watch };
        put(&connection, &topic, 10);
        let until = Instant::now() + PATIENCE;
        let mut seen = 0;
        while seen < 10 {
            assert!(Instant::now() < until, "ten records, {seen} seen");
            if let Some(Ok(message)) = group.poll(Duration::from_millis(50)) {
                seen = message.offset() + 1;
            }
        }
        // What has nothing more to read is not silent.
        let calm = Instant::now() + period * 8;
        while Instant::now() < calm {
            drop(group.poll(Duration::from_millis(50)));
            group.check().unwrap();
        }
        // Behind the watch's back: to it the client has gone deaf.
        let partition = TopicPartition { topic: topic.clone(), partition: 0 };
        group.consumer.pause(&one(&partition)).unwrap();
        put(&connection, &topic, 1);
        while group.check().is_ok() {
            assert!(Instant::now() < until, "never noticed");
            drop(group.poll(Duration::from_millis(50)));
        }
        let error = group.check().unwrap_err();
        assert_eq!(error.code(), "silent_partition");
        assert!(error.to_string().contains(&topic), "{error}");
    }
}
