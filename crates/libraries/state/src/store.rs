use std::collections::BTreeMap;
use std::path::Path;

use crate::files::Files;
use crate::replay::Replay;
use crate::{Partition, StateError};

/// The partitions of one member, in one directory.
pub struct Store {
    files: Files,
    horizon_hours: u32,
    partitions: BTreeMap<i32, Partition>,
}

impl Store {
    /// Opens the directory, making it if need be. `horizon_hours` is how far back, in event time, a
    /// repeat is recognised.
    ///
    /// # Errors
    /// [`StateError::InUse`] when another process has it open, [`StateError::Directory`] and
    /// [`StateError::Files`] when the system refuses. Damaged files are no error: they are thrown
    /// away.
    pub fn open(directory: &Path, horizon_hours: u32) -> Result<Self, StateError> {
        Ok(Self { files: Files::open(directory)?, horizon_hours, partitions: BTreeMap::new() })
    }

    /// Makes a partition ours: brings what the files have of it up to the end of its changelog, or
    /// throws them away and reads all of it when they are not of this changelog.
    ///
    /// `read` reads the committed records from an offset, or from the beginning for `None` (and for
    /// an offset that is no longer or not yet there), hands each one's value to the function it is
    /// given, and returns the offset after the last record it has read.
    ///
    /// # Errors
    /// Those of `read`, of the files, and [`StateError::Changelog`] for a record that is not ours.
    pub fn take_over<E: From<StateError>>(
        &mut self,
        partition: i32,
        mut read: impl FnMut(
            Option<i64>,
            &mut dyn FnMut(&[u8]) -> Result<(), StateError>,
        ) -> Result<i64, E>,
    ) -> Result<(), E> {
        let mut replay = Replay::resume(&self.files, partition, self.horizon_hours)?;
        let next = read(replay.from(), &mut |value| replay.apply(value))?;
        if let Some(restored) = replay.finish(next)? {
            self.partitions.insert(partition, restored);
            return Ok(());
        }
        tracing::warn!(partition, "local ids are not of this changelog, starting anew");
        let mut replay = Replay::anew(&self.files, partition, self.horizon_hours)?;
        let next = read(None, &mut |value| replay.apply(value))?;
        if let Some(restored) = replay.finish(next)? {
            self.partitions.insert(partition, restored);
        }
        Ok(())
    }

    /// The partition is another member's now. Its files stay: it may come back.
    pub fn give_up(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// A partition that was taken over.
    pub fn partition(&mut self, number: i32) -> Result<&mut Partition, StateError> {
        self.partitions.get_mut(&number).ok_or(StateError::NotOurs(number))
    }

    /// What the open round has added, as records for the changelog partition of the same number,
    /// in order. To be called once a round, after its last event.
    pub fn changelog(&mut self) -> impl Iterator<Item = (i32, Vec<u8>)> {
        self.partitions.iter_mut().flat_map(|(&number, partition)| {
            partition.records().into_iter().map(move |record| (number, record))
        })
    }

    /// Writes the open round, in one batch: its changelog records are committed.
    pub fn commit(&mut self) -> Result<(), StateError> {
        let mut batch = self.files.batch();
        for (&number, partition) in &mut self.partitions {
            if let Some(place) = partition.write(&mut batch) {
                self.files.put_place(&mut batch, number, &place);
            }
        }
        batch.commit()?;
        for partition in self.partitions.values_mut() {
            partition.clear();
            partition.expire()?;
        }
        Ok(())
    }

    /// Drops the open round: it did not happen.
    pub fn roll_back(&mut self) {
        self.partitions.values_mut().for_each(Partition::clear);
    }
}
