use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use window::{Scope, Width};

use crate::evidence::AsOf;
use crate::rule::Rule;
use crate::summary::{self, Text};
use crate::verdict::{Level, OwnWindow, Reading, Verdict, bound};
use crate::{Alert, AlertState, Basis, EpisodeId, Family, Measure, ResolveReason, Severity};

/// An episode becomes stale when its window has had too little volume for as long as the window lasts and this
/// much longer, in microseconds.
const STALE_AFTER: i64 = 10 * 60_000_000;

/// An episode that is stale for this long ends, in microseconds.
const ENDS_AFTER: i64 = 60 * 60_000_000;

/// The state of an open episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// The rule is broken, but not for as long as `hold`. Nothing was published.
    Pending,
    /// Published. With `good_since` it is recovering.
    Firing,
    /// Too little volume to judge.
    Stale,
}

/// What happens to an episode when time passes and no count changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// It fires, or rises to this severity.
    Rise(Severity),
    Stale,
    Resolve(ResolveReason),
}

/// What an episode needs of its rule after the rule was removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RuleFacts {
    metric: Measure,
    basis: Basis,
    family: Family,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    runbook: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

impl RuleFacts {
    fn of(rule: &Rule) -> Self {
        let Rule { metric, basis, family, .. } = *rule;
        Self { metric, basis, family, runbook: rule.runbook.clone(), labels: rule.labels.clone() }
    }
}

/// The time from a rule's first breach in a scope to its resolution. The changelog stores it as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Episode {
    pub(crate) phase: Phase,
    /// `None` for an episode that an earlier release opened: its id follows from the rule, scope and start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<EpisodeId>,
    /// The highest severity so far.
    pub(crate) severity: Severity,
    /// When the first breach was.
    started_at: i64,
    /// The number of alerts so far.
    seq: u32,
    /// The time up to which the episode was advanced.
    at: i64,
    /// By severity: since when the rule has been broken this badly without interruption.
    #[serde(default, skip_serializing_if = "is_none")]
    since: [Option<i64>; 3],
    /// Since when the evidence has been good enough to end the episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    good_since: Option<i64>,
    /// Since when there has been too little volume; in phase stale: since when it is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    starved_since: Option<i64>,
    /// The window in which the episode began or rose, and its length in microseconds.
    window: String,
    length: i64,
    /// The worst window while the rule is broken, otherwise the window of the episode.
    reading: Reading,
    rule: RuleFacts,
}

fn is_none(since: &[Option<i64>; 3]) -> bool {
    since.iter().all(Option::is_none)
}

/// What `judge` and `advance` know besides the episode.
#[derive(Clone, Copy)]
pub(crate) struct Context<'c> {
    pub(crate) name: &'c str,
    pub(crate) scope: &'c Scope,
    /// `None` if the rule was removed.
    pub(crate) rule: Option<&'c Rule>,
}

impl Episode {
    /// Begins an episode with a breach. It is pending; [`next`](Self::next) tells when it fires.
    pub(crate) fn begin(
        context: Context<'_>,
        rule: &Rule,
        now: i64,
        severity: Severity,
        reading: Reading,
    ) -> Self {
        let mut episode = Self {
            phase: Phase::Pending,
            id: Some(EpisodeId::of(context.name, context.scope, &reading.as_of.0)),
            severity,
            started_at: now,
            seq: 0,
            at: now,
            since: [None; 3],
            good_since: None,
            starved_since: None,
            window: String::new(),
            length: 0,
            reading,
            rule: RuleFacts::of(rule),
        };
        episode.keep_window(Some(rule));
        episode.breached(now, severity);
        episode
    }

    pub(crate) const fn at(&self) -> i64 {
        self.at
    }

    pub(crate) fn id(&self, context: Context<'_>) -> EpisodeId {
        self.id.unwrap_or_else(|| {
            EpisodeId::of_first_release(context.name, context.scope, self.started_at)
        })
    }

