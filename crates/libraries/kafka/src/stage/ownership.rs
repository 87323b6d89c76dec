//! Restores partitions that were assigned to a member, and releases revoked ones.

use std::collections::BTreeSet;
use std::time::Instant;

use super::batch::Batch;
use super::batch_loop::Member;
use super::partition::OwnedPartition;
use super::{Stage, refusal_limit};
use crate::group::OwnershipChange;
use crate::ledger::Ledger;
use crate::positions;
use crate::restore::ChangelogReaders;
use crate::{Error, Restore, TopicPartition};

impl<S: Stage> Member<'_, S> {
    /// Applies the changes of ownership since the last batch. Removes the records of revoked partitions
    /// from the batch.
    pub(super) fn apply_ownership_changes(&mut self, batch: &mut Batch<'_>) -> Result<(), Error> {
        let readers = ChangelogReaders::default();
        if batch.is_out_of_range {
            let owned: BTreeSet<_> = self.owned.keys().cloned().collect();
            self.check_positions(&owned, &readers, batch)?;
            if self.owned.values().all(|partition| partition.mismatch.is_none()) {
                // The client no longer reads the partition. A new process starts at its committed offset.
                return Err(self.group.out_of_range());
            }
        }
        // Partitions whose records were removed from the batch.
        let mut removed = BTreeSet::new();
        for change in self.group.take_changes() {
            match change {
                OwnershipChange::Assigned(partitions) => {
                    for partition in &partitions {
                        self.restore(partition, &readers)?;
                        if removed.contains(partition) {
                            // The partition moved away and came back within one batch. The removed
                            // records may have been read after it came back.
                            self.rewind(partition)?;
                        }
                    }
                    let assigned = partitions.into_iter().collect();
                    self.check_positions(&assigned, &readers, batch)?;
                }
                OwnershipChange::Revoked(partitions) => {
                    let revoked: BTreeSet<_> = partitions.into_iter().collect();
                    removed.extend(batch.remove(&revoked));
                    if let Some(aligned) = &mut self.aligned {
                        let read = revoked.iter().filter(|&partition| aligned.forget(partition));
                        removed.extend(read.cloned());
                    }
                    revoked.iter().for_each(|partition| self.release(partition));
                }
            }
        }
        Ok(())
    }

    /// Reads the committed offset of a partition, and restores the state of the stage for it.
    pub(super) fn restore(
        &mut self,
        name: &TopicPartition,
        readers: &ChangelogReaders,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let committed = self.group.committed([name])?.pop();
        let (next, metadata) =
            committed.map_or((None, String::new()), |found| (found.next, found.metadata));
        let (metadata, ledger) = Ledger::split_from(&metadata);
        let metadata = metadata.to_owned();
        self.stage.restore(name, &Restore { connection: self.connection, readers, metadata })?;
        let former = self.owned.remove(name).unwrap_or_default();
        let OwnedPartition { at_end_since, held_since, refusals, mismatch, topic_id, .. } = former;
        let restored = OwnedPartition::restored(next, ledger);
        self.owned.insert(
            name.clone(),
            OwnedPartition { at_end_since, held_since, refusals, mismatch, topic_id, ..restored },
        );
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("mailpulse_restore_duration_seconds", "component" => Self::COMPONENT)
            .record(seconds);
        tracing::info!(component = Self::COMPONENT, partition = %name, seconds, "partition assigned");
        Ok(())
    }

    fn release(&mut self, name: &TopicPartition) {
        let former = self.owned.remove(name);
        if let Some(mismatch) = former.as_ref().and_then(|partition| partition.mismatch) {
            positions::release(Self::COMPONENT, name, mismatch);
        }
        if former.is_some_and(|partition| partition.held_since.is_some()) {
            refusal_limit::export(Self::COMPONENT, name, false);
        }
        self.unfit.release(name);
        self.stage.release(name);
        tracing::info!(component = Self::COMPONENT, partition = %name, "partition revoked");
    }
}
