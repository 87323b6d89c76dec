use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::judged::{Judged, JudgedWindows};
use crate::pane::Panes;
use crate::rates::{View, reports_injected};
use crate::sliding_sums::{Change, RINGS, SlidingSums, WIDTHS, WindowSum, next_end};
use crate::time::{Ring, floor, floor_to};
use crate::{Counts, HourStart, Pane, PaneStart, Rates, Width};

/// The counts of one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The event time that the window spans.
    pub width: Width,
    /// The first moment after the window, in UTC microseconds: a multiple of the duration of a pane.
    pub end: i64,
    /// See [`WindowResult::revision`].
    pub revision: u32,
    /// What happened in the window.
    pub counts: Counts,
    /// Whether the scope reported all messages that the provider took in; see [`reports_injected`].
    pub reports_injected: bool,
}

impl Window {
    /// Returns the hour in which the messages of a cohort were sent.
    pub const fn hour(&self) -> HourStart {
        HourStart::before(self.end)
    }

    /// Returns the window with its rates. All are unknown if the source sends no `delivered` events.
    pub fn result(&self, has_deliveries: bool) -> WindowResult {
        let Self { width, end, revision, ref counts, reports_injected } = *self;
        let view = if width == Width::Cohort { View::Cohort } else { View::Arrival };
        let rates = if has_deliveries {
            Rates::of(counts, view, reports_injected)
        } else {
            Rates::without_deliveries(counts, view)
        };
        WindowResult { width, end, revision, counts: *counts, rates }
    }
}

/// The counts and rates of one window or cohort.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowResult {
    /// The event time that the window spans.
    pub width: Width,
    /// The first moment after the window, in UTC microseconds. For a cohort, the end of the hour in
    /// which its messages were sent.
    pub end: i64,
    /// The number of late deltas in the window. Of the results with the same scope, width and end,
    /// the one with the greatest revision is valid. The first one published may have a revision
    /// above 0.
    pub revision: u32,
    /// What happened in the window.
    pub counts: Counts,
    /// The rates computed from `counts`.
    pub rates: Rates,
}

impl WindowResult {
    /// Returns the window with the rates computed from `counts`, as if nothing else had happened in
    /// the last hour.
    pub fn new(width: Width, end: i64, counts: Counts, revision: u32) -> Self {
        let reports_injected = reports_injected(&counts);
        Window { width, end, revision, counts, reports_injected }.result(true)
    }
}

/// The windows of one scope at one slide end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slide {
    /// The first moment after the windows, in UTC microseconds.
    pub end: i64,
    /// The window of every width, the shortest first, whether it changed or not. That of a day ends at
    /// the last multiple of five minutes.
    pub windows: [Window; WIDTHS],
    /// By width: true if the window differs from the result for this end, or from that for the end
    /// before if there was none for this end.
    pub changed: [bool; WIDTHS],
    /// True if a later slide end had been reached before. Late events correct the published windows
    /// of such an end, but rules only judge the newest windows, because alerts are never sent for
    /// the past.
    pub past: bool,
}

impl Slide {
    /// Returns the windows that changed.
    pub fn changed(&self) -> impl Iterator<Item = &Window> {
        self.windows
            .iter()
            .zip(self.changed)
            .filter_map(|(window, changed)| changed.then_some(window))
    }
}

/// Which windows a scope emits besides those of the newest slide ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Emits {
    /// The windows of past slide ends that late events change, and corrected tumbling windows at once.
    /// Otherwise corrected tumbling windows wait until the minute is over, so that there are few.
    pub past: bool,
    /// The [tumbling](Width::TUMBLING) windows in which something happened.
    pub tumbling: bool,
}

/// A window by its width and end.
pub type WindowKey = (Width, i64);

