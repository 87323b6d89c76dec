//! Pauses partitions whose records could not be inserted soon, to limit memory.

use std::time::Duration;

use super::{Archive, Owned};

/// The memory of all batches at which reading stops.
const MAX_MEMORY: usize = 96 << 20;
/// How long the loop waits for an insert before it pauses partitions. Pausing is expensive, because
/// librdkafka discards the records that it has fetched.
const GRACE: Duration = Duration::from_millis(250);

impl Archive<'_> {
    /// Pauses the partitions that must wait and resumes the others.
    pub(super) fn pause_and_resume(&mut self) -> Result<(), kafka::Error> {
        if self.partitions.iter().any(|owned| self.must_wait(owned) && !owned.partition.paused) {
            if self.memory() > MAX_MEMORY {
                self.partitions.iter_mut().for_each(|owned| owned.partition.close_early());
                self.start_inserts();
            }
            self.apply_updates(GRACE);
            self.start_inserts();
        }
        for index in 0..self.partitions.len() {
            let must_wait = self.must_wait(&self.partitions[index]);
            let partition = &mut self.partitions[index].partition;
            if must_wait && !partition.paused {
                self.ranges.pause(&partition.name)?;
            } else if !must_wait && partition.paused {
                self.ranges.resume(&partition.name)?;
            }
            partition.paused = must_wait;
        }
        Ok(())
    }

    fn must_wait(&self, Owned { partition, .. }: &Owned) -> bool {
        let memory = self.memory();
        // A paused partition resumes only at three quarters, so that it does not alternate between
        // both states.
        let limit = if partition.paused { MAX_MEMORY / 4 * 3 } else { MAX_MEMORY };
        partition.is_stopped()
            || partition.has_ready_batch()
            || (memory > limit && !partition.must_read())
    }

    /// Returns the memory of all batches.
    pub(super) fn memory(&self) -> usize {
        self.partitions.iter().map(|owned| owned.partition.bytes()).sum()
    }
}
