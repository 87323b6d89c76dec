//! A second record of how far each stage has read, in the compacted topic `mail.positions`.
//!
//! Kafka forgets the offsets of a group: seven days after its last member left
//! (`offsets.retention.minutes`), or when a topic is deleted. A stage that then started at the earliest
//! record would process everything again. Therefore each stage also writes its position, in the same
//! transaction as its offsets, with its ledger and the id of the topic. When a partition is assigned,
//! both are compared. A partition whose offset and position contradict each other is held.
//!
//! A [`crate::feed::Feed`] has no transactions, and writes its position after the offset. `archive` writes
//! none: it compares its offsets with its tables.
//!
//! The offset may be ahead of the position, after a release that writes no positions. An offset that
//! somebody else has committed is recognised by its metadata, which has no ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseRecord;
use record::Stage;

use crate::client::{KAFKA_REQUEST_TIMEOUT, ReaderContext};
use crate::group::{Committed, Group, add_offset, list_of};
use crate::ledger::Ledger;
use crate::restore::ChangelogReaders;
use crate::topic_ids::topic_ids;
use crate::topics::{first_and_next, partition_counts};
use crate::transaction::{Input, Transactions};
use crate::{Cluster, Connection, Error, NextOffset, TopicPartition};

/// Where a stage writes its positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionsTopic {
    /// The name of the topic.
    pub name: String,
    /// Its number of partitions. The positions of partition `n` are in `n` modulo this number.
    pub partitions: i32,
}

impl PositionsTopic {
    /// Returns the topic of an installation.
    pub fn of(cluster: &Cluster) -> Self {
        Self {
            name: cluster.topics.positions.clone(),
            partitions: cluster.partitions.recipient_partitions,
        }
    }

    /// Returns the partition that has the positions of an input partition.
    pub(crate) fn partition_of(&self, input: i32) -> i32 {
        input % self.partitions.max(1)
    }
}

/// How far a stage had read a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The committed offset when the position was written.
    pub next: NextOffset,
    /// The id of the topic. `None` if the broker tells none.
    pub topic_id: Option<String>,
    /// The ledger that was committed with the offset, so that it survives the loss of the offset.
    pub ledger: Ledger,
}

impl Position {
    const VERSION: &str = "2";

    /// Returns the key of the record: `group/topic/partition`.
    pub fn key(group: &str, partition: &TopicPartition) -> String {
        format!("{group}/{partition}")
    }

    /// Returns the input partition of a key of this group.
    pub(crate) fn input_of(key: &str, group: &str) -> Option<TopicPartition> {
        let input = key.strip_prefix(group)?.strip_prefix('/')?;
        let (topic, partition) = input.rsplit_once('/')?;
        Some(TopicPartition { topic: topic.to_owned(), partition: partition.parse().ok()? })
    }

    /// Returns the value of the record: the version of the format, the offset, the id or `-`, and the
    /// ledger as in the metadata of the offset. Version 1 had no ledger.
    pub fn to_value(&self) -> String {
        let id = self.topic_id.as_deref().unwrap_or("-");
        format!("{} {} {id} {}", Self::VERSION, self.next, self.ledger.to_text())
    }

    /// Reads the text of [`Position::to_value`]. Returns `None` for any other text.
    pub fn from_value(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let (version, next, id) = (words.next()?, words.next()?, words.next()?);
        let next = next.parse().ok().filter(|next| *next >= 0)?;
        let topic_id = (id != "-").then(|| id.to_owned());
        let ledger = match version {
            "1" => Ledger::default(),
            Self::VERSION => Ledger::parse(words.next()?)?,
            _ => return None,
        };
        let is_whole = words.next().is_none();
        is_whole.then_some(Self { next: NextOffset(next), topic_id, ledger })
    }
}

/// What is known about a partition when it is assigned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) committed: Option<NextOffset>,
    /// Whether a stage has committed the offset, and not another program.
    pub(crate) is_ours: bool,
    pub(crate) position: Option<&'a Position>,
    pub(crate) topic_id: Option<&'a str>,
    /// The first offset of the partition and the one after its last record.
    pub(crate) available: (i64, i64),
    /// Whether the topic is written in transactions.
    pub(crate) has_markers: bool,
}