/// What an advance has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advanced {
    /// The slide ends at which a window changed: first the past ones that late deltas corrected, each
    /// once and with a higher revision, then those of the advance. They are in the order of their
    /// ends.
    pub slides: Vec<Slide>,
    /// The tumbling windows that ended in the advance, and those that late deltas corrected, in no
    /// particular order. The same windows may be in `slides`.
    pub tumbled: Vec<Window>,
    /// By ring: the panes that expired. The caller must delete them from its changelog.
    pub expired: [Vec<PaneStart>; RINGS],
}

/// What a ring did with a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The delta belongs only to windows that end in the future, or it changed nothing.
    OnTime,
    /// The delta also belongs to windows that were emitted. The next advance corrects them.
    Corrects,
    /// The ring no longer has the pane. The delta was not added.
    TooLate,
}

/// The effect of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the caller must count a delta that came too late"]
pub struct Applied {
    /// By ring.
    pub rings: [Admission; RINGS],
    /// Whether a ring has a new pane.
    pub created: bool,
    /// The number of subtractions that had nothing to subtract from.
    pub without_count: u64,
}

impl Applied {
    /// Returns whether [`ScopeWindows::due`] may have changed.
    pub fn changes_due(&self) -> bool {
        self.created || self.rings.contains(&Admission::Corrects)
    }
}

/// The panes of one scope, and the sum of each window at the newest slide end.
///
/// The windows of a width change only where a pane enters or leaves. Slides are emitted for those
/// slide ends; in between, the last result remains valid. The work is proportional to the number of
/// panes that enter and leave, and independent of the widths and of the event time in between.
///
/// A ring accepts a delta as long as it has the delta's pane. A window is corrected as long as the ring
/// has all its panes: a window of an hour for 10 minutes after its end, one of a minute for 69.
///
/// The caller keeps one time (the watermark) for all its scopes. Before it moves the time, it
/// must advance every scope that is [`due`](Self::due) by the new time; the other scopes do not
/// change.
///
/// To restore a scope after a crash, the caller needs its [`panes`](Self::panes), the windows that
/// [wait](Self::waiting) and the time, as they were after an advance. Corrections that the next advance
/// would emit are not restored.
#[derive(Debug, Clone)]
pub struct ScopeWindows {
    emits: Emits,
    /// By ring.
    panes: [Panes; RINGS],
    /// By width: the sum of the window at the newest slide end.
    sums: [WindowSum; WIDTHS],
    /// By ring: the panes that late deltas changed since the last advance. The value is true if the
    /// pane was created by one of them.
    corrected: [BTreeMap<PaneStart, bool>; RINGS],
    /// The corrected tumbling windows that wait until the minute is over.
    waiting: BTreeSet<WindowKey>,
    /// The windows up to which rules have been judged.
    judged: Judged,
}

impl ScopeWindows {
    /// Returns a scope without events.
    pub fn new(emits: Emits) -> Self {
        Self {
            emits,
            panes: Default::default(),
            sums: [WindowSum::default(); WIDTHS],
            corrected: Default::default(),
            waiting: BTreeSet::new(),
            judged: Judged::default(),
        }
    }

    /// Restores a scope from the panes of its rings, in any order, and the windows that
    /// [wait](Self::waiting), as they were after an advance to `now`.
    pub fn restore(
        panes: impl IntoIterator<Item = (Ring, Pane)>,
        waiting: BTreeSet<WindowKey>,
        emits: Emits,
        now: i64,
    ) -> Self {
        let mut windows = Self { waiting, ..Self::new(emits) };
        for (ring, pane) in panes {
            let start = pane.start;
            *windows.panes[ring as usize].entry(start).0 = pane;
        }
        windows.sums = *SlidingSums::at(&Width::ALL, &windows.panes, floor(now)).sums();
        windows.judged = Judged::at(&windows.panes, now);
        windows
    }

