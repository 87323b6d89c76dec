//! The windows that rules judge. They end with the newest pane of a scope, without waiting for the
//! watermark, so that a bad window is found as soon as its events are counted.

use crate::pane::Panes;
use crate::rates::reports_injected;
use crate::sliding_sums::{RINGS, SlidingSums, WindowSum};
use crate::time::{Ring, floor, floor_to};
use crate::windows::has_all;
use crate::{Counts, PANE, PaneStart, Width};

const JUDGED: usize = Width::JUDGED.len();

/// How far before the newest end rules judge windows that late events have changed, in microseconds: 15
/// minutes.
pub const JUDGED_BACK: i64 = 15 * 60 * 1_000_000;

/// How far back [`JudgedWindows::earlier`] goes, in microseconds: ten minutes. No pane of a window of an hour that ends
/// within the ten minutes before `now` has expired, so it does not matter when the scope was advanced.
pub const EARLIER: i64 = 10 * 60 * 1_000_000;

/// The counts of the windows of all widths that end at one time.
#[derive(Debug, Clone, Copy)]
pub struct JudgedWindows<'p> {
    /// The first moment after the windows, in UTC microseconds.
    pub end: i64,
    sums: [WindowSum; JUDGED],
    panes: &'p [Panes; RINGS],
    now: i64,
}

impl JudgedWindows<'_> {
    /// Returns the windows at the ends before this one at which a pane enters or leaves, in ascending order, with
    /// everything that is known now. They end at most [`EARLIER`] before this end and before `now`.
    pub fn earlier(&self) -> impl Iterator<Item = Self> {
        let Self { end, panes, now, .. } = *self;
        let mut sliding = SlidingSums::at(&Width::JUDGED, panes, end.max(floor(now)) - EARLIER);
        std::iter::from_fn(move || {
            let change = sliding.next_change(end - PANE)?;
            Some(Self { end: change.end, sums: *sliding.sums(), panes, now })
        })
    }

    /// Returns the end of the window of this width: for a window of a day the last multiple of five minutes.
    pub const fn window_end(&self, width: Width) -> i64 {
        floor_to(self.end, width.ring().pane())
    }

    /// Returns the counts of the window of this width, or `None` if its oldest panes have expired, or if the
    /// width is none of [`Width::JUDGED`].
    pub fn counts(&self, width: Width) -> Option<Counts> {
        let index = Width::JUDGED.iter().position(|other| *other == width)?;
        has_all(width, self.window_end(width), self.now).then_some(self.sums[index].counts)
    }

    /// Returns whether the scope reported all messages that the provider took in; see
    /// [`Window::reports_injected`](crate::Window::reports_injected).
    pub fn reports_injected(&self) -> bool {
        self.counts(Width::M60).is_some_and(|counts| reports_injected(&counts))
    }
}

/// The sums of the windows at the newest end that was judged.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    end: i64,
    sums: [WindowSum; JUDGED],
    /// The first end of windows that a delta has changed since.
    changed: Option<i64>,
}

impl Default for Judged {
    fn default() -> Self {
        Self { end: i64::MIN / 2, sums: [WindowSum::default(); JUDGED], changed: None }
    }
}

impl Judged {
    /// Returns the sums after everything up to `now`, and up to the newest pane, was judged.
    pub(crate) fn at(panes: &[Panes; RINGS], now: i64) -> Self {
        let fine = &panes[Ring::Fine as usize];
        let newest = fine.len().checked_sub(1).and_then(|last| fine.get(last));
        let end = newest.map_or(floor(now), |pane| pane.start.end().max(floor(now)));
        let sums = *SlidingSums::at(&Width::JUDGED, panes, end).sums();
        Self { end, sums, changed: None }
    }

    /// Notes that time has come to `now`, and that no window has changed since the newest end that was judged. So
    /// it does not matter whether the scope was advanced when nothing changed.
    pub(crate) fn reach(&mut self, panes: &[Panes; RINGS], now: i64) {
        let end = floor(now);
        if self.end < end {
            self.slide(panes, end);
        }
    }

    /// Returns the newest end that was judged.
    pub(crate) const fn end(&self) -> i64 {
        self.end
    }

