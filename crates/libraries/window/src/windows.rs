use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pane::Panes;
use crate::time::floor;
use crate::walk::{Step, Sum, Walk};
use crate::{Counts, PANE, Pane, PaneStart, Rates, Width};

const WIDTHS: usize = Width::ALL.len();

/// What one window holds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowResult {
    /// How much event time the window spans.
    pub width: Width,
    /// The first moment after the window, UTC microseconds, a multiple of [`PANE`].
    pub end: i64,
    /// How many late deltas the window holds. Of the results for one scope, width and end the
    /// greatest revision holds; the first one published need not have revision 0.
    pub revision: u32,
    /// What happened in the window.
    pub counts: Counts,
    /// The rates that follow from the counts.
    pub rates: Rates,
}

impl WindowResult {
    /// A window with its rates.
    pub fn new(width: Width, end: i64, counts: Counts, revision: u32) -> Self {
        Self { width, end, revision, counts, rates: Rates::of(&counts) }
    }
}

/// All windows of one scope at one slide end.
#[derive(Debug, Clone, PartialEq)]
pub struct Slide {
    /// The first moment after the windows, UTC microseconds.
    pub end: i64,
    /// The window of every width, the shortest first, whether it changed here or not.
    pub windows: [WindowResult; WIDTHS],
    /// By width: whether the window differs from what was published for it or for the end before
    /// it, and is to be published.
    pub changed: [bool; WIDTHS],
    /// This end had been reached before, and so had a later one: late events correct what was
    /// published, but rules judge only the newest windows, for alerts do not go back in time.
    pub past: bool,
}

impl Slide {
    /// The windows to publish.
    pub fn changed(&self) -> impl Iterator<Item = &WindowResult> {
        self.windows
            .iter()
            .zip(self.changed)
            .filter_map(|(window, changed)| changed.then_some(window))
    }
}

/// What became of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a delta that came too late has to be counted as late"]
pub enum Applied {
    /// It is in the windows to come.
    OnTime,
    /// It also changes windows already reached; the next advance emits them again.
    Corrects,
    /// Its pane ended longer ago than the allowed lateness: it is in no window.
    TooLate,
}

/// One scope's panes, and the sum of each window that ends at the clock.
///
/// The windows of a width change only where a pane enters or leaves; those are the slide ends at
/// which results are emitted, and between them the last result stands. The work is proportional
/// to the panes that enter and leave, whatever the widths and however long nothing happened.
///
/// To restore one after a crash, keep its [panes](Self::panes) (those that deltas were applied to
/// and those that expired) and the clock of the last advance, as of one moment after an advance:
/// the corrections that an advance would emit are not part of what is kept.
#[derive(Debug, Clone)]
pub struct ScopeWindows {
    panes: Panes,
    /// The watermark: every slide end up to it has been reached.
    clock: i64,
    lateness: i64,
    /// By width: the window that ends at the newest slide end reached.
    sums: [Sum; WIDTHS],
    /// Panes changed behind the clock since the last advance, and whether they are new.
    corrected: BTreeMap<PaneStart, bool>,
}

impl ScopeWindows {
    /// A scope in which nothing happened yet. `lateness` is how long after a pane's end its late
    /// events still count, `clock` the watermark; both in microseconds.
    pub fn new(lateness: i64, clock: i64) -> Self {
        Self {
            panes: Panes::default(),
            clock,
            lateness: lateness.max(0),
            sums: [Sum::default(); WIDTHS],
            corrected: BTreeMap::new(),
        }
    }

    /// Restores a scope from its panes, in any order, as they were when an advance had moved the
    /// clock to `clock`.
    pub fn from_panes(panes: impl IntoIterator<Item = Pane>, lateness: i64, clock: i64) -> Self {
        let mut windows = Self::new(lateness, clock);
        for pane in panes.into_iter().filter(|pane| !pane.counts.is_zero()) {
            *windows.panes.entry(pane.start).0 = pane;
        }
        windows.sums = Walk::start(&windows.panes, windows.reached()).sums();
        windows
    }

    /// Adds what happened to the pane it happened in.
    pub fn apply(&mut self, pane: PaneStart, delta: &Counts) -> Applied {
        if pane.end() <= self.clock.saturating_sub(self.lateness) {
            return Applied::TooLate;
        }
        if delta.is_zero() {
            return Applied::OnTime;
        }
        let reached = self.reached();
        let (stored, made) = self.panes.entry(pane);
        stored.counts += delta;
        if pane.end() > reached {
            return Applied::OnTime;
        }
        stored.corrections = stored.corrections.wrapping_add(1);
        let held = if made { *stored } else { Pane { corrections: 1, counts: *delta, ..*stored } };
        for (sum, width) in self.sums.iter_mut().zip(Width::ALL) {
            if reached < pane.leaves(width) {
                sum.add(&held);
            }
        }
        self.corrected.entry(pane).or_insert(made);
        Applied::Corrects
    }

