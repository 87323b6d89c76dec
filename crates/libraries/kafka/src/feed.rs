//! At-least-once consumption: after a crash an item is delivered again unless it was marked done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use record::Stage;

use crate::client::KAFKA_REQUEST_TIMEOUT;
use crate::error::is_transient;
use crate::group::{Group, OwnershipChange, add_offset, is_out_of_range};
use crate::ledger::Ledger;
use crate::positions::{self, Comparison, Mismatch, Position, PositionsTopic};
use crate::restore::ChangelogReaders;
use crate::{Cluster, Connection, Error, NextOffset, Offset, OwnedRecord, Record, TopicPartition};

/// How many partitions to expect when the fetch buffer is divided.
const EXPECTED_PARTITIONS: usize = 16;
/// How often, and with which pauses, the first offset of a partition is committed.
const START_ATTEMPTS: u32 = 10;
const START_PAUSE: Duration = Duration::from_millis(200);
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
    start: Start,
    /// The changes of ownership that [`crate::cuts`] has not seen yet. `None`: it does not want to.
    changes: Option<Vec<FeedChange>>,
}

/// Where a group starts to read a partition for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record.
    Beginning,
    /// After the last record.
    End,
}

/// How a feed joins its group.
pub(crate) struct FeedOptions<'a> {
    pub(crate) component: &'static str,
    pub(crate) group: &'a str,
    pub(crate) topics: &'a [&'a str],
    /// The number of feeds in the process, which share the memory for fetched records.
    pub(crate) feeds: usize,
    pub(crate) start: Start,
    /// Whether offsets that are [done](Feed::done) are committed in the background.
    pub(crate) commits: bool,
}

/// A change of the partitions that a feed owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FeedChange {
    /// The offset to continue at, and the metadata that was committed with it.
    Assigned {
        partition: TopicPartition,
        next: Option<NextOffset>,
        metadata: String,
    },
    Revoked(TopicPartition),
}

/// Since when partitions are owned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Now,
    Before,
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
        let component = stage.code();
        let group = &cluster.topics.group(component);
        let start = Start::Beginning;
        let options = FeedOptions { component, group, topics, feeds: 1, start, commits: true };
        Self::open_with(cluster, options)
    }

    pub(crate) fn open_with(cluster: &Cluster, options: FeedOptions<'_>) -> Result<Self, Error> {
        let FeedOptions { component, group, topics, feeds, start, commits } = options;
        let connection = &cluster.connection;
        let mut config = connection.consumer(component, group, EXPECTED_PARTITIONS * feeds.max(1));
        if commits {
            config.set("enable.auto.commit", "true").set("auto.commit.interval.ms", "500");
        }
        let producer = connection.producer(component).create();
        Ok(Self {
            group: Group::join(connection, config, component, group, topics)?,
            component,
            connection: connection.clone(),
            positions_topic: PositionsTopic::of(cluster),
            producer: producer.map_err(|error| Error::settings(&error))?,
            owned: BTreeMap::new(),
            has_progress: false,
            positions_written_at: Instant::now(),
            start,
            changes: (!commits).then(Vec::new),
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
                self.check(&owned, Since::Before)?;
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
                    self.check(&partitions, Since::Now)?;
                    // The offsets may be newer than the positions.
                    self.has_progress = true;
                }
                // An item of a partition that moved is delivered twice.
                OwnershipChange::Revoked(partitions) => {
                    self.release(&partitions);
                    if let Some(changes) = &mut self.changes {
                        changes.extend(partitions.into_iter().map(FeedChange::Revoked));
                    }
                }
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
        self.done_at(&item.topic, item.partition, item.offset)
    }

    /// The same as [`Self::done`], by the place of the item.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn done_at(&mut self, topic: &str, partition: i32, offset: Offset) -> Result<(), Error> {
        self.has_progress = true;
        match self.group.store_offset(topic, partition, offset) {
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

    /// Stops to fetch, or goes on. A partition that is assigned later is not affected: call this again. Call
    /// [`Self::next`] all the same, so that the member stays in its group.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn set_paused(&self, is_paused: bool) -> Result<(), Error> {
        let followed = self.owned.iter().filter(|(_, partition)| partition.mismatch.is_none());
        for (name, _) in followed {
            if is_paused { self.group.pause(name)? } else { self.group.resume(name)? }
        }
        Ok(())
    }

    /// Describes a partition that is not read because its offset cannot be right.
    pub fn held(&self) -> Option<String> {
        self.owned.iter().find_map(|(name, partition)| {
            let mismatch = partition.mismatch?;
            Some(format!("{name} is held: {}", mismatch.code()))
        })
    }

    /// Compares the offsets of partitions with their positions, and holds those where they differ. The user of the
    /// feed learns of what was just assigned; what is read already goes on where it is.
    fn check(&mut self, names: &[TopicPartition], owned: Since) -> Result<(), Error> {
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
                if let (Some(changes), Since::Before) = (&mut self.changes, owned) {
                    changes.push(FeedChange::Revoked(name.clone()));
                }
            }
            let is_held = partition.mismatch.is_some();
            if self.changes.is_some() && !is_held && owned == Since::Now {
                let next = match (committed.next, self.start) {
                    (None, Start::End) => Some(self.start_at_end(name)?),
                    (next, _) => next,
                };
                let (partition, metadata) = (name.clone(), committed.metadata.clone());
                let change = FeedChange::Assigned { partition, next, metadata };
                self.changes.get_or_insert_default().push(change);
            }
        }
        Ok(())
    }

    /// Starts to read a partition after its last record, and commits this offset: what comes from now on is
    /// read, even if the process ends before it has committed anything else.
    fn start_at_end(&self, name: &TopicPartition) -> Result<NextOffset, Error> {
        let (_, end) = self.group.available(name)?;
        let next = NextOffset(end);
        for attempt in 1.. {
            match self.commit([(name, next, String::new())].into_iter()) {
                Ok(()) => break,
                Err(error) if attempt == START_ATTEMPTS => return Err(error),
                // The group is still rebalancing.
                Err(error) => {
                    tracing::warn!(%error, partition = %name, "the first offset could not be committed; retrying");
                    std::thread::sleep(START_PAUSE);
                }
            }
        }
        self.group.seek(name, Some(next))?;
        Ok(next)
    }

    /// Takes the changes of ownership since the last call. `next` is absent for a partition without a
    /// committed offset, which is read from its first record.
    pub(crate) fn take_changes(&mut self) -> Vec<FeedChange> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Commits offsets with their metadata, and waits until the broker has them.
    pub(crate) fn commit<'p>(
        &self,
        offsets: impl Iterator<Item = (&'p TopicPartition, NextOffset, String)>,
    ) -> Result<(), Error> {
        let mut list = TopicPartitionList::new();
        for (partition, next, metadata) in offsets {
            add_offset(&mut list, partition, next, metadata)?;
        }
        if list.count() == 0 { Ok(()) } else { self.group.commit(&list) }
    }

    /// Notes that offsets were committed, so that the positions are written.
    pub(crate) const fn note_progress(&mut self) {
        self.has_progress = true;
    }

    /// Stops fetching a partition. Records that were already fetched are not returned either.
    pub(crate) fn pause(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.group.pause(partition)
    }

    /// Continues to fetch a partition.
    pub(crate) fn resume(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.group.resume(partition)
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
