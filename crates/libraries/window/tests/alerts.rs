//! When episodes fire, become critical and resolve.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use event::Counter::{BouncedHard, Complained, Delivered, DeliveredFbl, Engaged, Opened};
use event::{OccurredAt, Provider};
use proptest::prelude::*;
use window::{
    Admission, Alert, Counts, Emits, OpenEpisodes, PANE, PaneStart, Ring, Rule, Scope,
    ScopeWindows, Severity, State, Width, sent,
};

fn scope() -> Scope {
    Scope::Source { provider: Provider::Postmark, source: "acme".into() }
}

fn rule(text: &str) -> Rule {
    toml::from_str(text).unwrap()
}

/// One scope with its windows and episodes, as in the rate stage. Times are numbers of panes.
struct ScopeUnderTest {
    rules: Vec<Rule>,
    now: i64,
    windows: ScopeWindows,
    episodes: OpenEpisodes,
    alerts: Vec<Alert>,
}

impl ScopeUnderTest {
    fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            now: 0,
            windows: ScopeWindows::new(Emits::default()),
            episodes: OpenEpisodes::default(),
            alerts: Vec::new(),
        }
    }

    fn apply(&mut self, pane: i64, counts: Counts) {
        let pane = PaneStart::of(OccurredAt(pane * PANE));
        let applied = self.windows.apply(self.now * PANE, pane, &counts);
        assert!(!applied.rings.contains(&Admission::TooLate));
    }

    fn bounces(&mut self, pane: i64, bounced: i64, sent: i64) {
        self.apply(pane, bounces(bounced, sent));
    }

    fn advance(&mut self, to: i64) {
        let advanced = self.windows.advance(self.now * PANE, to * PANE);
        self.now = to;
        for slide in advanced.slides.iter().filter(|slide| !slide.past) {
            self.episodes.evaluate(
                &scope(),
                &self.rules,
                slide.end,
                &slide.windows,
                &mut self.alerts,
            );
        }
        self.episodes.resolve_due(&scope(), &self.rules, to * PANE, &mut self.alerts);
    }

    fn restart(&mut self) {
        let json = serde_json::to_string(&self.episodes).unwrap();
        let restored: OpenEpisodes = serde_json::from_str(&json).unwrap();
        assert_eq!(restored, self.episodes);
        self.episodes = restored;
        let of = |ring| self.windows.panes(ring).map(move |pane| (ring, pane.clone()));
        let panes: Vec<_> = Ring::ALL.into_iter().flat_map(of).collect();
        self.windows =
            ScopeWindows::restore(panes, BTreeSet::new(), Emits::default(), self.now * PANE);
    }

    /// Returns the transitions since the last call as severity, state and slide end.
    fn transitions(&mut self) -> Vec<(Severity, State, i64)> {
        self.alerts.drain(..).map(|alert| (alert.severity, alert.state, alert.at / PANE)).collect()
    }
}

fn bounces(bounced: i64, sent: i64) -> Counts {
    Counts::of([(BouncedHard, bounced), (Delivered, sent - bounced)])
}

const BOUNCE: &str =
    "name = 'bounce'\nmetric = 'bounce'\ndirection = 'over'\nthreshold = 0.05\nmin_volume = 200\n";

use Severity::{Critical, Warning};
use State::{Firing, Resolved};

#[test]
fn a_breach_in_several_windows_is_one_episode() {
    let mut scope = ScopeUnderTest::new(vec![rule(BOUNCE)]);
    scope.bounces(0, 15, 200);
    scope.advance(1);
    let [fired] = scope.alerts.as_slice() else { panic!("{:?}", scope.alerts) };
    assert_eq!((fired.severity, fired.state, fired.at), (Warning, Firing, PANE));
    assert_eq!((fired.value, fired.numerator, fired.volume), (Some(0.075), 15, 200));
    assert_eq!((fired.threshold, fired.width), (0.05, Width::M1));
    let id = fired.episode_id;

    // The breach leaves the windows one after the other, the widest one last.
    scope.alerts.clear();
    scope.advance(360);
    assert_eq!(scope.alerts, []);
    scope.advance(400);
    let [resolved] = scope.alerts.as_slice() else { panic!("{:?}", scope.alerts) };
    assert_eq!((resolved.state, resolved.at, resolved.value), (Resolved, 361 * PANE, None));
    assert_eq!((resolved.episode_id, resolved.started_at), (id, PANE));
    assert!(scope.episodes.is_empty());
}

