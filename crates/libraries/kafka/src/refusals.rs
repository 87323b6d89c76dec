//! Decides whether the records of a partition fail because of one sender, or because of us.
//!
//! If one source sends records that cannot be processed, they become dead letters, and the partition
//! continues: a single sender must not stop all others. If several sources fail at the same time, the
//! fault is probably ours (a bad release, a changed table), and whole topics would become dead letters.
//! The partition is then held.
//!
//! Everything is counted in records of the partition, so the decision depends on no clock.

use std::collections::HashMap;

/// A source is forgotten when it had no record among the last so many times the refusal limit.
const WINDOW: u64 = 10;
/// A source is refused when this part of the refusal limit became dead letters in a row.
const SHARE: u32 = 10;
/// The number of refused sources at which a partition is held.
const MIN_SOURCES: usize = 3;
/// The number of sources whose records are counted. Sources are configured, so there are fewer.
const MAX_SOURCES: usize = 10_000;

/// The dead letters of one partition by source.
#[derive(Debug, Clone, Default)]
pub struct Refusals {
    /// Empty unless there was a dead letter in the window.
    sources: HashMap<Box<[u8]>, SourceRefusals>,
    /// Dead letters in a row without a source.
    without_source: u32,
    /// The number of records counted since the first dead letter.
    records: u64,
    /// [`Self::records`] at the last dead letter.
    last_dead_letter: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct SourceRefusals {
    /// Dead letters in a row.
    in_a_row: u32,
    /// The number of the source's last record in the partition.
    last: u64,
    /// The number of the source's last record that did not become a dead letter.
    last_success: Option<u64>,
}

/// Many dead letters in a row, from several sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManyRefusals {
    /// Dead letters in a row, over all refused sources.
    pub in_a_row: u32,
    /// The number of refused sources.
    pub sources: usize,
}

impl Refusals {
    /// Returns whether nothing is counted, so that a success need not be passed to
    /// [`Refusals::succeeded`].
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.without_source == 0
    }

    /// A record did not become a dead letter. An empty source means that it has none.
    pub fn succeeded(&mut self, source: &[u8], limit: u32) {
        if self.is_empty() {
            return;
        }
        self.records += 1;
        if self.records - self.last_dead_letter > window(limit) {
            *self = Self::default();
            return;
        }
        if source.is_empty() {
            self.without_source = 0;
            return;
        }
        let record = self.records;
        if let Some(counts) = self.entry(source) {
            *counts = SourceRefusals { in_a_row: 0, last: record, last_success: Some(record) };
        }
    }

    /// A record became a dead letter. Returns how many did if the partition must be held. `limit` is
    /// the refusal limit; zero means that no partition is ever held.
    pub fn refused(&mut self, source: &[u8], limit: u32) -> Option<ManyRefusals> {
        if limit == 0 {
            return None;
        }
        self.records += 1;
        self.last_dead_letter = self.records;
        if source.is_empty() {
            self.without_source += 1;
            let in_a_row = self.without_source;
            return (in_a_row >= limit).then_some(ManyRefusals { in_a_row, sources: 0 });
        }
        let record = self.records;
        if let Some(counts) = self.entry(source) {
            counts.in_a_row = counts.in_a_row.saturating_add(1);
            counts.last = record;
        }
        // Most sources have few dead letters. Only look at all of them when it may matter.
        (self.records >= u64::from(limit)).then(|| self.judge(limit)).flatten()
    }

    fn judge(&mut self, limit: u32) -> Option<ManyRefusals> {
        let oldest = self.records.saturating_sub(window(limit));
        self.sources.retain(|_, counts| counts.last >= oldest);
        let share = limit.div_ceil(SHARE);
        let is_refused = |counts: &&SourceRefusals| counts.in_a_row >= share;
        let is_active = |counts: &&SourceRefusals| {
            is_refused(counts) || counts.last_success.is_some_and(|success| success >= oldest)
        };
        let refused: Vec<_> = self.sources.values().filter(is_refused).collect();
        let active = self.sources.values().filter(is_active).count();
        let in_a_row = refused.iter().fold(0_u32, |sum, one| sum.saturating_add(one.in_a_row));
        let sources = refused.len();
        let is_ours = sources >= MIN_SOURCES && 2 * sources >= active && in_a_row >= limit;
        is_ours.then_some(ManyRefusals { in_a_row, sources })
    }

    fn entry(&mut self, source: &[u8]) -> Option<&mut SourceRefusals> {
        if !self.sources.contains_key(source) {
            if self.sources.len() >= MAX_SOURCES {
                return None;
            }
            self.sources.insert(source.into(), SourceRefusals::default());
        }
        self.sources.get_mut(source)
    }
}

