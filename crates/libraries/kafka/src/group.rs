//! A member of a consumer group, and the changes of the partitions it owns.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, Rebalance,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{ClientConfig, ClientContext, Offset as Position, Statistics, TopicPartitionList};

use crate::client::{KAFKA_REQUEST_TIMEOUT, log_client_error};
use crate::group_protocol::Protocol;
use crate::lag::{FetchProgress, LagWatch, STATISTICS_MS};
use crate::positions::{Found, Mismatch, has_markers, is_marker_gap};
use crate::topic_ids::topic_ids;
use crate::topics::first_and_next;
use crate::{Connection, Error, NextOffset, Offset, TopicPartition};

/// How long committed offsets are asked for. A transaction that a vanished member left open ends after up to
/// twenty seconds: its timeout, and then the interval at which the broker looks.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(90);

/// A member of a consumer group with a [`LagWatch`] of its progress. It does not expose the consumer:
/// the watch would report a partition that was paused without [`Group::pause`] as no longer fetched.
pub(crate) struct Group {
    /// The queues of single partitions; see [`Group::join_aligned`].
    queues: Vec<(TopicPartition, PartitionQueue<GroupContext>)>,
    consumer: Arc<BaseConsumer<GroupContext>>,
    name: String,
    has_markers: bool,
    _watch: LagWatch,
}

/// How the partitions are divided among the members.
#[derive(Debug, Clone, Copy)]
enum Assignment {
    Any,
    /// A member has either all partitions of a number or none. The number of partitions is that of each
    /// topic.
    Aligned {
        partitions: i32,
    },
}

fn split_queues(
    consumer: &Arc<BaseConsumer<GroupContext>>,
    topics: &[&str],
    partitions: i32,
) -> Result<Vec<(TopicPartition, PartitionQueue<GroupContext>)>, Error> {
    let names = (0..partitions).flat_map(|partition| {
        topics.iter().map(move |topic| TopicPartition { topic: (*topic).to_owned(), partition })
    });
    names
        .map(|name| {
            let queue = consumer.split_partition_queue(&name.topic, name.partition);
            let queue = queue.ok_or_else(|| {
                Error::state(format!("librdkafka has no queue for the partition {name}"))
            })?;
            Ok((name, queue))
        })
        .collect()
}

/// What a group has committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) partition: TopicPartition,
    /// `None` before the first commit.
    pub(crate) next: Option<NextOffset>,
    pub(crate) metadata: String,
}

impl Group {
    /// Joins the group. `config` comes from [`Connection::consumer`] for the same component and group.
    pub(crate) fn join(
        connection: &Connection,
        config: ClientConfig,
        component: &'static str,
        group: &str,
        topics: &[&str],
    ) -> Result<Self, Error> {
        Self::join_with(connection, config, component, group, topics, Assignment::Any)
    }

    /// Joins the group like [`Group::join`], with two differences. One member has all partitions of a
    /// number, if the topics have the same number of partitions and all members subscribe to all of them.
    /// And the records of each partition wait in a [queue](Group::queues) of their own instead of being
    /// returned by [`Group::poll`], so that a partition can be left unread without being paused. Pausing
    /// would discard what was fetched ahead.
    pub(crate) fn join_aligned(
        connection: &Connection,
        config: ClientConfig,
        component: &'static str,
        group: &str,
        topics: &[&str],
        partitions: i32,
    ) -> Result<Self, Error> {
        let assignment = Assignment::Aligned { partitions };
        Self::join_with(connection, config, component, group, topics, assignment)
    }

    fn join_with(
        connection: &Connection,
        mut config: ClientConfig,
        component: &'static str,
        group: &str,
        topics: &[&str],
        assignment: Assignment,
    ) -> Result<Self, Error> {
        let has_markers = has_markers(component);
        let context = GroupContext { has_markers, ..GroupContext::default() };
        let watch = LagWatch::start(connection, component, group, &context.progress)?;
        let protocol = Protocol::choose(connection)?;
        protocol.set(connection, group, &mut config);
        if let Assignment::Aligned { .. } = assignment {
            protocol.set_aligned(&mut config);
        }
        let consumer: BaseConsumer<GroupContext> = config
            .set("statistics.interval.ms", STATISTICS_MS)
            .create_with_context(context)
            .map_err(|error| Error::settings(&error))?;
        let consumer = Arc::new(consumer);
        let queues = match assignment {
            Assignment::Any => Vec::new(),
            // Before the first poll, so that no record of a partition goes to the queue of the consumer.
            // librdkafka keeps the queues apart through all later assignments.
            Assignment::Aligned { partitions } => split_queues(&consumer, topics, partitions)?,
        };
        consumer.subscribe(topics)?;
        Ok(Self { queues, consumer, name: group.to_owned(), has_markers, _watch: watch })
    }

    /// The queue of every partition of every topic, whoever owns it, if the group was joined with
    /// [`Group::join_aligned`].
    pub(crate) fn queues(&self) -> &[(TopicPartition, PartitionQueue<GroupContext>)] {
        &self.queues
    }

