//! The progress of each event partition that fold owns. Fold commits it with the offsets and
//! publishes it to rate.

use std::collections::BTreeMap;
use std::time::Duration;

use window::PANE;

use crate::settings::MonitorSettings;
use crate::watermarks::{Activity, PartitionProgress, Watermarks};

#[derive(Debug, Clone, Copy, Default)]
struct PartitionState {
    /// The progress at the last commit.
    committed: PartitionProgress,
    /// The progress after the records of the current batch.
    current: PartitionProgress,
    /// The progress that was last published. `None` after the assignment of the partition: the
    /// previous owner may have published that it is gone, so the new owner always publishes.
    published: Option<PartitionProgress>,
    /// The progress that the current batch publishes.
    publishing: Option<PartitionProgress>,
}

/// The event partitions that this member owns.
pub(crate) struct EventPartitions {
    out_of_orderness: i64,
    allowed_lateness: i64,
    idle_after: Duration,
    gone_after: Duration,
    owned: BTreeMap<i32, PartitionState>,
}

impl EventPartitions {
    pub(crate) fn new(settings: &MonitorSettings) -> Self {
        Self {
            out_of_orderness: settings.out_of_orderness(),
            allowed_lateness: settings.allowed_lateness(),
            idle_after: settings.idle_after,
            gone_after: settings.gone_after(),
            owned: BTreeMap::new(),
        }
    }

    /// Adds a partition with the [`offset_metadata`](Self::offset_metadata) that its previous owner
    /// committed.
    pub(crate) fn assign(&mut self, partition: i32, metadata: &str) {
        let progress =
            PartitionProgress { watermark: metadata.parse().ok(), ..PartitionProgress::default() };
        let state = PartitionState { committed: progress, current: progress, ..Default::default() };
        self.owned.insert(partition, state);
    }

    pub(crate) fn release(&mut self, partition: i32) {
        self.owned.remove(&partition);
    }

    /// Updates the watermark with the time of an event. Returns false if the event is older than the
    /// watermark minus the allowed lateness, so it must not be counted. The result depends only on
    /// the order of events in the partition, not on the number of members or of restarts.
    ///
    /// `is_reliable` is false for an event whose time is that of its receipt, because the provider
    /// sent none, or one in the future. Such an event moves the watermark by one pane at most.
    /// Otherwise one of them could make all events of other sources late that are still on their way.
    pub(crate) fn admit(&mut self, partition: i32, time: i64, is_reliable: bool) -> bool {
        let progress = &mut self.owned.entry(partition).or_default().current;
        progress.activity = Activity::Active;
        let Some(watermark) = progress.watermark else {
            progress.watermark = Some(time.saturating_sub(self.out_of_orderness));
            return true;
        };
        let furthest = if is_reliable { i64::MAX } else { watermark.saturating_add(PANE) };
        let reached = time.saturating_sub(self.out_of_orderness).min(furthest);
        progress.watermark = Some(watermark.max(reached));
        time >= watermark.saturating_sub(self.allowed_lateness)
    }

    /// Updates the activity of a partition that has had no unread record for `duration`.
    pub(crate) fn idle(&mut self, partition: i32, duration: Duration) {
        if let Some(state) = self.owned.get_mut(&partition) {
            state.current.activity = match duration {
                _ if duration >= self.gone_after => Activity::Gone,
                _ if duration >= self.idle_after => Activity::Idle,
                _ => state.current.activity,
            };
        }
    }

    /// Returns the progress to publish with this batch: that of partitions whose watermark entered
    /// another pane or whose activity changed. Only such a change can close a window.
    pub(crate) fn unpublished(&mut self) -> Watermarks {
        let relevant = |progress: PartitionProgress| {
            (progress.watermark.map(|watermark| watermark.div_euclid(PANE)), progress.activity)
        };
        let mut unpublished = Watermarks::default();
        for (&partition, state) in &mut self.owned {
            let current = state.current;
            if state.published.is_none_or(|published| relevant(published) != relevant(current)) {
                state.publishing = Some(current);
                unpublished.0.insert(partition, current);
            }
        }
        unpublished
    }

    /// Returns the watermark of a partition as text, which is committed with its offset.
    pub(crate) fn offset_metadata(&self, partition: i32) -> String {
        let state = self.owned.get(&partition);
        let watermark = state.and_then(|state| state.current.watermark);
        watermark.map_or(String::new(), |watermark| watermark.to_string())
    }

    pub(crate) fn committed(&mut self) {
        for state in self.owned.values_mut() {
            state.committed = state.current;
            state.published = state.publishing.take().or(state.published);
        }
    }