#[test]
fn an_episode_becomes_critical_once_and_sends_no_alert_when_it_falls_back() {
    let mut scope = ScopeUnderTest::new(vec![rule(&format!("{BOUNCE}widths = ['1m']"))]);
    for (pane, bounced) in [(0, 15), (10, 30), (20, 15), (30, 30)] {
        scope.bounces(pane, bounced, 200);
        for beside in 1..10 {
            scope.bounces(pane + beside, bounced, 200);
        }
    }
    scope.advance(40);
    let ids: BTreeSet<_> = scope.alerts.iter().map(|alert| alert.episode_id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(scope.alerts[1].threshold, 0.1);
    // Rates over six panes: four with 30 of 200 and two with 15 give 12.5 %, three and three give
    // 11.25 %, two and four give exactly 10 %, which is not beyond the critical threshold.
    assert_eq!(scope.transitions(), [(Warning, Firing, 1), (Critical, Firing, 13)]);
    scope.advance(100);
    assert_eq!(scope.transitions(), [(Critical, Resolved, 46)]);
}

#[test]
fn a_breach_after_a_resolution_opens_a_new_episode() {
    let mut scope = ScopeUnderTest::new(vec![rule(&format!("{BOUNCE}widths = ['1m']"))]);
    scope.bounces(0, 15, 200);
    scope.bounces(6, 15, 200);
    scope.bounces(13, 15, 200);
    scope.advance(30);
    let ids: Vec<_> = scope.alerts.iter().map(|alert| alert.episode_id).collect();
    assert_eq!((ids[0], ids[2]), (ids[1], ids[3]));
    assert_ne!(ids[0], ids[2]);
    assert_eq!(
        scope.transitions(),
        [
            (Warning, Firing, 1),
            (Warning, Resolved, 13),
            (Warning, Firing, 14),
            (Warning, Resolved, 20)
        ]
    );
}

#[test]
fn a_window_with_too_little_volume_neither_fires_nor_prevents_resolution() {
    let mut scope = ScopeUnderTest::new(vec![rule(&format!("{BOUNCE}widths = ['1m']"))]);
    scope.bounces(0, 199, 199);
    scope.advance(3);
    assert_eq!(scope.transitions(), []);
    scope.bounces(3, 0, 1);
    scope.advance(4);
    assert_eq!(scope.transitions(), [(Critical, Firing, 4)]);
    scope.advance(7);
    assert_eq!(scope.transitions(), [(Critical, Resolved, 7)]);
}

#[test]
fn an_episode_does_not_flap_between_threshold_and_resolve_ratio() {
    let text = format!("{BOUNCE}widths = ['1m']\nresolve_ratio = 0.8\nresolve_after = '5m'");
    let mut scope = ScopeUnderTest::new(vec![rule(&text)]);
    // 7.5 %, then 4.5 % (not good enough to resolve), then 3.5 % (good), then 7.5 % again within
    // five minutes, then no events.
    for (panes, bounced) in [(0..10, 15), (10..20, 9), (20..40, 7), (40..50, 15)] {
        for pane in panes {
            scope.bounces(pane, bounced, 200);
        }
    }
    scope.advance(50);
    assert_eq!(scope.transitions(), [(Warning, Firing, 1)]);
    // The last bad window ends at 55. The scope is idle until the episode resolves.
    scope.advance(55 + 30);
    assert_eq!(scope.transitions(), []);
    assert_eq!(scope.episodes.due(&scope.rules), Some((56 + 30) * PANE));
    scope.restart();
    scope.advance(2000);
    assert_eq!(scope.transitions(), [(Warning, Resolved, 56 + 30)]);
}

#[test]
fn a_low_rate_fires_and_a_denominator_of_0_does_not() {
    let mut scope = ScopeUnderTest::new(Rule::defaults());
    scope.apply(0, Counts::of([(Delivered, 100)]));
    scope.advance(1);
    assert_eq!(scope.transitions(), []);
    scope.apply(1, Counts::of([(Delivered, 1), (Opened, 7), (Engaged, 7)]));
    scope.advance(2);
    assert_eq!(scope.alerts[0].rule, "low_opens");
    assert_eq!(scope.transitions(), [(Warning, Firing, 2)]);
    scope.advance(500);
    assert_eq!(scope.transitions(), [(Warning, Resolved, 361)]);
}

#[test]
fn the_default_rules_fire_for_a_bad_campaign() {
    let mut scope = ScopeUnderTest::new(Rule::defaults());
    scope.apply(
        0,
        Counts::of([
            (Delivered, 1000),
            (DeliveredFbl, 1000),
            (BouncedHard, 100),
            (Complained, 3),
            (Opened, 90),
            (Engaged, 100),
        ]),
    );
    scope.advance(1);
    let fired: BTreeMap<_, _> =
        scope.alerts.iter().map(|alert| (alert.rule.as_str(), alert.severity)).collect();
    assert_eq!(
        fired,
        BTreeMap::from([
            ("bounce_rate", Warning),
            ("complaint_rate", Critical),
            ("low_engagement", Warning),
            ("low_opens", Warning),
        ])
    );
}

#[test]
fn a_late_correction_fires_at_the_newest_slide_end_with_a_new_episode_id() {
    let mut scope = ScopeUnderTest::new(vec![rule(BOUNCE)]);
    scope.bounces(0, 0, 200);
    scope.advance(30);
    scope.bounces(1, 11, 11);
    scope.advance(30);
    assert_eq!(scope.transitions(), [(Warning, Firing, 30)]);
    // More late events revoke the breach: the episode resolves at the next slide end, not at the
    // one where it began.
    scope.bounces(2, 0, 400);
    scope.advance(30);
    assert_eq!(scope.transitions(), []);
    scope.advance(31);
    assert_eq!(scope.transitions(), [(Warning, Resolved, 31)]);
    scope.bounces(3, 16, 16);
    scope.advance(31);
    assert_eq!(scope.transitions(), [(Warning, Firing, 31)]);
}

#[test]
fn an_episode_resolves_if_its_rule_is_removed() {
    let mut scope = ScopeUnderTest::new(vec![rule(BOUNCE)]);
    scope.bounces(0, 15, 200);
    scope.advance(1);
    scope.alerts.clear();
    scope.rules.clear();
    scope.restart();
    scope.advance(5);
    assert_eq!(scope.transitions(), [(Warning, Resolved, 5)]);
    assert!(scope.episodes.is_empty());
}

/// A transition in the model: slide end, rule, severity, state, start of the episode.
type Transition = (i64, String, Severity, State, i64);

/// Evaluates the rules on every window at every slide end, changed or not. `deltas` are panes with
/// counts.
fn model(rules: &[Rule], deltas: &[(i64, Counts)], last: i64) -> Vec<Transition> {
    let mut out = Vec::new();
    for rule in rules {
        let mut open: Option<(i64, Severity, i64)> = None;
        for end in 1..=last {
            let rates: Vec<f64> = rule
                .widths
                .iter()
                .filter_map(|width| {
                    let window = end - width.micros() / PANE..end;
                    let sum = deltas
                        .iter()
                        .filter(|(pane, _)| window.contains(pane))
                        .fold(Counts::default(), |sum, (_, counts)| sum + *counts);
                    let sent = sent(&sum);
                    let enough = sent > 0 && sent >= rule.min_volume;
                    enough.then(|| sum[BouncedHard] as f64 / sent as f64)
                })
                .collect();
            let any = |level: f64| rates.iter().any(|&rate| rate > level);
            let severity = if any(rule.critical) { Critical } else { Warning };
            let mut report = |severity, state, started| {
                out.push((end, rule.name.clone(), severity, state, started));
            };
            open = match open {
                None if any(rule.threshold) => {
                    report(severity, Firing, end);
                    Some((end, severity, end))
                }
                None => None,
                Some((started, before, _)) if any(rule.threshold * rule.resolve_ratio) => {
                    if severity > before {
                        report(severity, Firing, started);
                    }
                    Some((started, before.max(severity), end))
                }
                Some((started, severity, held)) if end - held > rule.resolve_after / PANE => {
                    report(severity, Resolved, started);
                    None
                }
                open => open,
            };
        }
    }
    out.sort();
    out
}

impl ScopeUnderTest {
    fn sorted(&self) -> Vec<Transition> {
        let mut all: Vec<_> = self
            .alerts
            .iter()
            .map(|a| (a.at / PANE, a.rule.clone(), a.severity, a.state, a.started_at / PANE))
            .collect();
        all.sort();
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The alerts depend neither on the advances of the watermark nor on restarts.
    #[test]
    fn alerts_equal_those_of_an_evaluation_at_every_slide_end(
        deltas in prop::collection::vec((0..200_i64, 1..120_i64, 0..16_i64), 0..80),
        advances in prop::collection::vec((1..60_i64, any::<bool>()), 0..20),
    ) {
        let rules = vec![
            rule(BOUNCE),
            rule(&format!("{}resolve_ratio = 0.7\nresolve_after = '3m'\nwidths = ['1m', '5m']",
                BOUNCE.replace("'bounce'\nmetric", "'held'\nmetric"))),
            rule(&format!("{}resolve_after = '20s'\nwidths = ['1m']",
                BOUNCE.replace("'bounce'\nmetric", "'short'\nmetric").replace("200", "50"))),
        ];
        let mut scope = ScopeUnderTest::new(rules.clone());
        let mut all = Vec::new();
        for (pane, sent, bounced) in deltas {
            let counts = bounces(bounced, sent.max(bounced));
            scope.apply(pane, counts);
            all.push((pane, counts));
        }
        let mut to = 0;
        for (by, restart) in advances {
            to += by;
            scope.advance(to);
            if restart {
                scope.restart();
            }
        }
        let last = to.max(800);
        scope.advance(last);
        prop_assert_eq!(scope.sorted(), model(&rules, &all, last));
        prop_assert!(scope.episodes.is_empty());
        let starts: BTreeSet<_> = scope.alerts.iter().map(|a| (&a.rule, a.started_at)).collect();
        let ids: BTreeSet<_> = scope.alerts.iter().map(|a| a.episode_id).collect();
        prop_assert_eq!(starts.len(), ids.len());
    }
}
