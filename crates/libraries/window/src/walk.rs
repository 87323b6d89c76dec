use crate::pane::Panes;
use crate::{Counts, Pane, Width};

const WIDTHS: usize = Width::ALL.len();

/// What one window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) counts: Counts,
    /// The panes' corrections. Wraps like the counts, so that adding and taking away undo.
    pub(crate) corrections: u32,
}

impl Sum {
    pub(crate) fn add(&mut self, pane: &Pane) {
        self.counts += &pane.counts;
        self.corrections = self.corrections.wrapping_add(pane.corrections);
    }

    fn take(&mut self, pane: &Pane) {
        self.counts -= &pane.counts;
        self.corrections = self.corrections.wrapping_sub(pane.corrections);
    }
}

/// A slide end at which some window's content differs from the one before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// The slide end.
    pub(crate) end: i64,
    /// A pane came into the windows of every width.
    pub(crate) entered: bool,
    /// By width: whether a pane came in or went out.
    pub(crate) changed: [bool; WIDTHS],
}

/// Slides the windows of all widths over a scope's panes.
///
/// Each pane causes one end at which it enters, and for each width one at which it leaves. These
/// are five copies of the sorted panes, each shifted by its own distance; a cursor in each finds
/// the next end, so an empty stretch of any length costs nothing.
pub(crate) struct Walk<'a> {
    panes: &'a Panes,
    /// The first pane not yet in any window.
    entering: usize,
    /// By width: the oldest pane still in the window.
    leaving: [usize; WIDTHS],
    /// By width: the sum of the panes between the two.
    sums: [Sum; WIDTHS],
}

impl<'a> Walk<'a> {
    /// Stands at a slide end whose windows hold `sums`.
    pub(crate) fn resume(panes: &'a Panes, end: i64, sums: [Sum; WIDTHS]) -> Self {
        Self {
            panes,
            entering: panes.index(|start| start.end() <= end),
            leaving: Width::ALL.map(|width| panes.index(|start| start.leaves(width) <= end)),
            sums,
        }
    }

    /// Stands at a slide end and sums its windows from their panes.
    pub(crate) fn start(panes: &'a Panes, end: i64) -> Self {
        let mut walk = Self::resume(panes, end, [Sum::default(); WIDTHS]);
        for (sum, &leaving) in walk.sums.iter_mut().zip(&walk.leaving) {
            panes.range(leaving..walk.entering).for_each(|pane| sum.add(pane));
        }
        walk
    }

    /// The next slide end at which a window changes.
    pub(crate) fn next_end(&self) -> Option<i64> {
        let enters = self.panes.get(self.entering).map(|pane| pane.start.end());
        let leaves = Width::ALL.into_iter().zip(self.leaving).filter_map(|(width, index)| {
            self.panes.get(index).map(|pane| pane.start.leaves(width))
        });
        enters.into_iter().chain(leaves).min()
    }

    /// Moves to the next slide end at which a window changes, unless it lies after `last`.
    pub(crate) fn step(&mut self, last: i64) -> Option<Step> {
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
                self.sums[index].take(pane);
                self.leaving[index] += 1;
                changed[index] = true;
            }
        }
        Some(Step { end, entered: entered.is_some(), changed })
    }

    /// By width: what the windows hold where the walk stands.
    pub(crate) const fn sums(&self) -> [Sum; WIDTHS] {
        self.sums
    }
}
