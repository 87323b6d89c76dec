//! Compares the windows with a model that computes every window from all deltas.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use event::OccurredAt;
use proptest::prelude::*;
use window::{Applied, Counts, PANE, Pane, PaneStart, ScopeWindows, Slide, Width, WindowResult};

/// The accepted deltas.
#[derive(Default)]
struct Model(Vec<(PaneStart, Counts)>);

impl Model {
    fn panes(&self) -> BTreeSet<PaneStart> {
        self.0.iter().filter(|(_, counts)| !counts.is_zero()).map(|&(pane, _)| pane).collect()
    }

    fn sum(&self, width: Width, end: i64) -> Counts {
        let window = end - width.micros()..end;
        let inside = self.0.iter().filter(|(pane, _)| window.contains(&pane.micros()));
        inside.fold(Counts::default(), |sum, (_, counts)| sum + *counts)
    }

    /// Returns every window up to `now` that contains other panes than the window before.
    fn changes(&self, now: i64) -> BTreeMap<(i64, Width), Counts> {
        let panes = self.panes();
        let Some(first) = panes.first() else { return BTreeMap::new() };
        let mut changes = BTreeMap::new();
        let mut end = first.micros();
        while end <= now {
            for width in Width::ALL {
                let contained = |end: i64| -> Vec<_> {
                    let window = end - width.micros()..end;
                    panes.iter().filter(|pane| window.contains(&pane.micros())).collect()
                };
                if contained(end) != contained(end - PANE) {
                    changes.insert((end, width), self.sum(width, end));
                }
            }
            end += PANE;
        }
        changes
    }
}

#[derive(Debug, Clone)]
enum Action {
    /// Applies counts at a time in tenths of a pane.
    Apply(i64, Counts),
    /// Moves the time by tenths of a pane, if positive. If the second field is true, the scope is
    /// only advanced if it is due.
    Advance(i64, bool),
    /// Restores the scope as after a crash.
    Restart,
}

fn counts() -> impl Strategy<Value = Counts> {
    (0..4_u64, 0..3_u64, 0..2_u64).prop_map(|(accepted, bounced_soft, opened)| Counts {
        accepted,
        bounced_soft,
        opened,
        ..Counts::default()
    })
}

/// Returns events of two hours, and advances from none to beyond the widest window.
fn actions() -> impl Strategy<Value = Vec<Action>> {
    let by = prop_oneof![-5..40_i64, 0..600_i64, 3000..4000_i64];
    let action = prop_oneof![
        8 => (-300..7200_i64, counts()).prop_map(|(at, counts)| Action::Apply(at, counts)),
        4 => (by, any::<bool>()).prop_map(|(by, if_due)| Action::Advance(by, if_due)),
        1 => Just(Action::Restart),
    ];
    prop::collection::vec(action, 0..60)
}

/// Runs the actions on the windows and on the model, and compares them after each.
struct Run {
    /// The time to which the windows were advanced, in microseconds.
    now: i64,
    windows: ScopeWindows,
    model: Model,
    lateness: i64,
    /// The last published result of each window.
    published: BTreeMap<(i64, Width), WindowResult>,
    expired: Vec<PaneStart>,
}

impl Run {
    fn new(lateness: i64) -> Self {
        Self {
            now: 0,
            windows: ScopeWindows::new(lateness),
            model: Model::default(),
            lateness,
            published: BTreeMap::new(),
            expired: Vec::new(),
        }
    }

    fn apply(&mut self, at: i64, counts: &Counts) {
        let pane = PaneStart::of(OccurredAt(at * PANE / 10));
        let expected = if pane.end() <= self.now - self.lateness {
            Applied::TooLate
        } else if pane.end() > self.now || counts.is_zero() {
            Applied::OnTime
        } else {
            Applied::Corrects
        };
        assert_eq!(self.windows.apply(self.now, pane, counts), expected);
        if expected != Applied::TooLate {
            self.model.0.push((pane, *counts));
        }
    }

