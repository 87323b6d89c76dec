//! One partition: from records to batches, each a fixed range of offsets.
//!
//! A batch's range begins where the one before it ended. Left alone it ends when it is full or old
//! enough. A range that may have been inserted before (our predecessor's pending one, or a part of
//! one that was refused) ends at exactly the offset it ended at then: that is the *plan*.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::ranges::{Assignment, Range};
use kafka::tally::Tally;
use kafka::{OwnedRecord, TopicPartition};

use crate::batch::{Batch, Letter};
use crate::server::Found;
use crate::tables::{BadRow, Rows, Table};

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rows: usize,
    /// Of record values, which is about what the columns take.
    pub(crate) bytes: usize,
    /// Records in a row that cannot become rows before it must be our fault.
    pub(crate) bad_in_a_row: u32,
}

/// What the columns of a row take beyond the record's value, roughly.
const ROW_OVERHEAD: usize = 160;

/// A partition of ours.
pub(crate) struct Partition {
    pub(crate) name: TopicPartition,
    pub(crate) table: Table,
    /// Tells this time that we own it from an earlier one.
    pub(crate) epoch: u64,
    pub(crate) paused: bool,
    /// Why nothing is getting on here, while that is so.
    pub(crate) held: Option<&'static str>,
    stage: Stage,
    building: Building,
    /// Ranges that end at given offsets, in order; all of one pending range.
    plan: VecDeque<Range>,
    /// The pending range that `plan` divides.
    pending: Option<Range>,
    /// What was in the table of the pending range when we took over.
    known: Found,
    /// How many tokens of the pending range ClickHouse knows without having its rows.
    attempt: u32,
    ready: VecDeque<Batch>,
    flight: Option<Arc<Batch>>,
    /// Everything before this offset is archived, and Kafka does not know yet.
    done: Option<i64>,
    /// What became of every record before the batch under way.
    tally: Tally,
    bad_in_a_row: u32,
    pub(crate) refused_in_a_row: u32,
}

/// A record, before it is a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) offset: i64,
    /// Of its value.
    pub(crate) bytes: usize,
    /// Whether an operator sent it back for us.
    pub(crate) again: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Waiting to hear what of the pending range is in the table; records that come meanwhile are
    /// read again.
    Looking,
    /// To be read from this offset; records that come before the consumer is there are none of ours.
    Seeking(i64),
    Reading,
    /// For good, until we are restarted.
    Stopped,
}

struct Building {
    /// Where the range begins; not known before the first record of a partition never read.
    first: Option<i64>,
    last: i64,
    rows: Rows,
    count: usize,
    /// Rows that are in the table and must not be sent again.
    left_out: usize,
    /// Records an operator sent back for us.
    again: usize,
    bytes: usize,
    letters: Vec<Letter>,
    /// The first record that became a row: the refused one, if the batch has no other.
    sample: Option<OwnedRecord>,
    opened: Instant,
}

/// What a refused batch needs.
#[derive(Debug)]
pub(crate) enum AfterRefusal {
    /// To be read again in two halves.
    Halved,
    /// It is this one row's fault.
    OneRow(Arc<Batch>),
}

impl Partition {
    pub(crate) fn new(assignment: Assignment, table: Table, epoch: u64) -> Self {
        let Assignment { partition, next, pending, tally } = assignment;
        Self {
            name: partition,
            table,
            epoch,
            paused: false,
            held: None,
            stage: if pending.is_some() { Stage::Looking } else { Stage::Reading },
            building: Building::new(table, next),
            plan: pending.into_iter().collect(),
            pending,
            known: Found::default(),
            attempt: 0,
            ready: VecDeque::new(),
            flight: None,
            done: None,
            tally,
            bad_in_a_row: 0,
            refused_in_a_row: 0,
        }
    }

    /// The range to look at before anything is read.
    pub(crate) fn to_look_at(&self) -> Option<Range> {
        (self.stage == Stage::Looking).then_some(self.pending).flatten()
    }

    /// What is in the table of the pending range: asked when we take over, and when an insert that
    /// may have happened is forgotten by now, which is then built anew without what is there.
    pub(crate) fn looked(&mut self, found: Found) {
        self.known = found;
        match self.flight.take() {
            Some(batch) => self.read_again(&batch, &[batch.range]),
            None => {
                let first = self.pending.map(|range| range.first);
                self.stage = first.map_or(Stage::Reading, Stage::Seeking);
            }
        }
    }

