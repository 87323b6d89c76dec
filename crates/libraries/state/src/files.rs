use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use fjall::compaction::Leveled;
use fjall::compaction::filter::Factory;
use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch};

use crate::expiry::{Floors, OldMarks};
use crate::{Hour, StateError};

/// Below the configured directory: what may be thrown away without asking.
const OURS: &str = "ids";
/// Before the partition's number in the name of its keyspace of marks.
const MARKS: &str = "marks-";
/// Index, filter and data blocks kept in memory, all partitions together.
const CACHE_BYTES: u64 = 32 << 20;
/// Of one partition's newest ids in memory, before they become a file.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// Of a file. A file of ids goes once all of its hours are old: what lies on disk too long is one
/// file a level.
const TABLE_BYTES: u64 = 4 << 20;
/// Journals are read again at start, so they are kept short.
const JOURNAL_BYTES: u64 = 128 << 20;

/// The database of all partitions of one member.
pub(crate) struct Files {
    database: Database,
    /// Partition number → [`Place`].
    places: Keyspace,
    floors: Arc<Floors>,
}

/// The files of one partition.
pub(crate) struct PartitionFiles {
    /// [`IdKey`](crate::overlay::IdKey) → nothing.
    pub(crate) ids: Keyspace,
    /// Engagement id → [`Engagement`](crate::Engagement).
    pub(crate) marks: Keyspace,
    /// The first hour whose marks are kept.
    pub(crate) floor: Arc<AtomicU32>,
}

/// How far a partition's files have followed its changelog, and their clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Who wrote the last record that was applied.
    pub(crate) writer: u64,
    /// Its place in the sequence.
    pub(crate) sequence: u64,
    /// An offset it does not lie before. Kafka tells a producer in a transaction nothing better,
    /// and a reader finds the record from here by its writer and sequence.
    pub(crate) offset: i64,
    /// The clock after it.
    pub(crate) clock: Option<Hour>,
}

impl Files {
    /// Opens them, anew if they are damaged.
    pub(crate) fn open(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(OURS);
        let failed = |error| StateError::Directory { path: path.clone(), error };
        std::fs::create_dir_all(directory).map_err(failed)?;
        match Self::recover(&path) {
            Err(StateError::Files(fjall::Error::Locked)) => Err(StateError::InUse(path)),
            Err(StateError::Files(error)) if is_damage(&error) => {
                tracing::warn!(%error, path = %path.display(), "local store damaged, starting anew");
                std::fs::remove_dir_all(&path).map_err(failed)?;
                Self::recover(&path)
            }
            other => other,
        }
    }

    fn recover(path: &PathBuf) -> Result<Self, StateError> {
        let floors = Arc::new(Floors::default());
        let assigned = Arc::clone(&floors);
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .with_compaction_filter_factories(Arc::new(move |keyspace| {
                keyspace
                    .starts_with(MARKS)
                    .then(|| Arc::new(OldMarks(assigned.of(keyspace))) as Arc<dyn Factory>)
            }))
            .open()?;
        let places = database.keyspace("places", KeyspaceCreateOptions::default)?;
        Ok(Self { database, places, floors })
    }

    pub(crate) fn partition(&self, number: i32) -> Result<PartitionFiles, StateError> {
        let [ids, marks] = names(number);
        Ok(PartitionFiles {
            ids: self.database.keyspace(&ids, options)?,
            marks: self.database.keyspace(&marks, options)?,
            floor: self.floors.of(&marks),
        })
    }

    pub(crate) fn place(&self, number: i32) -> Result<Option<Place>, StateError> {
        Ok(self.places.get(number.to_be_bytes())?.and_then(|bytes| Place::from_bytes(&bytes)))
    }

    pub(crate) fn put_place(&self, batch: &mut OwnedWriteBatch, number: i32, place: &Place) {
        batch.insert(&self.places, number.to_be_bytes(), place.to_bytes());
    }

    /// A batch that is written whole or not at all.
    pub(crate) fn batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    /// Forgets a partition. Its place goes first: without one, what is left is never believed.
    pub(crate) fn forget(&self, number: i32) -> Result<(), StateError> {
        self.places.remove(number.to_be_bytes())?;
        for name in names(number).iter().filter(|name| self.database.keyspace_exists(name)) {
            self.database.delete_keyspace(self.database.keyspace(name, options)?)?;
        }
        Ok(())
    }
}

fn names(partition: i32) -> [String; 2] {
    [format!("ids-{partition}"), format!("{MARKS}{partition}")]
}

/// Digests do not compress, and nearly every look-up is for something that is not there.
fn options() -> KeyspaceCreateOptions {
    let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .filter_policy(FilterPolicy::all(filter))
}

/// Whether the files themselves are at fault, not the disk or its permissions.
fn is_damage(error: &fjall::Error) -> bool {
    use fjall::{Error, LsmError};
    match error {
        Error::JournalRecovery(_)
        | Error::InvalidVersion(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::Unrecoverable => true,
        Error::Storage(error) => !matches!(error, LsmError::Io(_)),
        _ => false,
    }
}

impl Place {
    const LENGTH: usize = 8 + 8 + 8 + 4;
    /// No clock yet: an hour no moment has.
    const NO_CLOCK: u32 = u32::MAX;

    fn to_bytes(self) -> [u8; Self::LENGTH] {
        let clock = self.clock.map_or(Self::NO_CLOCK, |hour| hour.0);
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&self.writer.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..].copy_from_slice(&clock.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (writer, rest) = bytes.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let clock = u32::from_be_bytes(rest.try_into().ok()?);
        Some(Self {
            writer: u64::from_be_bytes(*writer),
            sequence: u64::from_be_bytes(*sequence),
            offset: i64::from_be_bytes(*offset),
            clock: (clock != Self::NO_CLOCK).then_some(Hour(clock)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_round_trip() {
        for clock in [None, Some(Hour(0)), Some(Hour(495_000))] {
            let place = Place { writer: u64::MAX, sequence: 3, offset: 4, clock };
            assert_eq!(Place::from_bytes(&place.to_bytes()), Some(place));
        }
        assert_eq!(Place::from_bytes(&[0; 27]), None);
        assert_eq!(Place::from_bytes(&[0; 29]), None);
    }
}
