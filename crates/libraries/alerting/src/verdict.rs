//! What the evidence tells about one rule.

mod gap;
mod usual;

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use window::{Counts, Direction, Metric, View, Width};

use crate::baseline::Series;
use crate::bounds::{self, float};
use crate::evidence::{AsOf, Evidence};
use crate::rule::{Rule, RuleWindow, Same, Test};
use crate::{Basis, Measure, Severity};

use gap::gap;
pub use gap::silence_times;
use usual::{burst, engagement, missing, relative};

/// Above this number of messages in the last minute, the bounces of this minute do not count yet for rules with
/// `settle`. With fewer, so few deliveries can be outstanding that the test is not misled.
pub const SETTLES_ABOVE: u64 = 100;

/// How much the delivery rate may be below the usual one if less engagement is to mean spam folders.
const DELIVERY_CHANGE: f64 = 0.02;

/// How bad a rule is broken, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// The evidence cannot be used now: nothing changes.
    NotJudged,
    /// Too little volume in every window.
    Starved,
    /// Good enough to end an episode.
    Good,
    /// Neither bad enough to open an episode nor good enough to end one.
    Elevated,
    /// Beyond the threshold of this severity.
    Breach(Severity),
}

/// The counts of one window, and what they were compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// The text form of the window.
    pub(crate) window: String,
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) numerator: u64,
    pub(crate) volume: u64,
    /// The same of every window of the rule, if there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) by_window: BTreeMap<String, (u64, u64)>,
    /// Thresholds in force, of warning, critical and page.
    pub(crate) thresholds: [Option<f64>; 3],
    /// The events that are counted.
    pub(crate) as_of: AsOf,
    /// The series that is silent, unless it is all events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) series: Option<Series>,
}

impl Reading {
    /// Returns the rate, or `None` if the volume is 0.
    pub(crate) fn value(&self) -> Option<f64> {
        (self.volume > 0).then(|| float(self.numerator) / float(self.volume))
    }
}

/// What the evidence tells about one rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) level: Level,
    /// The worst window. For scopes without an episode only if it is a breach.
    pub(crate) worst: Option<Reading>,
    /// The window of the open episode.
    pub(crate) own: Option<Reading>,
}

/// The open episode, as far as the verdict depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnWindow<'e> {
    pub(crate) window: &'e str,
    /// When the silence began.
    pub(crate) from: i64,
}

/// The windows of one judgement, each computed once, although many rules use it.
pub(crate) struct Windows<'e> {
    pub(crate) evidence: &'e dyn Evidence,
    pub(crate) as_of: &'e AsOf,
    known: RefCell<Vec<(Width, Option<Counts>)>>,
}

/// One window of a rule.
#[derive(Debug, Clone, Copy)]
struct Sample {
    from: i64,
    to: i64,
    /// The numerator and denominator of the rate.
    k: u64,
    n: u64,
    /// Those on which the verdict is based.
    judged: (u64, u64),
}

impl<'e> Windows<'e> {
    pub(crate) fn new(evidence: &'e dyn Evidence, as_of: &'e AsOf) -> Self {
        Self { evidence, as_of, known: RefCell::default() }
    }

    fn counts(&self, width: Width) -> Option<Counts> {
        let mut known = self.known.borrow_mut();
        if let Some((_, counts)) = known.iter().find(|(other, _)| *other == width) {
            return *counts;
        }
        let counts = self.evidence.window(width);
        known.push((width, counts));
        counts
    }

    /// Returns the numerator and denominator of a window, and those on which the verdict is based.
    pub(crate) fn counted(
        &self,
        rule: &Rule,
        window: &RuleWindow,
    ) -> Option<((u64, u64), (u64, u64))> {
        self.sample(rule, window).map(|sample| ((sample.k, sample.n), sample.judged))
    }

