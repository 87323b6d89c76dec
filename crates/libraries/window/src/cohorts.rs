use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::rates::reports_injected;
use crate::{Admission, Counts, HourStart, PaneCounts, Width, Window};

/// How long after the end of its hour a cohort is kept, in microseconds: 8 days.
const KEEPS: i64 = 8 * 24 * 3_600_000_000;

/// The messages of a scope that were sent in one hour, as stored in the changelog of the rate stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cohort {
    /// What has happened to the messages since.
    pub counts: PaneCounts,
    /// The number of deltas.
    pub revision: u32,
    /// The revision that was published last.
    #[serde(default)]
    pub published: u32,
}

/// The cohorts of one scope. A cohort has no time of its own: it counts what happened to its messages
/// until the caller stops reading.
#[derive(Debug, Clone, Default)]
pub struct Cohorts {
    by_hour: BTreeMap<HourStart, Cohort>,
    /// The cohorts that have changed since they were published.
    unpublished: BTreeSet<HourStart>,
}

impl Cohorts {
    /// Restores cohorts.
    pub fn from_cohorts(cohorts: impl IntoIterator<Item = (HourStart, Cohort)>) -> Self {
        let by_hour: BTreeMap<_, _> = cohorts.into_iter().collect();
        let differ = by_hour.iter().filter(|(_, cohort)| cohort.revision != cohort.published);
        let unpublished = differ.map(|(hour, _)| *hour).collect();
        Self { by_hour, unpublished }
    }

    /// Adds a delta to a cohort. Returns the number of subtractions that had nothing to subtract from.
    pub fn apply(&mut self, now: i64, hour: HourStart, delta: &Counts) -> (Admission, u64) {
        if hour.end() + KEEPS <= now {
            return (Admission::TooLate, 0);
        }
        let cohort = self.by_hour.entry(hour).or_default();
        let added = cohort.counts.add(delta);
        if !added.counts.is_zero() {
            cohort.revision = cohort.revision.wrapping_add(1);
            self.unpublished.insert(hour);
        }
        (Admission::OnTime, added.without_count)
    }

    /// Returns the cohorts that have changed since the last call, and marks them as published.
    pub fn publish(&mut self) -> Vec<Window> {
        let changed = std::mem::take(&mut self.unpublished).into_iter();
        let windows = changed.filter_map(|hour| {
            let cohort = self.by_hour.get_mut(&hour)?;
            cohort.published = cohort.revision;
            let counts = cohort.counts.to_counts();
            Some(Window {
                width: Width::Cohort,
                end: hour.end(),
                revision: cohort.revision,
                counts,
                reports_injected: reports_injected(&counts),
            })
        });
        windows.collect()
    }

    /// Marks cohorts as changed by the end of their hour, because their rates are no longer unknown.
    /// Returns whether there are any.
    pub fn publish_again(&mut self, is_newly_known: impl Fn(i64) -> bool) -> bool {
        let mut is_any = false;
        for (hour, cohort) in &mut self.by_hour {
            if is_newly_known(hour.end()) && !self.unpublished.contains(hour) {
                cohort.revision = cohort.revision.wrapping_add(1);
                self.unpublished.insert(*hour);
                is_any = true;
            }
        }
        is_any
    }

    /// Returns true if a cohort has changed since it was published.
    pub fn has_unpublished(&self) -> bool {
        !self.unpublished.is_empty()
    }

    /// Removes and returns the cohorts that have expired at the time `now`.
    pub fn expire(&mut self, now: i64) -> Vec<HourStart> {
        let mut expired = Vec::new();
        while let Some(oldest) = self.by_hour.first_entry()
            && oldest.key().end() + KEEPS <= now
        {
            self.unpublished.remove(oldest.key());
            expired.push(oldest.remove_entry().0);
        }
        expired
    }

    /// Returns the time at which the oldest cohort expires.
    pub fn due(&self) -> Option<i64> {
        self.by_hour.first_key_value().map(|(hour, _)| hour.end() + KEEPS)
    }

    /// Returns the sum of the cohorts whose hours begin in `[from, to)`; `to` in UTC microseconds.
    pub fn sum(&self, from: HourStart, to: i64) -> Counts {
        let hours = self.by_hour.range(from..).take_while(|(hour, _)| hour.micros() < to);
        hours.fold(Counts::default(), |sum, (_, cohort)| sum + cohort.counts.to_counts())
    }

    /// Returns the hours with a cohort that begin at `from` or later, the earliest first.
    pub fn hours_from(&self, from: HourStart) -> impl Iterator<Item = (HourStart, Counts)> {
        let hours = self.by_hour.range(from..);
        hours.map(|(hour, cohort)| (*hour, cohort.counts.to_counts()))
    }

    /// Returns the cohort of an hour.
    pub fn cohort(&self, hour: HourStart) -> Option<&Cohort> {
        self.by_hour.get(&hour)
    }

    pub fn len(&self) -> usize {
        self.by_hour.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_hour.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use event::Counter::{BouncedSoft, Delivered, Injected, LateBounces, Opened};
    use event::OccurredAt;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn hour(number: i64) -> HourStart {
        HourStart::of(OccurredAt(number * HOUR + 5))
    }

    #[test]
    fn a_cohort_counts_what_happens_to_its_messages_for_8_days() {
        let mut cohorts = Cohorts::default();
        let two = Counts::of([(Delivered, 2)]);
        assert_eq!(cohorts.apply(0, hour(7), &two), (Admission::OnTime, 0));
        let later = Counts::of([(Opened, 1), (LateBounces, 1), (BouncedSoft, -1)]);
        assert_eq!(cohorts.apply(100 * HOUR, hour(7), &later), (Admission::OnTime, 1));
        let [window] = cohorts.publish()[..] else { panic!("one cohort has changed") };
        assert_eq!((window.width, window.end, window.revision), (Width::Cohort, 8 * HOUR, 2));
        let rates = window.result(true).rates;
        assert_eq!((rates.sent, rates.accepted_by_recipient, rates.open), (2, 1, Some(1.0)));
        assert!(!cohorts.has_unpublished() && cohorts.publish().is_empty());

        let expiry = 8 * HOUR + KEEPS;
        assert_eq!(cohorts.due(), Some(expiry));
        assert_eq!(cohorts.apply(expiry - 1, hour(7), &two).0, Admission::OnTime);
        assert_eq!(cohorts.apply(expiry, hour(7), &two).0, Admission::TooLate);
        assert_eq!(cohorts.expire(expiry - 1), []);
        assert_eq!(cohorts.expire(expiry), [hour(7)]);
        assert!(cohorts.is_empty() && !cohorts.has_unpublished());
    }

    /// The changelogs of running installations contain this form.
    #[test]
    fn an_unpublished_cohort_is_restored_as_unpublished() {
        let mut cohorts = Cohorts::default();
        let _ = cohorts.apply(0, hour(7), &Counts::of([(Injected, 2)]));
        let stored = |cohorts: &Cohorts| {
            let json = serde_json::to_string(cohorts.cohort(hour(7)).unwrap()).unwrap();
            let restored = [(hour(7), serde_json::from_str(&json).unwrap())];
            (json, Cohorts::from_cohorts(restored))
        };
        let (json, restored) = stored(&cohorts);
        assert_eq!(json, r#"{"counts":{"injected":2},"revision":1,"published":0}"#);
        assert!(restored.has_unpublished());
        cohorts.publish();
        assert!(!stored(&cohorts).1.has_unpublished());
    }
}
