use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::ops::Range;

use event::EventId;

use crate::files::{Files, Position};
use crate::overlay::{FirstBytes, IdKey};
use crate::partition::Partition;
use crate::{Entry, Horizons, StateError};

/// How many bytes of ids and memories are collected before they are written. A message has several
/// events within a short time, and only its last memory is written; sorted writes are cheaper, too.
const COLLECTED_BYTES: usize = 8 << 20;

/// Applies the changelog of one partition to its files, and checks at the same time whether the files
/// belong to this changelog.
pub(crate) struct PartitionRestore<'f> {
    files: &'f Files,
    number: i32,
    partition: Partition,
    trust: Trust,
    has_read: bool,
    collected: Collected,
}

/// What was read from the changelog and not yet written.
#[derive(Default)]
struct Collected {
    ids: Vec<IdKey>,
    /// Where the latest memory of each message is in `bytes`.
    memories: HashMap<EventId, Range<usize>, BuildHasherDefault<FirstBytes>>,
    bytes: Vec<u8>,
}

impl Collected {
    fn add(&mut self, entry: &Entry<'_>) {
        self.ids.extend(entry.keys());
        for (id, memory) in entry.memories() {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(memory);
            self.memories.insert(id, start..self.bytes.len());
        }
    }

    fn len(&self) -> usize {
        self.bytes.len() + self.ids.len() * IdKey::LENGTH
    }

    fn clear(&mut self) {
        self.ids.clear();
        self.memories.clear();
        self.bytes.clear();
    }
}

/// Whether the files are a prefix of this changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The files end with the record at this position, which has not been read yet.
    Unverified(Position),
    /// The last record of the files was found in the changelog.
    Verified,
    /// The files are empty. The changelog may start with any record, because Kafka deletes the
    /// oldest ones.
    Empty,
    /// The last record of the files is not in this changelog, or a record after it is missing.
    /// Possible causes: the changelog belongs to another cluster, the topic was deleted and created
    /// again, or another member's transaction committed instead of ours.
    Broken,
}

impl<'f> PartitionRestore<'f> {
    /// Starts from the current content of the files.
    pub(crate) fn resume(
        files: &'f Files,
        number: i32,
        horizons: Horizons,
    ) -> Result<Self, StateError> {
        let position = files.position(number)?;
        if position.is_none() {
            files.discard(number)?;
        }
        // A random number, so that no two assignments of a partition have the same one.
        let writer = RandomState::new().hash_one(number);
        let partition = Partition::new(files.partition(number)?, horizons, writer, position)?;
        let trust = position.map_or(Trust::Empty, Trust::Unverified);
        Ok(Self {
            files,
            number,
            partition,
            trust,
            has_read: false,
            collected: Collected::default(),
        })
    }

    /// Discards the content of the files and starts from nothing.
    pub(crate) fn from_scratch(
        files: &'f Files,
        number: i32,
        horizons: Horizons,
    ) -> Result<Self, StateError> {
        files.discard(number)?;
        Self::resume(files, number, horizons)
    }

    /// Returns the offset to read the changelog from; `None` means from the beginning.
    pub(crate) fn start_offset(&self) -> Option<i64> {
        self.partition.position.map(|position| position.offset)
    }

    /// Applies the value of the next changelog record.
    pub(crate) fn apply(&mut self, value: &[u8]) -> Result<(), StateError> {
        let partition = self.number;
        let entry =
            Entry::decode(value).map_err(|error| StateError::Changelog { partition, error })?;
        match self.trust {
            Trust::Unverified(position) => self.trust = verify(position, &entry),
            Trust::Verified => {
                let last = self.partition.position.map_or(0, |position| position.sequence);
                if entry.sequence == last + 1 {
                    self.write(&entry)?;
                } else {
                    self.trust = Trust::Broken;
                }
            }
            Trust::Empty => self.write(&entry)?,
            Trust::Broken => {}
        }
        self.has_read = true;
        Ok(())
    }

    fn write(&mut self, entry: &Entry<'_>) -> Result<(), StateError> {
        self.collected.add(entry);
        let position = self.partition.advance(entry);
        if self.collected.len() >= COLLECTED_BYTES {
            self.write_collected(&position)?;
            // Otherwise tables pile up in memory, because reading is faster than writing files.
            self.partition.flush()?;
        }
        Ok(())
    }

    /// Writes what was collected and the position after it, all or nothing.
    fn write_collected(&mut self, position: &Position) -> Result<(), StateError> {
        let Collected { ids, memories, bytes } = &mut self.collected;
        ids.sort_unstable_by_key(|key| key.0);
        let mut memories: Vec<_> =
            memories.iter().map(|(&id, range)| (id, &bytes[range.clone()])).collect();
        memories.sort_unstable_by_key(|(id, _)| *id);
        let mut writes = self.files.write_batch();
        self.partition.write_restored(ids, memories.into_iter(), &mut writes);
        self.files.put_position(&mut writes, self.number, position);
        writes.commit()?;
        self.collected.clear();
        Ok(())
    }

    /// Returns the partition after all records before `next_offset` were applied. Returns `None` if
    /// the files do not belong to this changelog; then the caller restores from scratch.
    pub(crate) fn finish(mut self, next_offset: i64) -> Result<Option<Partition>, StateError> {
        if matches!(self.trust, Trust::Unverified(_) | Trust::Broken) {
            return Ok(None);
        }
        if let Some(position) = self.partition.position.as_mut().filter(|_| self.has_read) {
            position.offset = next_offset - 1;
            let position = *position;
            self.write_collected(&position)?;
        }
        self.partition.expire()?;
        Ok(Some(self.partition))
    }
}

fn verify(position: Position, entry: &Entry<'_>) -> Trust {
    if entry.sequence < position.sequence {
        Trust::Unverified(position)
    } else if (entry.writer, entry.sequence) == (position.writer, position.sequence) {
        Trust::Verified
    } else {
        Trust::Broken
    }
}