fn window(limit: u32) -> u64 {
    WINDOW * u64::from(limit.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 100;

    /// Refuses `count` records of each source in turn. Returns how many records passed before the
    /// partition was held.
    fn held_after(refusals: &mut Refusals, sources: &[&str], count: usize) -> Option<usize> {
        let mut records = 0;
        for _ in 0..count {
            for source in sources {
                records += 1;
                if refusals.refused(source.as_bytes(), LIMIT).is_some() {
                    return Some(records);
                }
            }
        }
        None
    }

    #[test]
    fn one_or_two_bad_sources_never_hold_a_partition() {
        assert_eq!(held_after(&mut Refusals::default(), &["bad"], 100_000), None);
        assert_eq!(held_after(&mut Refusals::default(), &["bad", "worse"], 100_000), None);
    }

    #[test]
    fn three_refused_sources_hold_it_when_the_limit_is_reached() {
        assert_eq!(held_after(&mut Refusals::default(), &["a", "b", "c"], 1_000), Some(100));
        let held = Refusals::default().refused(b"a", 1);
        assert_eq!(held, None, "one source, whatever the limit");
    }

    #[test]
    fn sources_without_trouble_outweigh_the_refused_ones() {
        let mut refusals = Refusals::default();
        refusals.refused(b"a", LIMIT);
        for source in ["1", "2", "3", "4"] {
            refusals.succeeded(source.as_bytes(), LIMIT);
        }
        assert_eq!(held_after(&mut refusals, &["a", "b", "c"], 300), None, "3 of 7");
        assert!(held_after(&mut refusals, &["d"], 100).is_some(), "4 of 8");
    }

    #[test]
    fn a_source_that_is_silent_for_the_window_is_not_active() {
        let mut refusals = Refusals::default();
        refusals.refused(b"a", LIMIT);
        for source in ["1", "2", "3", "4"] {
            refusals.succeeded(source.as_bytes(), LIMIT);
        }
        let held = held_after(&mut refusals, &["a", "b", "c"], 1_000).unwrap();
        let window = window(LIMIT) as usize;
        assert!((window - 10..=window + 10).contains(&held), "{held}");
    }

    #[test]
    fn a_few_unlucky_sources_do_not_count_as_refused() {
        let mut refusals = Refusals::default();
        refusals.refused(b"b", LIMIT);
        refusals.refused(b"c", LIMIT);
        assert_eq!(held_after(&mut refusals, &["a"], 500), None);
    }

    #[test]
    fn a_success_of_the_source_starts_its_count_again() {
        let mut refusals = Refusals::default();
        for _ in 0..1_000 {
            assert_eq!(held_after(&mut refusals, &["a", "b", "c"], 9), None);
            for source in ["a", "b", "c"] {
                refusals.succeeded(source.as_bytes(), LIMIT);
            }
        }
    }

    #[test]
    fn records_without_a_source_are_ours() {
        assert_eq!(held_after(&mut Refusals::default(), &[""], 1_000), Some(100));
        let mut refusals = Refusals::default();
        for _ in 0..50 {
            assert_eq!(held_after(&mut refusals, &[""], 99), None);
            refusals.succeeded(b"", LIMIT);
        }
    }

    #[test]
    fn nothing_is_counted_without_a_limit_or_after_the_window() {
        let mut refusals = Refusals::default();
        for _ in 0..10_000 {
            assert_eq!(refusals.refused(b"", 0), None);
        }
        assert!(refusals.is_empty());
        refusals.refused(b"a", LIMIT);
        for _ in 0..=window(LIMIT) {
            assert!(!refusals.is_empty());
            refusals.succeeded(b"b", LIMIT);
        }
        assert!(refusals.is_empty(), "the last dead letter is outside of the window");
    }
}