    fn sample(&self, rule: &Rule, window: &RuleWindow) -> Option<Sample> {
        let end = self.evidence.end();
        let (from, to, counts, view) = match *window {
            RuleWindow::Arrival(width) => {
                let to = self.evidence.window_end(width);
                (to - width.micros(), to, self.counts(width)?, View::Arrival)
            }
            RuleWindow::Cohort { youngest, oldest } => {
                let (from, to) = RuleWindow::cohort_at(youngest, oldest, end);
                (from, to, self.evidence.cohort(from, to), View::Cohort)
            }
            RuleWindow::Campaign => {
                let (since, counts) = self.evidence.campaign()?;
                (since, end, counts, View::Arrival)
            }
            RuleWindow::Gap => return None,
        };
        let (k, n) = rule.metric.fraction(&counts, view);
        let judged = match *window {
            RuleWindow::Campaign => self.settled(rule, (k, n), end - from),
            RuleWindow::Arrival(width) => (k, self.usual_volume(rule, width, n)),
            RuleWindow::Cohort { .. } | RuleWindow::Gap => (k, n),
        };
        Some(Sample { from, to, k, n, judged })
    }

    /// Returns the counts without the numerator of the last minute if the rule waits for slow deliveries. `age` is
    /// that of the campaign, in microseconds.
    fn settled(&self, rule: &Rule, (k, n): (u64, u64), age: i64) -> (u64, u64) {
        if rule.settle.micros() == 0 {
            return (k, n);
        }
        if age < rule.settle.micros() {
            return (0, n - k);
        }
        let minute = self.counts(Width::M1).map(|it| rule.metric.fraction(&it, View::Arrival));
        match minute {
            Some((new, sent)) if sent > SETTLES_ABOVE => {
                (k.saturating_sub(new), n.saturating_sub(new))
            }
            _ => (k, n),
        }
    }

    /// Returns the denominator that complaints and unsubscribes of a window are compared with. They are about mail
    /// of the whole day. If less mail was sent in the window than in an average one of the day, as at night or
    /// when a campaign has just ended, they are compared with the average.
    fn usual_volume(&self, rule: &Rule, width: Width, n: u64) -> u64 {
        let comes_late = matches!(
            rule.metric,
            Measure::Rate(Metric::Complaint | Metric::PlainComplaint | Metric::Unsubscribe)
        );
        if !comes_late || width == Width::H24 || rule.test != Test::Bound {
            return n;
        }
        let day =
            self.counts(Width::H24).map_or(0, |it| rule.metric.fraction(&it, View::Arrival).1);
        let (width, day_width) = (u64::from(width.seconds()), u64::from(Width::H24.seconds()));
        n.max(day.saturating_mul(width) / day_width)
    }
}

/// Judges a rule. Windows that begin before `not_before` do not count: an episode that has ended was about them.
pub(crate) fn judge(
    rule: &Rule,
    windows: &Windows<'_>,
    own: Option<OwnWindow<'_>>,
    not_before: i64,
) -> Verdict {
    let evidence = windows.evidence;
    let not_judged = Verdict { level: Level::NotJudged, worst: None, own: None };
    if !evidence.aligned() || (rule.metric.needs_deliveries() && !evidence.rates_known()) {
        return not_judged;
    }
    match rule.test {
        Test::Gap => gap(rule, windows, own, not_before).unwrap_or(not_judged),
        Test::Bound | Test::EValue | Test::Count | Test::Burst | Test::Missing => {
            rates(rule, windows, own, not_before).unwrap_or(not_judged)
        }
    }
}

