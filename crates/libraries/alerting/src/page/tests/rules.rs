//! The page of each default rule, as people receive it. Each rule is broken by made-up counts, and the code of the
//! monitor writes the text.

use event::Counter::{
    AuthRefused, BouncedBlock, BouncedHard, BouncedSoft, Complained, Deferred, Delivered,
    DeliveredFbl, Dropped, Engaged, Injected, Listed, Opened, Suppressed, Throttled, Unclassified,
    Unsubscribed,
};
use window::{Counts, Direction, ScopeKind, Width};

use super::*;
use crate::baseline::{Baseline, Zone};
use crate::{AsOf, Basis, Evidence, Rule, RuleInForce, RuleSet, ScopeEpisodes};

/// The expected pages, in the order of the default rules.
const PAGES: &str = include_str!("pages.txt");

/// What a scope has in all its windows and cohorts, except that nothing was sent in the last minute.
struct Everywhere {
    end: i64,
    counts: Counts,
    last_event: i64,
    baseline: Option<Baseline>,
}

impl Evidence for Everywhere {
    fn end(&self) -> i64 {
        self.end
    }

    fn window(&self, width: Width) -> Option<Counts> {
        Some(if width == Width::M1 { Counts::default() } else { self.counts })
    }

    fn cohort(&self, _: i64, _: i64) -> Counts {
        self.counts
    }

    fn campaign(&self) -> Option<(i64, Counts)> {
        Some((self.end - 3 * HOUR, self.counts))
    }

    fn rates_known(&self) -> bool {
        true
    }

    fn aligned(&self) -> bool {
        true
    }

    fn last_event(&self) -> Option<i64> {
        Some(self.last_event)
    }

    fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_ref()
    }
}

/// Returns counts with this numerator and denominator.
fn counts(measure: Measure, k: i64, n: i64) -> Counts {
    let rest = n - k;
    let known = match measure {
        Measure::Rate(Metric::HardBounce) => vec![(BouncedHard, k), (Delivered, rest)],
        Measure::Rate(Metric::Bounce) => {
            vec![(BouncedHard, k / 2), (BouncedSoft, k - k / 2), (Delivered, rest)]
        }
        Measure::Rate(Metric::BlockBounce) => vec![(BouncedBlock, k), (Delivered, rest)],
        Measure::Rate(Metric::Deferral) => vec![(Deferred, k), (Delivered, rest)],
        Measure::Rate(Metric::Delivery) => vec![(Delivered, k), (BouncedBlock, rest)],
        Measure::Rate(Metric::Complaint) => {
            vec![(Complained, k), (Delivered, 2 * n), (DeliveredFbl, n)]
        }
        Measure::Rate(Metric::Unsubscribe) => vec![(Unsubscribed, k), (Delivered, n)],
        Measure::Rate(Metric::Engagement) => vec![(Engaged, k), (Delivered, n)],
        Measure::Rate(Metric::Open) => vec![(Opened, k), (Delivered, n)],
        Measure::Share(Share::AuthRefused) => {
            vec![(AuthRefused, k), (BouncedBlock, k), (Delivered, rest)]
        }
        Measure::Share(Share::Throttled) => vec![(Throttled, k), (Deferred, k), (Delivered, n)],
        Measure::Share(Share::Listed) => vec![(Listed, k), (BouncedBlock, k), (Delivered, rest)],
        Measure::Share(Share::Suppressed) => {
            vec![(Suppressed, k), (Dropped, k), (Injected, rest)]
        }
        Measure::Share(Share::Unclassified) => vec![(Unclassified, k), (BouncedSoft, n)],
        Measure::Share(Share::DeliveriesMissing) => vec![(Opened, n)],
        other => unreachable!("no default rule is about {other:?}"),
    };
    let mut counts = Counts::default();
    known.into_iter().for_each(|(counter, number)| counts.increase(counter, number));
    counts
}

