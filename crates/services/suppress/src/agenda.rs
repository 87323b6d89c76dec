//! What happens to the entries of a partition by itself.
//!
//! There can be millions of entries. A tree of them all would need three times the memory: they come almost in order, so
//! that its nodes stay half empty, and its nodes lie between short-lived allocations of the same size, which keeps their
//! pages in use. So only the entries of the present day are in a tree, and those of later days in a list for each day.

use std::collections::{BTreeMap, BTreeSet};

use suppression::RecipientDigest;

/// An entry to which something happens, and when, in seconds since 1970. The last number is that of its form. It has no
/// padding.
pub type DueEntry = (u32, RecipientDigest, u32);

/// How many entries that are not current any more one call removes, so that it takes no longer than some milliseconds.
const MAX_OLD: usize = 10_000;
const SECONDS_OF_DAY: u32 = 24 * 3600;

/// The entries of a partition by the time at which something happens to them. Entries that have changed since are there
/// too.
#[derive(Debug, Clone, Default)]
pub struct Agenda {
    /// The entries of the days that have begun.
    begun: BTreeSet<DueEntry>,
    /// The entries of later days. An entry can be there more than once.
    later: BTreeMap<u32, Vec<DueEntry>>,
    /// The number of days that have begun since 1970.
    days: u32,
}

impl Agenda {
    /// Notes that something happens to an entry.
    pub fn add(&mut self, entry: DueEntry) {
        let day = entry.0 / SECONDS_OF_DAY;
        if day < self.days {
            self.begun.insert(entry);
            return;
        }
        let entries = self.later.entry(day).or_default();
        if entries.len() == entries.capacity() {
            // An eighth more: doubling would leave a quarter of the memory unused.
            entries.reserve_exact(entries.len() / 8 + 4);
        }
        entries.push(entry);
    }

    /// Returns the first `most` entries to which something happens until `now`, the earliest first. Removes those before
    /// them that are not current any more.
    pub fn due(
        &mut self,
        now: i64,
        most: usize,
        is_current: impl Fn(&DueEntry) -> bool,
    ) -> Vec<DueEntry> {
        let Ok(now) = u32::try_from(now) else { return Vec::new() };
        self.days = self.days.max(now / SECONDS_OF_DAY + 1);
        while let Some(day) = self.later.first_entry().filter(|day| *day.key() < self.days) {
            self.begun.extend(day.remove());
        }
        let (mut due, mut old) = (Vec::new(), Vec::new());
        for entry in self.begun.iter().take_while(|(at, ..)| *at <= now) {
            if due.len() == most || old.len() == MAX_OLD {
                break;
            }
            if is_current(entry) { &mut due } else { &mut old }.push(*entry);
        }
        self.remove(&old);
        due
    }

    /// Removes entries that [`Self::due`] has returned.
    pub fn remove<'e>(&mut self, entries: impl IntoIterator<Item = &'e DueEntry>) {
        for entry in entries {
            self.begun.remove(entry);
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
        const END: u32 = 6 * SECONDS_OF_DAY;
        let mut rng = StdRng::seed_from_u64(5);
        let (mut agenda, mut model) = (Agenda::default(), BTreeSet::new());
        let (mut now, mut twice) = (0, 0);
        // Those of one recipient are not current.
        let old = RecipientDigest([2; 16]);
        let is_current = |entry: &DueEntry| entry.1 != old;
        while now < END {
            for _ in 0..10 {
                let digest = [rng.random_range(0..3); 16];
                // Few times, so that many entries are there twice.
                let at = rng.random_range(0..END / 3600) * 3600;
                let entry = (at, RecipientDigest(digest), rng.random_range(0..2));
                agenda.add(entry);
                twice += usize::from(is_current(&entry) && !model.insert(entry));
            }
            now += rng.random_range(0..4_000);
            let most = rng.random_range(0..20);
            let due = model.iter().take_while(|(at, ..)| *at <= now).take(most);
            let due: Vec<_> = due.copied().collect();
            assert_eq!(agenda.due(i64::from(now), most, is_current), due);
            let again = agenda.due(i64::from(now), most, is_current);
            assert_eq!(again, due, "they stay until they are removed");
            agenda.remove(&due);
            model.retain(|entry| !due.contains(entry));
        }
        assert!(twice > 100, "{twice}");
        assert_eq!(agenda.due(-1, 9, is_current), []);
        let rest = agenda.due(i64::from(u32::MAX), usize::MAX, is_current);
        assert_eq!(rest, Vec::from_iter(model));
        assert!(agenda.later.is_empty() && agenda.begun.len() == rest.len());
    }
}