/// Why the offset of a partition cannot be used. `position` is the offset at which reading is to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// The topic was deleted and created again.
    TopicRecreated { position: NextOffset },
    /// The group has no offset any more.
    OffsetLost { position: NextOffset },
    /// Another program has committed the offset.
    ForeignOffset { committed: NextOffset, position: NextOffset },
    /// The offset is lower than before.
    WentBack { committed: NextOffset, position: NextOffset },
    /// The partition ends before the offset.
    BeyondEnd { committed: NextOffset, end: i64 },
    /// The partition begins after the offset.
    RecordsExpired { committed: NextOffset, first: i64 },
}

/// The most offsets without a record that are expected behind the last record that was read: the markers
/// of transactions, several of them if transactions failed.
const MAX_MARKERS: i64 = 16;

/// Returns whether a partition begins so shortly after the committed offset that only the markers of
/// transactions were between them. Kafka deletes them with the records before them. So a partition that
/// is written in transactions looks like this if it was quiet for longer than its retention. The inputs of
/// `enrich` are written without transactions: there, every missing offset is a lost record.
pub(crate) fn is_marker_gap(committed: NextOffset, first: i64) -> bool {
    (1..=MAX_MARKERS).contains(&(first - committed.0))
}

impl Mismatch {
    /// Compares the committed offset with the position. `None` means that reading can continue: at the
    /// offset, or at the first record if there is neither an offset nor a position.
    pub(crate) fn find(found: Found<'_>) -> Option<Self> {
        let (first, end) = found.available;
        if let Some(Position { next: position, topic_id, ledger: _ }) = found.position {
            let position = *position;
            if let (Some(then), Some(now)) = (topic_id.as_deref(), found.topic_id)
                && then != now
            {
                return Some(Self::TopicRecreated { position });
            }
            match found.committed {
                None => return Some(Self::OffsetLost { position }),
                Some(committed) if !found.is_ours => {
                    return Some(Self::ForeignOffset { committed, position });
                }
                Some(committed) if committed < position => {
                    return Some(Self::WentBack { committed, position });
                }
                Some(_) => {}
            }
        }
        let committed = found.committed?;
        if committed.0 > end {
            return Some(Self::BeyondEnd { committed, end });
        }
        let is_marker_gap = found.has_markers && is_marker_gap(committed, first);
        let is_expired = committed.0 < first && !is_marker_gap;
        is_expired.then_some(Self::RecordsExpired { committed, first })
    }

    /// Returns the offset to continue at if the cause is the usual one: `first` is the first offset of
    /// the partition.
    pub const fn usual_repair(self, first: i64) -> NextOffset {
        match self {
            Self::TopicRecreated { .. } | Self::RecordsExpired { .. } => NextOffset(first),
            Self::BeyondEnd { end, .. } => NextOffset(end),
            Self::OffsetLost { position }
            | Self::ForeignOffset { position, .. }
            | Self::WentBack { position, .. } => position,
        }
    }

    /// The stable code: a metric label, and a row of the runbook.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TopicRecreated { .. } => "topic_recreated",
            Self::OffsetLost { .. } => "offset_lost",
            Self::ForeignOffset { .. } => "foreign_offset",
            Self::WentBack { .. } => "offset_went_back",
            Self::BeyondEnd { .. } => "offset_beyond_end",
            Self::RecordsExpired { .. } => "records_expired",
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TopicRecreated { position } => write!(
                f,
                "the topic was deleted and created again; in the old one, the stage was to continue at \
                 offset {position}"
            ),
            Self::OffsetLost { position } => write!(
                f,
                "the group has no offset, although the stage is to continue at offset {position}; Kafka \
                 has expired it, or somebody has deleted it"
            ),
            Self::ForeignOffset { committed, position } => write!(
                f,
                "another program has committed offset {committed}; the stage is to continue at offset \
                 {position}"
            ),
            Self::WentBack { committed, position } => {
                write!(
                    f,
                    "the offset is {committed}, although the stage is to continue at offset {position}"
                )
            }
            Self::BeyondEnd { committed, end } => write!(
                f,
                "the offset is {committed}, but the partition ends at {end}; it has lost records"
            ),
            Self::RecordsExpired { committed, first } => write!(
                f,
                "the offset is {committed}, but the partition begins at {first}; the records between \
                 them were deleted before they were read"
            ),
        }
    }
}