    pub(crate) fn rolled_back(&mut self) {
        for state in self.owned.values_mut() {
            state.current = state.committed;
            state.publishing = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Returns partition 0 with an out-of-orderness of 5 s and an allowed lateness of 60 s; it is
    /// idle after 1 s and gone after 10 s.
    fn partitions() -> EventPartitions {
        let mut partitions = EventPartitions {
            out_of_orderness: 5 * SECOND,
            allowed_lateness: 60 * SECOND,
            idle_after: Duration::from_secs(1),
            gone_after: Duration::from_secs(10),
            owned: BTreeMap::new(),
        };
        partitions.assign(0, "");
        partitions
    }

    /// Returns the unpublished progress as partition, watermark in seconds, and activity.
    fn unpublished(partitions: &mut EventPartitions) -> Vec<(i32, Option<i64>, Activity)> {
        let unpublished = partitions.unpublished().0;
        unpublished
            .into_iter()
            .map(|(number, p)| (number, p.watermark.map(|w| w / SECOND), p.activity))
            .collect()
    }

    #[test]
    fn an_event_older_than_the_watermark_minus_the_allowed_lateness_is_late() {
        let mut partitions = partitions();
        assert!(partitions.admit(0, -9 * SECOND, true), "no event is late before the first one");
        assert!(partitions.admit(0, 1000 * SECOND, true));
        assert!(partitions.admit(0, 935 * SECOND, true));
        assert!(!partitions.admit(0, 935 * SECOND - 1, true));
        let watermark = partitions.offset_metadata(0);
        assert_eq!(watermark, (995 * SECOND).to_string(), "a late event moved the watermark");
    }

    #[test]
    fn lateness_is_the_same_for_the_next_owner() {
        let mut before = partitions();
        before.admit(0, 1000 * SECOND, true);
        let mut after = partitions();
        after.assign(0, &before.offset_metadata(0));
        assert!(!after.admit(0, 900 * SECOND, true));
    }

    #[test]
    fn a_rolled_back_batch_has_no_effect() {
        let mut partitions = partitions();
        partitions.admit(0, 100 * SECOND, true);
        assert_eq!(unpublished(&mut partitions), [(0, Some(95), Activity::Active)]);
        partitions.committed();

        partitions.admit(0, 2000 * SECOND, true);
        assert_eq!(unpublished(&mut partitions), [(0, Some(1995), Activity::Active)]);
        partitions.rolled_back();

        assert_eq!(unpublished(&mut partitions), [], "the committed progress is published");
        assert!(
            partitions.admit(0, 101 * SECOND, true),
            "the rolled back event moved the watermark"
        );
        assert_eq!(partitions.offset_metadata(0), (96 * SECOND).to_string());
    }

    #[test]
    fn a_new_owner_publishes_at_once_that_the_partition_may_have_unread_records() {
        let mut partitions = partitions();
        partitions.assign(0, &(95 * SECOND).to_string());
        assert_eq!(unpublished(&mut partitions), [(0, Some(95), Activity::Active)]);
    }

    #[test]
    fn an_event_without_a_reliable_time_moves_the_watermark_by_one_pane() {
        let mut partitions = partitions();
        assert!(partitions.admit(0, 100 * SECOND, true));
        assert!(partitions.admit(0, 9_000 * SECOND, false));
        assert_eq!(unpublished(&mut partitions), [(0, Some(105), Activity::Active)]);
        assert!(partitions.admit(0, 100 * SECOND, true), "an event on its way is not late");
        assert!(partitions.admit(0, 9_000 * SECOND, false));
        assert_eq!(partitions.offset_metadata(0), (115 * SECOND).to_string());
    }

    #[test]
    fn a_watermark_is_published_once_it_enters_another_pane() {
        let mut partitions = partitions();
        partitions.admit(0, 16 * SECOND, true);
        assert_eq!(unpublished(&mut partitions), [(0, Some(11), Activity::Active)]);
        partitions.committed();
        partitions.admit(0, 24 * SECOND, true);
        assert_eq!(unpublished(&mut partitions), []);
        partitions.admit(0, 25 * SECOND, true);
        assert_eq!(unpublished(&mut partitions), [(0, Some(20), Activity::Active)]);
    }

    #[test]
    fn idleness_is_published_once_and_ends_with_the_next_record() {
        let mut partitions = partitions();
        let mut idle_for = |millis| {
            partitions.idle(0, Duration::from_millis(millis));
            let unpublished = unpublished(&mut partitions);
            partitions.committed();
            unpublished
        };
        assert_eq!(idle_for(999), [(0, None, Activity::Active)]);
        assert_eq!(idle_for(1000), [(0, None, Activity::Idle)]);
        assert_eq!(idle_for(1001), []);
        assert_eq!(idle_for(10_000), [(0, None, Activity::Gone)]);
        partitions.admit(0, 16 * SECOND, true);
        assert_eq!(unpublished(&mut partitions), [(0, Some(11), Activity::Active)]);
    }
}
