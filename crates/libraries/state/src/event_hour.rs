use std::collections::VecDeque;

use crate::Hour;

/// The number of latest events whose median hour is the event hour of a partition.
pub const MEDIAN_SAMPLES: usize = 1001;

/// The event hour of a partition: the median hour of its last [`MEDIAN_SAMPLES`] events, without
/// duplicates. The horizon is measured back from it.
///
/// With the maximum instead of the median, a single event from the year 2090, or one source that
/// reports milliseconds as seconds, would put every other event beyond the horizon for good. A
/// minority of events cannot move a median. The median recovers as soon as a majority of times is
/// right again, so the event hour can go backwards. Ids that were beyond the horizon until then may have
/// been deleted, so a duplicate of them may be taken for the first. Until there are enough samples there
/// is no event hour, and no event is beyond the horizon.
#[derive(Debug, Default)]
pub(crate) struct EventHour {
    samples: VecDeque<Hour>,
    current: Option<Hour>,
}

impl EventHour {
    /// Starts with a restored event hour, which stays valid until there are enough new samples.
    pub(crate) fn starting_at(current: Option<Hour>) -> Self {
        Self { samples: VecDeque::with_capacity(MEDIAN_SAMPLES), current }
    }

    pub(crate) fn current(&self) -> Option<Hour> {
        self.current
    }

    /// Adds the hours of new events, oldest first.
    pub(crate) fn observe(&mut self, hours: impl ExactSizeIterator<Item = Hour>) {
        let superfluous = hours.len().saturating_sub(MEDIAN_SAMPLES);
        for hour in hours.skip(superfluous) {
            if self.samples.len() == MEDIAN_SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back(hour);
        }
        if self.samples.len() == MEDIAN_SAMPLES {
            let mut sorted: Vec<Hour> = self.samples.iter().copied().collect();
            let (_, &mut median, _) = sorted.select_nth_unstable(MEDIAN_SAMPLES / 2);
            self.current = Some(median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(event_hour: &mut EventHour, hour: u32, times: usize) {
        event_hour.observe(vec![Hour(hour); times].into_iter());
    }

    #[test]
    fn there_is_no_event_hour_before_there_are_enough_samples() {
        let mut event_hour = EventHour::starting_at(None);
        observe(&mut event_hour, 500_000, MEDIAN_SAMPLES - 1);
        assert_eq!(event_hour.current(), None);
        observe(&mut event_hour, 500_000, 1);
        assert_eq!(event_hour.current(), Some(Hour(500_000)));
    }

    #[test]
    fn a_minority_cannot_move_it_and_a_majority_moves_it_forwards_and_backwards() {
        let mut event_hour = EventHour::starting_at(None);
        observe(&mut event_hour, 100, MEDIAN_SAMPLES);
        observe(&mut event_hour, 1_000_000, MEDIAN_SAMPLES / 2);
        assert_eq!(event_hour.current(), Some(Hour(100)));
        observe(&mut event_hour, 1_000_000, 1);
        assert_eq!(event_hour.current(), Some(Hour(1_000_000)));
        observe(&mut event_hour, 101, 5 * MEDIAN_SAMPLES);
        assert_eq!(event_hour.current(), Some(Hour(101)));
    }

    #[test]
    fn a_restored_event_hour_is_valid_until_there_are_enough_samples() {
        let mut event_hour = EventHour::starting_at(Some(Hour(7)));
        observe(&mut event_hour, 9, 10);
        assert_eq!(event_hour.current(), Some(Hour(7)));
    }
}
