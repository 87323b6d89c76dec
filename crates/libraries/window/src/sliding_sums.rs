use crate::pane::Panes;
use crate::{Counts, Pane, Width};

const WIDTHS: usize = Width::ALL.len();

/// The sum of the panes in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WindowSum {
    pub(crate) counts: Counts,
    /// The sum of the panes' corrections. It wraps around like the counts, so that subtraction
    /// undoes addition.
    pub(crate) corrections: u32,
}

impl WindowSum {
    pub(crate) fn add(&mut self, pane: &Pane) {
        self.counts += &pane.counts;
        self.corrections = self.corrections.wrapping_add(pane.corrections);
    }

    fn subtract(&mut self, pane: &Pane) {
        self.counts -= &pane.counts;
        self.corrections = self.corrections.wrapping_sub(pane.corrections);
    }
}

/// A slide end at which some window contains other panes than at the slide end before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change {
    pub(crate) end: i64,
    /// True if a pane entered. It enters the windows of all widths at the same slide end.
    pub(crate) pane_entered: bool,
    /// By width: true if a pane entered or left.
    pub(crate) changed: [bool; WIDTHS],
}

/// The sums of the windows of all widths, which slide over the panes of a scope.
///
/// Each pane changes the windows at one slide end where it enters, and at one slide end per width
/// where it leaves. A cursor into the panes for each of these five cases finds the next change, so
/// the cost does not depend on the event time between two changes.
pub(crate) struct SlidingSums<'a> {
    panes: &'a Panes,
    /// The index of the first pane that has not entered the windows.
    entering: usize,
    /// By width: the index of the oldest pane that has not left the window.
    leaving: [usize; WIDTHS],
    /// By width: the sum of the panes between the two indices.
    sums: [WindowSum; WIDTHS],
}

impl<'a> SlidingSums<'a> {
    /// Continues from the slide end `end`, at which the windows have these sums.
    pub(crate) fn resume(panes: &'a Panes, end: i64, sums: [WindowSum; WIDTHS]) -> Self {
        Self {
            panes,
            entering: panes.index(|start| start.end() <= end),
            leaving: Width::ALL.map(|width| panes.index(|start| start.leaves(width) <= end)),
            sums,
        }
    }

    /// Computes the sums of the windows at the slide end `end` from the panes.
    pub(crate) fn at(panes: &'a Panes, end: i64) -> Self {
        let mut sliding = Self::resume(panes, end, [WindowSum::default(); WIDTHS]);
        for (sum, &leaving) in sliding.sums.iter_mut().zip(&sliding.leaving) {
            panes.range(leaving..sliding.entering).for_each(|pane| sum.add(pane));
        }
        sliding
    }

    /// Returns the next slide end at which a window changes.
    pub(crate) fn next_end(&self) -> Option<i64> {
        let enters = self.panes.get(self.entering).map(|pane| pane.start.end());
        let leaves = Width::ALL.into_iter().zip(self.leaving).filter_map(|(width, index)| {
            self.panes.get(index).map(|pane| pane.start.leaves(width))
        });
        enters.into_iter().chain(leaves).min()
    }

    /// Slides to the next slide end at which a window changes, if it is not after `last`.
    pub(crate) fn next_change(&mut self, last: i64) -> Option<Change> {
        let end = self.next_end().filter(|&end| end <= last)?;
        let entered = self.panes.get(self.entering).filter(|pane| pane.start.end() == end);
        let mut changed = [entered.is_some(); WIDTHS];
        if let Some(pane) = entered {
            self.sums.iter_mut().for_each(|sum| sum.add(pane));
            self.entering += 1;
        }
        for (index, width) in Width::ALL.into_iter().enumerate() {
            let oldest = self.panes.get(self.leaving[index]);
            if let Some(pane) = oldest.filter(|pane| pane.start.leaves(width) == end) {
                self.sums[index].subtract(pane);
                self.leaving[index] += 1;
                changed[index] = true;
            }
        }
        Some(Change { end, pane_entered: entered.is_some(), changed })
    }

    /// Returns the current sums, by width.
    pub(crate) const fn sums(&self) -> [WindowSum; WIDTHS] {
        self.sums
    }
}