    /// Adds a delta to the pane of each ring. Also a delta of zeros creates the pane, so that the
    /// panes do not depend on how the deltas were batched. `now` is the time to which the caller
    /// advanced its scopes.
    pub fn apply(&mut self, now: i64, pane: PaneStart, delta: &Counts) -> Applied {
        let too_late = [Admission::TooLate; RINGS];
        let mut applied = Applied { rings: too_late, created: false, without_count: 0 };
        self.judged.reach(&self.panes, now);
        for ring in Ring::ALL {
            let start = ring.pane_of(pane);
            if ring.expiry(start) > now {
                applied.rings[ring as usize] = self.add(now, ring, start, delta, &mut applied);
            }
        }
        applied
    }

    fn add(
        &mut self,
        now: i64,
        ring: Ring,
        start: PaneStart,
        delta: &Counts,
        applied: &mut Applied,
    ) -> Admission {
        let newest_end = floor(now);
        let (stored, created) = self.panes[ring as usize].entry(start);
        let added = stored.counts.add(delta);
        applied.created |= created;
        applied.without_count = applied.without_count.max(added.without_count);
        self.judged.add(ring, start, &added.counts, created);
        let changes_nothing = added.counts.is_zero() && !created;
        if changes_nothing || ring.end(start) > newest_end {
            return Admission::OnTime;
        }
        stored.corrections = stored.corrections.wrapping_add(1);
        for (sum, width) in self.sums.iter_mut().zip(Width::ALL) {
            if width.ring() == ring && newest_end < width.left_by(start) {
                sum.add(&added.counts, 1);
            }
        }
        self.corrected[ring as usize].entry(start).or_insert(created);
        Admission::Corrects
    }

    /// Advances from `from`, the time of the current sums, to `to`. If `to` is not after `from`, only
    /// corrections are emitted.
    pub fn advance(&mut self, from: i64, to: i64) -> Advanced {
        debug_assert_eq!(
            &self.sums,
            SlidingSums::at(&Width::ALL, &self.panes, floor(from)).sums(),
            "the scope was due before {from} and was not advanced"
        );
        let to = to.max(from);
        let mut advanced = Advanced::default();
        if self.emits.tumbling {
            self.tumble(from, to, &mut advanced.tumbled);
        }
        self.emit_corrections(from, &mut advanced.slides);
        self.slide(floor(from), floor(to), &mut advanced.slides);
        self.judged.slide(&self.panes, floor(to));
        for ring in Ring::ALL {
            let expired = self.panes[ring as usize].drop_while(|start| ring.expiry(start) <= to);
            advanced.expired[ring as usize] = expired;
        }
        advanced
    }

    /// Emits the tumbling windows that end in `(from, to]`, and those that late deltas corrected.
    fn tumble(&mut self, from: i64, to: i64, out: &mut Vec<Window>) {
        let mut emitted: BTreeSet<WindowKey> = BTreeSet::new();
        for width in Width::TUMBLING {
            let panes = &self.panes[width.ring() as usize];
            let end = |start: PaneStart| width.tumbling_end(start);
            let first = panes.index(|start| end(start) <= floor(from));
            let ends = panes.range(first..panes.len()).map(|pane| end(pane.start));
            let ended = ends.take_while(|end| *end <= floor(to));
            emitted.extend(ended.map(|end| (width, end)));
            let corrected = self.corrected[width.ring() as usize].keys().map(|start| end(*start));
            let past = corrected.filter(|&end| end <= floor(from));
            self.waiting.extend(past.map(|end| (width, end)));
        }
        if self.emits.past || minute(from) < minute(to) {
            let waiting = std::mem::take(&mut self.waiting).into_iter();
            emitted.extend(waiting.filter(|&(width, end)| has_all(width, end, from)));
        }
        out.extend(emitted.into_iter().map(|(width, end)| {
            // Without all panes of the hour, nothing tells whether the source reports what is injected.
            let is_reported = has_all(Width::M60, end, from)
                && reports_injected(&self.sum(Width::M60, end).counts);
            window(width, end, &self.sum(width, end), is_reported)
        }));
    }

