//! Checks every transition of an alert against the rows of `events`, with its own arithmetic. From the crate
//! `alerting` it uses the names of measures and the values of rules.

use std::collections::{BTreeMap, BTreeSet};

use alerting::rule::Test;
use alerting::{Measure, RuleInForce, RuleSet, Share};
use anyhow::Context;
use event::Counter;
use serde::Deserialize;
use window::{Direction, Metric};

use super::balance::{Balance, Errors};
use super::offline::{self, Before, Counts, Scope, Timeline, parts};
use crate::clickhouse::Database;

const PART: &str = "alerts";

/// A row of the table `alerts` of this release.
#[derive(Debug, Clone, Deserialize)]
struct Transition {
    episode_id: String,
    rule: String,
    of: [String; offline::SCOPE.len()],
    seq: u32,
    severity: String,
    state: String,
    reason: String,
    metric: String,
    basis: String,
    threshold: f64,
    numerator: i64,
    volume: i64,
    started: i64,
    moment: i64,
    first: i64,
    end: i64,
    as_of: BTreeMap<String, i64>,
}

/// Earlier releases wrote no number, and no offsets.
fn query() -> String {
    format!(
        "SELECT toString(episode_id) AS episode_id, toString(rule) AS rule, \
         arrayMap(it -> toString(it), [{}]) AS of, seq, toString(severity) AS severity, \
         toString(state) AS state, toString(reason) AS reason, toString(metric) AS metric, \
         toString(basis) AS basis, threshold, numerator, volume, \
         toUnixTimestamp64Micro(started_at) AS started, toUnixTimestamp64Micro(at) AS moment, \
         toUnixTimestamp64Micro(window_from) AS first, toUnixTimestamp64Micro(window_to) AS end, as_of \
         FROM alerts WHERE seq > 0 ORDER BY kafka_partition, kafka_offset",
        offline::SCOPE.map(|column| format!("toString({column})")).join(", ")
    )
}

/// Compares all transitions of this release. `before` is what an earlier release had counted.
pub(super) async fn prove(
    balance: &mut Balance,
    database: &Database,
    timelines: &BTreeMap<Scope, Timeline>,
    rules: &RuleSet,
    before: Option<&Before>,
) -> anyhow::Result<()> {
    let transitions: Vec<Transition> = database.rows(&query()).await?;
    let (mut equal, mut different, mut all) = (0, Errors::default(), 0);
    let mut without_evidence = Errors::default();
    let mut by_scope: BTreeMap<Scope, Vec<&Transition>> = BTreeMap::new();
    for transition in &transitions {
        by_scope.entry(Scope(transition.of.clone())).or_default().push(transition);
    }
    for (scope, transitions) in &by_scope {
        let answer = database.text(&offline::changes(before, scope)).await?;
        let changes: Vec<Change> = answer
            .lines()
            .map(|line| Change::read(line).with_context(|| format!("malformed answer: {line}")))
            .collect::<anyhow::Result<_>>()?;
        for transition in transitions.iter().filter(|it| is_verifiable(it, before)) {
            all += 1;
            let found = transition.recompute(&changes);
            if found == Some((transition.numerator, transition.volume)) {
                equal += 1;
            } else {
                different.add(|| format!("recomputed {found:?}: {transition:?}"));
            }
            let rule = rules.rules().iter().find(|rule| rule.name == transition.rule);
            if !rule.is_some_and(|rule| transition.has_evidence(rule)) {
                without_evidence.add(|| format!("{transition:?}"));
            }
        }
    }
    balance.line(PART, "transitions whose counts equal the recomputed ones", equal, all);
    balance.none(PART, "transitions with other counts", &different);
    balance.none(PART, "episodes that began without evidence", &without_evidence);
    balance.none(PART, "transitions that do not follow the one before", &malformed(&transitions));
    if before.is_none() {
        balance.none(PART, "scopes with many bounces and no alert", &missing(timelines, &by_scope));
    }
    Ok(())
}

/// Returns whether the rows of `events` contain everything that the transition counts.
fn is_verifiable(transition: &Transition, before: Option<&Before>) -> bool {
    let is_share = !matches!(measure(&transition.metric), Some(Measure::Share(Share::Gap)));
    // An upgraded installation does not know the first day completely.
    let is_known = before.is_none() || transition.end - transition.first <= 3_600_000_000;
    is_share && is_known
}

fn measure(name: &str) -> Option<Measure> {
    serde_json::from_value(name.into()).ok()
}

/// One thing that an event has changed in a scope.
struct Change {
    partition: String,
    offset: i64,
    /// An earlier release had counted it. Offsets do not tell, because it published none.
    is_old: bool,
    /// The start of the hour in which the message was sent.
    cohort: Option<i64>,
    at: i64,
    counter: Counter,
    number: i64,
}