    /// Returns the next record or event, or `None` if there is none within `timeout`.
    pub(crate) fn poll(&self, timeout: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.consumer.poll(timeout)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether the topics are written in transactions.
    pub(crate) fn has_markers(&self) -> bool {
        self.has_markers
    }

    /// The error for [`is_out_of_range`].
    pub(crate) fn out_of_range(&self) -> Error {
        Error::OutOfRange { group: self.name.clone() }
    }

    /// Returns the changes of ownership since the last call.
    pub(crate) fn take_changes(&self) -> Vec<OwnershipChange> {
        self.consumer.context().take_changes()
    }

    /// Returns whether [`take_changes`](Self::take_changes) would return any.
    pub(crate) fn has_changed(&self) -> bool {
        self.consumer.context().has_changed()
    }

    /// Returns [`Error::Silent`] once the client has stopped fetching a partition. Only a new process
    /// helps then.
    pub(crate) fn check_progress(&self) -> Result<(), Error> {
        self.consumer.context().progress.check()
    }

    /// Stops fetching a partition. Records that were already fetched are not returned either.
    pub(crate) fn pause(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.consumer.context().progress.paused(partition);
        Ok(self.consumer.pause(&list_of([partition]))?)
    }

    /// Continues to fetch a partition.
    pub(crate) fn resume(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.consumer.context().progress.resumed(partition);
        Ok(self.consumer.resume(&list_of([partition]))?)
    }

    /// Continues reading a partition at `next`, or at its beginning.
    pub(crate) fn seek(
        &self,
        partition: &TopicPartition,
        next: Option<NextOffset>,
    ) -> Result<(), Error> {
        let position = next.map_or(Position::Beginning, |next| Position::Offset(next.0));
        let TopicPartition { topic, partition } = partition;
        Ok(self.consumer.seek(topic, *partition, position, KAFKA_REQUEST_TIMEOUT)?)
    }

    /// Returns what the group has committed for each of the partitions, in the order given. Waits for
    /// open transactions over these offsets: a predecessor's last commit has either succeeded or
    /// failed as a whole when this returns.
    pub(crate) fn committed<'p>(
        &self,
        partitions: impl IntoIterator<Item = &'p TopicPartition>,
    ) -> Result<Vec<Committed>, Error> {
        let list = list_of(partitions);
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let committed = committed_offsets(&self.consumer, &list)?;
        Ok(committed
            .elements()
            .iter()
            .map(|element| Committed {
                partition: TopicPartition {
                    topic: element.topic().to_owned(),
                    partition: element.partition(),
                },
                next: element.offset().to_raw().filter(|&raw| raw >= 0).map(NextOffset),
                metadata: element.metadata().to_owned(),
            })
            .collect())
    }

    /// Commits offsets with their metadata outside of any transaction, and waits until the broker has
    /// them.
    pub(crate) fn commit(&self, offsets: &TopicPartitionList) -> Result<(), Error> {
        Ok(self.consumer.commit(offsets, CommitMode::Sync)?)
    }

    /// Commits the offsets that were [stored](Self::store_offset), if any, and waits until the broker has
    /// them.
    pub(crate) fn commit_stored(&self) -> Result<(), Error> {
        match self.consumer.commit_consumer_state(CommitMode::Sync) {
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => Ok(()),
            committed => Ok(committed?),
        }
    }

    /// Returns the first offset of a partition and the one after its last committed record.
    pub(crate) fn available(&self, partition: &TopicPartition) -> Result<(i64, i64), Error> {
        let until = Instant::now() + KAFKA_REQUEST_TIMEOUT;
        first_and_next(&self.consumer, &partition.topic, partition.partition, until)
    }

    /// Compares a committed offset with the records that its partition has, and not with any position.
    pub(crate) fn find_outside(&self, committed: &Committed) -> Result<Option<Mismatch>, Error> {
        let Committed { partition, next, .. } = committed;
        Ok(Mismatch::find(Found {
            committed: *next,
            is_ours: true,
            position: None,
            topic_id: None,
            available: self.available(partition)?,
            has_markers: self.has_markers,
        }))
    }

    /// Returns the ids of topics; see [`topic_ids`].
    pub(crate) fn topic_ids<'t>(
        &self,
        topics: impl Iterator<Item = &'t str>,
    ) -> Result<HashMap<String, String>, Error> {
        topic_ids(&self.consumer, topics)
    }

    /// Marks the record at `offset` as processed, for a consumer that commits in the background.
    pub(crate) fn store_offset(
        &self,
        topic: &str,
        partition: i32,
        offset: Offset,
    ) -> KafkaResult<()> {
        self.consumer.store_offset(topic, partition, offset.0)
    }

    /// Returns the data with which a transactional producer commits offsets for this member.
    pub(crate) fn metadata(&self) -> Result<ConsumerGroupMetadata, Error> {
        Ok(self.consumer.group_metadata().ok_or(KafkaError::Canceled)?)
    }
}