fn rates(
    rule: &Rule,
    windows: &Windows<'_>,
    own: Option<OwnWindow<'_>>,
    not_before: i64,
) -> Option<Verdict> {
    let mut thresholds = [rule.warning, rule.critical, rule.page];
    let mut verdict = Verdict { level: Level::Starved, worst: None, own: None };
    let mut worst_value = 0.0;
    for window in &rule.windows {
        let sample = match rule.baseline.map(|baseline| baseline.same) {
            Some(Same::Weekday) => {
                let (sample, usual) = engagement(windows, window)?;
                thresholds = [rule.warning, rule.critical, rule.page].map(|it| Some(it? * usual));
                Some(sample)
            }
            _ => windows.sample(rule, window),
        };
        let Some(sample) = sample.filter(|sample| sample.from >= not_before) else { continue };
        if rule.baseline.is_some_and(|baseline| baseline.same == Same::HourOfWeek) {
            thresholds = relative(rule, windows.evidence.baseline(), sample.to);
        }
        let level = level(rule, window, &sample, &mut thresholds, windows, own.is_some())?;
        let is_own = own.is_some_and(|own| window.is(own.window));
        let is_worth_a_reading = own.is_some() || level > Level::Elevated;
        let value = if sample.n == 0 { 0.0 } else { float(sample.k) / float(sample.n) };
        let is_worse = match rule.direction {
            _ if verdict.worst.is_none() => true,
            Direction::Over => value > worst_value,
            Direction::Under => value < worst_value,
        };
        if is_worth_a_reading && (is_own || level > verdict.level || is_worse) {
            let reading = Reading {
                window: window.to_string(),
                from: sample.from,
                to: sample.to,
                numerator: sample.k,
                volume: sample.n,
                by_window: BTreeMap::new(),
                thresholds,
                as_of: windows.as_of.clone(),
                series: None,
            };
            if is_own {
                verdict.own = Some(reading.clone());
            }
            if level > verdict.level || (level == verdict.level && is_worse) {
                verdict.worst = Some(reading);
                worst_value = value;
            }
        }
        verdict.level = verdict.level.max(level);
    }
    // Once for both readings, and only if there is one.
    if let Some(worst) = &mut verdict.worst {
        worst.by_window = by_window(rule, windows);
        if let Some(own) = &mut verdict.own {
            own.by_window.clone_from(&worst.by_window);
        }
    }
    // The episode is about a window in which no mail is left.
    let is_empty = verdict.own.as_ref().is_some_and(|own| own.volume == 0);
    if is_empty && rule.basis != Basis::Campaign {
        verdict.level = Level::Starved;
    }
    Some(verdict)
}

/// Returns numerator and denominator of every window of a rule that has several.
fn by_window(rule: &Rule, windows: &Windows<'_>) -> BTreeMap<String, (u64, u64)> {
    let several = if rule.windows.len() > 1 { rule.windows.as_slice() } else { &[] };
    let known = several.iter().filter_map(|window| {
        let sample = windows.sample(rule, window)?;
        Some((window.to_string(), (sample.k, sample.n)))
    });
    known.collect()
}

/// Returns how bad one window is. `None` if the rule cannot be judged.
fn level(
    rule: &Rule,
    window: &RuleWindow,
    sample: &Sample,
    thresholds: &mut [Option<f64>; 3],
    windows: &Windows<'_>,
    is_open: bool,
) -> Option<Level> {
    let (k, n) = sample.judged;
    match rule.test {
        Test::Missing => return missing(rule, sample, windows.evidence.baseline()?),
        // The usual number is worth its cost only if there is something to compare, or to tell.
        Test::Burst if !is_open && sample.k < rule.min_count => return Some(Level::Good),
        Test::Burst => return burst(rule, sample, thresholds, windows.evidence.baseline()?),
        // Of signals, a few are enough.
        Test::Count if k == 0 && n == 0 => return Some(Level::Starved),
        _ if sample.n < rule.min_volume_of(window).max(1) => return Some(Level::Starved),
        _ => {}
    }
    let is_over = rule.direction == Direction::Over;
    if is_over && k < rule.min_count {
        return Some(Level::Good);
    }
    let is_small = sample.n < rule.min_volume;
    for severity in Rule::SEVERITIES {
        if is_small && severity > Severity::Warning {
            continue;
        }
        if let Some(threshold) = thresholds[severity as usize]
            && rule.is_beyond(k, n, threshold)
        {
            return Some(Level::Breach(severity));
        }
    }
    let lowest = thresholds.iter().flatten().next().copied();
    let is_elevated = is_open && lowest.is_some_and(|lowest| rule.is_elevated(k, n, lowest));
    Some(if is_elevated { Level::Elevated } else { Level::Good })
}

/// Returns the bound on the good side of the rate, for texts.
pub(crate) fn bound(rule: &Rule, reading: &Reading) -> Option<f64> {
    let (k, n) = (reading.numerator, reading.volume);
    match (rule.test, rule.direction) {
        _ if n == 0 => None,
        (Test::Count | Test::Gap | Test::Missing, _) => None,
        (_, Direction::Over) => Some(bounds::lower_bound(k, n, rule.confidence)),
        (_, Direction::Under) => Some(bounds::upper_bound(k, n, rule.confidence)),
    }
}
