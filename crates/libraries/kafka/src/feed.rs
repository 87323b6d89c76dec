//! At-least-once consumption: after a crash an item is delivered again unless it was marked done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use record::Stage;

use crate::client::KAFKA_REQUEST_TIMEOUT;
use crate::error::is_transient;
use crate::group::{Group, OwnershipChange, is_out_of_range};
use crate::ledger::Ledger;
use crate::positions::{self, Comparison, Mismatch, Position, PositionsTopic};
use crate::restore::ChangelogReaders;
use crate::{Cluster, Connection, Error, NextOffset, OwnedRecord, Record, TopicPartition};

/// How many partitions to expect when the fetch buffer is divided.
const EXPECTED_PARTITIONS: usize = 16;
/// How often the positions are written, if offsets were committed.
const POSITION_INTERVAL: Duration = Duration::from_secs(10);

/// A member of a consumer group that reads committed records. It holds a partition whose offset cannot
/// be right; see [`positions`].
pub struct Feed {
    group: Group,
    component: &'static str,
    connection: Connection,
    positions_topic: PositionsTopic,
    producer: BaseProducer,
    owned: BTreeMap<TopicPartition, FeedPartition>,
    /// Whether items were marked as done since the positions were written.
    has_progress: bool,
    positions_written_at: Instant,
}

#[derive(Debug, Default)]
struct FeedPartition {
    topic_id: Option<String>,
    mismatch: Option<Mismatch>,
    /// The position that was written last.
    position: Option<NextOffset>,
}

/// One record of a feed.
pub type Item = OwnedRecord;

impl Feed {
    /// Joins the group of a service.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Kafka`].
    pub fn open(cluster: &Cluster, stage: Stage, topics: &[&str]) -> Result<Self, Error> {
        let (component, connection) = (stage.code(), &cluster.connection);
        let group = cluster.topics.group(component);
        let mut config = connection.consumer(component, &group, EXPECTED_PARTITIONS);
        config.set("enable.auto.commit", "true").set("auto.commit.interval.ms", "500");
        let producer = connection.producer(component).create();
        Ok(Self {
            group: Group::join(connection, config, component, &group, topics)?,
            component,
            connection: connection.clone(),
            positions_topic: PositionsTopic::of(cluster),
            producer: producer.map_err(|error| Error::settings(&error))?,
            owned: BTreeMap::new(),
            has_progress: false,
            positions_written_at: Instant::now(),
        })
    }

    /// Returns the next item, or `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// Errors from which only a new process recovers.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Item>, Error> {
        self.group.check_progress()?;
        self.write_positions_if_due();
        let item = match self.group.poll(timeout) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => None,
            Some(Ok(message)) => Some(Record(&message).to_owned()),
            Some(Err(error)) if is_out_of_range(&error) => {
                let owned: Vec<_> = self.owned.keys().cloned().collect();
                self.check(&owned)?;
                if self.held().is_none() {
                    return Err(self.group.out_of_range());
                }
                None
            }
            Some(Err(error)) if is_transient(&error) => {
                tracing::warn!(%error, "Kafka poll failed; retrying");
                None
            }
            Some(Err(error)) => return Err(error.into()),
        };
        for change in self.group.take_changes() {
            match change {
                OwnershipChange::Assigned(partitions) => {
                    self.check(&partitions)?;
                    // The offsets may be newer than the positions.
                    self.has_progress = true;
                }
                // An item of a partition that moved is delivered twice.
                OwnershipChange::Revoked(partitions) => self.release(&partitions),
            }
        }
        let is_held = |item: &Item| {
            let name = TopicPartition { topic: item.topic.clone(), partition: item.partition };
            self.owned.get(&name).is_some_and(|partition| partition.mismatch.is_some())
        };
        Ok(item.filter(|item| !is_held(item)))
    }

    /// Marks the item, and all items before it in its partition, as done. This is committed in the
    /// background every half second, and when the feed is dropped. If the partition has moved to
    /// another member, that member delivers the item again.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn done(&mut self, item: &Item) -> Result<(), Error> {
        self.has_progress = true;
        match self.group.store_offset(&item.topic, item.partition, item.offset) {
            Err(KafkaError::StoreOffset(rdkafka::types::RDKafkaErrorCode::State)) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Commits the offsets of everything that is done, and writes the positions. The feed then ends.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn close(mut self) -> Result<(), Error> {
        self.group.commit_stored()?;
        self.write_positions()?;
        Ok(self.producer.flush(KAFKA_REQUEST_TIMEOUT)?)
    }

    /// Returns the partitions that this member owns, with those that it holds.
    pub fn owned(&self) -> impl Iterator<Item = &TopicPartition> {
        self.owned.keys()
    }

    /// Describes a partition that is not read because its offset cannot be right.
    pub fn held(&self) -> Option<String> {
        self.owned.iter().find_map(|(name, partition)| {
            let mismatch = partition.mismatch?;
            Some(format!("{name} is held: {}", mismatch.code()))
        })
    }

    /// Compares the offsets of partitions with their positions, and holds those where they differ.
    fn check(&mut self, names: &[TopicPartition]) -> Result<(), Error> {
        let readers = ChangelogReaders::default();
        let topics: BTreeSet<&str> = names.iter().map(|name| &*name.topic).collect();
        let ids = self.group.topic_ids(topics.into_iter())?;
        let comparison = Comparison {
            connection: &self.connection,
            topic: &self.positions_topic,
            group: &self.group,
            readers: &readers,
            has_ledgers: false,
        };
        for committed in self.group.committed(names)? {
            let name = &committed.partition;
            let partition = self.owned.entry(name.clone()).or_default();
            partition.topic_id = ids.get(&name.topic).cloned();
            let found = comparison.find(&committed, partition.topic_id.as_deref())?;
            if let (Some(mismatch), None) = (found, partition.mismatch) {
                partition.mismatch = Some(mismatch);
                self.group.pause(name)?;
                positions::hold(self.component, name, mismatch);
            }
        }
        Ok(())
    }

    fn release(&mut self, names: &[TopicPartition]) {
        for name in names {
            let released = self.owned.remove(name);
            if let Some(mismatch) = released.and_then(|partition| partition.mismatch) {
                positions::release(self.component, name, mismatch);
            }
        }
    }

    /// Writes the committed offsets as positions. A position may be older than the offset, but never newer.
    fn write_positions_if_due(&mut self) {
        self.producer.poll(Duration::ZERO);
        if !self.has_progress || self.positions_written_at.elapsed() < POSITION_INTERVAL {
            return;
        }
        (self.has_progress, self.positions_written_at) = (false, Instant::now());
        if let Err(error) = self.write_positions() {
            self.has_progress = true;
            tracing::warn!(%error, "positions could not be written; retrying");
        }
    }

    fn write_positions(&mut self) -> Result<(), Error> {
        let topic = &self.positions_topic;
        for committed in self.group.committed(self.owned.keys())? {
            let (name, Some(next)) = (&committed.partition, committed.next) else { continue };
            let Some(partition) = self.owned.get_mut(name) else { continue };
            if partition.mismatch.is_some() || partition.position == Some(next) {
                continue;
            }
            let (topic_id, ledger) = (partition.topic_id.clone(), Ledger::default());
            let value = Position { next, topic_id, ledger }.to_value();
            let key = Position::key(self.group.name(), name);
            let record = BaseRecord::to(&topic.name).key(&key).payload(&value);
            let record = record.partition(topic.partition_of(name.partition));
            self.producer.send(record).map_err(|(error, _)| error)?;
            partition.position = Some(next);
        }
        Ok(())
    }
}
