//! Compares the windows with a model that computes every window from all deltas.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use event::Counter::{BouncedSoft, Delivered, Opened};
use event::OccurredAt;
use proptest::prelude::*;
use window::{
    Admission, Advanced, Counts, Emits, PANE, Pane, PaneStart, Rates, Ring, ScopeWindows, Slide,
    View, Width, Window,
};

const ALL: Emits = Emits { past: true, tumbling: true };
const MINUTE: i64 = 6 * PANE;
const HOUR: i64 = 60 * MINUTE;

/// A window: its end and width.
type Key = (i64, Width);

fn keep(width: Width) -> i64 {
    if width == Width::H24 { 26 * HOUR } else { 70 * MINUTE }
}

fn step(width: Width) -> i64 {
    if width == Width::H24 { 5 * MINUTE } else { PANE }
}

/// The accepted deltas. Every pane is one of ten seconds; those of a day are computed.
#[derive(Default)]
struct Model(BTreeMap<Width, Vec<(i64, Counts)>>);

impl Model {
    fn add(&mut self, now: i64, pane: i64, counts: Counts) {
        for width in Width::ALL {
            let start = pane.div_euclid(step(width)) * step(width);
            if start + step(width) + keep(width) > now {
                self.0.entry(width).or_default().push((start, counts));
            }
        }
    }

    fn panes(&self, width: Width) -> BTreeSet<i64> {
        self.0.get(&width).into_iter().flatten().map(|(pane, _)| *pane).collect()
    }

    fn sum(&self, width: Width, end: i64) -> Counts {
        let window = end - width.micros()..end;
        let deltas = self.0.get(&width).into_iter().flatten();
        let inside = deltas.filter(|(pane, _)| window.contains(pane));
        inside.fold(Counts::default(), |sum, (_, counts)| sum + *counts)
    }

    /// Returns every window up to `now` that contains other panes than the window before.
    fn changes(&self, now: i64) -> BTreeMap<Key, Counts> {
        let mut changes = BTreeMap::new();
        for width in Width::ALL {
            let panes = self.panes(width);
            let entered = panes.iter().map(|pane| pane + step(width));
            let left = panes.iter().map(|pane| pane + step(width) + width.micros());
            for end in entered.chain(left).filter(|end| *end <= now) {
                changes.insert((end, width), self.sum(width, end));
            }
        }
        changes
    }

    /// Returns every tumbling window up to `now` in which something happened.
    fn tumbling(&self, now: i64) -> BTreeMap<Key, Counts> {
        let ends = Width::TUMBLING.into_iter().flat_map(|width| {
            let end = move |pane: i64| (pane.div_euclid(width.micros()) + 1) * width.micros();
            self.panes(width).into_iter().map(move |pane| (end(pane), width))
        });
        let ended = ends.filter(|(end, _)| *end <= now);
        ended.map(|(end, width)| ((end, width), self.sum(width, end))).collect()
    }
}

#[derive(Debug, Clone)]
enum Action {
    /// Applies counts at a time in tenths of a pane, and takes the last number of soft bounces back.
    Apply(i64, Box<Counts>, i64),
    /// Moves the time by tenths of a pane, if positive. If the second field is true, the scope is
    /// only advanced if it is due.
    Advance(i64, bool),
    /// Restores the scope as after a crash.
    Restart,
}

fn counts() -> impl Strategy<Value = Counts> {
    (0..4_i64, 0..3_i64, 0..2_i64).prop_map(|(delivered, bounced, opened)| {
        Counts::of([(Delivered, delivered), (BouncedSoft, bounced), (Opened, opened)])
    })
}

