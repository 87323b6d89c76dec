use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use event::EventId;
use fjall::compaction::Leveled;
use fjall::compaction::filter::Factory;
use fjall::config::{BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::expiry::{HorizonStarts, OldMemories};
use crate::overlay::IdKey;
use crate::{Hour, StateError};

/// The directory of the database below the configured one. It is deleted if the database is
/// damaged.
const DIRECTORY: &str = "ids";
/// The keyspace of the changelog positions. Existing stores have it under this name.
const POSITIONS: &str = "places";
/// The name of a partition's keyspace of memories, without the partition number. Existing stores have
/// it under this name.
const MEMORIES: &str = "marks-";
/// Limits the cache of index, filter and data blocks of all partitions together.
const CACHE_BYTES: u64 = 32 << 20;
/// Limits the entries of a keyspace that are in the journal and in no file yet. This release writes only
/// positions to the journal. An earlier release that is started again with these files writes everything
/// to it.
const JOURNALED_BYTES: u64 = 1 << 20;
/// The size of one file. A file of ids is deleted when all of its hours are beyond the horizon, so
/// each level of the tree keeps at most one file of expired ids.
const TABLE_BYTES: u64 = 4 << 20;
/// Limits the journals, because they are read again at start.
const JOURNAL_BYTES: u64 = 128 << 20;
/// Look-ups are slow if more files than this overlap. A write then waits until fjall has merged some of
/// them, which it begins to do at four.
const MAX_UNMERGED_FILES: usize = 20;
/// The time between two checks whether files were merged, and the number of checks: a write waits 10 s
/// at most.
const MERGE_CHECK: Duration = Duration::from_millis(5);
const MERGE_CHECKS: u32 = 2000;

/// The database with the files of all partitions.
///
/// Each partition has two keyspaces, so that a partition can be discarded without touching the
/// others. The keyspace of positions is shared by all partitions.
pub(crate) struct Files {
    database: Database,
    /// Partition number → [`Position`], and [`announcement_key`] → the [`RecordId`] of the last record
    /// that may be in the files.
    positions: Keyspace,
    horizon_starts: Arc<HorizonStarts>,
}

/// The files of one partition.
pub(crate) struct PartitionFiles {
    number: i32,
    database: Database,
    positions: Keyspace,
    /// [`IdKey`](crate::overlay::IdKey) → nothing.
    pub(crate) ids: Keyspace,
    /// Message id → [`MessageMemory`](crate::MessageMemory). An undated event has a memory under its
    /// event id, of which only the hour is used.
    pub(crate) memories: Keyspace,
    /// The first hour within the horizon of memories. Compaction drops memories of earlier hours.
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
    /// The last hour in which an earlier release may have stored an undated event, which it did by
    /// hour and id only.
    pub(crate) undated_until: Option<Hour>,
}

/// Identifies a changelog record of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordId {
    pub(crate) writer: u64,
    pub(crate) sequence: u64,
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
                    .starts_with(MEMORIES)
                    .then(|| Arc::new(OldMemories(assigned.of(keyspace))) as Arc<dyn Factory>)
            }))
            .open()?;
        let positions = database.keyspace(POSITIONS, options)?;
        Ok(Self { database, positions, horizon_starts })
    }

    pub(crate) fn partition(&self, number: i32) -> Result<PartitionFiles, StateError> {
        let [ids, memories] = names(number);
        Ok(PartitionFiles {
            number,
            database: self.database.clone(),
            positions: self.positions.clone(),
            ids: self.database.keyspace(&ids, options)?,
            memories: self.database.keyspace(&memories, options)?,
            horizon_start: self.horizon_starts.of(&memories),
        })
    }

    pub(crate) fn position(&self, number: i32) -> Result<Option<Position>, StateError> {
        let Some(bytes) = self.positions.get(number.to_be_bytes())? else { return Ok(None) };
        if bytes.len() != Position::LENGTH_V1 {
            return Ok(Position::from_bytes(&bytes));
        }
        // An earlier release closed these files.
        let position = Position::from_bytes_v1(&bytes);
        let last = self.partition(number)?.ids.last_key_value().map(Guard::key).transpose()?;
        let undated_until = last.and_then(|key| Some(IdKey(key.as_ref().try_into().ok()?).hour()));
        Ok(position.map(|position| Position { undated_until, ..position }))
    }

    /// Returns the record up to which the files of a partition were written or were being written.
    pub(crate) fn announced(&self, number: i32) -> Result<Option<RecordId>, StateError> {
        let bytes = self.positions.get(announcement_key(number))?;
        Ok(bytes.and_then(|bytes| RecordId::from_bytes(&bytes)))
    }

    /// Deletes the files of a partition. The position is deleted first: a crash in between leaves
    /// files without a position, and those are never used.
    pub(crate) fn discard(&self, number: i32) -> Result<(), StateError> {
        self.positions.remove(number.to_be_bytes())?;
        self.positions.remove(announcement_key(number))?;
        for name in names(number).iter().filter(|name| self.database.keyspace_exists(name)) {
            let keyspace = self.database.keyspace(name, KeyspaceCreateOptions::default)?;
            self.database.delete_keyspace(keyspace)?;
        }
        Ok(())
    }
}

impl PartitionFiles {
    /// Writes ids and memories, each ascending and without repetition, and the position after them.
    ///
    /// They go directly into new files. This is several times faster than through the journal and the
    /// tables in memory, but it is not all or nothing, so the last record is announced before. After a
    /// crash, the files may have entries up to the announced record, and at least those up to the
    /// position.
    pub(crate) fn write<'m>(
        &self,
        ids: &[IdKey],
        memories: impl Iterator<Item = (EventId, &'m [u8])>,
        position: &Position,
    ) -> Result<(), StateError> {
        let announcement = announcement_key(self.number);
        self.positions.insert(announcement, position.record().to_bytes())?;
        self.sync()?;
        add_file(&self.ids, ids.iter().map(|key| (key.0.as_slice(), [].as_slice())))?;
        add_file(&self.memories, memories.map(|(id, memory)| (id.0, memory)))?;
        self.put_position(position)
    }