    /// Returns the windows at the newest end that was judged.
    pub(crate) const fn windows<'p>(
        &self,
        panes: &'p [Panes; RINGS],
        now: i64,
    ) -> JudgedWindows<'p> {
        JudgedWindows { end: self.end, sums: self.sums, panes, now }
    }

    /// Adds a delta to the sums of the windows that contain its pane.
    pub(crate) fn add(&mut self, ring: Ring, start: PaneStart, counts: &Counts, created: bool) {
        if counts.is_zero() && !created {
            return;
        }
        let end = ring.end(start);
        self.changed = Some(self.changed.map_or(end, |first| first.min(end)));
        if end > self.end {
            return;
        }
        for (sum, width) in self.sums.iter_mut().zip(Width::JUDGED) {
            if width.ring() == ring && self.end < width.left_by(start) {
                sum.add(counts, 0);
            }
        }
    }

    /// See [`ScopeWindows::judge`](crate::ScopeWindows::judge).
    pub(crate) fn judge(
        &mut self,
        panes: &[Panes; RINGS],
        until: i64,
        now: i64,
        mut judge: impl FnMut(JudgedWindows<'_>),
    ) {
        let until = floor(until);
        let mut windows = |end, sums: &[WindowSum; JUDGED]| {
            judge(JudgedWindows { end, sums: *sums, panes, now });
        };
        let newest = self.end.max(until);
        let mut last = None;
        let mut sliding = SlidingSums::resume(&Width::JUDGED, panes, self.end, self.sums);
        let changed = self.changed.take();
        if let Some(first) = changed {
            let oldest = floor(newest.saturating_sub(JUDGED_BACK));
            // A change at `oldest` itself is found from one slide end before.
            let begin = if first < oldest { oldest - PANE } else { first };
            if begin < self.end {
                sliding = SlidingSums::at(&Width::JUDGED, panes, begin);
            }
            if oldest <= first && first <= self.end {
                windows(first, sliding.sums());
                last = Some(first);
            }
        }
        // Not `self.end` itself: it is where time was when the scope was last advanced.
        while let Some(change) = sliding.next_change(newest) {
            windows(change.end, sliding.sums());
            last = Some(change.end);
        }
        // When the scope was last judged must not matter, so the newest end is always judged.
        if (changed.is_some() || last.is_some()) && last.is_none_or(|last| last < newest) {
            windows(newest, sliding.sums());
        }
        self.sums = *sliding.sums();
        self.end = newest;
    }

    /// Moves the sums to `end` without judging, so that panes which no window contains can be dropped.
    pub(crate) fn slide(&mut self, panes: &[Panes; RINGS], end: i64) {
        let mut sliding = SlidingSums::resume(&Width::JUDGED, panes, self.end, self.sums);
        while sliding.next_change(end).is_some() {}
        self.sums = *sliding.sums();
        self.end = self.end.max(end);
    }
}

#[cfg(test)]
mod tests {
    use event::Counter::{BouncedHard, Delivered};
    use event::OccurredAt;
    use proptest::prelude::*;

    use super::*;
    use crate::{Emits, ScopeWindows};

    /// Returns the sum of the deltas in a window, as a naive reader would add them up.
    fn naive(deltas: &[(i64, i64, i64)], width: Width, end: i64) -> Counts {
        let to = floor_to(end, width.ring().pane());
        let inside =
            deltas.iter().filter(|(pane, ..)| (to - width.micros()..to).contains(&(pane * PANE)));
        inside.fold(Counts::default(), |sum, (_, good, bad)| {
            sum + Counts::of([(Delivered, *good), (BouncedHard, *bad)])
        })
    }

    proptest! {
        /// Whatever is judged has exactly the counts of its window, the last end judged is the newest, and
        /// every end with a new count is judged.
        #[test]
        fn judged_windows_are_sums_of_deltas(
            commits in prop::collection::vec(
                (prop::collection::vec((0..400_i64, 0..3_i64, 0..3_i64), 0..6), 0..400_i64),
                1..12,
            ),
        ) {
            let mut windows = ScopeWindows::new(Emits::default());
            let (mut all, mut now) = (Vec::new(), 0);
            for (deltas, clock) in commits {
                let mut newest_changed = None;
                for (pane, good, bad) in deltas {
                    let start = PaneStart::of(OccurredAt(pane * PANE));
                    let counts = Counts::of([(Delivered, good), (BouncedHard, bad)]);
                    let applied = windows.apply(now, start, &counts);
                    prop_assert_eq!(applied.without_count, 0);
                    all.push((pane, good, bad));
                    if good + bad > 0 {
                        newest_changed = newest_changed.max(Some(start.end()));
                    }
                }
                let mut ends = Vec::new();
                let until = windows.newest_end().unwrap_or(0);
                windows.judge(until, now, |judged| {
                    ends.push(judged.end);
                    for width in Width::JUDGED {
                        if let Some(counts) = judged.counts(width) {
                            assert_eq!(counts, naive(&all, width, judged.end), "{width} {}", judged.end);
                        }
                    }
                    let earlier: Vec<_> = judged.earlier().collect();
                    assert!(earlier.is_sorted_by(|one, other| one.end < other.end));
                    for earlier in earlier {
                        assert!((judged.end - EARLIER + 1..judged.end).contains(&earlier.end));
                        for width in Width::JUDGED {
                            if let Some(counts) = earlier.counts(width) {
                                assert_eq!(counts, naive(&all, width, earlier.end), "{width} {}", earlier.end);
                            }
                        }
                    }
                });
                prop_assert!(ends.is_sorted());
                if let Some(end) = newest_changed.filter(|end| *end + JUDGED_BACK >= until.max(now)) {
                    prop_assert!(ends.contains(&end), "{} is not in {:?}", end, ends);
                }
                let to = (clock * PANE).max(now);
                windows.judge(floor(to), now, |judged| {
                    for width in Width::JUDGED {
                        if let Some(counts) = judged.counts(width) {
                            assert_eq!(counts, naive(&all, width, judged.end), "{width} {}", judged.end);
                        }
                    }
                });
                let _ = windows.advance(now, to);
                now = to;
            }
        }
    }
}
