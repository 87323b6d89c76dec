use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;
use record::{Reason, Stage};

/// A counter that takes effect when the batch is committed. The counts of a rolled-back batch
/// are discarded, because its records are processed again. Pass it to [`crate::Output::count`].
#[derive(Debug, Clone)]
pub struct CommittedCounter(Arc<Pending>);

#[derive(Debug)]
struct Pending {
    counter: Counter,
    count: AtomicU64,
}

impl CommittedCounter {
    /// Wraps a counter of the metrics recorder.
    pub fn new(counter: Counter) -> Self {
        Self(Arc::new(Pending { counter, count: AtomicU64::new(0) }))
    }
}

/// What the open batch has counted.
#[derive(Debug, Default)]
pub(crate) struct PendingCounts {
    /// Counters whose pending count is not zero.
    counters: Vec<CommittedCounter>,
    dead_letters: Vec<(Reason, u64)>,
}

impl PendingCounts {
    pub(crate) fn add(&mut self, counter: &CommittedCounter, count: u64) {
        if count > 0 && counter.0.count.fetch_add(count, Ordering::Relaxed) == 0 {
            self.counters.push(counter.clone());
        }
    }

    pub(crate) fn add_dead_letter(&mut self, reason: Reason) {
        match self.dead_letters.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.dead_letters.push((reason, 1)),
        }
    }

    /// The batch is durable: adds everything to the metrics.
    pub(crate) fn commit(&mut self, stage: Stage) {
        for counter in self.counters.drain(..) {
            counter.0.counter.increment(counter.0.count.swap(0, Ordering::Relaxed));
        }
        for (reason, count) in self.dead_letters.drain(..) {
            count_dead_letters(stage, reason, count);
        }
    }

    pub(crate) fn discard(&mut self) {
        for counter in self.counters.drain(..) {
            counter.0.count.store(0, Ordering::Relaxed);
        }
        self.dead_letters.clear();
    }
}

/// Counts dead letters that are durable.
pub(crate) fn count_dead_letters(stage: Stage, reason: Reason, count: u64) {
    metrics::counter!("mailpulse_dead_letters_total",
        "stage" => stage.code(), "reason" => reason.code())
    .increment(count);
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use metrics::CounterFn;

    use super::*;

    #[derive(Debug, Default)]
    struct Total(Mutex<u64>);

    impl CounterFn for Total {
        fn increment(&self, value: u64) {
            *self.0.lock().unwrap() += value;
        }

        fn absolute(&self, _: u64) {
            unreachable!("counters are only incremented");
        }
    }

    #[test]
    fn counts_take_effect_on_commit_and_only_once() {
        let total = Arc::new(Total::default());
        let counter = CommittedCounter::new(Counter::from_arc(Arc::clone(&total)));
        let value = || *total.0.lock().unwrap();
        let mut pending = PendingCounts::default();
        pending.add(&counter, 2);
        pending.add(&counter, 0);
        pending.add(&counter, 3);
        assert_eq!(value(), 0, "the batch is not committed");
        pending.commit(Stage::Dedupe);
        assert_eq!(value(), 5);

        pending.add(&counter, 7);
        pending.discard();
        pending.commit(Stage::Dedupe);
        assert_eq!(value(), 5, "a rolled-back batch counts nothing");
        pending.add(&counter, 1);
        pending.commit(Stage::Dedupe);
        assert_eq!(value(), 6);
    }

    #[test]
    fn dead_letters_are_summed_by_reason() {
        let mut pending = PendingCounts::default();
        for reason in [Reason::NotJson, Reason::TooLarge, Reason::NotJson] {
            pending.add_dead_letter(reason);
        }
        assert_eq!(pending.dead_letters, [(Reason::NotJson, 2), (Reason::TooLarge, 1)]);
        pending.discard();
        assert!(pending.dead_letters.is_empty());
    }
}