    /// Writes a position without entries.
    pub(crate) fn put_position(&self, position: &Position) -> Result<(), StateError> {
        self.positions.insert(self.number.to_be_bytes(), position.to_bytes())?;
        Ok(())
    }

    /// Waits until positions and announcements are on the disk. Entries are there once their file is
    /// complete.
    pub(crate) fn sync(&self) -> Result<(), StateError> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }
}

/// Writes entries, ascending and without repetition, into a new file. Without entries there is no file.
fn add_file<'e, K: Into<fjall::UserKey>>(
    keyspace: &Keyspace,
    mut entries: impl Iterator<Item = (K, &'e [u8])>,
) -> Result<(), StateError> {
    let Some((first_key, first_value)) = entries.next() else { return Ok(()) };
    // If the thread of the database has stopped, nothing is merged. The next write of a position returns
    // its error.
    for _ in 0..MERGE_CHECKS {
        if keyspace.l0_table_count() < MAX_UNMERGED_FILES {
            break;
        }
        std::thread::sleep(MERGE_CHECK);
    }
    let mut file = keyspace.start_ingestion()?;
    file.write(first_key, first_value)?;
    for (key, value) in entries {
        file.write(key, value)?;
    }
    Ok(file.finish()?)
}

/// The key of a partition's announcement, which no partition number has.
fn announcement_key(partition: i32) -> [u8; 5] {
    let [a, b, c, d] = partition.to_be_bytes();
    [a, b, c, d, b'+']
}

fn names(partition: i32) -> [String; 2] {
    [format!("ids-{partition}"), format!("{MEMORIES}{partition}")]
}

/// Returns the options of new keyspaces. Compression is off because digests do not
/// compress. A Bloom filter pays off because nearly every look-up is for an id that is not stored.
fn options() -> KeyspaceCreateOptions {
    let filter = FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0));
    KeyspaceCreateOptions::default()
        .max_memtable_size(JOURNALED_BYTES)
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

impl RecordId {
    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.writer.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (writer, sequence) = bytes.split_first_chunk()?;
        let writer = u64::from_be_bytes(*writer);
        Some(Self { writer, sequence: u64::from_be_bytes(sequence.try_into().ok()?) })
    }
}

impl Position {
    const LENGTH: usize = Self::LENGTH_V1 + 4;
    /// The length that earlier releases wrote, without `undated_until`.
    const LENGTH_V1: usize = 8 + 8 + 8 + 4;

    /// Returns the record of the position.
    pub(crate) const fn record(&self) -> RecordId {
        RecordId { writer: self.writer, sequence: self.sequence }
    }
    /// Stored in place of an hour while there is none. No event has this hour.
    const NO_HOUR: u32 = u32::MAX;

    fn to_bytes(self) -> [u8; Self::LENGTH] {
        let hour = |hour: Option<Hour>| hour.map_or(Self::NO_HOUR, |hour| hour.0).to_be_bytes();
        let mut bytes = [0; Self::LENGTH];
        bytes[..8].copy_from_slice(&self.writer.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..28].copy_from_slice(&hour(self.event_hour));
        bytes[28..].copy_from_slice(&hour(self.undated_until));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (rest, undated_until) = bytes.split_last_chunk()?;
        let undated_until = Self::hour(*undated_until);
        Self::from_bytes_v1(rest).map(|position| Self { undated_until, ..position })
    }

    fn from_bytes_v1(bytes: &[u8]) -> Option<Self> {
        let (writer, rest) = bytes.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        Some(Self {
            writer: u64::from_be_bytes(*writer),
            sequence: u64::from_be_bytes(*sequence),
            offset: i64::from_be_bytes(*offset),
            event_hour: Self::hour(rest.try_into().ok()?),
            undated_until: None,
        })
    }

    fn hour(bytes: [u8; 4]) -> Option<Hour> {
        let hour = u32::from_be_bytes(bytes);
        (hour != Self::NO_HOUR).then_some(Hour(hour))
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
            let undated_until = event_hour.map(|hour| Hour(hour.0 + 1));
            let position =
                Position { writer: u64::MAX, sequence: 3, offset: 4, event_hour, undated_until };
            assert_eq!(Position::from_bytes(&position.to_bytes()), Some(position));
        }
        assert_eq!(Position::from_bytes(&[0; 31]), None);
        assert_eq!(Position::from_bytes(&[0; 33]), None);
    }

    #[test]
    fn with_files_of_an_earlier_release_the_last_hour_of_an_undated_event_is_that_of_the_last_id() {
        let home = tempfile::tempdir().unwrap();
        let files = Files::open(home.path()).unwrap();
        let position =
            Position { writer: 1, sequence: 3, offset: 4, event_hour: None, undated_until: None };
        let old = &position.to_bytes()[..Position::LENGTH_V1];
        files.positions.insert(7_i32.to_be_bytes(), old).unwrap();
        assert_eq!(files.position(7).unwrap(), Some(position));
        let ids = files.partition(7).unwrap().ids;
        for hour in [5, 495_000, 9] {
            ids.insert(IdKey::new(Hour(hour), &event::EventId([1; 16])).0, []).unwrap();
        }
        let undated_until = Some(Hour(495_000));
        assert_eq!(files.position(7).unwrap(), Some(Position { undated_until, ..position }));
    }
}
