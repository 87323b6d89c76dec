use std::collections::VecDeque;

use crate::Hour;

/// How many of a partition's latest events its clock is the median of.
pub const CLOCK_SAMPLES: usize = 1001;

/// A partition's event time: the median hour of its last [`CLOCK_SAMPLES`] events that were no
/// repeats.
///
/// The greatest time seen would let one event from the year 2090, or one sender that counts
/// milliseconds as seconds, make everything else older than the horizon, for good. A median cannot
/// be moved by a minority, and it comes back once a majority is right again: the clock may go
/// backwards. Until there are enough samples there is no clock and nothing is too old.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    samples: VecDeque<Hour>,
    now: Option<Hour>,
}

impl Clock {
    /// A clock that shows `now` until it has samples of its own.
    pub(crate) fn set(now: Option<Hour>) -> Self {
        Self { samples: VecDeque::with_capacity(CLOCK_SAMPLES), now }
    }

    pub(crate) fn now(&self) -> Option<Hour> {
        self.now
    }

    /// Takes the hours of further events, in the order they came.
    pub(crate) fn observe(&mut self, hours: impl ExactSizeIterator<Item = Hour>) {
        let superfluous = hours.len().saturating_sub(CLOCK_SAMPLES);
        for hour in hours.skip(superfluous) {
            if self.samples.len() == CLOCK_SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back(hour);
        }
        if self.samples.len() == CLOCK_SAMPLES {
            let mut sorted: Vec<Hour> = self.samples.iter().copied().collect();
            let (_, &mut median, _) = sorted.select_nth_unstable(CLOCK_SAMPLES / 2);
            self.now = Some(median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observe(clock: &mut Clock, hour: u32, times: usize) {
        clock.observe(vec![Hour(hour); times].into_iter());
    }

    #[test]
    fn there_is_no_clock_before_there_are_samples() {
        let mut clock = Clock::set(None);
        observe(&mut clock, 500_000, CLOCK_SAMPLES - 1);
        assert_eq!(clock.now(), None);
        observe(&mut clock, 500_000, 1);
        assert_eq!(clock.now(), Some(Hour(500_000)));
    }

    #[test]
    fn a_minority_cannot_move_it_and_a_majority_can_both_ways() {
        let mut clock = Clock::set(None);
        observe(&mut clock, 100, CLOCK_SAMPLES);
        observe(&mut clock, 1_000_000, CLOCK_SAMPLES / 2);
        assert_eq!(clock.now(), Some(Hour(100)));
        observe(&mut clock, 1_000_000, 1);
        assert_eq!(clock.now(), Some(Hour(1_000_000)));
        observe(&mut clock, 101, 5 * CLOCK_SAMPLES);
        assert_eq!(clock.now(), Some(Hour(101)));
    }

    #[test]
    fn a_restored_clock_stands_until_there_are_samples() {
        let mut clock = Clock::set(Some(Hour(7)));
        observe(&mut clock, 9, 10);
        assert_eq!(clock.now(), Some(Hour(7)));
    }
}
