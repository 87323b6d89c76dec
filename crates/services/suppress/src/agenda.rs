//! What happens to the entries of a partition by itself, by the day.
//!
//! There can be millions of entries. A tree of single entries would need three times the memory: they come almost in
//! order, so that its nodes stay half empty, and its nodes lie between short-lived allocations of the same size, which
//! keeps their pages in use.

use std::collections::{BTreeMap, BTreeSet};

use suppression::RecipientDigest;

/// An entry to which something happens, and when, in seconds since 1970. The last number is that of its form. It has no
/// padding.
pub type DueEntry = (u32, RecipientDigest, u32);

const SECONDS_OF_DAY: u32 = 24 * 3600;

/// The entries of a partition by the time at which something happens to them. An entry can be there more than once, and
/// entries that have changed since are there too.
#[derive(Debug, Clone, Default)]
pub struct Agenda {
    days: BTreeMap<u32, Vec<DueEntry>>,
}

impl Agenda {
    /// Notes that something happens to an entry.
    pub fn add(&mut self, entry: DueEntry) {
        let entries = self.days.entry(entry.0 / SECONDS_OF_DAY).or_default();
        if entries.len() == entries.capacity() {
            // An eighth more: doubling would leave a quarter of the memory unused.
            entries.reserve_exact(entries.len() / 8 + 4);
        }
        entries.push(entry);
    }

    /// Returns the entries to which something happens until `now`, the earliest first. None is there twice.
    pub fn due(&self, now: i64) -> Vec<DueEntry> {
        let now = u32::try_from(now.max(0)).unwrap_or(u32::MAX);
        let days = self.days.range(..=now / SECONDS_OF_DAY);
        let mut due: Vec<_> =
            days.flat_map(|(_, entries)| entries).filter(|(at, ..)| *at <= now).copied().collect();
        due.sort_unstable();
        due.dedup();
        due
    }

    /// Removes entries.
    pub fn remove(&mut self, entries: &[DueEntry]) {
        let removed: BTreeSet<&DueEntry> = entries.iter().collect();
        let days: BTreeSet<u32> = entries.iter().map(|(at, ..)| at / SECONDS_OF_DAY).collect();
        for day in days {
            let Some(entries) = self.days.get_mut(&day) else { continue };
            entries.retain(|entry| !removed.contains(entry));
            if entries.is_empty() {
                self.days.remove(&day);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn it_is_a_set_that_is_ordered_by_time() {
        let mut rng = StdRng::seed_from_u64(5);
        let (mut agenda, mut model) = (Agenda::default(), BTreeSet::new());
        for _ in 0..2_000 {
            for _ in 0..10 {
                let digest = [rng.random_range(0..3); 16];
                let entry =
                    (rng.random_range(0..400_000), RecipientDigest(digest), rng.random_range(0..2));
                agenda.add(entry);
                model.insert(entry);
            }
            let now = rng.random_range(0..400_000_u32);
            let mut due: Vec<_> = model.iter().take_while(|(at, ..)| *at <= now).copied().collect();
            assert_eq!(agenda.due(i64::from(now)), due);
            due.truncate(40);
            agenda.remove(&due);
            for entry in &due {
                model.remove(entry);
            }
        }
        assert_eq!((agenda.due(-1), agenda.due(i64::MAX).len()), (Vec::new(), model.len()));
        agenda.remove(&agenda.due(i64::MAX));
        assert!(agenda.days.is_empty());
    }
}
