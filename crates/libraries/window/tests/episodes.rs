//! Episodes: when they open, become critical and close.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};

use event::{OccurredAt, Provider};
use proptest::prelude::*;
use window::{
    Alert, Applied, Counts, Episodes, PANE, PaneStart, Rule, Scope, ScopeWindows, Severity, State,
    Width,
};

fn scope() -> Scope {
    Scope::Source { provider: Provider::Postmark, source: "acme".into() }
}

fn rule(text: &str) -> Rule {
    toml::from_str(text).unwrap()
}

/// One scope with its windows and episodes, as the rate step keeps them. Time is in panes.
struct Rate {
    rules: Vec<Rule>,
    windows: ScopeWindows,
    episodes: Episodes,
    alerts: Vec<Alert>,
}

impl Rate {
    fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            windows: ScopeWindows::new(60 * PANE, 0),
            episodes: Episodes::default(),
            alerts: Vec::new(),
        }
    }

    fn apply(&mut self, pane: i64, counts: Counts) {
        let applied = self.windows.apply(PaneStart::of(OccurredAt(pane * PANE)), &counts);
        assert_ne!(applied, Applied::TooLate);
    }

    fn bounces(&mut self, pane: i64, bounced_hard: u64, accepted: u64) {
        self.apply(pane, Counts { bounced_hard, accepted, ..Counts::default() });
    }

    fn advance(&mut self, clock: i64) {
        let mut slides = Vec::new();
        self.windows.advance_slides(clock * PANE, &mut slides);
        for slide in slides.iter().filter(|slide| !slide.past) {
            self.episodes.evaluate(
                &scope(),
                &self.rules,
                slide.end,
                &slide.windows,
                &mut self.alerts,
            );
        }
        self.episodes.settle(&scope(), &self.rules, clock * PANE, &mut self.alerts);
    }

    fn restart(&mut self) {
        let json = serde_json::to_string(&self.episodes).unwrap();
        let restored: Episodes = serde_json::from_str(&json).unwrap();
        assert_eq!(restored, self.episodes);
        self.episodes = restored;
        let panes: Vec<_> = self.windows.panes().copied().collect();
        self.windows = ScopeWindows::from_panes(panes, 60 * PANE, self.windows.clock());
    }

    /// The transitions since the last call: severity, state, slide end.
    fn transitions(&mut self) -> Vec<(Severity, State, i64)> {
        self.alerts.drain(..).map(|alert| (alert.severity, alert.state, alert.at / PANE)).collect()
    }
}

const BOUNCE: &str =
    "name = 'bounce'\nmetric = 'bounce'\ndirection = 'over'\nthreshold = 0.05\nmin_volume = 200\n";

use Severity::{Critical, Warning};
use State::{Firing, Resolved};

#[test]
fn one_episode_whatever_the_number_of_windows() {
    let mut rate = Rate::new(vec![rule(BOUNCE)]);
    rate.bounces(0, 15, 200);
    rate.advance(1);
    let [fired] = rate.alerts.as_slice() else { panic!("{:?}", rate.alerts) };
    assert_eq!((fired.severity, fired.state, fired.at), (Warning, Firing, PANE));
    assert_eq!((fired.value, fired.numerator, fired.volume), (Some(0.075), 15, 200));
    assert_eq!((fired.threshold, fired.width), (0.05, Width::M1));
    let id = fired.episode_id;

    // It holds in ever fewer windows, until it has left the widest.
    rate.alerts.clear();
    rate.advance(360);
    assert_eq!(rate.alerts, []);
    rate.advance(400);
    let [resolved] = rate.alerts.as_slice() else { panic!("{:?}", rate.alerts) };
    assert_eq!((resolved.state, resolved.at, resolved.value), (Resolved, 361 * PANE, None));
    assert_eq!((resolved.episode_id, resolved.started_at), (id, PANE));
    assert!(rate.episodes.is_empty());
}