impl Change {
    /// Reads a line of the answer to [`offline::changes`].
    fn read(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[partition, offset, old, cohort, at, counter, number] = fields.as_slice() else {
            return None;
        };
        Some(Self {
            partition: partition.to_owned(),
            offset: offset.parse().ok()?,
            is_old: offline::is_true(old),
            cohort: if cohort.is_empty() { None } else { Some(cohort.parse().ok()?) },
            at: at.parse().ok()?,
            counter: Counter::from_name(counter)?,
            number: number.parse().ok()?,
        })
    }
}

impl Transition {
    /// Returns numerator and denominator of exactly the events before `as_of`.
    fn recompute(&self, changes: &[Change]) -> Option<(i64, i64)> {
        let window = self.first..self.end;
        let is_counted = |change: &&Change| {
            let next = self.as_of.get(&change.partition);
            let is_before = change.is_old || next.is_some_and(|next| change.offset < *next);
            let is_inside = match self.basis.as_str() {
                "arrival" => window.contains(&change.at),
                "cohort" => change.cohort.is_some_and(|hour| window.contains(&hour)),
                // The counts of a campaign begin with a pane, and have no end.
                "campaign" => change.at >= self.first,
                _ => false,
            };
            is_before && is_inside
        };
        let mut counts = Counts::default();
        for change in changes.iter().filter(is_counted) {
            counts[change.counter as usize] += change.number;
        }
        let (part, whole) = fraction(measure(&self.metric)?, &counts, self.basis == "cohort")?;
        Some((part.min(whole), whole))
    }

    /// Returns whether so many are improbable enough at a true rate equal to the threshold. True for transitions
    /// that begin no episode, and for rules that judge in another way.
    fn has_evidence(&self, rule: &RuleInForce) -> bool {
        if self.seq != 1 || rule.test != Test::Bound || rule.baseline.is_some() {
            return true;
        }
        let (k, n, p) = (self.numerator, self.volume, self.threshold);
        let chance = match rule.direction {
            Direction::Over => tail(k, n, p),
            Direction::Under => tail(n - k, n, 1.0 - p),
        };
        chance <= rule.confidence * 1.001
    }
}

/// Returns the probability of `k` or more of `n` at a true rate of `p`.
fn tail(k: i64, n: i64, p: f64) -> f64 {
    let (mut log_term, mut sum) = (n as f64 * (1.0 - p).ln(), 0.0);
    for i in 0..=n {
        if i >= k {
            sum += log_term.exp();
        }
        log_term += ((n - i) as f64 / (i + 1) as f64).ln() + (p / (1.0 - p)).ln();
    }
    sum
}

/// Returns numerator and denominator as `docs/metrics.md` defines them.
fn fraction(measure: Measure, counts: &Counts, is_cohort: bool) -> Option<(i64, i64)> {
    let of = |counter: Counter| counts[counter as usize];
    let (bounces, sent) = parts(Metric::Bounce, counts);
    let late = if is_cohort { of(Counter::LateBounces) } else { 0 };
    let late_fbl = if is_cohort { of(Counter::LateBouncesFbl) } else { 0 };
    let of_sent = |counter: Counter| Some((of(counter), sent.max(of(counter))));
    match measure {
        Measure::Rate(metric) => {
            let (part, whole) = parts(metric, counts);
            Some(match metric {
                Metric::Complaint => (part, whole - late_fbl),
                Metric::Delivery => (part - late, whole),
                Metric::PlainComplaint
                | Metric::Unsubscribe
                | Metric::Open
                | Metric::OpenWithMachines
                | Metric::Click
                | Metric::Engagement => (part, whole - late),
                _ => (part, whole),
            })
        }
        Measure::Share(Share::AuthRefused) => of_sent(Counter::AuthRefused),
        Measure::Share(Share::Throttled) => of_sent(Counter::Throttled),
        Measure::Share(Share::Listed) => of_sent(Counter::Listed),
        Measure::Share(Share::Suppressed) => {
            Some((of(Counter::Suppressed), of(Counter::Injected) + of(Counter::Dropped)))
        }
        Measure::Share(Share::Unclassified) => {
            Some((of(Counter::Unclassified), bounces + of(Counter::LateBounces)))
        }
        Measure::Share(Share::Gap | Share::DeliveriesMissing) => None,
    }
}

/// Finds transitions that do not follow from the one before: an episode begins by firing with number 1 (or was begun
/// by an earlier release), its numbers and times ascend, and of a rule and scope at most one is open.
fn malformed(transitions: &[Transition]) -> Errors {
    let mut errors = Errors::default();
    let mut open: BTreeMap<(&str, &[String]), &Transition> = BTreeMap::new();
    let mut ended: BTreeSet<&str> = BTreeSet::new();
    for it in transitions {
        let key = (it.rule.as_str(), it.of.as_slice());
        let follows = match open.remove(&key) {
            None => it.seq == 1 && (it.state == "firing" || it.as_of.is_empty()),
            Some(last) => {
                last.episode_id == it.episode_id
                    && last.started == it.started
                    && last.seq + 1 == it.seq
                    && last.moment <= it.moment
                    && rank(&last.severity) <= rank(&it.severity)
            }
        };
        let is_over = it.state == "resolved";
        if !follows || ended.contains(it.episode_id.as_str()) || is_over == it.reason.is_empty() {
            errors.add(|| format!("{it:?}"));
        }
        if is_over {
            ended.insert(&it.episode_id);
        } else {
            open.insert(key, it);
        }
    }
    errors
}

