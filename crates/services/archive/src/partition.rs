//! Divides the records of one partition into batches. Each batch is a fixed range of offsets.
//!
//! The range of a batch starts where the previous one ended. Usually it ends when the batch is full
//! or old enough. A range that may have been inserted before is *fixed*: it must end at the same
//! offset again, so that it gives the same block and token. The range that the previous owner left
//! pending is fixed, and so are the halves of a batch in which ClickHouse rejected a row.

mod builder;
mod progress;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::ledger::Ledger;
use kafka::ranges::{Assignment, Range};
use kafka::{ManyRefusals, NextOffset, Offset, OwnedRecord, Refusals, TopicPartition};

use crate::batch::Batch;
use crate::event_key::EventKey;
use crate::server::StoredRows;
use crate::tables::{RowError, Rows, Table};
use builder::BatchBuilder;

pub(crate) use progress::AfterRejection;

/// The limits of a batch and of a partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The number of rows at which a batch is full.
    pub(crate) rows: usize,
    /// The size at which a batch is full.
    pub(crate) bytes: usize,
    /// The number of dead letters in a row at which the partition is held; see [`Refusals`]. Zero means
    /// never.
    pub(crate) refusals: u32,
}

/// A partition that is assigned to this process.
pub(crate) struct Partition {
    pub(crate) name: TopicPartition,
    pub(crate) table: Table,
    /// Distinguishes this assignment of the partition from earlier ones.
    pub(crate) epoch: u64,
    pub(crate) paused: bool,
    /// The code of the reason why the partition is held.
    pub(crate) held: Option<&'static str>,
    reading: Reading,
    builder: BatchBuilder,
    /// The fixed ranges that are not read yet, in order. All of them are parts of `pending`.
    fixed_ranges: VecDeque<Range>,
    /// The range in the offset metadata that `fixed_ranges` divides.
    pending: Option<Range>,
    /// The rows of the pending range that are stored.
    stored: StoredRows,
    /// The number of tokens of the pending range that ClickHouse knows although rows are missing.
    attempt: u32,
    /// The offsets of the pending range whose events are in the table from smaller offsets.
    repeated: BTreeSet<Offset>,
    ready: VecDeque<Batch>,
    in_flight: Option<Arc<Batch>>,
    /// Everything before this offset is archived, but the offset is not committed.
    uncommitted: Option<NextOffset>,
    /// The ledger of all records before the batch in flight.
    ledger: Ledger,
    /// The records that cannot become rows.
    unreadable: Refusals,
    /// The rows that ClickHouse rejected.
    rejected: Refusals,
}

/// The properties of a record that do not depend on its value.
#[derive(Debug, Clone)]
pub(crate) struct RecordInfo {
    pub(crate) offset: Offset,
    /// The size of the value.
    pub(crate) bytes: usize,
    /// True if an operator redrove the record for archive.
    pub(crate) redriven: bool,
    /// False if the record is not one of those that become rows.
    pub(crate) is_row: bool,
    /// True for a time record, which the ledger does not count.
    pub(crate) is_time: bool,
    /// The key of an event that dedupe could not judge.
    pub(crate) unjudged: Option<EventKey>,
}

/// Whether the records of a partition are added to batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It is not known yet which rows of the pending range are stored. Records are ignored; they
    /// will be read again.
    AwaitingStoredRows,
    /// The consumer must seek to this offset. Records are ignored until it has.
    Seeking(Offset),
    /// Records are added to batches.
    Active,
    /// Records are ignored until the process restarts.
    Stopped,
}

impl Partition {
    pub(crate) fn new(assignment: Assignment, table: Table, epoch: u64) -> Self {
        let Assignment { partition, next, pending, ledger, mismatch: _ } = assignment;
        let reading = if pending.is_some() { Reading::AwaitingStoredRows } else { Reading::Active };
        Self {
            name: partition,
            table,
            epoch,
            paused: false,
            held: None,
            reading,
            builder: BatchBuilder::new(table, next.map(NextOffset::offset)),
            fixed_ranges: pending.into_iter().collect(),
            pending,
            stored: StoredRows::default(),
            attempt: 0,
            repeated: BTreeSet::new(),
            ready: VecDeque::new(),
            in_flight: None,
            uncommitted: None,
            ledger,
            unreadable: Refusals::default(),
            rejected: Refusals::default(),
        }
    }

    /// Returns the range whose stored rows must be found before anything is read.
    pub(crate) fn range_to_check(&self) -> Option<Range> {
        (self.reading == Reading::AwaitingStoredRows).then_some(self.pending).flatten()
    }

    /// Returns the first offset that was not even recorded as pending when the partition was assigned.
    /// `None` without a committed offset.
    pub(crate) fn next_unrecorded(&self) -> Option<NextOffset> {
        let committed = self.builder.first.map(|first| NextOffset(first.0));
        self.pending.map(|range| range.last.next()).or(committed)
    }

    /// Returns the offset to which the consumer must seek.
    pub(crate) fn seek_target(&self) -> Option<Offset> {
        match self.reading {
            Reading::Seeking(offset) => Some(offset),
            _ => None,
        }
    }

