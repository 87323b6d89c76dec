//! The progress of each event partition that fold owns. Fold commits it with the offsets and
//! publishes it to rate.

use std::collections::BTreeMap;
use std::time::Duration;

use alerting::AsOf;
use record::NextOffset;
use window::PANE;

use crate::rated_event::EventTime;
use crate::settings::MonitorSettings;
use crate::watermarks::{Activity, PartitionProgress, Watermarks};

#[derive(Debug, Clone, Copy, Default)]
struct PartitionState {
    /// The clock at the last commit.
    committed: PartitionClock,
    /// The clock after the records of the current batch.
    current: PartitionClock,
    /// The progress that was last published. `None` after the assignment of the partition: the
    /// previous owner may have published that it is gone, so the new owner always publishes.
    published: Option<PartitionProgress>,
    /// The progress that the current batch publishes.
    publishing: Option<PartitionProgress>,
    /// The next offset after the records of the current batch; `None` if it has none.
    read: Option<NextOffset>,
}

/// How far event time has come in a partition.
#[derive(Debug, Clone, Copy, Default)]
struct PartitionClock {
    progress: PartitionProgress,
    /// The latest receipt of an event, in UTC microseconds. `None` before the first event.
    latest_receipt: Option<i64>,
}

/// The event partitions that this member owns.
pub(crate) struct EventPartitions {
    out_of_orderness: i64,
    idle_after: Duration,
    gone_after: Duration,
    owned: BTreeMap<i32, PartitionState>,
}

impl EventPartitions {
    pub(crate) fn new(settings: &MonitorSettings) -> Self {
        Self {
            out_of_orderness: settings.out_of_orderness(),
            idle_after: settings.idle_after,
            gone_after: settings.gone_after(),
            owned: BTreeMap::new(),
        }
    }

    /// Adds a partition with the [`offset_metadata`](Self::offset_metadata) that its previous owner
    /// committed.
    pub(crate) fn assign(&mut self, partition: i32, metadata: &str) {
        let mut times = metadata.split(' ').map(|micros| micros.parse().ok());
        let watermark = times.next().flatten();
        let clock = PartitionClock {
            progress: PartitionProgress { watermark, ..PartitionProgress::default() },
            latest_receipt: times.next().flatten(),
        };
        let state = PartitionState { committed: clock, current: clock, ..Default::default() };
        self.owned.insert(partition, state);
    }

    pub(crate) fn release(&mut self, partition: i32) {
        self.owned.remove(&partition);
    }

    /// Notes that the records of a partition were read up to this offset.
    pub(crate) fn read(&mut self, partition: i32, next: NextOffset) {
        self.owned.entry(partition).or_default().read = Some(next);
    }

    /// Returns the least number of the partitions.
    pub(crate) fn first(&self) -> Option<i32> {
        self.owned.keys().next().copied()
    }

    /// Returns the next offsets of the partitions of which the current batch has records.
    pub(crate) fn unpublished_offsets(&self) -> AsOf {
        let read = self.owned.iter().filter_map(|(&number, state)| Some((number, state.read?.0)));
        AsOf(read.collect())
    }

    /// Updates the watermark with the time of an event. The result depends only on the order of events
    /// in the partition, not on the number of members or of restarts.
    ///
    /// An event whose time is that of its receipt (see [`EventTime::is_reliable`]) moves the
    /// watermark only by as much as the receipt of events has advanced. Otherwise one such event
    /// could make all events of other sources late that are still on their way.
    pub(crate) fn observe(&mut self, partition: i32, time: EventTime) {
        let EventTime { counted_at, received_at, is_reliable } = time;
        let PartitionClock { progress, latest_receipt } =
            &mut self.owned.entry(partition).or_default().current;
        let receipt_before = latest_receipt.unwrap_or(received_at);
        let received_at = received_at.max(receipt_before);
        *latest_receipt = Some(received_at);
        progress.activity = Activity::Active;
        let reached = counted_at.saturating_sub(self.out_of_orderness);
        let Some(watermark) = progress.watermark else {
            progress.watermark = Some(reached);
            return;
        };
        let elapsed = received_at.saturating_sub(receipt_before);
        let furthest = if is_reliable { i64::MAX } else { watermark.saturating_add(elapsed) };
        progress.watermark = Some(watermark.max(reached.min(furthest)));
    }

    /// Updates the watermark with the time of a time record: everything that was received before it has been
    /// read. Time therefore also passes without events.
    pub(crate) fn pass_time(&mut self, partition: i32, time: i64) {
        let PartitionClock { progress, latest_receipt } =
            &mut self.owned.entry(partition).or_default().current;
        let time = time.max(latest_receipt.unwrap_or(time));
        *latest_receipt = Some(time);
        progress.activity = Activity::Active;
        let reached = time.saturating_sub(self.out_of_orderness);
        progress.watermark = Some(progress.watermark.map_or(reached, |it| it.max(reached)));
    }