    /// Not all rows of the batch under way were kept, though its token was: what is missing is
    /// built anew, under another one.
    pub(crate) fn unkept(&mut self, found: Found) {
        self.attempt += 1;
        self.looked(found);
    }

    /// Where the consumer has to be put.
    pub(crate) fn to_seek(&self) -> Option<i64> {
        match self.stage {
            Stage::Seeking(offset) => Some(offset),
            _ => None,
        }
    }

    /// The consumer is there.
    pub(crate) fn sought(&mut self) {
        self.stage = Stage::Reading;
    }

    /// Takes a record: `push` adds it as a row, `keep` copies it. Returns false when there were too
    /// many bad ones in a row; the partition is then stopped.
    pub(crate) fn record(
        &mut self,
        Arrived { offset, bytes, again }: Arrived,
        limits: Limits,
        push: impl FnOnce(&mut Rows) -> Result<(), BadRow>,
        keep: impl Fn() -> OwnedRecord,
    ) -> bool {
        if self.stage != Stage::Reading || self.building.first.is_some_and(|first| offset < first) {
            return true;
        }
        while let Some(&cut) = self.plan.front().filter(|cut| cut.last < offset) {
            self.close(cut);
        }
        let building = &mut self.building;
        building.first.get_or_insert(offset);
        if building.is_empty() {
            building.opened = Instant::now();
        }
        building.last = offset;
        building.again += usize::from(again);
        if self.known.settles(offset) {
            building.left_out += 1;
        } else {
            match push(&mut building.rows) {
                Ok(()) => {
                    self.bad_in_a_row = 0;
                    building.count += 1;
                    building.sample.get_or_insert_with(keep);
                }
                Err(bad) => {
                    self.bad_in_a_row += 1;
                    building.letters.push(Letter::new(keep(), bad));
                }
            }
            building.bytes += bytes + ROW_OVERHEAD;
        }
        if self.bad_in_a_row >= limits.bad_in_a_row {
            self.stop();
            return false;
        }
        match self.plan.front() {
            Some(&cut) if cut.last == offset => self.close(cut),
            Some(_) => {}
            None if building.count >= limits.rows || building.bytes >= limits.bytes => {
                self.close_now();
            }
            None => {}
        }
        true
    }

    /// Ends the batch if nothing else is under way and it has waited long enough. A planned range
    /// ends where it ended before, however long that takes.
    pub(crate) fn close_if_due(&mut self, wait: Duration, now: Instant) {
        if self.due(wait).is_some_and(|due| due <= now) {
            self.close_now();
        }
    }

    /// When [`Self::close_if_due`] will have something to do; `None` while that is up to others.
    pub(crate) fn due(&self, wait: Duration) -> Option<Instant> {
        let idle = self.flight.is_none() && self.ready.is_empty() && self.plan.is_empty();
        (idle && !self.building.is_empty()).then(|| self.building.opened + wait)
    }

    fn close_now(&mut self) {
        if let Some(first) = self.building.first {
            self.close(Range { first, last: self.building.last });
        }
    }

    fn close(&mut self, range: Range) {
        let planned = self.plan.front() == Some(&range);
        if planned {
            self.plan.pop_front();
        }
        let pending = self.pending.filter(|_| planned);
        let next = Building::new(self.table, Some(range.last + 1));
        let mut built = std::mem::replace(&mut self.building, next);
        self.ready.push_back(Batch {
            table: self.table,
            partition: self.name.clone(),
            range,
            pending,
            received: built.rows.received(),
            block: built.rows.finish(),
            letters: built.letters,
            sample: built.sample,
            bytes: built.bytes,
            known_rows: self.known.rows_in(range),
            left_out: built.left_out,
            attempt: if pending.is_some() { self.attempt } else { 0 },
            again: built.again,
        });
    }

    /// The batch to insert next, if none is under way. Batches that turned out empty are done on
    /// the way.
    pub(crate) fn next_batch(&mut self) -> Option<&Batch> {
        while self.flight.is_none()
            && let Some(batch) = self.ready.pop_front_if(|batch| batch.is_empty())
        {
            self.settle(&batch, batch.tally());
        }
        self.ready.front().filter(|_| self.flight.is_none())
    }