fn rank(severity: &str) -> Option<usize> {
    ["warning", "critical", "page"].iter().position(|it| *it == severity)
}

/// Finds sources and campaigns of which in some hour so many mails bounced that no prefix of the log can hide it, and
/// about which `hard_bounces` has not fired.
fn missing(
    timelines: &BTreeMap<Scope, Timeline>,
    transitions: &BTreeMap<Scope, Vec<&Transition>>,
) -> Errors {
    /// The limit for a page, and the least volume of the rule `hard_bounces`.
    const LIMIT: f64 = 0.1;
    const LEAST: i64 = 200;
    let mut errors = Errors::default();
    for (scope, timeline) in timelines.iter().filter(|(scope, _)| scope.0[0] == "source") {
        let has_fired = || {
            let of_scope = transitions.get(scope).into_iter().flatten();
            of_scope.into_iter().any(|it| it.rule == "hard_bounces")
        };
        let worst = timeline.hours().find(|counts| {
            let (hard, sent) = parts(Metric::HardBounce, counts);
            sent >= LEAST && timeline.sends_deliveries() && tail(hard, sent, LIMIT) < 1e-9
        });
        if let Some(counts) = worst
            && !has_fired()
        {
            errors
                .add(|| format!("{}: {:?}", scope.0.join("/"), parts(Metric::HardBounce, &counts)));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition(seq: u32, state: &str) -> Transition {
        Transition {
            episode_id: "e1".into(),
            rule: "hard_bounces".into(),
            of: ["source", "ses", "news", "", "", "", "", ""].map(str::to_owned),
            seq,
            severity: "warning".into(),
            state: state.into(),
            reason: if state == "resolved" { "recovered".into() } else { String::new() },
            metric: "hard_bounce".into(),
            basis: "arrival".into(),
            threshold: 0.1,
            numerator: 30,
            volume: 100,
            started: 0,
            moment: i64::from(seq),
            first: 0,
            end: 60,
            as_of: [("0".to_owned(), 5)].into(),
        }
    }

    fn change(offset: i64, at: i64, counter: Counter) -> Change {
        let partition = "0".to_owned();
        Change { partition, offset, is_old: false, cohort: Some(at), at, counter, number: 1 }
    }

    #[test]
    fn exactly_the_events_before_the_offset_and_in_the_window_count() {
        let changes = [
            change(0, 0, Counter::Delivered),
            change(4, 59, Counter::BouncedHard),
            change(5, 10, Counter::BouncedHard),
            change(1, 60, Counter::BouncedHard),
            change(2, -1, Counter::BouncedHard),
            Change { partition: "1".into(), ..change(0, 1, Counter::BouncedHard) },
            Change { is_old: true, ..change(9, 1, Counter::Delivered) },
        ];
        assert_eq!(transition(1, "firing").recompute(&changes), Some((1, 3)));
        let campaign = Transition { basis: "campaign".into(), ..transition(1, "firing") };
        assert_eq!(campaign.recompute(&changes), Some((2, 4)));
        let cohort = Transition { basis: "cohort".into(), ..transition(1, "firing") };
        assert_eq!(cohort.recompute(&changes), Some((1, 3)));
    }

    #[test]
    fn an_episode_needs_evidence() {
        let rules = RuleSet::defaults();
        let rule = rules.rules().iter().find(|rule| rule.name == "hard_bounces").unwrap();
        assert!(transition(1, "firing").has_evidence(rule));
        let few = Transition { numerator: 15, ..transition(1, "firing") };
        assert!(!few.has_evidence(rule));
        assert!((tail(8, 10, 0.5) - 56.0 / 1024.0).abs() < 1e-12);
    }

    #[test]
    fn episodes_that_are_not_well_formed_are_detected() {
        let count = |transitions: &[Transition]| malformed(transitions).count;
        let [one, two, end] =
            [transition(1, "firing"), transition(2, "firing"), transition(3, "resolved")];
        assert_eq!(count(&[one.clone(), two.clone(), end.clone()]), 0);
        assert_eq!(count(&[one.clone(), end.clone()]), 1, "a number is missing");
        assert_eq!(count(&[one.clone(), one.clone()]), 1, "published twice");
        assert_eq!(count(std::slice::from_ref(&two)), 1, "it has no beginning");
        let other = Transition { episode_id: "e2".into(), ..two.clone() };
        assert_eq!(count(&[one.clone(), other]), 1, "two are open");
        let again = Transition { seq: 1, ..one.clone() };
        assert_eq!(count(&[one, two, end, again]), 1, "it had ended");
    }
}