    /// Updates the activity of a partition that has had no unread record for `duration`.
    pub(crate) fn idle(&mut self, partition: i32, duration: Duration) {
        if let Some(state) = self.owned.get_mut(&partition) {
            let activity = &mut state.current.progress.activity;
            *activity = match duration {
                _ if duration >= self.gone_after => Activity::Gone,
                _ if duration >= self.idle_after => Activity::Idle,
                _ => *activity,
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
            let current = state.current.progress;
            if state.published.is_none_or(|published| relevant(published) != relevant(current)) {
                state.publishing = Some(current);
                unpublished.0.insert(partition, current);
            }
        }
        unpublished
    }

    /// Returns the watermark and the latest receipt of a partition as text, which is committed with its
    /// offset. Earlier releases wrote the watermark alone.
    pub(crate) fn offset_metadata(&self, partition: i32) -> String {
        let clock = self.owned.get(&partition).map(|state| state.current).unwrap_or_default();
        match (clock.progress.watermark, clock.latest_receipt) {
            (Some(watermark), Some(receipt)) => format!("{watermark} {receipt}"),
            (Some(watermark), None) => watermark.to_string(),
            (None, _) => String::new(),
        }
    }

    pub(crate) fn committed(&mut self) {
        for state in self.owned.values_mut() {
            state.committed = state.current;
            state.read = None;
            state.published = state.publishing.take().or(state.published);
        }
    }

    pub(crate) fn rolled_back(&mut self) {
        for state in self.owned.values_mut() {
            state.current = state.committed;
            state.read = None;
            state.publishing = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// Returns partition 0 with an out-of-orderness of 5 s; it is idle after 1 s and gone after 10 s.
    fn partitions() -> EventPartitions {
        let mut partitions = EventPartitions {
            out_of_orderness: 5 * SECOND,
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

    /// Returns the time of an event that was received when it happened.
    fn at(micros: i64) -> EventTime {
        EventTime { counted_at: micros, received_at: micros, is_reliable: true }
    }

    #[test]
    fn the_watermark_is_behind_the_newest_event_and_the_same_for_the_next_owner() {
        let mut before = partitions();
        for second in [1000, 935, -9] {
            before.observe(0, at(second * SECOND));
            let watermark = before.offset_metadata(0);
            assert_eq!(watermark, "995000000 1000000000", "a late event moved the watermark");
        }
        let mut after = partitions();
        after.assign(0, &before.offset_metadata(0));
        after.observe(0, at(900 * SECOND));
        assert_eq!(after.offset_metadata(0), "995000000 1000000000");
    }

    #[test]
    fn a_rolled_back_batch_has_no_effect() {
        let mut partitions = partitions();
        partitions.observe(0, at(100 * SECOND));
        assert_eq!(unpublished(&mut partitions), [(0, Some(95), Activity::Active)]);
        partitions.committed();

        partitions.observe(0, at(2000 * SECOND));
        assert_eq!(unpublished(&mut partitions), [(0, Some(1995), Activity::Active)]);
        partitions.rolled_back();

        assert_eq!(unpublished(&mut partitions), [], "the committed progress is published");
        partitions.observe(0, at(101 * SECOND));
        assert_eq!(partitions.offset_metadata(0), "96000000 101000000");
    }

    #[test]
    fn a_new_owner_publishes_at_once_that_the_partition_may_have_unread_records() {
        let mut partitions = partitions();
        partitions.assign(0, &(95 * SECOND).to_string());
        assert_eq!(unpublished(&mut partitions), [(0, Some(95), Activity::Active)]);
    }

    #[test]
    fn an_event_without_a_reliable_time_moves_the_watermark_as_far_as_receipt_has_advanced() {
        let mut partitions = partitions();
        let received = |second| EventTime { received_at: second * SECOND, ..at(100 * SECOND) };
        let undated = |second| {
            let micros = second * SECOND;
            EventTime { counted_at: micros, received_at: micros, is_reliable: false }
        };
        partitions.observe(0, received(9_000));
        for _ in 0..1_000 {
            partitions.observe(0, undated(9_020));
        }
        assert_eq!(unpublished(&mut partitions), [(0, Some(115), Activity::Active)]);
        partitions.observe(0, received(9_020));

        let mut next_owner = self::partitions();
        next_owner.assign(0, &partitions.offset_metadata(0));
        next_owner.observe(0, undated(9_030));
        assert_eq!(next_owner.offset_metadata(0), "125000000 9030000000");
        next_owner.observe(0, undated(9_000));
        let unchanged = "an earlier receipt moves nothing";
        assert_eq!(next_owner.offset_metadata(0), "125000000 9030000000", "{unchanged}");
    }

    #[test]
    fn time_passes_without_events() {
        let mut partitions = partitions();
        partitions.observe(0, at(100 * SECOND));
        partitions.pass_time(0, 130 * SECOND);
        assert_eq!(unpublished(&mut partitions), [(0, Some(125), Activity::Active)]);
        partitions.pass_time(0, 120 * SECOND);
        assert_eq!(partitions.offset_metadata(0), "125000000 130000000", "time does not go back");
    }

    #[test]
    fn the_metadata_of_earlier_releases_is_the_watermark_alone() {
        let mut partitions = partitions();
        partitions.assign(0, &(995 * SECOND).to_string());
        assert_eq!(partitions.offset_metadata(0), (995 * SECOND).to_string());
        partitions.observe(0, at(900 * SECOND));
        assert_eq!(partitions.offset_metadata(0), "995000000 900000000");
    }

    #[test]
    fn a_watermark_is_published_once_it_enters_another_pane() {
        let mut partitions = partitions();
        partitions.observe(0, at(16 * SECOND));
        assert_eq!(unpublished(&mut partitions), [(0, Some(11), Activity::Active)]);
        partitions.committed();
        partitions.observe(0, at(24 * SECOND));
        assert_eq!(unpublished(&mut partitions), []);
        partitions.observe(0, at(25 * SECOND));
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
        partitions.observe(0, at(16 * SECOND));
        assert_eq!(unpublished(&mut partitions), [(0, Some(11), Activity::Active)]);
    }
}