/// Compares committed offsets with positions.
pub(crate) struct Comparison<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) topic: &'a PositionsTopic,
    pub(crate) group: &'a Group,
    pub(crate) readers: &'a ChangelogReaders,
    /// Whether the group commits its offsets with a ledger, which other programs do not.
    pub(crate) has_ledgers: bool,
}

impl Comparison<'_> {
    /// Returns why a partition cannot be read from its committed offset.
    pub(crate) fn find(
        &self,
        committed: &Committed,
        topic_id: Option<&str>,
    ) -> Result<Option<Mismatch>, Error> {
        let Committed { partition, next, metadata } = committed;
        let position =
            self.readers.position(self.connection, self.topic, self.group.name(), partition)?;
        Ok(Mismatch::find(Found {
            committed: *next,
            is_ours: !self.has_ledgers || Ledger::is_in(metadata),
            position: position.as_ref(),
            topic_id,
            available: self.group.available(partition)?,
            has_markers: self.group.has_markers(),
        }))
    }
}

/// Reports that a partition is held because of a mismatch.
pub(crate) fn hold(component: &'static str, name: &TopicPartition, mismatch: Mismatch) {
    tracing::error!(
        component, partition = %name, code = mismatch.code(),
        runbook = "docs/runbooks.md#position-mismatch",
        "partition held: {mismatch}"
    );
    export(component, name, mismatch, true);
}

/// Reports that a partition is no longer held here.
pub(crate) fn release(component: &'static str, name: &TopicPartition, mismatch: Mismatch) {
    export(component, name, mismatch, false);
}

fn export(component: &'static str, name: &TopicPartition, mismatch: Mismatch, is_held: bool) {
    metrics::gauge!("mailpulse_position_mismatch",
        "component" => component,
        "topic" => name.topic.clone(),
        "partition" => name.partition.to_string(),
        "reason" => mismatch.code())
    .set(f64::from(u8::from(is_held)));
}

/// How far a group has read a partition, as far as Kafka knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: TopicPartition,
    /// The committed offset.
    pub committed: Option<NextOffset>,
    /// The position.
    pub position: Position,
    /// Why a member would hold the partition, and the offset to continue at if the cause is the usual
    /// one.
    pub held: Option<(Mismatch, NextOffset)>,
}

/// Returns the status of every partition of which a group has written a position, in order. Partitions of
/// topics that do not exist any more are left out.
///
/// # Errors
/// [`Error::Kafka`], and [`Error::Topic`] if the topic of positions is missing.
pub fn list(
    connection: &Connection,
    positions_topic: &str,
    stage: Stage,
    group: &str,
) -> Result<Vec<PartitionStatus>, Error> {
    let counts = partition_counts(connection)?;
    let partitions = *counts.get(positions_topic).ok_or_else(|| missing(positions_topic))?;
    let topic = PositionsTopic { name: positions_topic.to_owned(), partitions };
    let readers = ChangelogReaders::default();
    let positions = readers.positions_of(connection, &topic, group)?;
    let positions = positions.into_iter().filter(|(it, _)| counts.contains_key(&it.topic));
    let reader: BaseConsumer<ReaderContext> = connection
        .reader("positions", group)
        .create_with_context(ReaderContext)
        .map_err(|error| Error::settings(&error))?;
    let positions: BTreeMap<_, _> = positions.collect();
    let topics: BTreeSet<&str> = positions.keys().map(|it| &*it.topic).collect();
    let ids = topic_ids(&reader, topics.into_iter())?;
    let committed = reader.committed_offsets(list_of(positions.keys()), KAFKA_REQUEST_TIMEOUT)?;
    let status = |(partition, position): (TopicPartition, Position)| {
        let element = committed.find_partition(&partition.topic, partition.partition);
        let next = element.as_ref().and_then(|it| it.offset().to_raw()).filter(|next| *next >= 0);
        let metadata = element.map(|it| it.metadata().to_owned()).unwrap_or_default();
        let until = Instant::now() + KAFKA_REQUEST_TIMEOUT;
        let available = first_and_next(&reader, &partition.topic, partition.partition, until)?;
        let mismatch = Mismatch::find(Found {
            committed: next.map(NextOffset),
            is_ours: matches!(stage, Stage::Notify | Stage::Forward | Stage::AutomateDeliver)
                || Ledger::is_in(&metadata),
            position: Some(&position),
            topic_id: ids.get(&partition.topic).map(String::as_str),
            available,
            has_markers: has_markers(stage.code()),
        });
        let held = mismatch.map(|mismatch| (mismatch, mismatch.usual_repair(available.0)));
        Ok(PartitionStatus { partition, committed: next.map(NextOffset), position, held })
    };
    positions.into_iter().map(status).collect()
}

