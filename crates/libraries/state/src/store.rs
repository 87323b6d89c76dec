use std::collections::BTreeMap;
use std::path::Path;

use crate::files::Files;
use crate::restore::PartitionRestore;
use crate::{Horizons, Partition, StateError};

/// The state of all partitions that are assigned to this process, in one directory.
pub struct Store {
    files: Files,
    horizons: Horizons,
    partitions: BTreeMap<i32, Partition>,
}

impl Store {
    /// Opens the directory and creates it if it does not exist. Damaged
    /// files are not an error: they are discarded.
    ///
    /// # Errors
    /// [`StateError::InUse`] if another process has the directory open, [`StateError::Directory`]
    /// or [`StateError::Files`] if an operation on the disk fails.
    pub fn open(directory: &Path, horizons: Horizons) -> Result<Self, StateError> {
        Ok(Self { files: Files::open(directory)?, horizons, partitions: BTreeMap::new() })
    }

    /// Restores a partition that has been assigned to this process. Applies the changelog records
    /// that the files do not have yet. If the files do not belong to this changelog, discards them
    /// and applies the whole changelog.
    ///
    /// `read` reads the committed changelog records from an offset, or from the beginning for
    /// `None` (and for an offset that is out of range). It passes the value of each record to the
    /// given function and returns the offset after the last record.
    ///
    /// # Errors
    /// Errors of `read`, errors of the files, and [`StateError::Changelog`] for a record that
    /// cannot be decoded.
    pub fn restore<E: From<StateError>>(
        &mut self,
        partition: i32,
        mut read: impl FnMut(
            Option<i64>,
            &mut dyn FnMut(&[u8]) -> Result<(), StateError>,
        ) -> Result<i64, E>,
    ) -> Result<(), E> {
        let mut restore = PartitionRestore::resume(&self.files, partition, self.horizons)?;
        let next = read(restore.start_offset(), &mut |value| restore.apply(value))?;
        if let Some(restored) = restore.finish(next)? {
            self.partitions.insert(partition, restored);
            return Ok(());
        }
        tracing::warn!(partition, "local state does not match the changelog; discarding it");
        let mut restore = PartitionRestore::from_scratch(&self.files, partition, self.horizons)?;
        let next = read(None, &mut |value| restore.apply(value))?;
        if let Some(restored) = restore.finish(next)? {
            self.partitions.insert(partition, restored);
        }
        Ok(())
    }

    /// Closes a partition that was revoked. Its files stay, because the partition may be assigned
    /// again.
    pub fn release(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Returns a restored partition.
    pub fn partition(&mut self, number: i32) -> Result<&mut Partition, StateError> {
        self.partitions.get_mut(&number).ok_or(StateError::NotAssigned(number))
    }

    /// Returns the changes of the open batch as records, in order. Each belongs into the changelog
    /// partition of the given number. Call it once per batch, after the last event.
    pub fn changelog(&mut self) -> impl Iterator<Item = (i32, Vec<u8>)> {
        self.partitions.iter_mut().flat_map(|(&number, partition)| {
            partition.changelog_records().into_iter().map(move |record| (number, record))
        })
    }

    /// Writes the changes of the open batch to disk, all or none. Call it after the Kafka
    /// transaction with their changelog records has committed.
    pub fn commit(&mut self) -> Result<(), StateError> {
        let mut writes = self.files.write_batch();
        for (&number, partition) in &mut self.partitions {
            if let Some(position) = partition.write_open_batch(&mut writes) {
                self.files.put_position(&mut writes, number, &position);
            }
        }
        writes.commit()?;
        for partition in self.partitions.values_mut() {
            partition.clear_open_batch();
            partition.expire()?;
        }
        Ok(())
    }

    /// Drops the changes of the open batch. Call it after the Kafka transaction has aborted.
    pub fn roll_back(&mut self) {
        self.partitions.values_mut().for_each(Partition::clear_open_batch);
    }
}