    /// Continues reading after the consumer has moved to [`Self::seek_target`].
    pub(crate) fn seek_done(&mut self) {
        self.reading = Reading::Active;
    }

    /// Adds a record to the batch. `push` adds it as a row, `copy` copies it. Returns the refusals if too
    /// many records in a row could not become rows; the partition is stopped then.
    pub(crate) fn add_record(
        &mut self,
        RecordInfo { offset, bytes, redriven, is_row, is_time, unjudged }: RecordInfo,
        limits: Limits,
        push: impl FnOnce(&mut Rows) -> Result<(), RowError>,
        copy: impl Fn() -> OwnedRecord,
    ) -> Option<ManyRefusals> {
        let is_early = |first| offset < first;
        if self.reading != Reading::Active || self.builder.first.is_some_and(is_early) {
            return None;
        }
        // The last record of a fixed range may be gone, by retention or compaction.
        while let Some(&range) = self.fixed_ranges.front().filter(|range| range.last < offset) {
            self.close(range);
        }
        self.builder.start_record(offset, redriven);
        if !is_row {
            self.builder.has_no_rows = true;
            self.builder.ignored += usize::from(!is_time);
        } else if self.stored.must_skip(offset) {
            self.builder.skipped += 1;
        } else if self.repeated.contains(&offset) {
            self.builder.repeated += 1;
        } else if self.builder.add(bytes, push, &copy) {
            self.builder.unjudged.extend(unjudged.map(|key| (offset, key)));
            if !self.unreadable.is_empty() {
                self.unreadable.succeeded(copy().source(), limits.refusals);
            }
        } else {
            let failed = self.builder.dead_letters.last();
            let source = failed.map_or(&b""[..], |failed| failed.record.source());
            if let Some(many) = self.unreadable.refused(source, limits.refusals) {
                self.stop();
                return Some(many);
            }
        }
        match self.fixed_ranges.front() {
            Some(&range) if range.last == offset => self.close(range),
            Some(_) => {}
            None if self.builder.is_full(limits) => self.close_now(),
            None => {}
        }
        None
    }

    /// Closes the batch if it is due at `now`.
    pub(crate) fn close_if_due(&mut self, wait: Duration, now: Instant) {
        if self.due(wait).is_some_and(|due| due <= now) {
            self.close_now();
        }
    }

    /// Returns when the batch has waited long enough. Returns `None` if the batch has no record, if
    /// another batch must be inserted first, or if the range is fixed. A batch that has only records
    /// without rows is closed too: without a commit, a partition without events would fall behind its
    /// retention.
    pub(crate) fn due(&self, wait: Duration) -> Option<Instant> {
        let is_next =
            self.in_flight.is_none() && self.ready.is_empty() && self.fixed_ranges.is_empty();
        let is_open = !self.builder.is_empty() || self.builder.has_no_rows;
        (is_next && is_open).then(|| self.builder.opened_at + wait)
    }

    /// Closes the batch before it is due, to free memory. Does nothing if the batch could not be
    /// inserted now.
    pub(crate) fn close_early(&mut self) {
        self.close_if_due(Duration::ZERO, Instant::now());
    }

    fn close_now(&mut self) {
        if let Some(first) = self.builder.first {
            self.close(Range { first, last: self.builder.last });
        }
    }

    fn close(&mut self, range: Range) {
        let is_fixed = self.fixed_ranges.front() == Some(&range);
        if is_fixed {
            self.fixed_ranges.pop_front();
        }
        let pending = self.pending.filter(|_| is_fixed);
        let next = BatchBuilder::new(self.table, Some(range.last.next().offset()));
        let mut built = std::mem::replace(&mut self.builder, next);
        self.ready.push_back(Batch {
            table: self.table,
            partition: self.name.clone(),
            range,
            pending,
            received: built.rows.received(),
            block: built.rows.finish(),
            dead_letters: built.dead_letters,
            first_row: built.first_row,
            bytes: built.bytes,
            stored_before: self.stored.count_in(range),
            skipped: built.skipped,
            repeated: built.repeated,
            ignored: built.ignored,
            unjudged: built.unjudged,
            attempt: if pending.is_some() { self.attempt } else { 0 },
            redriven: built.redriven,
        });
    }

    /// Ignores all records until the process restarts.
    pub(crate) fn stop(&mut self) {
        self.reading = Reading::Stopped;
        self.ready.clear();
        self.builder = BatchBuilder::new(self.table, self.builder.first);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.reading == Reading::Stopped
    }

    /// Returns true if a batch is waiting for the one in flight. More records would only need
    /// memory.
    pub(crate) fn has_ready_batch(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns true if the next batch is a fixed range that is not complete. Only reading more
    /// records completes it.
    pub(crate) fn must_read(&self) -> bool {
        !self.fixed_ranges.is_empty() && self.ready.is_empty()
    }

    /// Returns the memory of all batches.
    pub(crate) fn bytes(&self) -> usize {
        let batches = self.ready.iter().chain(self.in_flight.as_deref());
        self.builder.bytes + batches.map(|batch| batch.bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests;
