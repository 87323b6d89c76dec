use std::cell::{OnceCell, RefCell, RefMut};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset as Start, TopicPartitionList};

use crate::client::ReaderContext;
use crate::error::is_transient;
use crate::positions::{Position, PositionsTopic};
use crate::topics::first_and_next;
use crate::{Connection, Error, TopicPartition};

/// No changelog takes longer to restore; `docs/benchmarks.md` has the measured times.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(240);
const OPEN_TRANSACTION_PAUSE: Duration = Duration::from_millis(100);

/// What a stage gets with a new partition: the metadata that its predecessor committed, and access to
/// the changelog.
pub struct Restore<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) readers: &'a ChangelogReaders,
    pub(crate) metadata: String,
}

/// What a restore has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The number of records.
    pub records: u64,
    /// The offset from which the next restore can start.
    pub next_offset: i64,
}

impl Restore<'_> {
    /// The metadata that was committed with the partition's offset. Empty if there is none.
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Reads the committed records of a changelog partition from offset `from`, or from its
    /// beginning, to its end. `apply` receives key and value; a missing value is a tombstone.
    ///
    /// No other member can append to the partition now: the previous owner is fenced. But a member
    /// that vanished may have left a transaction open, and records that later owners committed behind
    /// it are invisible until the broker ends it. So we first wait for that.
    ///
    /// # Errors
    /// [`Error::RestoreTimeout`] after four minutes, and the errors of `apply`.
    pub fn changelog(
        &self,
        topic: &str,
        partition: i32,
        from: Option<i64>,
        mut apply: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), Error>,
    ) -> Result<Restored, Error> {
        let deadline = Instant::now() + RESTORE_TIMEOUT;
        let timeout = || Error::RestoreTimeout {
            topic: topic.to_owned(),
            partition,
            seconds: RESTORE_TIMEOUT.as_secs(),
        };
        let ChangelogReader { committed, uncommitted } = self.readers.get(self.connection)?;
        let (_, end) = first_and_next(uncommitted, topic, partition, deadline)?;
        while first_and_next(committed, topic, partition, deadline)?.1 < end {
            if Instant::now() >= deadline {
                return Err(timeout());
            }
            std::thread::sleep(OPEN_TRANSACTION_PAUSE);
        }

        let mut assignment = TopicPartitionList::new();
        let start = from.map_or(Start::Beginning, Start::Offset);
        assignment.add_partition_offset(topic, partition, start)?;
        committed.assign(&assignment)?;

        let mut restored = Restored { records: 0, next_offset: from.unwrap_or(0) };
        while Instant::now() < deadline {
            match committed.poll(Duration::from_millis(200)) {
                None => {}
                Some(Ok(message)) => {
                    apply(message.key().unwrap_or_default(), message.payload())?;
                    restored.records += 1;
                    restored.next_offset = message.offset() + 1;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(restored),
                Some(Err(error)) if is_transient(&error) => {
                    tracing::warn!(%error, topic, partition, "changelog poll failed; retrying");
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Err(timeout())
    }
}

/// The readers of changelogs, opened when they are first needed. Partitions are assigned in groups
/// and closing a consumer takes 100 ms, so all partitions of a group share the readers.
#[derive(Default)]
pub(crate) struct ChangelogReaders {
    reader: OnceCell<ChangelogReader>,
    /// By partition of the topic: the positions by key. Several input partitions share one.
    positions: RefCell<HashMap<i32, HashMap<Vec<u8>, Position>>>,
}

struct ChangelogReader {
    committed: BaseConsumer<ReaderContext>,
    uncommitted: BaseConsumer<ReaderContext>,
}

impl ChangelogReaders {
    fn get(&self, connection: &Connection) -> Result<&ChangelogReader, Error> {
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let open = |isolation| {
            let mut config = connection.reader("restore", "mailpulse-restore");
            config
                .set("isolation.level", isolation)
                .set("queued.max.messages.kbytes", "16384")
                .create_with_context(ReaderContext)
                .map_err(|error| Error::settings(&error))
        };
        let reader = ChangelogReader {
            committed: open("read_committed")?,
            uncommitted: open("read_uncommitted")?,
        };
        Ok(self.reader.get_or_init(|| reader))
    }

    /// Reads all positions of a group.
    pub(crate) fn positions_of(
        &self,
        connection: &Connection,
        topic: &PositionsTopic,
        group: &str,
    ) -> Result<Vec<(TopicPartition, Position)>, Error> {
        let mut found = Vec::new();
        for partition in 0..topic.partitions {
            let read = self.read_positions(connection, topic, partition)?;
            found.extend(read.iter().filter_map(|(key, position)| {
                let input = Position::input_of(std::str::from_utf8(key).ok()?, group)?;
                Some((input, position.clone()))
            }));
        }
        Ok(found)
    }

    /// Reads the position of an input partition.
    pub(crate) fn position(
        &self,
        connection: &Connection,
        topic: &PositionsTopic,
        group: &str,
        input: &TopicPartition,
    ) -> Result<Option<Position>, Error> {
        let read = self.read_positions(connection, topic, topic.partition_of(input.partition))?;
        Ok(read.get(Position::key(group, input).as_bytes()).cloned())
    }

    /// Reads a partition of the positions, once.
    fn read_positions(
        &self,
        connection: &Connection,
        topic: &PositionsTopic,
        partition: i32,
    ) -> Result<RefMut<'_, HashMap<Vec<u8>, Position>>, Error> {
        let mut read = self.positions.borrow_mut();
        if let Entry::Vacant(unread) = read.entry(partition) {
            let restore = Restore { connection, readers: self, metadata: String::new() };
            let mut positions = HashMap::new();
            restore.changelog(&topic.name, partition, None, |key, value| {
                match value.and_then(Position::from_value) {
                    Some(position) => drop(positions.insert(key.to_vec(), position)),
                    None => drop(positions.remove(key)),
                }
                Ok(())
            })?;
            unread.insert(positions);
        }
        Ok(RefMut::map(read, |read| read.entry(partition).or_default()))
    }
}
