use std::hash::{BuildHasher, RandomState};

use crate::files::{Files, Position, RecordId};
use crate::overlay::IdKey;
use crate::partition::Partition;
use crate::pending::{self, MemoryTable};
use crate::{Entry, Horizons, StateError};

/// How many bytes of ids and memories are collected before they are written. A message has several
/// events within a short time, and only its last memory is written. Large files need less merging.
const COLLECTED_BYTES: usize = 16 << 20;

/// Applies the changelog of one partition to its files, and checks at the same time whether the files
/// belong to this changelog.
pub(crate) struct PartitionRestore {
    number: i32,
    partition: Partition,
    trust: Trust,
    /// The record up to which the files may have entries, while it has not been read.
    announced: Option<RecordId>,
    has_read: bool,
    collected: Collected,
}

/// What was read from the changelog and not yet written.
#[derive(Default)]
struct Collected {
    ids: Vec<IdKey>,
    memories: MemoryTable,
}

impl Collected {
    fn add(&mut self, entry: &Entry<'_>) {
        self.ids.extend(entry.keys());
        for (id, memory) in entry.memories() {
            self.memories.set(id, memory);
        }
    }

    fn byte_count(&self) -> usize {
        self.memories.byte_count() + self.ids.len() * IdKey::LENGTH
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
    /// Or a record that may be in the files is not in the changelog.
    /// Possible causes: the changelog belongs to another cluster, the topic was deleted and created
    /// again, or another member's transaction committed instead of ours.
    Broken,
}

impl PartitionRestore {
    /// Starts from the current content of the files.
    pub(crate) fn resume(
        files: &Files,
        number: i32,
        horizons: Horizons,
    ) -> Result<Self, StateError> {
        let position = files.position(number)?;
        if position.is_none() {
            files.discard(number)?;
        }
        let announced = files.announced(number)?;
        // An earlier release announces nothing, so an old announcement may be left.
        let announced =
            announced.filter(|record| position.is_some_and(|it| record.sequence > it.sequence));
        // A random number, so that no two assignments of a partition have the same one.
        let writer = RandomState::new().hash_one(number);
        let partition = Partition::new(files.partition(number)?, horizons, writer, position)?;
        let trust = position.map_or(Trust::Empty, Trust::Unverified);
        let (has_read, collected) = (false, Collected::default());
        Ok(Self { number, partition, trust, announced, has_read, collected })
    }

    /// Discards the content of the files and starts from nothing.
    pub(crate) fn from_scratch(
        files: &Files,
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
                if self.continues_with(&entry) {
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

    /// Returns whether this is the next record, and the announced one if it has its number.
    fn continues_with(&mut self, entry: &Entry<'_>) -> bool {
        let last = self.partition.position.map_or(0, |position| position.sequence);
        let announced = self.announced.filter(|record| record.sequence == entry.sequence);
        if announced.is_some() {
            self.announced = None;
        }
        entry.sequence == last + 1 && announced.is_none_or(|record| record.writer == entry.writer)
    }

    fn write(&mut self, entry: &Entry<'_>) -> Result<(), StateError> {
        self.collected.add(entry);
        self.partition.advance(entry);
        // Writing announces a later record. That must not hide one that the changelog may lack.
        if self.collected.byte_count() >= COLLECTED_BYTES && self.announced.is_none() {
            self.write_collected()?;
        }
        Ok(())
    }

    fn write_collected(&mut self) -> Result<(), StateError> {
        let Collected { ids, memories } = std::mem::take(&mut self.collected);
        let mut ids = pending::sorted(ids);
        ids.dedup();
        self.partition.write(&ids, &memories)
    }

    /// Returns the partition after all records before `next_offset` were applied. Returns `None` if
    /// the files do not belong to this changelog; then the caller restores from scratch.
    pub(crate) fn finish(mut self, next_offset: i64) -> Result<Option<Partition>, StateError> {
        if matches!(self.trust, Trust::Unverified(_) | Trust::Broken) || self.announced.is_some() {
            return Ok(None);
        }
        if let Some(position) = self.partition.position.as_mut().filter(|_| self.has_read) {
            position.offset = next_offset - 1;
            self.write_collected()?;
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

#[cfg(test)]
mod tests {
    use event::EventId;

    use super::*;
    use crate::{Hour, changelog};

    const HORIZONS: Horizons = Horizons { ids: 10, memories: 20 };

    fn key(sequence: u64) -> IdKey {
        IdKey::new(Hour(9), &EventId([sequence as u8; 16]))
    }

    fn position(sequence: u64) -> Position {
        Position { writer: 7, sequence, offset: 0, event_hour: None, undated_until: None }
    }

    /// Restores files with the records 1 to 3, whose process was killed while it wrote the records 4 to
    /// 6, and returns whether the files were trusted.
    fn is_trusted(changelog: &[(u64, u64)]) -> bool {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path()).unwrap();
        let partition = files.partition(0).unwrap();
        let none = || MemoryTable::default();
        partition.write(&[1, 2, 3].map(key), none().sorted(), &position(3)).unwrap();
        partition.write(&[4, 5, 6].map(key), none().sorted(), &position(6)).unwrap();
        partition.put_position(&position(3)).unwrap();
        let mut restore = PartitionRestore::resume(&files, 0, HORIZONS).unwrap();
        for &(writer, sequence) in changelog {
            let record = changelog::encode(writer, sequence, &[key(sequence)], &[]).remove(0);
            restore.apply(&record).unwrap();
        }
        restore.finish(100).unwrap().is_some()
    }

    #[test]
    fn files_that_may_have_more_than_the_changelog_are_not_trusted() {
        assert!(is_trusted(&[(7, 3), (7, 4), (7, 5), (7, 6)]));
        assert!(is_trusted(&[(7, 3), (7, 4), (7, 5), (7, 6), (8, 7)]));
        assert!(!is_trusted(&[(7, 3), (7, 4), (7, 5)]), "the last record is missing");
        assert!(!is_trusted(&[(7, 3), (7, 4), (7, 5), (8, 6), (8, 7)]), "it is another one");
        assert!(!is_trusted(&[(7, 3)]));
    }
}