    /// The batch of [`Self::next_batch`] goes out.
    pub(crate) fn take_off(&mut self) -> Option<Arc<Batch>> {
        let batch = Arc::new(self.ready.pop_front()?);
        // Its mark tells Kafka what was done before it.
        self.done = self.done.filter(|_| batch.pending.is_some());
        self.flight = Some(Arc::clone(&batch));
        Some(batch)
    }

    /// The batch under way is archived.
    pub(crate) fn landed(&mut self) {
        if let Some(batch) = self.flight.take() {
            self.settle(&batch, batch.tally());
        }
    }

    /// The batch under way was given up: its rows are dead letters.
    pub(crate) fn given_up(&mut self) {
        if let Some(batch) = self.flight.take() {
            self.settle(&batch, batch.tally_without_rows());
        }
    }

    fn settle(&mut self, batch: &Batch, tally: Tally) {
        self.tally = self.tally.plus(tally);
        let recorded = batch.recorded();
        if batch.range.last >= recorded.last {
            self.done = Some(recorded.last + 1);
            self.pending = self.pending.filter(|_| batch.pending.is_none());
            if batch.pending.is_some() {
                (self.known, self.attempt) = (Found::default(), 0);
            }
        }
    }

    /// ClickHouse refuses a row of the batch under way.
    pub(crate) fn refused(&mut self) -> Option<AfterRefusal> {
        let batch = self.flight.take()?;
        if batch.block.rows <= 1 {
            self.refused_in_a_row += 1;
            self.flight = Some(Arc::clone(&batch));
            return Some(AfterRefusal::OneRow(batch));
        }
        let Range { first, last } = batch.range;
        let middle = first + (last - first) / 2;
        let halves = [Range { first, last: middle }, Range { first: middle + 1, last }];
        self.read_again(&batch, &halves);
        Some(AfterRefusal::Halved)
    }

    /// Reads a batch's range again, cut like this, and then on as planned.
    fn read_again(&mut self, batch: &Batch, cuts: &[Range]) {
        let later = self.ready.iter().filter(|b| b.pending.is_some()).map(|b| b.range);
        self.plan = cuts.iter().copied().chain(later).chain(self.plan.drain(..)).collect();
        self.pending = Some(batch.recorded());
        self.ready.clear();
        self.building = Building::new(self.table, Some(batch.range.first));
        self.stage = Stage::Seeking(batch.range.first);
    }

    /// Takes nothing more until the process starts anew.
    pub(crate) fn stop(&mut self) {
        self.stage = Stage::Stopped;
        self.ready.clear();
        self.building = Building::new(self.table, self.building.first);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stage == Stage::Stopped
    }

    /// Whether a batch is under way.
    pub(crate) fn is_flying(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether more records would only pile up.
    pub(crate) fn is_full(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether it has to go on reading to get anywhere.
    pub(crate) fn must_read(&self) -> bool {
        !self.plan.is_empty() && self.ready.is_empty()
    }

    /// Ends the batch to make room, if it could go out now.
    pub(crate) fn close_for_room(&mut self) {
        self.close_if_due(Duration::ZERO, Instant::now());
    }

    /// Bytes held in memory.
    pub(crate) fn bytes(&self) -> usize {
        let batches = self.ready.iter().chain(self.flight.as_deref());
        self.building.bytes + batches.map(|batch| batch.bytes).sum::<usize>()
    }

    /// What became of every record before the batch under way.
    pub(crate) const fn tally(&self) -> Tally {
        self.tally
    }

    /// The offset to tell Kafka, if it does not know.
    pub(crate) fn unacknowledged(&self) -> Option<i64> {
        self.done
    }

    /// Kafka knows.
    pub(crate) fn acknowledged(&mut self) {
        self.done = None;
    }
}

impl Building {
    fn new(table: Table, first: Option<i64>) -> Self {
        Self {
            first,
            last: -1,
            rows: table.rows(),
            count: 0,
            left_out: 0,
            again: 0,
            bytes: 0,
            letters: Vec::new(),
            sample: None,
            opened: Instant::now(),
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0 && self.letters.is_empty()
    }
}

#[cfg(test)]
mod tests;