/// Returns whether the offset of a partition is outside of it, so that the client reads it no longer.
pub(crate) fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))
}

pub(crate) fn list_of<'p>(
    partitions: impl IntoIterator<Item = &'p TopicPartition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

/// Adds an offset with its metadata to a list that will be committed.
pub(crate) fn add_offset(
    list: &mut TopicPartitionList,
    partition: &TopicPartition,
    next: NextOffset,
    metadata: String,
) -> Result<(), Error> {
    let mut element = list.add_partition(&partition.topic, partition.partition);
    element.set_metadata(metadata);
    Ok(element.set_offset(Position::Offset(next.0))?)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnershipChange {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
}

/// Records ownership changes in the order in which they happen. librdkafka reports them inside `poll`
/// on the polling thread, so no record is processed between a change and its discovery.
#[derive(Default)]
pub(crate) struct GroupContext {
    changed: AtomicBool,
    changes: Mutex<Vec<OwnershipChange>>,
    progress: Arc<FetchProgress>,
    has_markers: bool,
}

impl GroupContext {
    fn take_changes(&self) -> Vec<OwnershipChange> {
        if !self.changed.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        std::mem::take(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Acquire)
    }

    fn add(&self, change: OwnershipChange) {
        if let OwnershipChange::Revoked(partitions) = &change {
            partitions.iter().for_each(|partition| self.progress.resumed(partition));
        }
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        self.changed.store(true, Ordering::Release);
    }
}

impl ClientContext for GroupContext {
    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error("consumer", &error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.progress.update(&statistics);
    }
}

impl ConsumerContext for GroupContext {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) => {
                self.add(OwnershipChange::Revoked(partitions_of(partitions)));
            }
            Rebalance::Assign(partitions) => set_starts(consumer, partitions),
            Rebalance::Error(_) => {}
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                self.add(OwnershipChange::Assigned(partitions_of(partitions)));
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "consumer group rebalance failed"),
        }
    }
}

/// Reads committed offsets. Repeats a request without an answer: the broker answers only when no open
/// transaction covers the offsets, and librdkafka drops the connection to a busy coordinator with all
/// requests on it when a heartbeat is late.
fn committed_offsets<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &TopicPartitionList,
) -> KafkaResult<TopicPartitionList> {
    let until = Instant::now() + COMMITTED_TIMEOUT;
    loop {
        match consumer.committed_offsets(partitions.clone(), KAFKA_REQUEST_TIMEOUT) {
            Err(error) if is_timeout(&error) && Instant::now() < until => {
                tracing::warn!(%error, "committed offsets could not be read; retrying");
            }
            answer => return answer,
        }
    }
}

fn is_timeout(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(|code| {
        matches!(code, RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::RequestTimedOut)
    })
}

/// Sets where assigned partitions start if that is not the committed offset. The client would not read
/// them at all, because it has no policy for an offset that is missing or outside of the partition
/// (`auto.offset.reset`): that policy would also apply to offsets that were lost.
fn set_starts(consumer: &BaseConsumer<GroupContext>, partitions: &TopicPartitionList) {
    let committed = consumer.committed_offsets(partitions.clone(), KAFKA_REQUEST_TIMEOUT);
    let committed = match committed {
        Ok(committed) => committed,
        Err(error) => {
            // The client asks again by itself, and the stage when it restores the partitions.
            tracing::warn!(%error, "committed offsets of assigned partitions could not be read");
            return;
        }
    };
    for mut partition in partitions.elements() {
        let found = committed.find_partition(partition.topic(), partition.partition());
        let offset = found.and_then(|found| found.offset().to_raw()).filter(|offset| *offset >= 0);
        let start = match offset {
            None => Some(Position::Beginning),
            Some(offset) if consumer.context().has_markers => {
                start_after_markers(consumer, &partition, NextOffset(offset))
            }
            Some(_) => None,
        };
        if let Some(start) = start
            && let Err(error) = partition.set_offset(start)
        {
            tracing::warn!(%error, "start of a partition could not be set");
        }
    }
}

/// Returns the first offset of a partition if it is a few offsets after the committed one; see
/// [`is_marker_gap`].
fn start_after_markers(
    consumer: &BaseConsumer<GroupContext>,
    partition: &TopicPartitionListElem<'_>,
    committed: NextOffset,
) -> Option<Position> {
    let (topic, number) = (partition.topic(), partition.partition());
    let until = Instant::now() + KAFKA_REQUEST_TIMEOUT;
    let (first, _) = first_and_next(consumer, topic, number, until).ok()?;
    is_marker_gap(committed, first).then(|| {
        tracing::warn!(
            topic, partition = number, %committed, first,
            "the partition begins after the committed offset, so reading starts at its first record; if \
             this service was stopped for longer than the retention of the topic, records between them \
             are lost"
        );
        Position::Offset(first)
    })
}

fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|e| TopicPartition { topic: e.topic().to_owned(), partition: e.partition() })
        .collect()
}

#[cfg(test)]
mod tests;
