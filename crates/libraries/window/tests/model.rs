//! The windows against a model that sums every window anew from all deltas.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use event::OccurredAt;
use proptest::prelude::*;
use window::{Applied, Counts, PANE, Pane, PaneStart, ScopeWindows, Slide, Width, WindowResult};

/// The deltas that were let in, and nothing clever.
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

    /// Every window up to the clock that holds other panes than the one before it.
    fn changes(&self, clock: i64) -> BTreeMap<(i64, Width), Counts> {
        let panes = self.panes();
        let Some(first) = panes.first() else { return BTreeMap::new() };
        let mut changes = BTreeMap::new();
        let mut end = first.micros();
        while end <= clock {
            for width in Width::ALL {
                let held = |end: i64| -> Vec<_> {
                    let window = end - width.micros()..end;
                    panes.iter().filter(|pane| window.contains(&pane.micros())).collect()
                };
                if held(end) != held(end - PANE) {
                    changes.insert((end, width), self.sum(width, end));
                }
            }
            end += PANE;
        }
        changes
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Something happened that many tenths of a pane after the start.
    Apply(i64, Counts),
    /// The clock moves by that many tenths of a pane, if positive.
    Advance(i64),
    /// A crash right after an advance.
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

/// Two hours around the start, and steps of the clock from none to beyond the widest window.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (-300..7200_i64, counts()).prop_map(|(at, counts)| Step::Apply(at, counts)),
        4 => prop_oneof![-5..40_i64, 0..600_i64, 3000..4000_i64].prop_map(Step::Advance),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..60)
}

/// Runs the steps on the windows and on the model, and compares after each.
struct Run {
    windows: ScopeWindows,
    model: Model,
    lateness: i64,
    /// The last result for each window.
    published: BTreeMap<(i64, Width), WindowResult>,
    expired: Vec<PaneStart>,
}

impl Run {
    fn new(lateness: i64) -> Self {
        Self {
            windows: ScopeWindows::new(lateness, 0),
            model: Model::default(),
            lateness,
            published: BTreeMap::new(),
            expired: Vec::new(),
        }
    }

    fn apply(&mut self, at: i64, counts: &Counts) {
        let pane = PaneStart::of(OccurredAt(at * PANE / 10));
        let clock = self.windows.clock();
        let expected = if pane.end() <= clock - self.lateness {
            Applied::TooLate
        } else if pane.end() > clock || counts.is_zero() {
            Applied::OnTime
        } else {
            Applied::Corrects
        };
        assert_eq!(self.windows.apply(pane, counts), expected);
        if expected != Applied::TooLate {
            self.model.0.push((pane, *counts));
        }
    }

    fn advance(&mut self, by: i64) {
        let clock = self.windows.clock() + by * PANE / 10;
        let is_due = self.windows.due().is_some_and(|due| due <= clock.max(self.windows.clock()));
        let mut twin = self.windows.clone();
        let (mut slides, mut results) = (Vec::new(), Vec::new());

        let expired = self.windows.advance_slides(clock, &mut slides);

        assert_eq!(twin.advance(clock, &mut results), expired);
        assert!(slides.iter().flat_map(Slide::changed).eq(&results));
        assert_eq!(is_due, !results.is_empty() || !expired.is_empty());
        assert!(results.is_sorted_by_key(|result| (result.end, result.width)));
        let distinct: BTreeSet<_> = results.iter().map(|r| (r.end, r.width)).collect();
        assert_eq!(distinct.len(), results.len(), "a window came twice in one advance");
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
        let horizon = self.windows.clock() - self.lateness;
        let (gone, kept): (Vec<_>, Vec<_>) = self
            .model
            .panes()
            .into_iter()
            .partition(|pane| pane.end() + Width::M60.micros() <= horizon);
        assert_eq!(self.expired, gone);
        assert_eq!(self.windows.panes().map(|pane| pane.start).collect::<Vec<_>>(), kept);
        assert_eq!(self.windows.oldest(), kept.first().copied());
        assert_eq!(self.windows.is_empty(), kept.is_empty());
    }

    /// What is kept goes through JSON and comes back in another order.
    fn restart(&mut self) {
        self.advance(0);
        let kept: Vec<_> =
            self.windows.panes().map(|pane| serde_json::to_string(pane).unwrap()).collect();
        let panes = kept.iter().rev().map(|json| serde_json::from_str::<Pane>(json).unwrap());
        self.windows = ScopeWindows::from_panes(panes, self.lateness, self.windows.clock());
    }

