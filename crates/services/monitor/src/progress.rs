//! How far each event partition is: what fold remembers, commits and tells.

use std::collections::BTreeMap;
use std::time::Duration;

use window::PANE;

use crate::clock::{Presence, Progress, Watermarks};
use crate::settings::MonitorSettings;

/// One partition as committed and as of the open round, and what was last said of it.
#[derive(Debug, Clone, Copy, Default)]
struct Partition {
    committed: Progress,
    open: Progress,
    /// Nothing was said since it became ours; who had it before may have said that it is gone.
    announced: Option<Progress>,
    announcing: Option<Progress>,
}

/// The event partitions that are ours.
pub(crate) struct Partitions {
    out_of_orderness: i64,
    allowed_lateness: i64,
    quiet_after: Duration,
    gone_after: Duration,
    ours: BTreeMap<i32, Partition>,
}

impl Partitions {
    pub(crate) fn new(settings: &MonitorSettings) -> Self {
        Self {
            out_of_orderness: settings.out_of_orderness(),
            allowed_lateness: settings.allowed_lateness(),
            quiet_after: settings.idle_after,
            gone_after: settings.gone_after(),
            ours: BTreeMap::new(),
        }
    }

    /// A partition became ours, with the [`metadata`](Self::metadata) committed by its last owner.
    pub(crate) fn assign(&mut self, partition: i32, metadata: &str) {
        let progress = Progress { watermark: metadata.parse().ok(), ..Progress::default() };
        let fresh = Partition { committed: progress, open: progress, ..Partition::default() };
        self.ours.insert(partition, fresh);
    }

    pub(crate) fn revoke(&mut self, partition: i32) {
        self.ours.remove(&partition);
    }

    /// Takes note of an event's time. False when the event is older than the watermark and the
    /// allowed lateness: it does not count. Which ones are so depends on the partition's order
    /// alone, not on who runs where or how often.
    pub(crate) fn admit(&mut self, partition: i32, time: i64) -> bool {
        let progress = &mut self.ours.entry(partition).or_default().open;
        progress.presence = Presence::Busy;
        let Some(watermark) = progress.watermark else {
            progress.watermark = Some(time.saturating_sub(self.out_of_orderness));
            return true;
        };
        progress.watermark = Some(watermark.max(time.saturating_sub(self.out_of_orderness)));
        time >= watermark.saturating_sub(self.allowed_lateness)
    }

    /// A partition whose end was reached has brought nothing for this long.
    pub(crate) fn quiet(&mut self, partition: i32, since: Duration) {
        if let Some(known) = self.ours.get_mut(&partition) {
            known.open.presence = match since {
                _ if since >= self.gone_after => Presence::Gone,
                _ if since >= self.quiet_after => Presence::Quiet,
                _ => known.open.presence,
            };
        }
    }

    /// What has to be said with this commit: what may close a pane, or ends or begins a wait.
    pub(crate) fn news(&mut self) -> Watermarks {
        let matters = |p: Progress| (p.watermark.map(|w| w.div_euclid(PANE)), p.presence);
        let mut news = Watermarks::default();
        for (&partition, known) in &mut self.ours {
            if known.announced.is_none_or(|said| matters(said) != matters(known.open)) {
                known.announcing = Some(known.open);
                news.0.insert(partition, known.open);
            }
        }
        news
    }

    /// What rides on the partition's committed offset: the watermark.
    pub(crate) fn metadata(&self, partition: i32) -> String {
        let known = self.ours.get(&partition);
        known.and_then(|known| known.open.watermark).map_or(String::new(), |w| w.to_string())
    }

    pub(crate) fn committed(&mut self) {
        for known in self.ours.values_mut() {
            known.committed = known.open;
            known.announced = known.announcing.take().or(known.announced);
        }
    }

    pub(crate) fn rolled_back(&mut self) {
        for known in self.ours.values_mut() {
            known.open = known.committed;
            known.announcing = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Out of order by 5 s, late by 60 s, quiet after 1 s.
    fn partitions() -> Partitions {
        let mut partitions = Partitions {
            out_of_orderness: 5 * SECOND,
            allowed_lateness: 60 * SECOND,
            quiet_after: Duration::from_secs(1),
            gone_after: Duration::from_secs(10),
            ours: BTreeMap::new(),
        };
        partitions.assign(0, "");
        partitions
    }

    fn said(partitions: &mut Partitions) -> Vec<(i32, Option<i64>, Presence)> {
        let news = partitions.news().0;
        news.into_iter().map(|(n, p)| (n, p.watermark.map(|w| w / SECOND), p.presence)).collect()
    }

    #[test]
    fn too_late_is_older_than_the_watermark_and_the_allowed_lateness() {
        let mut partitions = partitions();
        assert!(partitions.admit(0, -9 * SECOND), "nothing is late before the first event");
        assert!(partitions.admit(0, 1000 * SECOND));
        assert!(partitions.admit(0, 935 * SECOND));
        assert!(!partitions.admit(0, 935 * SECOND - 1));
        assert_eq!(partitions.metadata(0), (995 * SECOND).to_string(), "late ones move nothing");
    }

    #[test]
    fn what_is_late_is_the_same_for_the_next_owner() {
        let mut before = partitions();
        before.admit(0, 1000 * SECOND);
        let mut after = partitions();
        after.assign(0, &before.metadata(0));
        assert!(!after.admit(0, 900 * SECOND));
    }

    #[test]
    fn a_round_that_did_not_happen_leaves_no_trace() {
        let mut partitions = partitions();
        partitions.admit(0, 100 * SECOND);
        assert_eq!(said(&mut partitions), [(0, Some(95), Presence::Busy)]);
        partitions.committed();

        partitions.admit(0, 2000 * SECOND);
        assert_eq!(said(&mut partitions), [(0, Some(1995), Presence::Busy)]);
        partitions.rolled_back();

        assert_eq!(said(&mut partitions), [], "the last word stands");
        assert!(partitions.admit(0, 101 * SECOND), "not late in the second attempt either");
        assert_eq!(partitions.metadata(0), (96 * SECOND).to_string());
    }

    #[test]
    fn a_new_owner_says_at_once_that_the_partition_may_have_unread_records() {
        let mut partitions = partitions();
        partitions.assign(0, &(95 * SECOND).to_string());
        assert_eq!(said(&mut partitions), [(0, Some(95), Presence::Busy)]);
    }

    #[test]
    fn only_what_may_close_a_pane_is_said() {
        let mut partitions = partitions();
        partitions.admit(0, 16 * SECOND);
        assert_eq!(said(&mut partitions), [(0, Some(11), Presence::Busy)]);
        partitions.committed();
        partitions.admit(0, 24 * SECOND);
        assert_eq!(said(&mut partitions), []);
        partitions.admit(0, 25 * SECOND);
        assert_eq!(said(&mut partitions), [(0, Some(20), Presence::Busy)]);
    }

    #[test]
    fn silence_is_told_once_and_ends_with_the_next_record() {
        let mut partitions = partitions();
        let mut after = |millis| {
            partitions.quiet(0, Duration::from_millis(millis));
            let said = said(&mut partitions);
            partitions.committed();
            said
        };
        assert_eq!(after(999), [(0, None, Presence::Busy)]);
        assert_eq!(after(1000), [(0, None, Presence::Quiet)]);
        assert_eq!(after(1001), []);
        assert_eq!(after(10_000), [(0, None, Presence::Gone)]);
        partitions.admit(0, 16 * SECOND);
        assert_eq!(said(&mut partitions), [(0, Some(11), Presence::Busy)]);
    }
}
