use crate::pane::Panes;
use crate::time::Ring;
use crate::{Counts, Pane, Width};

pub(crate) const WIDTHS: usize = Width::ALL.len();
pub(crate) const RINGS: usize = Ring::ALL.len();

/// The sum of the panes in one window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct WindowSum {
    pub(crate) counts: Counts,
    /// The sum of the panes' corrections. It wraps around like the counts, so that subtraction
    /// undoes addition.
    pub(crate) corrections: u32,
}

impl WindowSum {
    pub(crate) fn add(&mut self, counts: &Counts, corrections: u32) {
        self.counts += counts;
        self.corrections = self.corrections.wrapping_add(corrections);
    }

    pub(crate) fn add_pane(&mut self, pane: &Pane) {
        self.add(&pane.counts.to_counts(), pane.corrections);
    }

    fn subtract_pane(&mut self, pane: &Pane) {
        self.counts -= &pane.counts.to_counts();
        self.corrections = self.corrections.wrapping_sub(pane.corrections);
    }
}

/// Returns the first slide end after `end` at which a window changes.
pub(crate) fn next_end(panes: &[Panes; RINGS], end: i64) -> Option<i64> {
    let of = |ring: Ring| &panes[ring as usize];
    let enters = Ring::ALL.into_iter().filter_map(|ring| {
        let next = of(ring).get(of(ring).index(|start| ring.end(start) <= end))?;
        Some(ring.end(next.start))
    });
    let leaves = Width::JUDGED.into_iter().filter_map(|width| {
        let panes = of(width.ring());
        let next = panes.get(panes.index(|start| width.left_by(start) <= end))?;
        Some(width.left_by(next.start))
    });
    enters.chain(leaves).min()
}

/// A slide end at which some window contains other panes than at the slide end before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<const N: usize = WIDTHS> {
    pub(crate) end: i64,
    /// By ring: true if a pane entered. It enters the windows of all widths at the same slide end.
    pub(crate) entered: [bool; RINGS],
    /// By width: true if a pane entered or left.
    pub(crate) changed: [bool; N],
}

/// The sums of the windows of all widths, which slide over the panes of a scope.
///
/// Each pane changes the windows at one slide end where it enters, and at one slide end per width
/// where it leaves. A cursor into the panes for each of these cases finds the next change, so the cost
/// does not depend on the event time between two changes.
pub(crate) struct SlidingSums<'a, const N: usize = WIDTHS> {
    widths: &'static [Width; N],
    /// By ring.
    panes: &'a [Panes; RINGS],
    /// By ring: the index of the first pane that has not entered the windows.
    entering: [usize; RINGS],
    /// By width: the index of the oldest pane that has not left the window.
    leaving: [usize; N],
    /// By width: the sum of the panes between the two indices.
    sums: [WindowSum; N],
}

impl<'a, const N: usize> SlidingSums<'a, N> {
    /// Continues from the slide end `end`, at which the windows have these sums.
    pub(crate) fn resume(
        widths: &'static [Width; N],
        panes: &'a [Panes; RINGS],
        end: i64,
        sums: [WindowSum; N],
    ) -> Self {
        let of = |ring: Ring| &panes[ring as usize];
        Self {
            widths,
            panes,
            entering: Ring::ALL.map(|ring| of(ring).index(|start| ring.end(start) <= end)),
            leaving: widths
                .map(|width| of(width.ring()).index(|start| width.left_by(start) <= end)),
            sums,
        }
    }

    /// Computes the sums of the windows at the slide end `end` from the panes.
    pub(crate) fn at(widths: &'static [Width; N], panes: &'a [Panes; RINGS], end: i64) -> Self {
        let mut sliding = Self::resume(widths, panes, end, [WindowSum::default(); N]);
        for (index, width) in widths.iter().enumerate() {
            let ring = width.ring() as usize;
            let inside = sliding.leaving[index]..sliding.entering[ring];
            panes[ring].range(inside).for_each(|pane| sliding.sums[index].add_pane(pane));
        }
        sliding
    }

    /// Returns the next slide end at which a window changes.
    fn next_end(&self) -> Option<i64> {
        let enters = Ring::ALL.into_iter().filter_map(|ring| {
            let pane = self.panes[ring as usize].get(self.entering[ring as usize])?;
            Some(ring.end(pane.start))
        });
        let leaves = self.widths.iter().zip(self.leaving).filter_map(|(width, index)| {
            let pane = self.panes[width.ring() as usize].get(index)?;
            Some(width.left_by(pane.start))
        });
        enters.chain(leaves).min()
    }

    /// Slides to the next slide end at which a window changes, if it is not after `last`.
    pub(crate) fn next_change(&mut self, last: i64) -> Option<Change<N>> {
        let end = self.next_end().filter(|&end| end <= last)?;
        let mut change = Change { end, entered: [false; RINGS], changed: [false; N] };
        for ring in Ring::ALL {
            let next = self.panes[ring as usize].get(self.entering[ring as usize]);
            let Some(pane) = next.filter(|pane| ring.end(pane.start) == end) else { continue };
            change.entered[ring as usize] = true;
            self.entering[ring as usize] += 1;
            let counts = pane.counts.to_counts();
            for (index, &width) in self.widths.iter().enumerate() {
                if width.ring() == ring {
                    self.sums[index].add(&counts, pane.corrections);
                    change.changed[index] = true;
                }
            }
        }
        for (index, &width) in self.widths.iter().enumerate() {
            let oldest = self.panes[width.ring() as usize].get(self.leaving[index]);
            if let Some(pane) = oldest.filter(|pane| width.left_by(pane.start) == end) {
                self.sums[index].subtract_pane(pane);
                self.leaving[index] += 1;
                change.changed[index] = true;
            }
        }
        Some(change)
    }

    /// Returns the current sums, by width.
    pub(crate) const fn sums(&self) -> &[WindowSum; N] {
        &self.sums
    }
}
