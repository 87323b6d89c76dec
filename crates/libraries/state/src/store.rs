use std::collections::BTreeMap;
use std::path::Path;

use crate::files::Files;
use crate::pending::{Pending, PendingLimits};
use crate::restore::PartitionRestore;
use crate::{Horizons, Partition, StateError};

/// The state of all partitions that are assigned to this process, in one directory.
pub struct Store {
    files: Files,
    horizons: Horizons,
    limits: PendingLimits,
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
        Self::open_with(directory, horizons, PendingLimits::DEFAULT)
    }

    /// Opens the directory with other limits. For tests.
    #[doc(hidden)]
    pub fn open_with(
        directory: &Path,
        horizons: Horizons,
        limits: PendingLimits,
    ) -> Result<Self, StateError> {
        let files = Files::open(directory)?;
        Ok(Self { files, horizons, limits, partitions: BTreeMap::new() })
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

    /// Closes a partition that was revoked, after writing what is committed to its files. They stay,
    /// because the partition may be assigned again.
    pub fn release(&mut self, partition: i32) {
        if let Some(released) = self.partitions.remove(&partition) {
            close(partition, released);
        }
    }

    /// Closes the files like a crash: without writing what is in memory only. For tests.
    #[doc(hidden)]
    pub fn abandon(mut self) {
        self.partitions.clear();
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

    /// Makes the changes of the open batch permanent. Call it after the Kafka transaction with their
    /// changelog records has committed.
    ///
    /// They are not written to disk at once: until a partition has tens of thousands of changes, they are
    /// in memory. After a crash, [`Self::restore`] reads them from the changelog.
    ///
    /// # Errors
    /// [`StateError::Files`] if the files cannot be written.
    pub fn commit(&mut self) -> Result<(), StateError> {
        for partition in self.partitions.values_mut() {
            partition.commit()?;
        }
        // Partitions fill up at the same time. One after the other, no batch waits for several.
        let limits = self.limits;
        self.write_largest(|pending| pending.exceeds(&limits))?;
        while self.pending_bytes() > limits.all_bytes && self.write_largest(|_| true)? {}
        Ok(())
    }

    /// Writes the changes of the partition that has most of those that are `eligible`. Returns whether
    /// there was one.
    fn write_largest(&mut self, eligible: impl Fn(&Pending) -> bool) -> Result<bool, StateError> {
        let partitions = self.partitions.values_mut().filter(|it| eligible(it.pending()));
        match partitions.max_by_key(|partition| partition.pending().allocated_bytes()) {
            Some(partition) => partition.write_pending().map(|()| true),
            None => Ok(false),
        }
    }

    /// Drops the changes of the open batch. Call it after the Kafka transaction has aborted.
    pub fn roll_back(&mut self) {
        self.partitions.values_mut().for_each(Partition::roll_back);
    }

    /// Returns the size in memory, in bytes, of the changes that are not in the files. For tests.
    #[doc(hidden)]
    pub fn pending_bytes(&self) -> usize {
        self.partitions.values().map(|partition| partition.pending().allocated_bytes()).sum()
    }
}

impl Drop for Store {
    /// Writes what is committed, so that the next start reads little of the changelog.
    fn drop(&mut self) {
        for (number, partition) in std::mem::take(&mut self.partitions) {
            close(number, partition);
        }
    }
}

/// Writes what is committed. An error is not fatal, because the files are a cache of the changelog.
fn close(number: i32, mut partition: Partition) {
    partition.roll_back();
    if let Err(error) = partition.write_pending() {
        tracing::warn!(
            partition = number,
            %error,
            "cannot write the local store; the next restore reads more of the changelog"
        );
    }
}
