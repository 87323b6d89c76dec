//! Tracks each batch of a partition from the time when it is ready until it is archived. One batch
//! is in flight at a time. A batch is read again if rows are missing, and halved if ClickHouse
//! rejected a row.

use std::sync::Arc;

use kafka::ledger::Ledger;
use kafka::ranges::Range;
use kafka::{ManyRefusals, NextOffset, Offset, OwnedRecord, Refusals};

use super::builder::BatchBuilder;
use super::{Limits, Partition, Reading};
use crate::batch::Batch;
use crate::meters;
use crate::server::StoredRows;

/// What happens to a batch in which ClickHouse rejected a row.
#[derive(Debug)]
pub(crate) enum AfterRejection {
    /// The batch is read again as two halves.
    Halved,
    /// The batch has only this row.
    OneRow(Arc<Batch>),
}

impl Partition {
    /// Returns the next batch to insert, if none is in flight. Empty batches are finished at once.
    pub(crate) fn next_batch(&mut self) -> Option<&Batch> {
        while self.in_flight.is_none()
            && let Some(batch) = self.ready.pop_front_if(|batch| batch.is_empty())
        {
            self.finish(&batch, batch.ledger());
        }
        self.ready.front().filter(|_| self.in_flight.is_none())
    }

    /// Marks the batch of [`Self::next_batch`] as in flight and returns it.
    pub(crate) fn start_batch(&mut self) -> Option<Arc<Batch>> {
        let batch = Arc::new(self.ready.pop_front()?);
        // Recording the range of the batch has committed everything before it.
        self.uncommitted = self.uncommitted.filter(|_| batch.pending.is_some());
        self.in_flight = Some(Arc::clone(&batch));
        Some(batch)
    }

    /// Finishes the batch in flight, whose rows are stored.
    pub(crate) fn inserted(&mut self) {
        self.rejected = Refusals::default();
        if let Some(batch) = self.in_flight.take() {
            self.finish(&batch, batch.ledger());
        }
    }

    /// Finishes the batch in flight, whose rows are dead letters.
    pub(crate) fn dead_lettered(&mut self) {
        if let Some(batch) = self.in_flight.take() {
            self.finish(&batch, batch.ledger_without_rows());
        }
    }

    fn finish(&mut self, batch: &Batch, ledger: Ledger) {
        self.ledger = self.ledger.plus(ledger);
        meters::repeated(batch.repeated);
        let recorded = batch.recorded();
        if batch.range.last >= recorded.last {
            self.uncommitted = Some(recorded.last.next());
            self.pending = self.pending.filter(|_| batch.pending.is_none());
            self.repeated.clear();
            if batch.pending.is_some() {
                (self.stored, self.attempt) = (StoredRows::default(), 0);
            }
        }
    }

    /// Sets which rows of the pending range are stored. This is known after the assignment of a
    /// partition with a pending range, and after an insert that may have happened and would not be
    /// deduplicated any more. The batch in flight is then built again without the stored rows.
    pub(crate) fn set_stored_rows(&mut self, stored: StoredRows) {
        self.stored = stored;
        match self.in_flight.take() {
            Some(batch) => self.read_again(&batch, &[batch.range]),
            None => {
                let first = self.pending.map(|range| range.first);
                self.reading = first.map_or(Reading::Active, Reading::Seeking);
            }
        }
    }

    /// Builds the batch in flight again, without the stored rows and under another token, because
    /// ClickHouse knows its token although rows are missing.
    pub(crate) fn rows_missing(&mut self, stored: StoredRows) {
        self.attempt += 1;
        self.set_stored_rows(stored);
    }

    /// Builds the batch in flight again without the rows at these offsets, because their events are in the
    /// table from smaller offsets.
    pub(crate) fn events_repeated(&mut self, offsets: Vec<Offset>) {
        self.repeated.extend(offsets);
        if let Some(batch) = self.in_flight.take() {
            self.read_again(&batch, &[batch.range]);
        }
    }

    /// Handles the rejection of a row of the batch in flight by ClickHouse.
    pub(crate) fn row_rejected(&mut self) -> Option<AfterRejection> {
        let batch = self.in_flight.take()?;
        if batch.block.rows <= 1 {
            self.in_flight = Some(Arc::clone(&batch));
            return Some(AfterRejection::OneRow(batch));
        }
        let Range { first, last } = batch.range;
        let middle = Offset(first.0 + (last.0 - first.0) / 2);
        let halves = [Range { first, last: middle }, Range { first: middle.next().offset(), last }];
        self.read_again(&batch, &halves);
        Some(AfterRejection::Halved)
    }

    /// Counts the rejected row of a batch that has only this row. Returns the refusals if too many rows
    /// in a row were rejected.
    pub(crate) fn count_rejected(&mut self, batch: &Batch, limits: Limits) -> Option<ManyRefusals> {
        let source = batch.first_row.as_ref().map_or(&b""[..], OwnedRecord::source);
        self.rejected.refused(source, limits.refusals)
    }

    /// Reads the range of a batch again, divided into `ranges`, and then continues as before.
    fn read_again(&mut self, batch: &Batch, ranges: &[Range]) {
        let later = self.ready.iter().filter(|b| b.pending.is_some()).map(|b| b.range);
        let fixed = ranges.iter().copied().chain(later).chain(self.fixed_ranges.drain(..));
        self.fixed_ranges = fixed.collect();
        self.pending = Some(batch.recorded());
        self.ready.clear();
        self.builder = BatchBuilder::new(self.table, Some(batch.range.first));
        self.reading = Reading::Seeking(batch.range.first);
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Returns the ledger of all records before the batch in flight.
    pub(crate) const fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// Returns the offset that can be committed, if it is not committed yet.
    pub(crate) const fn uncommitted(&self) -> Option<NextOffset> {
        self.uncommitted
    }

    /// Clears [`Self::uncommitted`] after its commit.
    pub(crate) fn committed(&mut self) {
        self.uncommitted = None;
    }
}