    /// Returns the sum of the window of this width that ends at `end`.
    fn sum(&self, width: Width, end: i64) -> WindowSum {
        let panes = &self.panes[width.ring() as usize];
        let first = panes.index(|start| start.micros() < end - width.micros());
        let after = panes.index(|start| start.micros() < end);
        let mut sum = WindowSum::default();
        panes.range(first..after).for_each(|pane| sum.add_pane(pane));
        sum
    }

    /// Emits the windows at the newest slide end, because rules have to judge what late deltas
    /// changed. Before them, if the scope emits those, the past windows that late deltas changed.
    fn emit_corrections(&mut self, now: i64, out: &mut Vec<Slide>) {
        let firsts = self.corrected.iter().filter_map(|corrected| corrected.first_key_value());
        let Some(first) = firsts.map(|(first, _)| first.micros()).min() else { return };
        let newest_end = floor(now);
        if self.emits.past {
            let mut sliding = SlidingSums::at(&Width::ALL, &self.panes, first);
            while let Some(change) = sliding.next_change(newest_end) {
                let changed = self.corrected_windows(&change, now);
                let is_newest = change.end == newest_end;
                if is_newest || changed.contains(&true) {
                    out.push(slide(change.end, sliding.sums(), changed, !is_newest));
                }
            }
        }
        if out.last().is_none_or(|slide| slide.end != newest_end) {
            let changed = Width::ALL.map(|width| {
                let end = floor_to(newest_end, width.ring().pane());
                !self.emits.past && self.contains_corrected(width, end)
            });
            out.push(slide(newest_end, &self.sums, changed, false));
        }
        self.corrected.iter_mut().for_each(BTreeMap::clear);
    }

    /// Returns by width whether late deltas changed the result of the window. This is the case if the
    /// window contains a corrected pane. It is also the case if a pane that a late delta created
    /// leaves the window at this slide end, because no result was published for this end before.
    /// A window that has lost panes is not corrected any more.
    fn corrected_windows(&self, change: &Change, now: i64) -> [bool; WIDTHS] {
        let mut corrected = [false; WIDTHS];
        for width in Width::ALL.into_iter().filter(|&width| change.changed[width as usize]) {
            let ring = width.ring();
            let left = PaneStart::at(change.end - width.micros() - ring.pane());
            let created_pane_left = !change.entered[ring as usize]
                && self.corrected[ring as usize].get(&left) == Some(&true);
            let is_corrected = self.contains_corrected(width, change.end) || created_pane_left;
            corrected[width as usize] = is_corrected && has_all(width, change.end, now);
        }
        corrected
    }

    fn contains_corrected(&self, width: Width, end: i64) -> bool {
        let ring = width.ring();
        let oldest = PaneStart::at(end - width.micros());
        let newest = PaneStart::at(end - ring.pane());
        self.corrected[ring as usize].range(oldest..=newest).next().is_some()
    }

    /// Slides the windows and emits every slide end in `(from, to]` at which one changes.
    fn slide(&mut self, from: i64, to: i64, out: &mut Vec<Slide>) {
        let mut sliding = SlidingSums::resume(&Width::ALL, &self.panes, from, self.sums);
        while let Some(change) = sliding.next_change(to) {
            out.push(slide(change.end, sliding.sums(), change.changed, false));
        }
        self.sums = *sliding.sums();
    }

