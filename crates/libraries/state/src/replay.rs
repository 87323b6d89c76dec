use std::hash::{BuildHasher, RandomState};

use crate::files::{Files, Place};
use crate::partition::Partition;
use crate::{Entry, StateError};

/// A partition on its way to the end of its changelog.
pub(crate) struct Replay<'f> {
    files: &'f Files,
    number: i32,
    partition: Partition,
    trust: Trust,
    has_read: bool,
}

/// Whether the files are a true prefix of this changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// The record they say they end with has not come yet.
    Unproven(Place),
    /// They are.
    Proven,
    /// They are empty, and the changelog may begin anywhere: Kafka drops its oldest records.
    Empty,
    /// Their last record is not in this changelog, or not followed by what must follow. It is
    /// another cluster's, the topic was made anew, or the commit behind it was another member's.
    Broken,
}

impl<'f> Replay<'f> {
    /// Begins with what the files have.
    pub(crate) fn resume(
        files: &'f Files,
        number: i32,
        horizon_hours: u32,
    ) -> Result<Self, StateError> {
        let place = files.place(number)?;
        if place.is_none() {
            files.forget(number)?;
        }
        // Random: no two ownerships of a partition may ever write under one name.
        let writer = RandomState::new().hash_one(number);
        let partition = Partition::new(files.partition(number)?, horizon_hours, writer, place)?;
        let trust = place.map_or(Trust::Empty, Trust::Unproven);
        Ok(Self { files, number, partition, trust, has_read: false })
    }

    /// Begins with nothing.
    pub(crate) fn anew(
        files: &'f Files,
        number: i32,
        horizon_hours: u32,
    ) -> Result<Self, StateError> {
        files.forget(number)?;
        Self::resume(files, number, horizon_hours)
    }

    /// Where to begin to read; `None` for the beginning.
    pub(crate) fn from(&self) -> Option<i64> {
        self.partition.place.map(|place| place.offset)
    }

    /// Takes the next record's value.
    pub(crate) fn apply(&mut self, value: &[u8]) -> Result<(), StateError> {
        let partition = self.number;
        let entry =
            Entry::decode(value).map_err(|error| StateError::Changelog { partition, error })?;
        match self.trust {
            Trust::Unproven(place) => self.trust = prove(place, &entry),
            Trust::Proven => {
                let last = self.partition.place.map_or(0, |place| place.sequence);
                if entry.sequence == last + 1 {
                    self.follow(&entry)?;
                } else {
                    self.trust = Trust::Broken;
                }
            }
            Trust::Empty => self.follow(&entry)?,
            Trust::Broken => {}
        }
        self.has_read = true;
        Ok(())
    }

    fn follow(&mut self, entry: &Entry<'_>) -> Result<(), StateError> {
        let mut batch = self.files.batch();
        let place = self.partition.follow(entry, &mut batch);
        self.files.put_place(&mut batch, self.number, &place);
        batch.commit()?;
        Ok(())
    }

    /// The partition, when all was read up to `next_offset`; `None` when its files were not this
    /// changelog's and it must be read anew.
    pub(crate) fn finish(mut self, next_offset: i64) -> Result<Option<Partition>, StateError> {
        if matches!(self.trust, Trust::Unproven(_) | Trust::Broken) {
            return Ok(None);
        }
        if let Some(place) = self.partition.place.as_mut().filter(|_| self.has_read) {
            place.offset = next_offset - 1;
            let mut batch = self.files.batch();
            self.files.put_place(&mut batch, self.number, place);
            batch.commit()?;
        }
        self.partition.expire()?;
        Ok(Some(self.partition))
    }
}

fn prove(place: Place, entry: &Entry<'_>) -> Trust {
    if entry.sequence < place.sequence {
        Trust::Unproven(place)
    } else if (entry.writer, entry.sequence) == (place.writer, place.sequence) {
        Trust::Proven
    } else {
        Trust::Broken
    }
}