    pub(crate) fn own_window(&self) -> Option<OwnWindow<'_>> {
        (self.phase != Phase::Pending)
            .then_some(OwnWindow { window: &self.window, from: self.reading.from })
    }

    fn keep_window(&mut self, rule: Option<&Rule>) {
        self.window.clone_from(&self.reading.window);
        let found = rule.and_then(|rule| rule.windows.iter().find(|it| it.is(&self.window)));
        self.length = found.map_or(self.length, crate::rule::RuleWindow::length);
    }

    fn breached(&mut self, now: i64, severity: Severity) {
        for (index, since) in self.since.iter_mut().enumerate() {
            *since = (index <= severity as usize).then(|| since.unwrap_or(now));
        }
        (self.good_since, self.starved_since) = (None, None);
    }

    /// Takes over a verdict at the time `now`. Returns false if a pending episode is over.
    pub(crate) fn update(
        &mut self,
        context: Context<'_>,
        now: i64,
        verdict: Verdict,
        out: &mut Vec<Alert>,
    ) -> bool {
        self.at = now;
        if self.phase == Phase::Pending && !matches!(verdict.level, Level::Breach(_)) {
            return false;
        }
        let was_stale = self.phase == Phase::Stale;
        match verdict.level {
            Level::NotJudged => {
                (self.since, self.good_since) = ([None; 3], None);
                if !was_stale {
                    self.starved_since = None;
                }
                return true;
            }
            Level::Starved => {
                (self.since, self.good_since) = ([None; 3], None);
                self.starved_since.get_or_insert(now);
                return true;
            }
            Level::Good => {
                self.since = [None; 3];
                self.starved_since = None;
                self.good_since.get_or_insert(now);
            }
            Level::Elevated => {
                (self.since, self.good_since, self.starved_since) = ([None; 3], None, None);
            }
            Level::Breach(severity) => self.breached(now, severity),
        }
        let is_breach = matches!(verdict.level, Level::Breach(_));
        let reading = if is_breach { verdict.worst } else { verdict.own.or(verdict.worst) };
        if let Some(reading) = reading {
            self.reading = reading;
        }
        if was_stale {
            self.phase = Phase::Firing;
            out.push(self.alert(context, AlertState::Firing, now, None));
        }
        true
    }

    /// Returns what happens next if no count changes, and when.
    pub(crate) fn next(&self, rule: &Rule) -> Option<(i64, Timer)> {
        let is_pending = self.phase == Phase::Pending;
        let rises = Rule::SEVERITIES.into_iter().filter_map(|severity| {
            let at = self.since[severity as usize]?.saturating_add(rule.hold.of(severity).micros());
            let is_rise =
                rule.threshold(severity).is_some() && (is_pending || severity > self.severity);
            is_rise.then_some((at, Timer::Rise(severity)))
        });
        // Of several at the same time, the first one is the highest severity.
        let rise = rises.min_by_key(|(at, _)| *at);
        let after =
            |since: Option<i64>, span: i64, timer| Some((since?.saturating_add(span), timer));
        let other = match self.phase {
            Phase::Pending => None,
            Phase::Firing => {
                let stale = self.length + STALE_AFTER;
                after(
                    self.good_since,
                    rule.resolve.r#for.micros(),
                    Timer::Resolve(ResolveReason::Recovered),
                )
                .or_else(|| after(self.starved_since, stale, Timer::Stale))
            }
            Phase::Stale => {
                after(self.starved_since, ENDS_AFTER, Timer::Resolve(ResolveReason::NoTraffic))
            }
        };
        rise.into_iter().chain(other).min_by_key(|(at, _)| *at)
    }

    /// Does what a timer tells. Returns false if the episode is over.
    pub(crate) fn apply(
        &mut self,
        context: Context<'_>,
        at: i64,
        timer: Timer,
        out: &mut Vec<Alert>,
    ) -> bool {
        self.at = self.at.max(at);
        match timer {
            Timer::Rise(severity) => {
                self.phase = Phase::Firing;
                self.severity = severity;
                self.keep_window(context.rule);
                out.push(self.alert(context, AlertState::Firing, at, None));
                true
            }
            Timer::Stale => {
                self.phase = Phase::Stale;
                self.starved_since = Some(at);
                out.push(self.alert(context, AlertState::Stale, at, None));
                true
            }
            Timer::Resolve(reason) => {
                if self.phase != Phase::Pending {
                    out.push(self.alert(context, AlertState::Resolved, at, Some(reason)));
                }
                false
            }
        }
    }

    fn alert(
        &mut self,
        context: Context<'_>,
        state: AlertState,
        at: i64,
        reason: Option<ResolveReason>,
    ) -> Alert {
        if let Some(rule) = context.rule {
            self.rule = RuleFacts::of(rule);
        }
        self.seq += 1;
        let reading = &self.reading;
        let lowest = || reading.thresholds.iter().flatten().next().copied();
        let own =
            reading.thresholds[self.severity as usize].filter(|_| state != AlertState::Resolved);
        let threshold = own.or_else(lowest).unwrap_or_default();
        let bound = context.rule.and_then(|rule| bound(rule, reading));
        let text = Text { metric: self.rule.metric, reading, threshold, bound, rule: context.rule };
        Alert {
            episode_id: self.id(context),
            rule: context.name.to_owned(),
            scope: context.scope.clone(),
            severity: self.severity,
            state,
            metric: self.rule.metric,
            width: reading.window.clone(),
            value: reading.value(),
            threshold,
            numerator: reading.numerator,
            volume: reading.volume,
            by_window: reading.by_window.clone(),
            started_at: self.started_at,
            at,
            runbook: self.rule.runbook.clone(),
            summary: summary::summary(context.scope, &text, state, reason),
            family: self.rule.family,
            basis: self.rule.basis,
            seq: self.seq,
            reason,
            bound,
            from: reading.from,
            to: reading.to,
            as_of: reading.as_of.0.clone(),
            labels: self.rule.labels.clone(),
            remind: context.rule.map(|rule| rule.remind(self.severity).micros()),
        }
    }
}

/// The form in which earlier releases stored an episode.
#[derive(Debug, Deserialize)]
pub(crate) struct OldEpisode {
    severity: Severity,
    started_at: i64,
    reading: OldReading,
    held_at: i64,
    #[serde(default)]
    good_since: Option<i64>,
    metric: window::Metric,
    threshold: f64,
    #[serde(default)]
    runbook: String,
}

#[derive(Debug, Deserialize)]
struct OldReading {
    width: Width,
    part: u64,
    volume: u64,
}

impl From<OldEpisode> for Episode {
    fn from(old: OldEpisode) -> Self {
        let OldReading { width, part, volume } = old.reading;
        let to = old.good_since.unwrap_or(old.held_at);
        Self {
            phase: Phase::Firing,
            id: None,
            severity: old.severity,
            started_at: old.started_at,
            // Its alerts had no number.
            seq: 0,
            at: to,
            since: [None; 3],
            good_since: old.good_since,
            starved_since: None,
            window: width.as_str().to_owned(),
            length: width.micros(),
            reading: Reading {
                window: width.as_str().to_owned(),
                from: to - width.micros(),
                to,
                numerator: part,
                volume,
                by_window: BTreeMap::new(),
                thresholds: [Some(old.threshold), None, None],
                as_of: AsOf::default(),
                series: None,
            },
            rule: RuleFacts {
                metric: Measure::Rate(old.metric),
                basis: Basis::Arrival,
                family: Family::Bounces,
                runbook: old.runbook,
                labels: BTreeMap::new(),
            },
        }
    }
}
