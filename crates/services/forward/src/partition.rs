//! The batches of one partition: how they are formed, and what is done.
//!
//! A batch is full, or has waited for long enough. Both depend on when records arrive and on the settings,
//! so the offsets at which batches end (their *cuts*) are committed before they are sent. A process that
//! takes the partition over ends its first batches at the cuts that it finds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kafka::cuts::Commit;
use kafka::{NextOffset, Offset, TopicPartition};

/// When a batch is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The greatest number of events.
    pub events: usize,
    /// The greatest size of their values in bytes. A single event may be larger.
    pub bytes: usize,
    /// How long the first event waits for others.
    pub wait: Duration,
}

/// A matching event: an item of a batch.
pub trait BatchItem {
    /// Where it was read.
    fn offset(&self) -> Offset;

    /// The size of its value.
    fn bytes(&self) -> usize;
}

/// The batches of one partition.
#[derive(Debug)]
pub struct PartitionBatches<T> {
    limits: BatchLimits,
    /// The cuts of the previous owner that are not reached yet.
    cuts: VecDeque<NextOffset>,
    /// The offset after the last record that was read. `None`: no record was read.
    next: Option<NextOffset>,
    open: Vec<T>,
    open_bytes: usize,
    /// When the first event of `open` was read.
    opened_at: Option<Instant>,
    /// The batches that were formed and are not done, and those behind them.
    formed: VecDeque<Formed>,
    /// Those that were not taken yet.
    ready: Vec<Vec<T>>,
    /// What was committed last.
    committed: Option<(NextOffset, Vec<NextOffset>)>,
}

/// The offsets of a batch, from its first event to the one after its last event.
#[derive(Debug, Clone, Copy)]
struct Formed {
    first: NextOffset,
    end: NextOffset,
    is_done: bool,
}

impl<T: BatchItem> PartitionBatches<T> {
    /// Continues where the previous owner ended.
    pub fn new(limits: BatchLimits, next: Option<NextOffset>, cuts: Vec<NextOffset>) -> Self {
        Self {
            limits,
            committed: next.map(|next| (next, cuts.clone())),
            cuts: cuts.into(),
            next,
            open: Vec::new(),
            open_bytes: 0,
            opened_at: None,
            formed: VecDeque::new(),
            ready: Vec::new(),
        }
    }

    /// Takes the record at `offset`, which has an item if it matches. Ignores a record that was read
    /// before.
    pub fn read(&mut self, offset: Offset, item: Option<T>, now: Instant) {
        if !self.begin(offset) {
            return;
        }
        if let Some(item) = item {
            let is_too_large = self.open_bytes.saturating_add(item.bytes()) > self.limits.bytes;
            // Where a cut is ahead, it decides.
            if is_too_large && self.cuts.is_empty() {
                self.close();
            }
            self.open_bytes += item.bytes();
            self.open.push(item);
            self.opened_at.get_or_insert(now);
        }
        self.end(offset);
        if self.is_full() && self.cuts.is_empty() {
            self.close();
        }
    }

    /// Takes the record at `offset`, which cannot be read and becomes a dead letter. It is done when
    /// [`Self::finish`] is called for the offset after it. Returns false if it was read before.
    #[must_use]
    pub fn read_faulty(&mut self, offset: Offset) -> bool {
        if !self.begin(offset) {
            return false;
        }
        // Its place in the order is after the events before it.
        self.close();
        let (first, end) = (NextOffset(offset.0), offset.next());
        self.formed.push_back(Formed { first, end, is_done: false });
        self.end(offset);
        true
    }

    fn begin(&mut self, offset: Offset) -> bool {
        if self.next.is_some_and(|next| offset.0 < next.0) {
            return false;
        }
        while self.cuts.pop_front_if(|cut| cut.0 <= offset.0).is_some() {
            self.close();
        }
        true
    }

    fn end(&mut self, offset: Offset) {
        let next = offset.next();
        self.next = Some(next);
        while self.cuts.pop_front_if(|cut| *cut <= next).is_some() {
            self.close();
        }
    }

    fn is_full(&self) -> bool {
        self.open.len() >= self.limits.events || self.open_bytes >= self.limits.bytes
    }

    /// Forms a batch of what has waited for long enough.
    pub fn close_if_due(&mut self, now: Instant) {
        if self.cuts.is_empty() && self.due_at().is_some_and(|due| due <= now) {
            self.close();
        }
    }

    /// Returns when the open batch has waited for long enough.
    pub fn due_at(&self) -> Option<Instant> {
        self.opened_at.map(|opened| opened + self.limits.wait)
    }

    fn close(&mut self) {
        let (Some(first), Some(last)) = (self.open.first(), self.open.last()) else { return };
        let (first, end) = (NextOffset(first.offset().0), last.offset().next());
        self.formed.push_back(Formed { first, end, is_done: false });
        self.ready.push(std::mem::take(&mut self.open));
        (self.open_bytes, self.opened_at) = (0, None);
    }

    /// Returns whether batches were formed and not taken.
    pub const fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns the number of batches that are not done, or behind one that is not done.
    pub fn unfinished(&self) -> usize {
        self.formed.len()
    }

