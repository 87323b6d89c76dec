//! The event time of a shard.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use window::PANE;

use crate::watermarks::{Activity, PartitionProgress, Watermarks};

/// The settings that decide for which event partitions the clock waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockSettings {
    /// The number of event partitions.
    pub(crate) event_partitions: usize,
    /// How far the clock may run ahead of an idle partition, in microseconds.
    pub(crate) slack: i64,
    /// How far each watermark is behind the newest event of its partition, in microseconds.
    pub(crate) out_of_orderness: i64,
}

/// The event time of a shard: the minimum watermark of all active event partitions.
///
/// The clock does not move until the progress of every event partition is known. A partition that
/// lags, after a restart or during a replay, must hold back the clock. Otherwise its events would be
/// late.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardClock {
    #[serde(rename = "heard")]
    partitions: BTreeMap<i32, PartitionProgress>,
    now: Option<i64>,
}

impl ShardClock {
    /// Takes new watermarks into account. Returns true if the clock moved. It never moves back.
    pub(crate) fn update(&mut self, watermarks: &Watermarks, settings: ClockSettings) -> bool {
        self.partitions.extend(&watermarks.0);
        let next = self.event_time(settings).filter(|&next| self.now.is_none_or(|now| now < next));
        if next.is_some() {
            self.now = next;
        }
        next.is_some()
    }

    /// Computes the event time from the progress of all partitions. Returns `None` if the clock must
    /// wait for a partition whose watermark is unknown.
    ///
    /// If all partitions are gone, we expect no more events that are out of order, and the event time
    /// is the time of the newest event. This closes the last windows of a day although no event
    /// follows.
    fn event_time(&self, settings: ClockSettings) -> Option<i64> {
        let ClockSettings { event_partitions, slack, out_of_orderness } = settings;
        if self.partitions.len() < event_partitions {
            return None;
        }
        let newest = self.partitions.values().filter_map(|progress| progress.watermark).max()?;
        if self.partitions.values().all(|progress| progress.activity == Activity::Gone) {
            return Some(newest.saturating_add(out_of_orderness));
        }
        let mut time = newest;
        for PartitionProgress { watermark, activity } in self.partitions.values() {
            time = match (activity, watermark) {
                (Activity::Active, watermark) => time.min((*watermark)?),
                (Activity::Idle, Some(watermark)) => time.min(watermark.saturating_add(slack)),
                (Activity::Idle, None) | (Activity::Gone, _) => time,
            };
        }
        Some(time)
    }

    /// Returns a time that is later than all events behind the watermarks, in UTC microseconds. `None` while the
    /// progress of an event partition is unknown.
    pub(crate) fn after_all_events(&self, settings: ClockSettings) -> Option<i64> {
        self.now?;
        let newest = self.partitions.values().filter_map(|progress| progress.watermark).max()?;
        // A watermark is published when it enters another pane.
        Some(newest.saturating_add(settings.out_of_orderness).saturating_add(PANE))
    }

    /// Returns the event time in UTC microseconds; `None` while it is unknown.
    pub(crate) const fn known(&self) -> Option<i64> {
        self.now
    }

    /// Returns the event time in UTC microseconds, or a time before all events while it is unknown.
    pub(crate) fn now(&self) -> i64 {
        self.now.unwrap_or(i64::MIN / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watermarks::Activity::{Active, Gone, Idle};

    const SETTINGS: ClockSettings =
        ClockSettings { event_partitions: 3, slack: 100, out_of_orderness: 7 };

    /// Returns the time after the clock received these records. Each record lists partitions with
    /// their watermark and activity.
    fn time_after(records: &[&[(i32, Option<i64>, Activity)]]) -> Option<i64> {
        let mut clock = ShardClock::default();
        for record in records {
            let progress = |&(partition, watermark, activity)| {
                (partition, PartitionProgress { watermark, activity })
            };
            let before = clock.now;
            let moved = clock.update(&Watermarks(record.iter().map(progress).collect()), SETTINGS);
            assert_eq!(moved, clock.now != before);
            assert!(clock.now >= before, "the clock moved back");
        }
        clock.now
    }

    #[test]
    fn the_clock_is_the_minimum_watermark_of_active_partitions() {
        let start = [(0, Some(50), Active), (1, Some(40), Active), (2, Some(70), Active)];
        assert_eq!(time_after(&[&start]), Some(40));
        assert_eq!(time_after(&[&start, &[(1, Some(60), Active)]]), Some(50));
        assert_eq!(
            time_after(&[&start, &[(1, Some(60), Active), (0, Some(90), Active)]]),
            Some(60)
        );
    }

    #[test]
    fn the_clock_waits_for_unknown_partitions_and_for_active_ones_without_events() {
        let two = [(0, Some(50), Active), (1, Some(40), Gone)];
        assert_eq!(time_after(&[&two]), None);
        assert_eq!(time_after(&[&two, &[(2, None, Active)]]), None);
        assert_eq!(time_after(&[&two, &[(2, None, Active)], &[(2, None, Idle)]]), Some(50));
    }

    #[test]
    fn if_all_partitions_are_gone_the_clock_is_the_time_of_the_newest_event() {
        let gone = [(0, Some(50), Gone), (1, Some(40), Gone), (2, None, Gone)];
        assert_eq!(time_after(&[&gone]), Some(57));
        assert_eq!(time_after(&[&gone, &[(1, Some(60), Active)]]), Some(60));
    }

    #[test]
    fn a_partition_that_becomes_active_again_does_not_move_the_clock_back() {
        let start = [(0, Some(50), Active), (1, Some(40), Gone), (2, Some(70), Active)];
        assert_eq!(time_after(&[&start]), Some(50));
        assert_eq!(
            time_after(&[&start, &[(1, Some(40), Active), (0, Some(90), Active)]]),
            Some(50)
        );
    }

    #[test]
    fn the_clock_runs_ahead_of_an_idle_partition_by_at_most_the_slack() {
        let idle = [(0, Some(1000), Active), (1, Some(40), Idle), (2, None, Idle)];
        assert_eq!(time_after(&[&idle]), Some(140));
        assert_eq!(time_after(&[&idle, &[(1, Some(40), Gone)]]), Some(1000));
    }

    #[test]
    fn without_active_partitions_the_newest_watermark_counts() {
        assert_eq!(
            time_after(&[&[(0, Some(50), Idle), (1, Some(70), Gone), (2, None, Gone)]]),
            Some(70)
        );
        assert_eq!(time_after(&[&[(0, None, Gone), (1, None, Idle), (2, None, Gone)]]), None);
    }
}