    /// Returns the earliest time at which the scope must be advanced, or `None` if it never needs
    /// that again. `now` is the time to which the caller advanced its scopes.
    pub fn due(&self, now: i64) -> Option<i64> {
        if self.corrected.iter().any(|corrected| !corrected.is_empty()) {
            return Some(now);
        }
        let newest_end = floor(now);
        let expiries = Ring::ALL.into_iter().filter_map(|ring| {
            self.panes[ring as usize].get(0).map(|pane| ring.expiry(pane.start))
        });
        let next_end = next_end(&self.panes, newest_end);
        let tumbling = Width::TUMBLING.into_iter().filter_map(|width| {
            let panes = &self.panes[width.ring() as usize];
            let next = panes.index(|start| width.tumbling_end(start) <= newest_end);
            panes.get(next).filter(|_| self.emits.tumbling).map(|p| width.tumbling_end(p.start))
        });
        let waiting = (!self.waiting.is_empty()).then(|| minute(now) + Width::M1.micros());
        next_end.into_iter().chain(expiries).chain(tumbling).chain(waiting).min()
    }

    /// Returns the corrected tumbling windows that wait until the minute is over.
    pub const fn waiting(&self) -> &BTreeSet<WindowKey> {
        &self.waiting
    }

    /// Calls `judge` for every end of windows that rules have not judged yet: those that deltas have changed
    /// since the last call, at most [`JUDGED_BACK`](crate::JUDGED_BACK) back, and those up to `until` at
    /// which a pane enters or leaves, in ascending order. `now` is the time to which the caller advanced its
    /// scopes.
    pub fn judge(&mut self, until: i64, now: i64, judge: impl FnMut(JudgedWindows<'_>)) {
        self.judged.judge(&self.panes, until, now, judge);
    }

    /// Returns the windows at the newest end that was judged.
    pub const fn judged(&self, now: i64) -> JudgedWindows<'_> {
        self.judged.windows(&self.panes, now)
    }

    /// Returns the newest end that was judged.
    pub const fn judged_end(&self) -> i64 {
        self.judged.end()
    }

    /// Returns the end of the newest pane in which something happened.
    pub fn newest_end(&self) -> Option<i64> {
        let fine = &self.panes[Ring::Fine as usize];
        fine.get(fine.len().checked_sub(1)?).map(|pane| pane.start.end())
    }

    /// Returns the pane if something happened in it and it has not expired.
    pub fn pane(&self, ring: Ring, start: PaneStart) -> Option<&Pane> {
        self.panes[ring as usize].find(start)
    }

    /// Returns the panes of a ring, the oldest first.
    pub fn panes(&self, ring: Ring) -> impl ExactSizeIterator<Item = &Pane> {
        self.panes[ring as usize].iter()
    }

    /// Returns the panes of a ring that start at `from` or later, in UTC microseconds, the oldest first.
    pub fn panes_from(&self, ring: Ring, from: i64) -> impl Iterator<Item = &Pane> {
        let panes = &self.panes[ring as usize];
        panes.range(panes.index(|start| start.micros() < from)..panes.len())
    }

    /// Returns the number of panes of all rings.
    pub fn len(&self) -> usize {
        self.panes.iter().map(Panes::len).sum()
    }

    /// Returns true if the scope has no panes. The caller can forget such a scope.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Returns the beginning of the minute.
const fn minute(time: i64) -> i64 {
    floor_to(time, Width::M1.micros())
}

/// Returns whether a window can still be corrected at the time `now`: the ring has all its panes, and
/// the one before them, which tells whether the window was published.
pub(crate) const fn has_all(width: Width, end: i64, now: i64) -> bool {
    end - width.micros() + width.ring().keeps() > now
}

/// Returns the windows of all widths from their sums.
fn slide(end: i64, sums: &[WindowSum; WIDTHS], changed: [bool; WIDTHS], past: bool) -> Slide {
    let is_reported = reports_injected(&sums[Width::M60 as usize].counts);
    let windows = Width::ALL.map(|width| {
        let end = floor_to(end, width.ring().pane());
        window(width, end, &sums[width as usize], is_reported)
    });
    Slide { end, windows, changed, past }
}

fn window(width: Width, end: i64, sum: &WindowSum, reports_injected: bool) -> Window {
    let WindowSum { counts, corrections } = *sum;
    Window { width, end, revision: corrections, counts, reports_injected }
}