/// Returns whether the inputs of a component are written in transactions. The ingress writes the inputs
/// of `enrich` without.
pub(crate) fn has_markers(component: &str) -> bool {
    component != Stage::Enrich.code()
}

fn missing(topic: &str) -> Error {
    Error::Topic { topic: topic.to_owned(), problem: "is missing".to_owned() }
}

/// Makes a stage continue at `next`, whatever its offset and its position say now: commits the offset and
/// writes the position in one transaction. All instances of the stage must be stopped.
///
/// # Errors
/// [`Error::Kafka`] if a member of the group is running, [`Error::Topic`] if the topic is missing or `next`
/// is outside of the partition.
pub fn accept(
    connection: &Connection,
    positions_topic: &str,
    group: &str,
    partition: &TopicPartition,
    next: NextOffset,
) -> Result<(), Error> {
    let component = "positions";
    let problem = |topic: &str, problem: String| Error::Topic { topic: topic.to_owned(), problem };
    let counts = partition_counts(connection)?;
    let partitions = *counts.get(positions_topic).ok_or_else(|| missing(positions_topic))?;
    let topic = PositionsTopic { name: positions_topic.to_owned(), partitions };
    let reader: BaseConsumer<ReaderContext> = connection
        .reader(component, group)
        .create_with_context(ReaderContext)
        .map_err(|error| Error::settings(&error))?;
    let TopicPartition { topic: name, partition: number } = partition;
    let until = Instant::now() + KAFKA_REQUEST_TIMEOUT;
    let (first, end) = first_and_next(&reader, name, *number, until)?;
    if !(first..=end).contains(&next.0) {
        let text = format!("has the offsets {first} to {end} in partition {number}, not {next}");
        return Err(problem(name, text));
    }
    let topic_id = topic_ids(&reader, std::iter::once(&**name))?.remove(name);
    let committed = reader.committed_offsets(list_of([partition]), KAFKA_REQUEST_TIMEOUT)?;
    let metadata = committed.elements().first().map(|found| found.metadata().to_owned());
    let readers = ChangelogReaders::default();
    let known = readers.position(connection, &topic, group, partition)?;
    let metadata = metadata
        .filter(|metadata| Ledger::is_in(metadata))
        .unwrap_or_else(|| known.map(|position| position.ledger).unwrap_or_default().append_to(""));
    let (_, ledger) = Ledger::split_from(&metadata);
    let mut offsets = TopicPartitionList::new();
    add_offset(&mut offsets, partition, next, metadata)?;

    let id = format!("{group}-{component}");
    let transactions = Transactions::open(connection.producer(component), &id)?;
    let (key, value) =
        (Position::key(group, partition), Position { next, topic_id, ledger }.to_value());
    let record = BaseRecord::<str, str, Input>::with_opaque_to(&topic.name, 0)
        .partition(topic.partition_of(*number))
        .key(&key)
        .payload(&value);
    transactions.begin()?.send(record).map_err(|(error, _)| error)?;
    transactions.commit(&offsets, &reader.group_metadata().ok_or(KafkaError::Canceled)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(
        committed: Option<i64>,
        is_ours: bool,
        position: Option<(i64, Option<&str>)>,
        topic_id: Option<&str>,
    ) -> Option<&'static str> {
        let position = position
            .map(|(next, id)| (NextOffset(next), id.map(str::to_owned)))
            .map(|(next, topic_id)| Position { next, topic_id, ledger: Ledger::default() });
        let found = Found {
            committed: committed.map(NextOffset),
            is_ours,
            position: position.as_ref(),
            topic_id,
            available: (50, 100),
            has_markers: true,
        };
        Mismatch::find(found).map(Mismatch::code)
    }

    #[test]
    fn what_belongs_together_is_accepted() {
        let id = Some("a");
        assert_eq!(find(None, false, None, id), None, "a first start");
        assert_eq!(find(Some(70), true, None, id), None, "an upgrade");
        assert_eq!(
            find(Some(70), false, None, id),
            None,
            "an upgrade from a release without ledger"
        );
        assert_eq!(find(Some(70), true, Some((70, id)), id), None);
        assert_eq!(
            find(Some(90), true, Some((70, id)), id),
            None,
            "a release without positions ran meanwhile"
        );
        assert_eq!(find(Some(90), true, Some((70, None)), id), None, "the broker told no id");
        assert_eq!(find(Some(90), true, Some((70, id)), None), None, "the broker tells no id");
        assert_eq!(find(Some(100), true, Some((100, id)), id), None, "everything is read");
        assert_eq!(find(Some(50), true, None, id), None);
    }

    #[test]
    fn expired_markers_of_transactions_are_not_expired_records() {
        assert!(is_marker_gap(NextOffset(98), 100));
        assert!(!is_marker_gap(NextOffset(100), 100), "nothing is missing");
        assert!(!is_marker_gap(NextOffset(100), 98), "nothing has expired");
        assert!(!is_marker_gap(NextOffset(50), 100), "too many");
        assert_eq!(find(Some(49), true, None, Some("a")), None, "the partition begins at 50");
        let found = Found {
            committed: Some(NextOffset(49)),
            is_ours: true,
            position: None,
            topic_id: None,
            available: (50, 100),
            has_markers: false,
        };
        assert_eq!(Mismatch::find(found).map(Mismatch::code), Some("records_expired"));
    }

    #[test]
    fn every_contradiction_is_named() {
        let id = Some("a");
        assert_eq!(find(None, false, Some((70, id)), id), Some("offset_lost"));
        assert_eq!(find(None, false, Some((70, id)), Some("b")), Some("topic_recreated"));
        assert_eq!(find(Some(90), true, Some((70, id)), Some("b")), Some("topic_recreated"));
        assert_eq!(find(Some(90), false, Some((70, id)), id), Some("foreign_offset"));
        assert_eq!(find(Some(60), true, Some((70, id)), id), Some("offset_went_back"));
        assert_eq!(find(Some(101), true, Some((70, id)), id), Some("offset_beyond_end"));
        assert_eq!(find(Some(101), true, None, id), Some("offset_beyond_end"));
        assert_eq!(find(Some(49), true, Some((30, id)), id), None, "a marker");
        assert_eq!(find(Some(20), true, Some((20, id)), id), Some("records_expired"));
    }

    #[test]
    fn a_position_round_trips() {
        let ledger = Ledger { read: 7, passed: 5, dropped: 2, redriven: 1, ..Ledger::default() };
        for topic_id in [None, Some("nV1Tk9eJQbWl3pcx5g_Vkw".to_owned())] {
            let position = Position { next: NextOffset(7), topic_id, ledger };
            assert_eq!(Position::from_value(position.to_value().as_bytes()), Some(position));
        }
        let without_ledger = Position::from_value(b"1 7 a").unwrap();
        assert_eq!(
            (without_ledger.next, without_ledger.ledger),
            (NextOffset(7), Ledger::default())
        );
        for wrong in [
            "",
            "1 7",
            "3 7 a",
            "1 -1 a",
            "1 x a",
            "1 7 a b",
            "2 7 a",
            "2 7 a 1",
            "2 7 a 1,1,0,0,0 b",
        ] {
            assert_eq!(Position::from_value(wrong.as_bytes()), None, "{wrong}");
        }
        let partition = TopicPartition { topic: "t.mail.events".to_owned(), partition: 3 };
        assert_eq!(
            Position::key("t.mailpulse-dedupe", &partition),
            "t.mailpulse-dedupe/t.mail.events/3"
        );
    }
}