    fn advance(&mut self, by: i64, if_due: bool) {
        let (from, to) = (self.now, self.now + by * PANE / 10);
        self.now = to.max(from);
        let is_due = self.windows.due(from).is_some_and(|due| due <= self.now);
        if if_due && !is_due {
            return;
        }
        let mut twin = self.windows.clone();
        let (mut slides, mut results) = (Vec::new(), Vec::new());

        let expired = self.windows.advance_slides(from, to, &mut slides);

        assert_eq!(twin.advance(from, to, &mut results), expired);
        assert!(slides.iter().flat_map(Slide::changed).eq(&results));
        assert_eq!(is_due, !results.is_empty() || !expired.is_empty());
        assert!(results.is_sorted_by_key(|result| (result.end, result.width)));
        let distinct: BTreeSet<_> = results.iter().map(|r| (r.end, r.width)).collect();
        assert_eq!(distinct.len(), results.len(), "one advance emitted a window twice");
        slides.iter().for_each(|slide| self.check_slide(slide));
        results.into_iter().for_each(|result| self.publish(result));
        self.check_expiry(expired);
    }

    fn check_slide(&self, slide: &Slide) {
        for (width, window) in Width::ALL.into_iter().zip(&slide.windows) {
            assert_eq!((window.width, window.end), (width, slide.end));
            assert_eq!(window.counts, self.model.sum(width, slide.end));
        }
    }

    fn publish(&mut self, result: WindowResult) {
        let before = self.published.insert((result.end, result.width), result);
        if let Some(before) = before {
            assert!(result.revision > before.revision, "{before:?} then {result:?}");
            assert_ne!(result.counts, before.counts);
        }
    }

    fn check_expiry(&mut self, expired: Vec<PaneStart>) {
        self.expired.extend(expired);
        let horizon = self.now - self.lateness;
        let (expired, kept): (Vec<_>, Vec<_>) = self
            .model
            .panes()
            .into_iter()
            .partition(|pane| pane.end() + Width::M60.micros() <= horizon);
        assert_eq!(self.expired, expired);
        assert_eq!(self.windows.panes().map(|pane| pane.start).collect::<Vec<_>>(), kept);
        assert_eq!(self.windows.oldest(), kept.first().copied());
        assert_eq!(self.windows.is_empty(), kept.is_empty());
    }

    /// Restores the panes from JSON, in another order.
    fn restart(&mut self) {
        self.advance(0, false);
        let kept: Vec<_> =
            self.windows.panes().map(|pane| serde_json::to_string(pane).unwrap()).collect();
        let panes = kept.iter().rev().map(|json| serde_json::from_str::<Pane>(json).unwrap());
        self.windows = ScopeWindows::from_panes(panes, self.lateness, self.now);
    }