    /// Moves the clock and emits every window to publish: first those that late deltas corrected
    /// (each once, with a higher revision), then those that changed at a slide end in
    /// `(old clock, new clock]`; by end, the shortest first. A clock that stands still or goes
    /// back emits only corrections.
    ///
    /// Returns the panes that are of no use any more, to be deleted wherever they are kept.
    pub fn advance(&mut self, clock: i64, out: &mut Vec<WindowResult>) -> Vec<PaneStart> {
        let mut slides = Vec::new();
        let expired = self.advance_slides(clock, &mut slides);
        out.extend(slides.iter().flat_map(Slide::changed));
        expired
    }

    /// Like [`advance`](Self::advance), with the unchanged windows beside the changed ones, as
    /// [`Episodes`](crate::Episodes) needs them.
    pub fn advance_slides(&mut self, clock: i64, out: &mut Vec<Slide>) -> Vec<PaneStart> {
        self.emit_corrections(out);
        self.slide_to(clock, out);
        let horizon = self.clock.saturating_sub(self.lateness);
        self.panes.drop_while(|start| start.leaves(Width::WIDEST) <= horizon)
    }

    /// Emits the windows behind the clock that late deltas changed, and the newest windows as they
    /// are now.
    fn emit_corrections(&mut self, out: &mut Vec<Slide>) {
        let Some((&first, _)) = self.corrected.first_key_value() else { return };
        let reached = self.reached();
        let mut walk = Walk::start(&self.panes, first.micros());
        let mut newest_is_out = false;
        while let Some(step) = walk.step(reached) {
            let changed = self.corrected_windows(&step);
            if changed.contains(&true) {
                newest_is_out = step.end == reached;
                out.push(slide(step.end, &walk, changed, step.end < reached));
            }
        }
        if !newest_is_out {
            out.push(slide(reached, &walk, [false; WIDTHS], false));
        }
        debug_assert_eq!(walk.sums(), self.sums);
        self.corrected.clear();
    }

    /// By width: whether late deltas made this result differ from what was published, if anything
    /// was. That is so when the window holds a corrected pane; and also when one that did not
    /// exist before leaves here, because then nothing had been published for this end.
    fn corrected_windows(&self, step: &Step) -> [bool; WIDTHS] {
        let mut corrected = [false; WIDTHS];
        for width in Width::ALL.into_iter().filter(|&width| step.changed[width as usize]) {
            let oldest = PaneStart::before(step.end, width.micros());
            let newest = PaneStart::before(step.end, PANE);
            let left = PaneStart::before(step.end, width.micros() + PANE);
            let holds_one = self.corrected.range(oldest..=newest).next().is_some();
            let new_one_left = !step.entered && self.corrected.get(&left) == Some(&true);
            corrected[width as usize] = holds_one || new_one_left;
        }
        corrected
    }

    /// Slides the windows up to the new clock.
    fn slide_to(&mut self, clock: i64, out: &mut Vec<Slide>) {
        let mut walk = Walk::resume(&self.panes, self.reached(), self.sums);
        self.clock = clock.max(self.clock);
        let reached = floor(self.clock);
        while let Some(step) = walk.step(reached) {
            out.push(slide(step.end, &walk, step.changed, false));
        }
        self.sums = walk.sums();
    }

    /// The least clock at which [`advance`](Self::advance) has anything to do; `None` when it never
    /// will. Scopes that are not due need not be visited; before a delta is applied to one, advance
    /// it to the common clock, so that what is late does not depend on who was visited when.
    pub fn due(&self) -> Option<i64> {
        if !self.corrected.is_empty() {
            return Some(self.clock);
        }
        let expires = self.panes.get(0).map(|pane| pane.start.leaves(Width::WIDEST));
        let next_end = Walk::resume(&self.panes, self.reached(), self.sums).next_end();
        next_end.into_iter().chain(expires.map(|leaves| leaves.saturating_add(self.lateness))).min()
    }

    /// The watermark of the last advance, UTC microseconds.
    pub const fn clock(&self) -> i64 {
        self.clock
    }

    /// The newest slide end reached.
    const fn reached(&self) -> i64 {
        floor(self.clock)
    }

    /// One pane, if anything happened in it and it has not expired.
    pub fn pane(&self, start: PaneStart) -> Option<&Pane> {
        self.panes.find(start)
    }

    /// The panes, the oldest first.
    pub fn panes(&self) -> impl ExactSizeIterator<Item = &Pane> {
        self.panes.iter()
    }

    /// The oldest pane.
    pub fn oldest(&self) -> Option<PaneStart> {
        self.panes.get(0).map(|pane| pane.start)
    }

    /// Whether no pane is left: the scope may be forgotten.
    pub fn is_empty(&self) -> bool {
        self.oldest().is_none()
    }
}

/// The windows where the walk stands.
fn slide(end: i64, walk: &Walk<'_>, changed: [bool; WIDTHS], past: bool) -> Slide {
    let sums = walk.sums();
    let windows = Width::ALL.map(|width| {
        let sum = &sums[width as usize];
        WindowResult::new(width, end, sum.counts, sum.corrections)
    });
    Slide { end, windows, changed, past }
}