#[test]
fn it_becomes_critical_once_and_falls_back_in_silence() {
    let mut rate = Rate::new(vec![rule(&format!("{BOUNCE}widths = ['1m']"))]);
    for (pane, bounced) in [(0, 15), (10, 30), (20, 15), (30, 30)] {
        rate.bounces(pane, bounced, 200);
        for beside in 1..10 {
            rate.bounces(pane + beside, bounced, 200);
        }
    }
    rate.advance(40);
    let ids: BTreeSet<_> = rate.alerts.iter().map(|alert| alert.episode_id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(rate.alerts[1].threshold, 0.1);
    // Beyond 10 % over six panes: four with 30 of 200 and two with 15 give 12.5 %, three and three
    // 11.25 %, two and four exactly 10 %.
    assert_eq!(rate.transitions(), [(Warning, Firing, 1), (Critical, Firing, 13)]);
    rate.advance(100);
    assert_eq!(rate.transitions(), [(Critical, Resolved, 46)]);
}

#[test]
fn a_new_breach_after_a_resolution_is_a_new_episode() {
    let mut rate = Rate::new(vec![rule(&format!("{BOUNCE}widths = ['1m']"))]);
    rate.bounces(0, 15, 200);
    rate.bounces(6, 15, 200);
    rate.bounces(13, 15, 200);
    rate.advance(30);
    let ids: Vec<_> = rate.alerts.iter().map(|alert| alert.episode_id).collect();
    assert_eq!((ids[0], ids[2]), (ids[1], ids[3]));
    assert_ne!(ids[0], ids[2]);
    assert_eq!(
        rate.transitions(),
        [
            (Warning, Firing, 1),
            (Warning, Resolved, 13),
            (Warning, Firing, 14),
            (Warning, Resolved, 20)
        ]
    );
}

#[test]
fn too_small_a_volume_neither_fires_nor_holds() {
    let mut rate = Rate::new(vec![rule(&format!("{BOUNCE}widths = ['1m']"))]);
    rate.bounces(0, 199, 199);
    rate.advance(3);
    assert_eq!(rate.transitions(), []);
    rate.bounces(3, 0, 1);
    rate.advance(4);
    assert_eq!(rate.transitions(), [(Critical, Firing, 4)]);
    rate.advance(7);
    assert_eq!(rate.transitions(), [(Critical, Resolved, 7)]);
}

#[test]
fn it_does_not_flap_between_the_threshold_and_the_way_back() {
    let text = format!("{BOUNCE}widths = ['1m']\nresolve_ratio = 0.8\nresolve_after = '5m'");
    let mut rate = Rate::new(vec![rule(&text)]);
    // 7.5 %, then 4.5 % (lingers), then 3.5 % (good), then 7.5 % again within the five minutes,
    // then nothing at all.
    for (panes, bounced) in [(0..10, 15), (10..20, 9), (20..40, 7), (40..50, 15)] {
        for pane in panes {
            rate.bounces(pane, bounced, 200);
        }
    }
    rate.advance(50);
    assert_eq!(rate.transitions(), [(Warning, Firing, 1)]);
    // The last bad window ends at 55; the scope has no panes left long before it resolves.
    rate.advance(55 + 30);
    assert_eq!(rate.transitions(), []);
    assert_eq!(rate.episodes.due(&rate.rules), Some((56 + 30) * PANE));
    rate.restart();
    rate.advance(2000);
    assert_eq!(rate.transitions(), [(Warning, Resolved, 56 + 30)]);
}

#[test]
fn low_rates_fire_too_and_nothing_to_divide_by_is_not_low() {
    let seeds = Rule::seeds();
    let mut rate = Rate::new(seeds);
    rate.apply(0, Counts { accepted: 100, delivered: 100, ..Counts::default() });
    rate.advance(1);
    assert_eq!(rate.transitions(), []);
    rate.apply(1, Counts { accepted: 1, delivered: 1, opened: 7, engaged: 7, ..Counts::default() });
    rate.advance(2);
    assert_eq!(rate.alerts[0].rule, "low_opens");
    assert_eq!(rate.transitions(), [(Warning, Firing, 2)]);
    rate.advance(500);
    assert_eq!(rate.transitions(), [(Warning, Resolved, 361)]);
}

#[test]
fn the_seeds_fire_for_a_bad_campaign() {
    let mut rate = Rate::new(Rule::seeds());
    rate.apply(
        0,
        Counts {
            accepted: 1100,
            delivered: 1000,
            bounced_hard: 100,
            complained: 3,
            opened: 90,
            engaged: 100,
            ..Counts::default()
        },
    );
    rate.advance(1);
    let fired: BTreeMap<_, _> =
        rate.alerts.iter().map(|alert| (alert.rule.as_str(), alert.severity)).collect();
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
fn a_late_correction_fires_at_the_newest_end_and_never_shares_an_identity() {
    let mut rate = Rate::new(vec![rule(BOUNCE)]);
    rate.bounces(0, 0, 200);
    rate.advance(30);
    rate.bounces(1, 11, 0);
    rate.advance(30);
    assert_eq!(rate.transitions(), [(Warning, Firing, 30)]);
    // More late events take it back: it is over at the next slide end, not where it began.
    rate.bounces(2, 0, 400);
    rate.advance(30);
    assert_eq!(rate.transitions(), []);
    rate.advance(31);
    assert_eq!(rate.transitions(), [(Warning, Resolved, 31)]);
    rate.bounces(3, 15, 0);
    rate.advance(31);
    assert_eq!(rate.transitions(), [(Warning, Firing, 31)]);
}

#[test]
fn an_episode_whose_rule_is_gone_is_closed() {
    let mut rate = Rate::new(vec![rule(BOUNCE)]);
    rate.bounces(0, 15, 200);
    rate.advance(1);
    rate.alerts.clear();
    rate.rules.clear();
    rate.restart();
    rate.advance(5);
    assert_eq!(rate.transitions(), [(Warning, Resolved, 5)]);
    assert!(rate.episodes.is_empty());
}

/// A transition as the model sees it.
type Transition = (i64, String, Severity, State, i64);

/// Looks at every window of every slide end, changed or not.
fn model(rules: &[Rule], facts: &[(i64, Counts)], last: i64) -> Vec<Transition> {
    let mut out = Vec::new();
    for rule in rules {
        let mut open: Option<(i64, Severity, i64)> = None;
        for end in 1..=last {
            let rates: Vec<f64> = rule
                .widths
                .iter()
                .filter_map(|width| {
                    let window = end - width.minutes() * 6..end;
                    let sum = facts
                        .iter()
                        .filter(|(pane, _)| window.contains(pane))
                        .fold(Counts::default(), |sum, (_, counts)| sum + *counts);
                    let enough = sum.accepted > 0 && sum.accepted >= rule.min_volume;
                    enough.then(|| sum.bounced_hard as f64 / sum.accepted as f64)
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

impl Rate {
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

    /// Neither the steps of the clock nor restarts show in the alerts.
    #[test]
    fn alerts_are_those_of_a_look_at_every_slide_end(
        facts in prop::collection::vec((0..200_i64, 1..120_u64, 0..16_u64), 0..80),
        advances in prop::collection::vec((1..60_i64, any::<bool>()), 0..20),
    ) {
        let rules = vec![
            rule(BOUNCE),
            rule(&format!("{}resolve_ratio = 0.7\nresolve_after = '3m'\nwidths = ['1m', '5m']",
                BOUNCE.replace("'bounce'\nmetric", "'held'\nmetric"))),
            rule(&format!("{}resolve_after = '20s'\nwidths = ['1m']",
                BOUNCE.replace("'bounce'\nmetric", "'short'\nmetric").replace("200", "50"))),
        ];
        let mut rate = Rate::new(rules.clone());
        let mut all = Vec::new();
        for (pane, accepted, bounced_hard) in facts {
            let counts = Counts { accepted, bounced_hard, ..Counts::default() };
            rate.apply(pane, counts);
            all.push((pane, counts));
        }
        let mut clock = 0;
        for (by, restart) in advances {
            clock += by;
            rate.advance(clock);
            if restart {
                rate.restart();
            }
        }
        let last = clock.max(800);
        rate.advance(last);
        prop_assert_eq!(rate.sorted(), model(&rules, &all, last));
        prop_assert!(rate.episodes.is_empty());
        let starts: BTreeSet<_> = rate.alerts.iter().map(|a| (&a.rule, a.started_at)).collect();
        let ids: BTreeSet<_> = rate.alerts.iter().map(|a| a.episode_id).collect();
        prop_assert_eq!(starts.len(), ids.len());
    }
}