    fn check_published(&self) {
        let published: BTreeMap<_, _> =
            self.published.iter().map(|(&key, result)| (key, result.counts)).collect();
        assert_eq!(published, self.model.changes(self.windows.clock()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Any order of deltas and advances, with crashes between, ends in the same windows.
    #[test]
    fn published_windows_are_what_the_model_sums(
        steps in steps(),
        lateness in prop_oneof![Just(0), 0..40_i64, 0..9000_i64],
    ) {
        let mut run = Run::new(lateness * PANE / 10);
        for step in steps {
            match step {
                Step::Apply(at, counts) => run.apply(at, &counts),
                Step::Advance(by) => run.advance(by),
                Step::Restart => run.restart(),
            }
        }
        run.advance(0);
        run.check_published();
        // Until everything has expired.
        run.advance(lateness + 7300 + 3700);
        run.check_published();
        prop_assert!(run.windows.is_empty());
        prop_assert_eq!(run.windows.due(), None);
    }

    /// In time, neither the size of the batches nor the pace of the clock shows in what is
    /// published, not even in its order.
    #[test]
    fn batches_do_not_show(
        mut facts in prop::collection::vec((0..7200_i64, counts()), 0..60),
        sizes in prop::collection::vec(1..20_usize, 60),
    ) {
        facts.sort_by_key(|&(at, _)| at);
        let results = |sizes: &[usize]| {
            let mut windows = ScopeWindows::new(0, 0);
            let (mut rest, mut out) = (facts.as_slice(), Vec::new());
            for &size in sizes {
                let (batch, after) = rest.split_at(size.min(rest.len()));
                let mut deltas = BTreeMap::<PaneStart, Counts>::new();
                for (at, counts) in batch {
                    *deltas.entry(PaneStart::of(OccurredAt(at * PANE / 10))).or_default() += counts;
                }
                for (pane, delta) in &deltas {
                    assert_eq!(windows.apply(*pane, delta), Applied::OnTime);
                }
                rest = after;
                let clock = rest.first().map_or(20_000, |&(at, _)| at);
                windows.advance(clock * PANE / 10, &mut out);
            }
            assert_eq!(rest, []);
            out
        };
        prop_assert_eq!(results(&sizes), results(&[60]));
    }
}

#[test]
fn a_long_empty_stretch_costs_nothing() {
    let century = 100 * 365 * 24 * Width::M60.micros();
    let mut windows = ScopeWindows::new(0, i64::MIN);
    let one = Counts { delivered: 1, ..Counts::default() };
    let mut out = Vec::new();
    assert_eq!(windows.apply(PaneStart::of(OccurredAt(0)), &one), Applied::OnTime);
    assert_eq!(windows.apply(PaneStart::of(OccurredAt(century)), &one), Applied::OnTime);
    let expired = windows.advance(2 * century, &mut out);
    assert_eq!(expired.len(), 2);
    // Each pane enters the windows of four widths and leaves them again.
    assert_eq!(out.len(), 2 * (4 + 4));
}

#[test]
fn a_late_event_corrects_each_window_it_belongs_to_once() {
    let one = Counts { accepted: 1, ..Counts::default() };
    let pane = |index: i64| PaneStart::try_from(index * PANE).unwrap();
    let mut windows = ScopeWindows::new(120_000_000, 0);
    let mut out = Vec::new();
    let _ = windows.apply(pane(0), &one);
    let _ = windows.apply(pane(3), &one);
    windows.advance(9 * PANE, &mut out);
    out.clear();

    // Two late deltas in pane 2, between the two that were in time.
    assert_eq!(windows.apply(pane(2), &one), Applied::Corrects);
    assert_eq!(windows.apply(pane(2), &one), Applied::Corrects);
    windows.advance(9 * PANE, &mut out);

    let minute: Vec<_> = out
        .iter()
        .filter(|result| result.width == Width::M1)
        .map(|result| (result.end / PANE, result.counts.accepted, result.revision))
        .collect();
    // Pane 2 enters at 3, pane 3 at 4, pane 0 leaves at 7, pane 2 leaves at 9 where nothing had
    // been published before.
    assert_eq!(minute, [(3, 3, 2), (4, 4, 2), (7, 3, 2), (9, 1, 0)]);
    assert!(out.iter().all(|result| result.width == Width::M1 || result.end <= 4 * PANE));
    out.clear();
    windows.advance(9 * PANE, &mut out);
    assert_eq!(out, []);
}

#[test]
fn a_pane_is_too_late_once_its_end_lies_the_lateness_behind_the_clock() {
    let one = Counts { accepted: 1, ..Counts::default() };
    let pane = PaneStart::try_from(5 * PANE).unwrap();
    let mut windows = ScopeWindows::new(3 * PANE, 9 * PANE - 1);
    assert_eq!(windows.apply(pane, &one), Applied::Corrects);
    windows.advance(9 * PANE, &mut Vec::new());
    assert_eq!(windows.apply(pane, &one), Applied::TooLate);
    assert_eq!(windows.pane(pane).unwrap().counts, one);
}
