//! Commits to Kafka which ranges are in flight and which offsets are done.

use std::time::{Duration, Instant};

use kafka::ledger;

use super::{Archive, Owned};
use crate::inserter::Task;
use crate::tables::Table;

/// How often we commit the offsets that are done but were not yet committed with a later range.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

impl Archive<'_> {
    /// Records the ranges of all batches that are ready, in one commit, and starts their inserts.
    pub(super) fn start_inserts(&mut self) {
        let mut ready = Vec::new();
        for (index, Owned { partition, .. }) in self.partitions.iter_mut().enumerate() {
            if let Some(batch) = partition.next_batch() {
                let to_record = batch.pending.is_none().then_some(batch.range);
                let to_record = to_record.map(|range| (range, partition.ledger()));
                ready.push((index, partition.name.clone(), to_record));
            }
        }
        let ranges = ready.iter().filter_map(|(_, name, to_record)| {
            let (range, ledger) = (*to_record)?;
            Some((name, range, ledger))
        });
        if let Err(error) = self.ranges.mark_pending(ranges) {
            // Kafka is unavailable, or the group is rebalancing. No range may be inserted before it
            // is recorded.
            tracing::warn!(%error, "recording ranges in Kafka failed; retrying");
            ready.retain(|(_, _, to_record)| to_record.is_none());
        }
        for (index, ..) in ready {
            if let Some(batch) = self.partitions[index].partition.start_batch() {
                self.spawn(index, Task::Insert(batch));
            }
        }
    }

    /// Commits once per [`COMMIT_INTERVAL`].
    pub(super) fn commit_if_due(&mut self) {
        if self.committed_at.elapsed() >= COMMIT_INTERVAL {
            self.commit();
        }
    }

    /// Commits the offsets that are done, and exports the ledgers. Most offsets are committed
    /// earlier, when the next range is recorded.
    pub(super) fn commit(&mut self) {
        self.committed_at = Instant::now();
        self.export_ledgers();
        let done: Vec<_> = self
            .partitions
            .iter()
            .filter_map(|Owned { partition, .. }| {
                Some((partition.name.clone(), partition.uncommitted()?, partition.ledger()))
            })
            .collect();
        let offsets = done.iter().map(|(name, next, ledger)| (name, *next, *ledger));
        if let Err(error) = self.ranges.mark_done(offsets) {
            tracing::warn!(%error, "committing offsets failed; retrying");
            return;
        }
        for Owned { partition, .. } in &mut self.partitions {
            partition.committed();
        }
    }

    fn export_ledgers(&self) {
        let topics = Table::ALL.into_iter().map(|table| table.topic(self.topics));
        let partitions = self.partitions.iter().map(|owned| &owned.partition);
        let ledgers = partitions.map(|partition| (&partition.name, partition.ledger()));
        ledger::export(crate::STAGE.code(), topics, ledgers);
    }
}
