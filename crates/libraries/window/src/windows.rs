use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pane::Panes;
use crate::sliding_sums::{Change, SlidingSums, WindowSum};
use crate::time::floor;
use crate::{Counts, PANE, Pane, PaneStart, Rates, Width};

const WIDTHS: usize = Width::ALL.len();

/// The counts and rates of one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowResult {
    /// The event time that the window spans.
    pub width: Width,
    /// The first moment after the window, in UTC microseconds, a multiple of [`PANE`].
    pub end: i64,
    /// The number of late deltas in the window. Of the results with the same scope, width and end,
    /// the one with the greatest revision is valid. The first one published may have a revision
    /// above 0.
    pub revision: u32,
    /// The events that happened in the window.
    pub counts: Counts,
    /// The rates computed from `counts`.
    pub rates: Rates,
}

impl WindowResult {
    /// Returns the window with the rates computed from `counts`.
    pub fn new(width: Width, end: i64, counts: Counts, revision: u32) -> Self {
        Self { width, end, revision, counts, rates: Rates::of(&counts) }
    }
}

/// The windows of one scope at one slide end.
#[derive(Debug, Clone, PartialEq)]
pub struct Slide {
    /// The first moment after the windows, in UTC microseconds.
    pub end: i64,
    /// The window of every width, the shortest first, whether it changed or not.
    pub windows: [WindowResult; WIDTHS],
    /// By width: true if the window must be published. It then differs from the result published for
    /// this end, or from that for the end before if this end has none.
    pub changed: [bool; WIDTHS],
    /// True if a later slide end had been reached before. Late events correct the published windows
    /// of such an end, but rules only judge the newest windows, because alerts are never sent for
    /// the past.
    pub past: bool,
}

impl Slide {
    /// Returns the windows that must be published.
    pub fn changed(&self) -> impl Iterator<Item = &WindowResult> {
        self.windows
            .iter()
            .zip(self.changed)
            .filter_map(|(window, changed)| changed.then_some(window))
    }
}

/// The effect of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the caller must count a delta that came too late"]
pub enum Applied {
    /// The delta belongs only to windows that end in the future.
    OnTime,
    /// The delta also belongs to windows that were emitted. The next advance emits them again.
    Corrects,
    /// The pane ended longer ago than the allowed lateness. The delta was not added.
    TooLate,
}

/// The panes of one scope, and the sum of each window at the newest slide end.
///
/// The windows of a width change only where a pane enters or leaves. Results are emitted at those
/// slide ends; in between, the last result remains valid. The work is proportional to the number of
/// panes that enter and leave, and independent of the widths and of the event time in between.
///
/// The caller keeps one time (the watermark) for all its scopes. Before it moves the time, it
/// must advance every scope that is [`due`](Self::due) by the new time; the other scopes do not
/// change.
///
/// To restore a scope after a crash, the caller needs its [`panes`](Self::panes) and the time, both
/// as they were after an advance. Corrections that the next advance would emit are not restored.
#[derive(Debug, Clone)]
pub struct ScopeWindows {
    panes: Panes,
    /// How long after its end a pane accepts deltas, in microseconds.
    lateness: i64,
    /// By width: the sum of the window at the newest slide end.
    sums: [WindowSum; WIDTHS],
    /// The panes that late deltas changed since the last advance. The value is true if the pane was
    /// created by one of them.
    corrected: BTreeMap<PaneStart, bool>,
}

impl ScopeWindows {
    /// Returns a scope without events. `lateness` is how long after its end a pane accepts deltas,
    /// in microseconds.
    pub fn new(lateness: i64) -> Self {
        Self {
            panes: Panes::default(),
            lateness: lateness.max(0),
            sums: [WindowSum::default(); WIDTHS],
            corrected: BTreeMap::new(),
        }
    }

    /// Restores a scope from its panes, in any order, as they were after an advance to `now`.
    pub fn from_panes(panes: impl IntoIterator<Item = Pane>, lateness: i64, now: i64) -> Self {
        let mut windows = Self::new(lateness);
        for pane in panes.into_iter().filter(|pane| !pane.counts.is_zero()) {
            *windows.panes.entry(pane.start).0 = pane;
        }
        windows.sums = SlidingSums::at(&windows.panes, floor(now)).sums();
        windows
    }

    /// Adds the counts to the pane. `now` is the time to which the caller advanced its scopes.
    pub fn apply(&mut self, now: i64, pane: PaneStart, delta: &Counts) -> Applied {
        if pane.end() <= now.saturating_sub(self.lateness) {
            return Applied::TooLate;
        }
        if delta.is_zero() {
            return Applied::OnTime;
        }
        let newest_end = floor(now);
        let (stored, created) = self.panes.entry(pane);
        stored.counts += delta;
        if pane.end() > newest_end {
            return Applied::OnTime;
        }
        stored.corrections = stored.corrections.wrapping_add(1);
        let added =
            if created { *stored } else { Pane { corrections: 1, counts: *delta, ..*stored } };
        for (sum, width) in self.sums.iter_mut().zip(Width::ALL) {
            if newest_end < pane.leaves(width) {
                sum.add(&added);
            }
        }
        self.corrected.entry(pane).or_insert(created);
        Applied::Corrects
    }