    fn check_published(&self) {
        let published: BTreeMap<_, _> =
            self.published.iter().map(|(&key, result)| (key, result.counts)).collect();
        assert_eq!(published, self.model.changes(self.now));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Any order of deltas, advances and restarts publishes the same windows.
    #[test]
    fn published_windows_equal_the_model(
        actions in actions(),
        lateness in prop_oneof![Just(0), 0..40_i64, 0..9000_i64],
    ) {
        let mut run = Run::new(lateness * PANE / 10);
        for action in actions {
            match action {
                Action::Apply(at, counts) => run.apply(at, &counts),
                Action::Advance(by, if_due) => run.advance(by, if_due),
                Action::Restart => run.restart(),
            }
        }
        run.advance(0, false);
        run.check_published();
        // After this advance, all panes have expired.
        run.advance(lateness + 7300 + 3700, false);
        run.check_published();
        prop_assert!(run.windows.is_empty());
        prop_assert_eq!(run.windows.due(run.now), None);
    }

    /// If no event is late, the published windows and their order depend neither on the size of the
    /// batches nor on the advances.
    #[test]
    fn published_windows_do_not_depend_on_batches(
        mut events in prop::collection::vec((0..7200_i64, counts()), 0..60),
        sizes in prop::collection::vec(1..20_usize, 60),
    ) {
        events.sort_by_key(|&(at, _)| at);
        let results = |sizes: &[usize]| {
            let (mut windows, mut now) = (ScopeWindows::new(0), 0);
            let (mut rest, mut out) = (events.as_slice(), Vec::new());
            for &size in sizes {
                let (batch, after) = rest.split_at(size.min(rest.len()));
                let mut deltas = BTreeMap::<PaneStart, Counts>::new();
                for (at, counts) in batch {
                    *deltas.entry(PaneStart::of(OccurredAt(at * PANE / 10))).or_default() += counts;
                }
                for (pane, delta) in &deltas {
                    assert_eq!(windows.apply(now, *pane, delta), Applied::OnTime);
                }
                rest = after;
                let to = rest.first().map_or(20_000, |&(at, _)| at) * PANE / 10;
                windows.advance(now, to, &mut out);
                now = to;
            }
            assert_eq!(rest, []);
            out
        };
        prop_assert_eq!(results(&sizes), results(&[60]));
    }
}

#[test]
fn a_century_without_events_costs_nothing() {
    let century = 100 * 365 * 24 * Width::M60.micros();
    let mut windows = ScopeWindows::new(0);
    let one = Counts { delivered: 1, ..Counts::default() };
    let mut out = Vec::new();
    assert_eq!(windows.apply(i64::MIN, PaneStart::of(OccurredAt(0)), &one), Applied::OnTime);
    assert_eq!(windows.apply(i64::MIN, PaneStart::of(OccurredAt(century)), &one), Applied::OnTime);
    let expired = windows.advance(i64::MIN, 2 * century, &mut out);
    assert_eq!(expired.len(), 2);
    // Each pane enters and leaves the windows of four widths.
    assert_eq!(out.len(), 2 * (4 + 4));
}

#[test]
fn late_events_correct_each_of_their_windows_once() {
    let one = Counts { accepted: 1, ..Counts::default() };
    let pane = |index: i64| PaneStart::try_from(index * PANE).unwrap();
    let mut windows = ScopeWindows::new(120_000_000);
    let mut out = Vec::new();
    let _ = windows.apply(0, pane(0), &one);
    let _ = windows.apply(0, pane(3), &one);
    windows.advance(0, 9 * PANE, &mut out);
    out.clear();

    // Two late deltas in pane 2, between the two that were on time.
    assert_eq!(windows.apply(9 * PANE, pane(2), &one), Applied::Corrects);
    assert_eq!(windows.apply(9 * PANE, pane(2), &one), Applied::Corrects);
    windows.advance(9 * PANE, 9 * PANE, &mut out);

    let minute: Vec<_> = out
        .iter()
        .filter(|result| result.width == Width::M1)
        .map(|result| (result.end / PANE, result.counts.accepted, result.revision))
        .collect();
    // Pane 2 enters at 3, pane 3 enters at 4, pane 0 leaves at 7. Pane 2 leaves at 9, where no
    // result had been published.
    assert_eq!(minute, [(3, 3, 2), (4, 4, 2), (7, 3, 2), (9, 1, 0)]);
    assert!(out.iter().all(|result| result.width == Width::M1 || result.end <= 4 * PANE));
    out.clear();
    windows.advance(9 * PANE, 9 * PANE, &mut out);
    assert_eq!(out, []);
}

#[test]
fn a_pane_is_too_late_once_the_time_is_the_lateness_after_its_end() {
    let one = Counts { accepted: 1, ..Counts::default() };
    let pane = PaneStart::try_from(5 * PANE).unwrap();
    let mut windows = ScopeWindows::new(3 * PANE);
    assert_eq!(windows.apply(9 * PANE - 1, pane, &one), Applied::Corrects);
    windows.advance(9 * PANE - 1, 9 * PANE, &mut Vec::new());
    assert_eq!(windows.apply(9 * PANE, pane, &one), Applied::TooLate);
    assert_eq!(windows.pane(pane).unwrap().counts, one);
}
