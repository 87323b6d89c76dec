use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use fjall::compaction::Leveled;
use fjall::compaction::filter::Factory;
use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch};

use crate::expiry::{HorizonStarts, OldEngagements};
use crate::{Hour, StateError};

/// The directory of the database below the configured one. It is deleted if the database is
/// damaged.
const DIRECTORY: &str = "ids";
/// The keyspace of the changelog positions. Existing stores have it under this name.
const POSITIONS: &str = "places";
/// The name of a partition's keyspace of engagements, without the partition number. Existing stores
/// have it under this name.
const ENGAGEMENTS: &str = "marks-";
/// Limits the cache of index, filter and data blocks of all partitions together.
const CACHE_BYTES: u64 = 32 << 20;
/// Limits the newest ids of one partition that are in memory and not yet in a file.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// The size of one file. A file of ids is deleted when all of its hours are beyond the horizon, so
/// each level of the tree keeps at most one file of expired ids.
const TABLE_BYTES: u64 = 4 << 20;
/// Limits the journals, because they are read again at start.
const JOURNAL_BYTES: u64 = 128 << 20;

/// The database with the files of all partitions.
///
/// Each partition has two keyspaces, so that a partition can be discarded without touching the
/// others. The keyspace of positions is shared by all partitions; a write batch changes a partition
/// and its position together.
pub(crate) struct Files {
    database: Database,
    /// Partition number → [`Position`].
    positions: Keyspace,
    horizon_starts: Arc<HorizonStarts>,
}

/// The files of one partition.
pub(crate) struct PartitionFiles {
    /// [`IdKey`](crate::overlay::IdKey) → nothing.
    pub(crate) ids: Keyspace,
    /// Engagement id → [`Engagement`](crate::Engagement).
    pub(crate) engagements: Keyspace,
    /// The first hour within the horizon. Compaction drops engagements of earlier hours.
    pub(crate) horizon_start: Arc<AtomicU32>,
}

/// The last changelog record that is in the files of a partition, and the event hour after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    /// The writer of the record.
    pub(crate) writer: u64,
    /// The sequence number of the record.
    pub(crate) sequence: u64,
    /// A lower bound of the record's offset. A transactional producer does not learn the exact
    /// offset. A reader starts here and finds the record by its writer and sequence number.
    pub(crate) offset: i64,
    pub(crate) event_hour: Option<Hour>,
}

impl Files {
    /// Opens the database. If it is damaged, deletes it and creates a new one.
    pub(crate) fn open(directory: &Path) -> Result<Self, StateError> {
        let path = directory.join(DIRECTORY);
        let failed = |error| StateError::Directory { path: path.clone(), error };
        std::fs::create_dir_all(directory).map_err(failed)?;
        create_private(&path).map_err(failed)?;
        match Self::recover(&path) {
            Err(StateError::Files(fjall::Error::Locked)) => Err(StateError::InUse(path)),
            Err(StateError::Files(error)) if is_damage(&error) => {
                tracing::warn!(%error, path = %path.display(), "local store is damaged; discarding it");
                std::fs::remove_dir_all(&path).map_err(failed)?;
                create_private(&path).map_err(failed)?;
                Self::recover(&path)
            }
            other => other,
        }
    }

    fn recover(path: &PathBuf) -> Result<Self, StateError> {
        let horizon_starts = Arc::new(HorizonStarts::default());
        let assigned = Arc::clone(&horizon_starts);
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .with_compaction_filter_factories(Arc::new(move |keyspace| {
                keyspace
                    .starts_with(ENGAGEMENTS)
                    .then(|| Arc::new(OldEngagements(assigned.of(keyspace))) as Arc<dyn Factory>)
            }))
            .open()?;
        let positions = database.keyspace(POSITIONS, KeyspaceCreateOptions::default)?;
        Ok(Self { database, positions, horizon_starts })
    }

    pub(crate) fn partition(&self, number: i32) -> Result<PartitionFiles, StateError> {
        let [ids, engagements] = names(number);
        Ok(PartitionFiles {
            ids: self.database.keyspace(&ids, options)?,
            engagements: self.database.keyspace(&engagements, options)?,
            horizon_start: self.horizon_starts.of(&engagements),
        })
    }

    pub(crate) fn position(&self, number: i32) -> Result<Option<Position>, StateError> {
        Ok(self.positions.get(number.to_be_bytes())?.and_then(|bytes| Position::from_bytes(&bytes)))
    }

    pub(crate) fn put_position(
        &self,
        writes: &mut OwnedWriteBatch,
        number: i32,
        position: &Position,
    ) {
        writes.insert(&self.positions, number.to_be_bytes(), position.to_bytes());
    }

    /// Returns a batch of writes that is applied completely or not at all.
    pub(crate) fn write_batch(&self) -> OwnedWriteBatch {
        self.database.batch()
    }

    /// Deletes the files of a partition. The position is deleted first: a crash in between leaves
    /// files without a position, and those are never used.
    pub(crate) fn discard(&self, number: i32) -> Result<(), StateError> {
        self.positions.remove(number.to_be_bytes())?;
        for name in names(number).iter().filter(|name| self.database.keyspace_exists(name)) {
            self.database.delete_keyspace(self.database.keyspace(name, options)?)?;
        }
        Ok(())
    }
}

fn names(partition: i32) -> [String; 2] {
    [format!("ids-{partition}"), format!("{ENGAGEMENTS}{partition}")]
}

/// Returns the options of a partition's keyspaces. Compression is off because digests do not
/// compress. A Bloom filter pays off because nearly every look-up is for an id that is not stored.
fn options() -> KeyspaceCreateOptions {
    let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES)))
        .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
        .filter_policy(FilterPolicy::all(filter))
}

/// Returns true if the content of the files is wrong. Errors of the disk or of permissions are not
/// damage: a new database would have them too.
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

impl Position {
    const LENGTH: usize = 8 + 8 + 8 + 4;
    /// Stored in place of the event hour while there is none. No event has this hour.
    const NO_EVENT_HOUR: u32 = u32::MAX;

    fn to_bytes(self) -> [u8; Self::LENGTH] {
        let event_hour = self.event_hour.map_or(Self::NO_EVENT_HOUR, |hour| hour.0);
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&self.writer.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..].copy_from_slice(&event_hour.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (writer, rest) = bytes.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let event_hour = u32::from_be_bytes(rest.try_into().ok()?);
        Some(Self {
            writer: u64::from_be_bytes(*writer),
            sequence: u64::from_be_bytes(*sequence),
            offset: i64::from_be_bytes(*offset),
            event_hour: (event_hour != Self::NO_EVENT_HOUR).then_some(Hour(event_hour)),
        })
    }
}

/// Creates a directory that only its owner can read, because ids and times say who gets mail. An
/// existing directory gets the same mode.
fn create_private(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::set_permissions(directory, Permissions::from_mode(0o700))
        }
        created => created,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_can_read_the_files_even_of_an_earlier_release() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(DIRECTORY);
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        drop(Files::open(home.path()).unwrap());
        assert_eq!(mode(), 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        drop(Files::open(home.path()).unwrap());
        assert_eq!(mode(), 0o700);
    }

    #[test]
    fn positions_round_trip() {
        for event_hour in [None, Some(Hour(0)), Some(Hour(495_000))] {
            let position = Position { writer: u64::MAX, sequence: 3, offset: 4, event_hour };
            assert_eq!(Position::from_bytes(&position.to_bytes()), Some(position));
        }
        assert_eq!(Position::from_bytes(&[0; 27]), None);
        assert_eq!(Position::from_bytes(&[0; 29]), None);
    }
}
