use std::time::Instant;

use super::Outcome;
use crate::ledger::Ledger;
use crate::positions::Mismatch;
use crate::refusals::{ManyRefusals, Refusals};
use crate::{NextOffset, Record};

/// The state of a partition that this member owns.
#[derive(Debug, Default)]
pub(super) struct OwnedPartition {
    /// Where reading continues after the last commit. `None` before the first commit.
    pub(super) committed: Option<NextOffset>,
    /// Counts all records before `committed` by outcome.
    pub(super) ledger: Ledger,
    /// The dead letters up to `committed`, by source.
    pub(super) refusals: Refusals,
    /// What the open batch adds.
    pub(super) open: OpenBatch,
    /// Since when the end of the partition is reached. `None` while there are unread records.
    pub(super) at_end_since: Option<Instant>,
    /// Since when the partition is held.
    pub(super) held_since: Option<Instant>,
    /// Why the committed offset cannot be used. The partition is not read until it is assigned again.
    pub(super) mismatch: Option<Mismatch>,
    /// The id of the topic, if it is known.
    pub(super) topic_id: Option<String>,
}

/// What the open batch adds to a partition.
#[derive(Debug, Default)]
pub(super) struct OpenBatch {
    pub(super) ledger: Ledger,
    refusals: Refusals,
}

impl OwnedPartition {
    pub(super) fn restored(committed: Option<NextOffset>, ledger: Ledger) -> Self {
        Self { committed, ledger, ..Self::default() }
    }

    /// Returns whether the partition is paused.
    pub(super) const fn is_held(&self) -> bool {
        self.held_since.is_some() || self.mismatch.is_some()
    }

    /// Discards what a failed batch added.
    pub(super) fn begin_batch(&mut self) {
        self.open = OpenBatch { ledger: Ledger::default(), refusals: self.refusals.clone() };
    }

    /// Counts a record of the open batch. Returns the refusals if the partition must be held.
    pub(super) fn count(
        &mut self,
        record: &Record<'_>,
        outcome: Outcome,
        is_redriven: bool,
        refusal_limit: u32,
    ) -> Option<ManyRefusals> {
        let OpenBatch { ledger, refusals } = &mut self.open;
        *match outcome {
            Outcome::Passed => &mut ledger.passed,
            Outcome::Dropped => &mut ledger.dropped,
            Outcome::Counted => &mut ledger.counted,
            Outcome::TimeRecord => return None,
            Outcome::DeadLettered(_) => &mut ledger.dead_letters,
        } += 1;
        ledger.read += 1;
        ledger.redriven += u64::from(is_redriven);
        match outcome {
            Outcome::DeadLettered(_) => refusals.refused(record.source(), refusal_limit),
            _ if refusals.is_empty() => None,
            _ => {
                refusals.succeeded(record.source(), refusal_limit);
                None
            }
        }
    }

    /// The ledger that belongs to the offset after the open batch.
    pub(super) fn ledger_after_batch(&self) -> Ledger {
        self.ledger.plus(self.open.ledger)
    }

    /// The open batch is durable. `next` is `None` if it had no record of this partition.
    pub(super) fn commit_batch(&mut self, next: Option<NextOffset>) {
        self.committed = next.or(self.committed);
        self.ledger = self.ledger_after_batch();
        self.refusals = std::mem::take(&mut self.open.refusals);
        self.begin_batch();
    }
}
