use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Dead letters by source.
    refusals: HashMap<Box<[u8]>, u64>,
}

impl PendingCounts {
    pub(crate) fn add(&mut self, counter: &CommittedCounter, count: u64) {
        if count > 0 && counter.0.count.fetch_add(count, Ordering::Relaxed) == 0 {
            self.counters.push(counter.clone());
        }
    }

    pub(crate) fn add_dead_letter(&mut self, reason: Reason, source: &[u8]) {
        match self.refusals.get_mut(source) {
            Some(count) => *count += 1,
            None => drop(self.refusals.insert(source.into(), 1)),
        }
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
        for (source, count) in self.refusals.drain() {
            count_source_refusals(stage, &source, count);
        }
    }

    pub(crate) fn discard(&mut self) {
        for counter in self.counters.drain(..) {
            counter.0.count.store(0, Ordering::Relaxed);
        }
        self.dead_letters.clear();
        self.refusals.clear();
    }
}

/// Counts dead letters that are durable.
pub(crate) fn count_dead_letters(stage: Stage, reason: Reason, count: u64) {
    metrics::counter!("mailpulse_dead_letters_total",
        "stage" => stage.code(), "reason" => reason.code())
    .increment(count);
}

/// The longest name of a source in a metric, in bytes.
const MAX_LABEL: usize = 100;
/// The number of sources that a metric names. The others are counted together as [`OTHER`].
const MAX_LABELS: usize = 1000;
const OTHER: &str = "(other)";

/// Counts the durable dead letters of a source. Records without a source are not counted.
pub(crate) fn count_source_refusals(stage: Stage, source: &[u8], count: u64) {
    static NAMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if source.is_empty() {
        return;
    }
    let named = &mut NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    metrics::counter!("mailpulse_source_refusals_total",
        "component" => stage.code(), "source" => label(named, source))
    .increment(count);
}

/// Returns the label of a source. The names come from records, so their number and length are bounded.
fn label(named: &mut BTreeSet<String>, source: &[u8]) -> String {
    let name = String::from_utf8_lossy(source);
    let name = &name[..name.floor_char_boundary(MAX_LABEL)];
    if !named.contains(name) {
        if named.len() >= MAX_LABELS {
            return OTHER.to_owned();
        }
        named.insert(name.to_owned());
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
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
            pending.add_dead_letter(reason, b"acme");
        }
        assert_eq!(pending.dead_letters, [(Reason::NotJson, 2), (Reason::TooLarge, 1)]);
        assert_eq!(pending.refusals.get(&b"acme"[..]), Some(&3));
        pending.discard();
        assert!(pending.dead_letters.is_empty() && pending.refusals.is_empty());
    }

    #[test]
    fn the_names_of_sources_are_bounded() {
        let mut named = BTreeSet::new();
        for number in 0..MAX_LABELS {
            assert_eq!(label(&mut named, number.to_string().as_bytes()), number.to_string());
        }
        assert_eq!(label(&mut named, b"one more"), OTHER);
        assert_eq!(label(&mut named, b"7"), "7", "a name that is known stays");
        let long = "ä".repeat(MAX_LABEL);
        assert_eq!(label(&mut BTreeSet::new(), long.as_bytes()).len(), MAX_LABEL);
    }
}
