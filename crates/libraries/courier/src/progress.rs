//! The records whose deliveries are pending, and the offsets that can be committed.

use std::collections::{BTreeMap, HashMap};

use kafka::{Offset, OwnedRecord};

/// The position of a record in the topic that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub partition: i32,
    /// The offset in the partition.
    pub offset: Offset,
}

impl Position {
    /// Returns the position of a record.
    pub const fn of(record: &OwnedRecord) -> Self {
        Self { partition: record.partition, offset: record.offset }
    }
}

/// What to do with a record that was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// The record is new: pass it on.
    Deliver,
    /// The partition came back to this member while the delivery of the record was pending: do nothing.
    Pending,
    /// The partition came back to this member after the record was delivered: mark it as done again.
    Delivered,
}

/// The pending records by partition. Receivers finish in any order; an offset is done once the
/// records at this offset and before it are finished by every receiver.
#[derive(Debug, Default)]
pub struct Progress {
    partitions: HashMap<i32, PartitionProgress>,
    unfinished: usize,
    tracked: usize,
}

#[derive(Debug, Default)]
struct PartitionProgress {
    /// By offset: the number of receivers that have not finished the record. With 0, it waits for a
    /// record before it.
    pending: BTreeMap<Offset, usize>,
    /// The greatest offset that is done.
    done: Option<Offset>,
}

impl Progress {
    /// Adds a record that `receivers` receivers will finish.
    pub fn start(&mut self, position: Position, receivers: usize) -> Admission {
        let partition = self.partitions.entry(position.partition).or_default();
        if partition.done.is_some_and(|done| position.offset <= done) {
            return Admission::Delivered;
        }
        if partition.pending.contains_key(&position.offset) {
            return Admission::Pending;
        }
        partition.pending.insert(position.offset, receivers);
        self.unfinished += 1;
        self.tracked += 1;
        Admission::Deliver
    }

    /// Records that one receiver has finished a record. If this completes more offsets, returns the
    /// last position that is done together with all before it.
    pub fn finish(&mut self, position: Position) -> Option<Position> {
        let partition = self.partitions.get_mut(&position.partition)?;
        let receivers = partition.pending.get_mut(&position.offset).filter(|left| **left > 0)?;
        *receivers -= 1;
        if *receivers == 0 {
            self.unfinished -= 1;
        }
        let mut last = None;
        while let Some(first) = partition.pending.first_entry()
            && *first.get() == 0
        {
            let (offset, _) = first.remove_entry();
            partition.done = Some(offset);
            self.tracked -= 1;
            last = Some(Position { partition: position.partition, offset });
        }
        last
    }

    /// Returns the unfinished records of each partition behind which more than `most` records are finished, in the
    /// order of their offsets.
    pub fn overdue(&self, most: usize) -> Vec<Position> {
        let mut overdue = Vec::new();
        if self.tracked - self.unfinished <= most {
            return overdue;
        }
        for (&partition, PartitionProgress { pending, .. }) in &self.partitions {
            let mut behind = pending.values().filter(|left| **left == 0).count();
            for (&offset, &left) in pending {
                if behind <= most {
                    break;
                }
                if left > 0 {
                    overdue.push(Position { partition, offset });
                } else {
                    behind -= 1;
                }
            }
        }
        overdue
    }

    /// Returns the number of records that at least one receiver has not finished.
    pub const fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Returns the number of records that are not done: the unfinished ones, and those behind them.
    pub const fn tracked(&self) -> usize {
        self.tracked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(partition: i32, offset: i64) -> Position {
        Position { partition, offset: Offset(offset) }
    }

    #[test]
    fn an_offset_is_done_after_every_receiver_and_after_those_before_it() {
        let mut progress = Progress::default();
        for offset in [7, 9, 10] {
            assert_eq!(progress.start(at(0, offset), 2), Admission::Deliver);
        }
        assert_eq!(progress.finish(at(0, 9)), None);
        assert_eq!(progress.finish(at(0, 9)), None, "offset 7 is pending");
        assert_eq!((progress.unfinished(), progress.tracked()), (2, 3));
        assert_eq!(progress.finish(at(0, 7)), None, "one receiver has not finished offset 7");
        assert_eq!(progress.finish(at(0, 7)), Some(at(0, 9)));
        assert_eq!((progress.unfinished(), progress.tracked()), (1, 1));
        assert_eq!(progress.finish(at(0, 10)), None);
        assert_eq!(progress.finish(at(0, 10)), Some(at(0, 10)));
        assert_eq!(progress.finish(at(0, 10)), None, "it is done");
        assert_eq!((progress.unfinished(), progress.tracked()), (0, 0));
    }

    #[test]
    fn a_record_is_overdue_when_too_many_behind_it_are_finished() {
        let mut progress = Progress::default();
        for offset in 0..6 {
            progress.start(at(0, offset), 1);
            progress.start(at(1, offset), 1);
        }
        for offset in [1, 3, 4] {
            progress.finish(at(0, offset));
        }
        assert_eq!(progress.overdue(3), []);
        assert_eq!(progress.overdue(2), [at(0, 0)]);
        assert_eq!(progress.overdue(1), [at(0, 0), at(0, 2)]);
        progress.finish(at(0, 0));
        assert_eq!(progress.overdue(1), [at(0, 2)], "3 and 4 are behind it");
        progress.finish(at(0, 2));
        assert_eq!(progress.overdue(0), [], "everything up to 4 is done");
    }

    #[test]
    fn partitions_do_not_wait_for_each_other() {
        let mut progress = Progress::default();
        progress.start(at(0, 1), 1);
        progress.start(at(1, 1), 1);
        assert_eq!(progress.finish(at(1, 1)), Some(at(1, 1)));
        assert_eq!(progress.unfinished(), 1);
    }

    #[test]
    fn a_record_that_is_read_again_is_not_delivered_again() {
        let mut progress = Progress::default();
        progress.start(at(0, 1), 1);
        progress.start(at(0, 2), 1);
        assert_eq!(progress.finish(at(0, 1)), Some(at(0, 1)));
        assert_eq!(progress.start(at(0, 1), 1), Admission::Delivered);
        assert_eq!(progress.start(at(0, 2), 1), Admission::Pending);
        assert_eq!(progress.finish(at(0, 2)), Some(at(0, 2)));
    }
}