/// Four weeks of 600 deliveries an hour, of which half are at reporting providers, with 2 complaints, and of mail of
/// which people open a fifth.
fn history() -> Baseline {
    let mut baseline = Baseline::new(Zone::UTC);
    let hour_of_start = START.div_euclid(HOUR) * HOUR;
    for hour in (1..=4 * 168).rev() {
        let at = hour_of_start - hour * HOUR;
        let counts =
            Counts::of([(Delivered, 600), (DeliveredFbl, 300), (Complained, 2), (Engaged, 120)]);
        baseline.observe(at, &counts, MINUTE);
        // In the last day, people open a twentieth.
        let engaged = if hour <= 26 { 30 } else { 120 };
        baseline.observe_cohort(at, &Counts::of([(Delivered, 600), (Engaged, engaged)]));
    }
    baseline
}

/// Returns evidence that breaks the rule beyond its worst threshold.
fn evidence(rule: &Rule) -> Everywhere {
    let worst = rule.page.or(rule.critical).or(rule.warning).unwrap();
    let n = if rule.basis == Basis::Campaign { 2_000 } else { 10_000 };
    let share = match (rule.name.as_str(), rule.direction) {
        ("complaint_burst", _) => 0.004,
        (_, Direction::Over) => worst * 1.8,
        (_, Direction::Under) if worst > 0.5 => worst - 0.04,
        (_, Direction::Under) => worst * 0.7,
    };
    #[expect(clippy::cast_possible_truncation, reason = "small")]
    let k = (share * f64::from(n)).round() as i64;
    let counts = match rule.metric {
        Measure::Share(Share::Gap) => Counts::default(),
        metric => counts(metric, k, i64::from(n)),
    };
    let needs_history = matches!(rule.test, crate::rule::Test::Burst | crate::rule::Test::Gap)
        || rule.test == crate::rule::Test::Missing
        || rule.name == "spam_foldering";
    let baseline = needs_history.then(history);
    Everywhere { end: START, counts, last_event: START - 12 * MINUTE, baseline }
}

fn scope_of(rule: &Rule) -> Scope {
    let mailbox_provider = match rule.name.as_str() {
        "provider_wording_yahoo" => "yahoo",
        "provider_wording_listed" => "outlook",
        _ => "gmail",
    };
    let kind = rule.scopes.first().copied().unwrap_or(ScopeKind::Source);
    let value = |dimension| {
        Some(match dimension {
            event::Dimension::Campaign => "spring-sale",
            event::Dimension::MailboxProvider => mailbox_provider,
            _ => "news.acme.example",
        })
    };
    Scope::new(kind, Provider::SendGrid, "acme", value).unwrap()
}

/// Returns the last alert that the rule fires.
fn fired(rule: &RuleInForce) -> Alert {
    let (scope, rules) = (scope_of(rule), [rule.clone()]);
    let (mut episodes, mut alerts) = (ScopeEpisodes::default(), Vec::new());
    let as_of = AsOf([(0, 1)].into());
    let mut evidence = evidence(rule);
    episodes.judge(&scope, &rules, &evidence, &as_of, &mut alerts);
    evidence.end += 2 * MINUTE;
    episodes.advance(&scope, &rules, &evidence, evidence.end, &as_of, &mut alerts);
    let last = alerts.pop();
    last.unwrap_or_else(|| panic!("{} does not fire", rule.name))
}

#[test]
fn every_default_rule_has_a_page() {
    let settings =
        PageSettings { runbook_base: "https://mail.example".into(), ..super::settings() };
    let mut pages = String::new();
    for rule in RuleSet::defaults().rules() {
        let alert = fired(rule);
        let incident = incident(&[alert]);
        let page = page(&incident, None, &settings).text();
        let page = page.replace(&incident.id.to_string(), "INCIDENT");
        let page = page.replace(&incident.lead.episode_id.to_string(), "EPISODE");
        pages += &format!("{page}\n\n");
    }
    let expected: Vec<&str> = PAGES.trim_end().split("\n\n").collect();
    let actual: Vec<&str> = pages.trim_end().split("\n\n").collect();
    for (number, actual) in actual.iter().enumerate() {
        let expected = expected.get(number).copied().unwrap_or_default();
        assert_eq!(*actual, expected, "pages.txt must be\n{pages}");
    }
    assert_eq!(actual.len(), expected.len(), "pages.txt has pages of rules that are gone");
}