    /// Advances from `from`, the time of the current sums, to `to`. Appends every window that must be
    /// published to `out`: first the windows that late deltas corrected, each once and with a
    /// higher revision, then the windows that changed at a slide end in `(from, to]`. They are
    /// ordered by end, and the shortest comes first. If `to` is not after `from`, only corrections
    /// are emitted.
    ///
    /// Returns the panes that expired. The caller must delete them from its changelog.
    pub fn advance(&mut self, from: i64, to: i64, out: &mut Vec<WindowResult>) -> Vec<PaneStart> {
        let mut slides = Vec::new();
        let expired = self.advance_slides(from, to, &mut slides);
        out.extend(slides.iter().flat_map(Slide::changed));
        expired
    }

    /// Does the same as [`advance`](Self::advance), but also emits the unchanged windows of each
    /// slide end, which [`OpenEpisodes`](crate::OpenEpisodes) needs.
    pub fn advance_slides(&mut self, from: i64, to: i64, out: &mut Vec<Slide>) -> Vec<PaneStart> {
        debug_assert_eq!(
            self.sums,
            SlidingSums::at(&self.panes, floor(from)).sums(),
            "the scope was due before {from} and was not advanced"
        );
        let to = to.max(from);
        self.emit_corrections(floor(from), out);
        self.slide(floor(from), floor(to), out);
        let horizon = to.saturating_sub(self.lateness);
        self.panes.drop_while(|start| start.leaves(Width::WIDEST) <= horizon)
    }

    /// Emits the windows up to `newest_end` that late deltas changed, and the windows at
    /// `newest_end` in any case, because rules have to judge them.
    fn emit_corrections(&mut self, newest_end: i64, out: &mut Vec<Slide>) {
        let Some((&first, _)) = self.corrected.first_key_value() else { return };
        let mut sliding = SlidingSums::at(&self.panes, first.micros());
        let mut newest_is_emitted = false;
        while let Some(change) = sliding.next_change(newest_end) {
            let changed = self.corrected_windows(&change);
            if changed.contains(&true) {
                newest_is_emitted = change.end == newest_end;
                out.push(slide(change.end, &sliding, changed, change.end < newest_end));
            }
        }
        if !newest_is_emitted {
            out.push(slide(newest_end, &sliding, [false; WIDTHS], false));
        }
        self.corrected.clear();
    }

    /// Returns by width whether late deltas changed the result of the window. This is the case if the
    /// window contains a corrected pane. It is also the case if a pane that a late delta created
    /// leaves the window at this slide end, because no result was published for this end before.
    fn corrected_windows(&self, change: &Change) -> [bool; WIDTHS] {
        let mut corrected = [false; WIDTHS];
        for width in Width::ALL.into_iter().filter(|&width| change.changed[width as usize]) {
            let oldest = PaneStart::before(change.end, width.micros());
            let newest = PaneStart::before(change.end, PANE);
            let left = PaneStart::before(change.end, width.micros() + PANE);
            let contains_corrected = self.corrected.range(oldest..=newest).next().is_some();
            let created_pane_left =
                !change.pane_entered && self.corrected.get(&left) == Some(&true);
            corrected[width as usize] = contains_corrected || created_pane_left;
        }
        corrected
    }

    /// Slides the windows and emits every slide end in `(from, to]` at which one changes.
    fn slide(&mut self, from: i64, to: i64, out: &mut Vec<Slide>) {
        let mut sliding = SlidingSums::resume(&self.panes, from, self.sums);
        while let Some(change) = sliding.next_change(to) {
            out.push(slide(change.end, &sliding, change.changed, false));
        }
        self.sums = sliding.sums();
    }

    /// Returns the earliest time at which the scope must be advanced, or `None` if it never needs
    /// that again. `now` is the time to which the caller advanced its scopes.
    pub fn due(&self, now: i64) -> Option<i64> {
        if !self.corrected.is_empty() {
            return Some(now);
        }
        let expires = self.panes.get(0).map(|pane| pane.start.leaves(Width::WIDEST));
        let next_end = SlidingSums::resume(&self.panes, floor(now), self.sums).next_end();
        next_end.into_iter().chain(expires.map(|leaves| leaves.saturating_add(self.lateness))).min()
    }

    /// Returns the pane if events happened in it and it has not expired.
    pub fn pane(&self, start: PaneStart) -> Option<&Pane> {
        self.panes.find(start)
    }

    /// Returns the panes, the oldest first.
    pub fn panes(&self) -> impl ExactSizeIterator<Item = &Pane> {
        self.panes.iter()
    }

    /// Returns the start of the oldest pane.
    pub fn oldest(&self) -> Option<PaneStart> {
        self.panes.get(0).map(|pane| pane.start)
    }

    /// Returns true if the scope has no panes. The caller can forget such a scope.
    pub fn is_empty(&self) -> bool {
        self.oldest().is_none()
    }
}

/// Returns the windows of all widths from the current sums.
fn slide(end: i64, sliding: &SlidingSums<'_>, changed: [bool; WIDTHS], past: bool) -> Slide {
    let sums = sliding.sums();
    let windows = Width::ALL.map(|width| {
        let sum = &sums[width as usize];
        WindowResult::new(width, end, sum.counts, sum.corrections)
    });
    Slide { end, windows, changed, past }
}