/// Returns events of two hours, and advances from none to beyond the widest window.
fn actions() -> impl Strategy<Value = Vec<Action>> {
    let by = prop_oneof![-5..40_i64, 0..600_i64, 3000..4000_i64, 0..60_000_i64];
    let action = prop_oneof![
        8 => (-300..7200_i64, counts(), 0..2_i64)
            .prop_map(|(at, counts, less)| Action::Apply(at, Box::new(counts), less)),
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
    /// The last published result of each window, and the model's windows up to the time at which they
    /// can no longer be corrected.
    published: BTreeMap<Key, Window>,
    tumbled: BTreeMap<Key, Window>,
    /// Windows that a delta changed after they had lost panes. What was published of them is
    /// outdated.
    outdated: BTreeSet<Key>,
    expired: [Vec<PaneStart>; 2],
}

impl Run {
    fn new() -> Self {
        Self {
            now: 0,
            windows: ScopeWindows::new(ALL),
            model: Model::default(),
            published: BTreeMap::new(),
            tumbled: BTreeMap::new(),
            outdated: BTreeSet::new(),
            expired: Default::default(),
        }
    }

    fn apply(&mut self, at: i64, mut counts: Counts, less: i64) {
        let pane = PaneStart::of(OccurredAt(at * PANE / 10));
        for ring in Ring::ALL {
            let start = ring.pane_of(pane);
            let stored = self.windows.pane(ring, start).map(|pane| pane.counts.to_counts());
            let there = stored.unwrap_or_default()[BouncedSoft] + counts[BouncedSoft];
            let too_late = ring.expiry(start) <= self.now;
            if less > there && !too_late {
                return; // another test checks that a pane does not count below 0
            }
        }
        counts.increase(BouncedSoft, -less);
        let expected = Ring::ALL.map(|ring| {
            let start = ring.pane_of(pane);
            let exists = self.windows.pane(ring, start).is_some();
            if ring.expiry(start) <= self.now {
                Admission::TooLate
            } else if ring.end(start) > self.now || (counts.is_zero() && exists) {
                Admission::OnTime
            } else {
                Admission::Corrects
            }
        });
        let applied = self.windows.apply(self.now, pane, &counts);
        assert_eq!((applied.rings, applied.without_count), (expected, 0));
        self.model.add(self.now, pane.micros(), counts);
        self.note_outdated(pane.micros());
    }

    /// Notes the windows that contain the pane or that it leaves, and that the ring cannot correct.
    fn note_outdated(&mut self, pane: i64) {
        for width in Width::ALL {
            let start = pane.div_euclid(step(width)) * step(width);
            let is_outdated = |end: i64| end - width.micros() + keep(width) <= self.now;
            let mut end = start + step(width);
            while end <= start + step(width) + width.micros() && is_outdated(end) {
                self.outdated.insert((end, width));
                end += step(width);
            }
        }
    }

    /// Returns whether a pane leaves a window that only rules judge, so that the scope is due although it
    /// publishes nothing.
    fn leaves_judged(&self, from: i64, to: i64) -> bool {
        let judged = Width::JUDGED.into_iter().filter(|width| !Width::ALL.contains(width));
        let mut left = judged.flat_map(|width| {
            let panes = self.windows.panes(width.ring());
            panes.map(move |pane| pane.start.micros() + width.micros() + step(width))
        });
        left.any(|left| left > from && left <= to)
    }

    fn advance(&mut self, by: i64, if_due: bool) {
        let (from, to) = (self.now, self.now + by * PANE / 10);
        self.now = to.max(from);
        let is_due = self.windows.due(from).is_some_and(|due| due <= self.now);
        if if_due && !is_due {
            return;
        }
        let leaves_judged = self.leaves_judged(from, to);
        let advanced = self.windows.advance(from, to);
        let is_empty = advanced == Advanced::default();
        let Advanced { slides, tumbled, expired } = advanced;
        assert_eq!(is_due, !is_empty || leaves_judged);
        let results: Vec<_> = slides.iter().flat_map(Slide::changed).copied().collect();
        let distinct: BTreeSet<_> = results.iter().map(|r| (r.end, r.width)).collect();
        assert_eq!(distinct.len(), results.len(), "one advance emitted a window twice");
        assert!(slides.is_sorted_by_key(|slide| slide.end));
        for slide in slides.iter().filter(|slide| !slide.past) {
            self.check_slide(slide);
        }
        for result in results {
            publish(&mut self.published, result);
        }
        for window in tumbled {
            publish(&mut self.tumbled, window);
        }
        for (all, expired) in self.expired.iter_mut().zip(expired) {
            all.extend(expired);
        }
        self.check_expiry();
    }

    fn check_slide(&self, slide: &Slide) {
        for (width, window) in Width::ALL.into_iter().zip(&slide.windows) {
            let end = slide.end.div_euclid(step(width)) * step(width);
            assert_eq!((window.width, window.end), (width, end));
            assert_eq!(window.counts, self.model.sum(width, end));
        }
    }

    fn check_expiry(&mut self) {
        for (ring, width) in [(Ring::Fine, Width::M60), (Ring::Day, Width::H24)] {
            let (expired, kept): (Vec<_>, Vec<_>) = self
                .model
                .panes(width)
                .into_iter()
                .partition(|pane| pane + step(width) + keep(width) <= self.now);
            let found = self.expired[ring as usize].iter().map(|pane| pane.micros());
            assert_eq!(found.collect::<Vec<_>>(), expired);
            let found = self.windows.panes(ring).map(|pane| pane.start.micros());
            assert_eq!(found.collect::<Vec<_>>(), kept);
        }
    }

    /// Restores the panes from JSON, in another order.
    fn restart(&mut self) {
        self.advance(0, false);
        let of = |ring| self.windows.panes(ring).map(move |pane| (ring, pane));
        let kept: Vec<_> = Ring::ALL
            .into_iter()
            .flat_map(of)
            .map(|(ring, pane)| (ring, serde_json::to_string(pane).unwrap()))
            .collect();
        let restored = kept.iter().rev();
        let panes =
            restored.map(|(ring, json)| (*ring, serde_json::from_str::<Pane>(json).unwrap()));
        self.windows = ScopeWindows::restore(panes, BTreeSet::new(), ALL, self.now);
    }

    fn check_published(&self) {
        for (published, expected) in [
            (&self.published, self.model.changes(self.now)),
            (&self.tumbled, self.model.tumbling(self.now)),
        ] {
            let up_to_date = |key: &Key| !self.outdated.contains(key);
            let published: BTreeMap<_, _> =
                published.iter().map(|(key, window)| (*key, window.counts)).collect();
            let relevant = |windows: BTreeMap<Key, Counts>| -> BTreeMap<Key, Counts> {
                windows.into_iter().filter(|(key, _)| up_to_date(key)).collect()
            };
            assert_eq!(relevant(published), relevant(expected));
        }
        for window in self.published.values().chain(self.tumbled.values()) {
            assert!(window.counts.iter().all(|(_, count)| count > 0), "{window:?}");
            let rates = Rates::of(&window.counts, View::Arrival, true);
            let shares = [rates.bounce, rates.open, rates.delivery];
            assert!(shares.into_iter().flatten().all(|rate| (0.0..=1.0).contains(&rate)));
        }
    }
}

fn publish(published: &mut BTreeMap<Key, Window>, window: Window) {
    if let Some(before) = published.insert((window.end, window.width), window) {
        assert!(window.revision > before.revision, "{before:?} then {window:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Any order of deltas, advances and restarts publishes the same windows.
    #[test]
    fn published_windows_equal_the_model(actions in actions()) {
        let mut run = Run::new();
        for action in actions {
            match action {
                Action::Apply(at, counts, less) => run.apply(at, *counts, less),
                Action::Advance(by, if_due) => run.advance(by, if_due),
                Action::Restart => run.restart(),
            }
        }
        run.advance(0, false);
        run.check_published();
        // After this advance, all panes have expired.
        run.advance(7300 + 30 * 3600, false);
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
            let (mut windows, mut now) = (ScopeWindows::new(ALL), 0);
            let mut rest = events.as_slice();
            let (mut slides, mut tumbled) = (Vec::new(), Vec::new());
            for &size in sizes {
                let (batch, after) = rest.split_at(size.min(rest.len()));
                let mut deltas = BTreeMap::<PaneStart, Counts>::new();
                for (at, counts) in batch {
                    *deltas.entry(PaneStart::of(OccurredAt(at * PANE / 10))).or_default() += counts;
                }
                for (pane, delta) in &deltas {
                    assert_eq!(windows.apply(now, *pane, delta).rings, [Admission::OnTime; 2]);
                }
                rest = after;
                let to = rest.first().map_or(2_000_000, |&(at, _)| at) * PANE / 10;
                let advanced = windows.advance(now, to);
                slides.extend(advanced.slides);
                tumbled.extend(advanced.tumbled);
                now = to;
            }
            assert_eq!(rest, []);
            tumbled.sort_by_key(|window| (window.end, window.width));
            (slides, tumbled)
        };
        prop_assert_eq!(results(&sizes), results(&[60]));
    }
}

#[test]
fn a_century_without_events_costs_nothing() {
    let century = 100 * 365 * 24 * HOUR;
    let mut windows = ScopeWindows::new(ALL);
    let one = Counts::of([(Delivered, 1)]);
    for at in [0, century] {
        let applied = windows.apply(i64::MIN / 2, PaneStart::of(OccurredAt(at)), &one);
        assert_eq!(applied.rings, [Admission::OnTime; 2]);
    }
    let advanced = windows.advance(i64::MIN / 2, 2 * century);
    assert_eq!(advanced.expired.map(|expired| expired.len()), [2, 2]);
    // Each pane enters and leaves the windows of five widths.
    assert_eq!(advanced.slides.iter().flat_map(Slide::changed).count(), 2 * (5 + 5));
    assert_eq!(advanced.tumbled.len(), 2 * Width::TUMBLING.len());
}

#[test]
fn late_events_correct_each_of_their_windows_once() {
    let one = Counts::of([(Delivered, 1)]);
    let pane = |index: i64| PaneStart::try_from(index * PANE).unwrap();
    let mut windows = ScopeWindows::new(ALL);
    let _ = windows.apply(0, pane(0), &one);
    let _ = windows.apply(0, pane(3), &one);
    windows.advance(0, 9 * PANE);

    // Two late deltas in pane 2, between the two that were on time.
    let late = [Admission::Corrects, Admission::OnTime];
    assert_eq!(windows.apply(9 * PANE, pane(2), &one).rings, late);
    assert_eq!(windows.apply(9 * PANE, pane(2), &one).rings, late);
    let advanced = windows.advance(9 * PANE, 9 * PANE);

    let minute: Vec<_> = advanced
        .slides
        .iter()
        .flat_map(Slide::changed)
        .filter(|result| result.width == Width::M1)
        .map(|result| (result.end / PANE, result.counts[Delivered], result.revision))
        .collect();
    // Pane 2 enters at 3, pane 3 enters at 4, pane 0 leaves at 7. Pane 2 leaves at 9, where no
    // result had been published.
    assert_eq!(minute, [(3, 3, 2), (4, 4, 2), (7, 3, 2), (9, 1, 0)]);
    let tumbled: Vec<_> =
        advanced.tumbled.iter().map(|w| (w.width, w.end / PANE, w.counts[Delivered])).collect();
    assert_eq!(tumbled, [(Width::M1, 6, 4)]);
    assert_eq!(windows.advance(9 * PANE, 9 * PANE), Advanced::default());
}

#[test]
fn a_ring_accepts_a_delta_as_long_as_it_has_the_pane() {
    let one = Counts::of([(Delivered, 1)]);
    let pane = PaneStart::try_from(29 * PANE).unwrap();
    let mut windows = ScopeWindows::new(ALL);
    let (fine, day) = (30 * PANE + 70 * MINUTE, 30 * PANE + 26 * HOUR);
    let mut now = 0;
    for (at, expected) in [
        (fine - 1, [Admission::Corrects, Admission::Corrects]),
        (fine, [Admission::TooLate, Admission::Corrects]),
        (day - 1, [Admission::TooLate, Admission::Corrects]),
        (day, [Admission::TooLate, Admission::TooLate]),
    ] {
        windows.advance(now, at);
        now = at;
        assert_eq!(windows.apply(now, pane, &one).rings, expected, "{at}");
        windows.advance(now, now);
    }
}

#[test]
fn a_subtraction_without_a_count_changes_no_window() {
    let pane = PaneStart::try_from(0).unwrap();
    let mut windows = ScopeWindows::new(ALL);
    let _ = windows.apply(0, pane, &Counts::of([(Delivered, 2)]));
    windows.advance(0, PANE);
    let applied = windows.apply(PANE, pane, &Counts::of([(Delivered, -1), (Opened, -3)]));
    assert_eq!((applied.rings[0], applied.without_count), (Admission::Corrects, 3));
    let slides = windows.advance(PANE, PANE).slides;
    assert_eq!(slides[0].windows[0].counts, Counts::of([(Delivered, 1)]));
}

#[test]
fn corrected_windows_of_a_minute_wait_until_a_minute_is_over_unless_everything_is_emitted() {
    let pane = PaneStart::try_from(0).unwrap();
    let one = Counts::of([(Delivered, 1)]);
    let mut windows = ScopeWindows::new(Emits { past: false, tumbling: true });
    let now = MINUTE + PANE;
    let _ = windows.apply(0, pane, &one);
    let first = windows.advance(0, now);
    assert_eq!(first.tumbled.len(), 1);
    for late in 1..4 {
        assert_eq!(windows.apply(now, pane, &one).rings[0], Admission::Corrects);
        assert_eq!(windows.advance(now, now).tumbled, [], "{late}");
    }
    assert_eq!(windows.due(now), Some(2 * MINUTE));
    // The windows that wait are restored.
    let of = |ring| windows.panes(ring).map(move |pane| (ring, pane.clone()));
    let panes: Vec<_> = Ring::ALL.into_iter().flat_map(of).collect();
    let waiting = windows.waiting().clone();
    let emits = Emits { past: false, tumbling: true };
    let mut restored = ScopeWindows::restore(panes, waiting, emits, now);
    let advanced = restored.advance(now, 2 * MINUTE);
    assert_eq!(advanced, windows.advance(now, 2 * MINUTE));
    let [window] = advanced.tumbled[..] else { panic!("{:?}", advanced.tumbled) };
    assert_eq!(
        (window.end, window.revision, window.counts),
        (MINUTE, 3, Counts::of([(Delivered, 4)]))
    );
    assert!(restored.waiting().is_empty());
}