    /// Records that the batch that ends at `end` is done.
    pub fn finish(&mut self, end: NextOffset) {
        if let Some(formed) = self.formed.iter_mut().find(|formed| formed.end == end) {
            formed.is_done = true;
        }
        while self.formed.pop_front_if(|formed| formed.is_done).is_some() {}
    }

    /// Returns what to commit, if it is not what was committed last.
    pub fn uncommitted(&self, partition: &TopicPartition) -> Option<Commit> {
        let first_open = self.open.first().map(|item| NextOffset(item.offset().0));
        let first_formed = self.formed.front().map(|formed| formed.first);
        let next = first_formed.or(first_open).or(self.next)?;
        let formed = self.formed.iter().map(|formed| formed.end);
        let cuts: Vec<_> = formed.chain(self.cuts.iter().copied()).collect();
        let is_committed =
            self.committed.as_ref().is_some_and(|(then, at)| *then == next && *at == cuts);
        (!is_committed).then(|| Commit { partition: partition.clone(), next, cuts })
    }

    /// Notes what was committed.
    pub fn committed(&mut self, commit: Commit) {
        self.committed = Some((commit.next, commit.cuts));
    }

    /// Takes the batches that are formed, in order. Send them only if [`Self::uncommitted`] has nothing left.
    pub fn take_ready(&mut self) -> Vec<Vec<T>> {
        std::mem::take(&mut self.ready)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BatchLimits = BatchLimits { events: 3, bytes: 100, wait: Duration::from_secs(1) };

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Item(i64, usize);

    impl BatchItem for Item {
        fn offset(&self) -> Offset {
            Offset(self.0)
        }

        fn bytes(&self) -> usize {
            self.1
        }
    }

    fn name() -> TopicPartition {
        TopicPartition { topic: "mail.events".to_owned(), partition: 0 }
    }

    fn next(offset: i64) -> NextOffset {
        NextOffset(offset)
    }

    /// Commits, and returns the committed offset, the cuts, and the offsets of the batches to send.
    fn commit(batches: &mut PartitionBatches<Item>) -> (i64, Vec<i64>, Vec<Vec<i64>>) {
        let commit = batches.uncommitted(&name()).expect("something to commit");
        let (next, cuts) = (commit.next.0, commit.cuts.iter().map(|cut| cut.0).collect());
        batches.committed(commit);
        let sent = batches.take_ready();
        let offsets = |batch: &Vec<Item>| batch.iter().map(|item| item.0).collect();
        (next, cuts, sent.iter().map(offsets).collect())
    }

    fn read(batches: &mut PartitionBatches<Item>, offsets: &[i64], now: Instant) {
        for offset in offsets {
            batches.read(Offset(*offset), Some(Item(*offset, 10)), now);
        }
    }

    #[test]
    fn a_batch_ends_when_it_is_full_or_has_waited() {
        let now = Instant::now();
        let mut batches = PartitionBatches::new(LIMITS, Some(next(5)), Vec::new());
        read(&mut batches, &[5, 6, 7, 8], now);
        assert_eq!(commit(&mut batches), (5, vec![8], vec![vec![5, 6, 7]]));
        batches.close_if_due(now);
        assert!(!batches.has_ready(), "the last one has not waited");
        batches.close_if_due(now + LIMITS.wait);
        assert_eq!(commit(&mut batches), (5, vec![8, 9], vec![vec![8]]));
        batches.finish(next(9));
        assert!(batches.uncommitted(&name()).is_none(), "the first batch is not done");
        batches.finish(next(8));
        assert_eq!(commit(&mut batches), (9, vec![], vec![]));
    }

    #[test]
    fn a_batch_has_a_greatest_size_but_at_least_one_event() {
        let now = Instant::now();
        let mut batches = PartitionBatches::new(LIMITS, Some(next(0)), Vec::new());
        for (offset, bytes) in [(0, 60), (1, 60), (2, 500), (3, 1)] {
            batches.read(Offset(offset), Some(Item(offset, bytes)), now);
        }
        let (_, cuts, sent) = commit(&mut batches);
        assert_eq!((cuts, sent), (vec![1, 2, 3], vec![vec![0], vec![1], vec![2]]));
    }

    #[test]
    fn records_that_do_not_match_are_done_when_those_before_them_are() {
        let now = Instant::now();
        let mut batches = PartitionBatches::new(LIMITS, None, Vec::new());
        batches.read(Offset(0), None, now);
        assert_eq!(commit(&mut batches), (1, vec![], vec![]));
        read(&mut batches, &[1], now);
        batches.read(Offset(2), None, now);
        assert!(batches.uncommitted(&name()).is_none(), "the open batch begins at 1");
        batches.close_if_due(now + LIMITS.wait);
        assert_eq!(commit(&mut batches), (1, vec![2], vec![vec![1]]));
        batches.finish(next(2));
        assert_eq!(commit(&mut batches), (3, vec![], vec![]));
    }

    #[test]
    fn a_faulty_record_ends_the_batch_before_it() {
        let now = Instant::now();
        let mut batches = PartitionBatches::new(LIMITS, Some(next(0)), Vec::new());
        read(&mut batches, &[0], now);
        assert!(batches.read_faulty(Offset(1)));
        read(&mut batches, &[2], now);
        assert_eq!(commit(&mut batches), (0, vec![1, 2], vec![vec![0]]));
        batches.finish(next(1));
        assert_eq!(commit(&mut batches), (1, vec![2], vec![]));
        batches.finish(next(2));
        assert_eq!(commit(&mut batches), (2, vec![], vec![]));
    }

    #[test]
    fn the_next_owner_ends_its_batches_at_the_cuts_that_it_finds() {
        let now = Instant::now();
        let other = BatchLimits { events: 2, bytes: 10, wait: Duration::ZERO };
        let mut batches = PartitionBatches::new(other, Some(next(5)), vec![next(8), next(12)]);
        // The records at 8 and 11 do not match any more.
        read(&mut batches, &[5, 6, 7], now);
        batches.close_if_due(now + Duration::from_secs(9));
        assert!(batches.uncommitted(&name()).is_none(), "the previous owner has committed the cut");
        assert_eq!(batches.take_ready(), [vec![Item(5, 10), Item(6, 10), Item(7, 10)]]);
        batches.read(Offset(8), None, now);
        read(&mut batches, &[9, 10], now);
        batches.close_if_due(now + Duration::from_secs(9));
        assert!(!batches.has_ready(), "the cut is ahead");
        batches.read(Offset(11), None, now);
        assert_eq!(batches.take_ready(), [vec![Item(9, 10), Item(10, 10)]]);
        read(&mut batches, &[12], now);
        assert!(batches.has_ready(), "the limits apply again");
    }

    #[test]
    fn a_record_that_is_read_again_is_ignored() {
        let now = Instant::now();
        let mut batches = PartitionBatches::new(LIMITS, Some(next(5)), Vec::new());
        read(&mut batches, &[5, 5, 4, 6], now);
        batches.close_if_due(now + LIMITS.wait);
        assert_eq!(commit(&mut batches).2, [vec![5, 6]]);
    }

    /// What happens to a partition.
    #[derive(Debug, Clone)]
    enum Step {
        Read { matches: bool, is_faulty: bool },
        Wait,
        Finish(usize),
        Restart { events: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (any::<bool>(), prop::bool::weighted(0.1))
                .prop_map(|(matches, is_faulty)| Step::Read { matches, is_faulty }),
            1 => Just(Step::Wait),
            2 => (0_usize..4).prop_map(Step::Finish),
            1 => (1_usize..5).prop_map(|events| Step::Restart { events }),
        ]
    }

    proptest! {
        /// A batch that was sent is sent again with exactly the same events, or not at all; and every event
        /// before the committed offset was sent.
        #[test]
        fn batches_are_the_same_after_a_restart(steps in prop::collection::vec(step(), 1..200)) {
            let now = Instant::now();
            let mut log: Vec<(bool, bool)> = Vec::new();
            let mut read_until = 0;
            let mut batches = PartitionBatches::new(LIMITS, Some(next(0)), Vec::new());
            let mut stored = (next(0), Vec::new());
            let mut sent: std::collections::BTreeMap<i64, Vec<i64>> = std::collections::BTreeMap::new();
            let mut pending: Vec<NextOffset> = Vec::new();
            for step in steps {
                match step {
                    Step::Read { matches, is_faulty } => log.push((matches, is_faulty)),
                    Step::Wait => batches.close_if_due(now + LIMITS.wait),
                    Step::Finish(which) => if which < pending.len() {
                        batches.finish(pending.remove(which));
                    },
                    Step::Restart { events } => {
                        let (from, cuts): (NextOffset, Vec<NextOffset>) = stored.clone();
                        let limits = BatchLimits { events, ..LIMITS };
                        read_until = usize::try_from(from.0).unwrap();
                        batches = PartitionBatches::new(limits, Some(from), cuts);
                        pending.clear();
                    }
                }
                while let Some((matches, is_faulty)) = log.get(read_until) {
                    let offset = Offset(i64::try_from(read_until).unwrap());
                    if *is_faulty {
                        prop_assert!(batches.read_faulty(offset));
                        pending.push(offset.next());
                    } else {
                        let item = matches.then_some(Item(offset.0, 10));
                        batches.read(offset, item, now);
                    }
                    read_until += 1;
                }
                if let Some(commit) = batches.uncommitted(&name()) {
                    stored = (commit.next, commit.cuts.clone());
                    batches.committed(commit);
                }
                for batch in batches.take_ready() {
                    let offsets: Vec<_> = batch.iter().map(|item| item.0).collect();
                    pending.push(next(offsets.last().unwrap() + 1));
                    let before = sent.insert(offsets[0], offsets.clone());
                    prop_assert!(before.is_none_or(|before| before == offsets));
                }
                let all: std::collections::BTreeSet<_> = sent.values().flatten().copied().collect();
                for (offset, (matches, is_faulty)) in (0..stored.0.0).zip(&log) {
                    prop_assert!(!matches || *is_faulty || all.contains(&offset), "{offset} was lost");
                }
            }
        }
    }
}
