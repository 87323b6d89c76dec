//! The alerts of releases that judged rates at the end of each pane.

use std::collections::{BTreeMap, BTreeSet};

use event::Counter;
use serde::Deserialize;
use window::{Direction, Metric, Width};

use super::{Counts, SCOPE, Scope, Timeline};
use crate::chaos::attack::GENUINE;

impl Timeline {
    /// Returns the transitions of all episodes that an earlier release published, up to a moment. It evaluated
    /// rules whenever a window changed.
    pub(crate) fn old_transitions(&self, rules: &[OldRule], until: i64) -> Vec<Transition> {
        let ends: BTreeSet<i64> =
            Width::OF_RULES.into_iter().flat_map(|width| self.ends(width, until)).collect();
        let mut open: BTreeMap<&str, (i64, Level)> = BTreeMap::new();
        let mut transitions = Vec::new();
        for at in ends {
            let windows = Width::OF_RULES.map(|width| (width, self.window(at, width)));
            for rule in rules {
                let (name, level) = (rule.name.as_str(), level(rule, &windows));
                let (started_at, worst) = open.get(name).copied().unwrap_or((at, Level::Good));
                let state = if level > worst {
                    open.insert(name, (started_at, level));
                    "firing"
                } else if worst > Level::Good && level == Level::Good {
                    open.remove(name);
                    "resolved"
                } else {
                    continue;
                };
                let severity = level.max(worst).severity();
                transitions.push(Transition { rule: name.into(), state, severity, started_at, at });
            }
        }
        transitions
    }
}

/// The beginning, escalation or end of an episode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(super) rule: String,
    pub(super) state: &'static str,
    pub(super) severity: &'static str,
    pub(super) started_at: i64,
    pub(super) at: i64,
}

/// A rule of an earlier release, with the keys that it read.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OldRule {
    pub(super) name: String,
    pub(super) metric: Metric,
    pub(super) direction: Direction,
    pub(super) threshold: f64,
    /// By default twice the threshold; under it, half.
    pub(super) critical: Option<f64>,
    pub(super) min_volume: u64,
    pub(super) widths: Vec<Width>,
}

impl OldRule {
    fn critical(&self) -> f64 {
        self.critical.unwrap_or(match self.direction {
            Direction::Over => self.threshold * 2.0,
            Direction::Under => self.threshold / 2.0,
        })
    }
}

impl Transition {
    /// Returns the row in the form of [`old_alerts`].
    pub(crate) fn row(&self, scope: &Scope) -> String {
        let Self { rule, state, severity, started_at, at } = self;
        format!("{rule}\t{}\t{state}\t{severity}\t{started_at}\t{at}", scope.0.join("\t"))
    }
}

/// Returns the query of all transitions that an earlier release has published, in the form of
/// [`Transition::row`]. They have no number.
pub(crate) fn old_alerts() -> String {
    let scope = SCOPE.join(", ");
    format!(
        "SELECT rule, {scope}, state, severity, toUnixTimestamp64Micro(started_at), \
         toUnixTimestamp64Micro(at) FROM alerts WHERE seq = 0 AND {GENUINE} FORMAT TSV"
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Good,
    Warning,
    Critical,
}

impl Level {
    const fn severity(self) -> &'static str {
        match self {
            Self::Good | Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Returns the worst level of a rule's windows that have enough volume.
fn level(rule: &OldRule, windows: &[(Width, Counts)]) -> Level {
    let selected = windows.iter().filter(|(width, _)| rule.widths.contains(width));
    let levels = selected.filter_map(|(_, counts)| {
        let (part, volume) = parts_of_earlier_release(rule.metric, counts);
        let rate = (part as f64 / volume as f64).min(1.0);
        let beyond = |threshold: f64| match rule.direction {
            Direction::Over => rate > threshold,
            Direction::Under => rate < threshold,
        };
        let enough = volume > 0 && volume.cast_unsigned() >= rule.min_volume;
        enough.then(|| match (beyond(rule.critical()), beyond(rule.threshold)) {
            (true, _) => Level::Critical,
            (false, true) => Level::Warning,
            (false, false) => Level::Good,
        })
    });
    levels.max().unwrap_or(Level::Good)
}

/// Returns the same as releases before those definitions computed it.
fn parts_of_earlier_release(metric: Metric, counts: &Counts) -> (i64, i64) {
    let of = |counter: Counter| counts[counter as usize];
    let bounces =
        of(Counter::BouncedHard) + of(Counter::BouncedSoft) + of(Counter::BouncedUndetermined);
    let (injected, delivered) = (of(Counter::Injected), of(Counter::Delivered));
    let sent = if injected > 0 { injected } else { delivered + bounces };
    let arrived = (delivered - of(Counter::LateBounces)).max(0);
    match metric {
        Metric::Bounce => (bounces, sent),
        Metric::HardBounce => (of(Counter::BouncedHard), sent),
        Metric::Complaint => (of(Counter::Complained), arrived),
        Metric::Unsubscribe => (of(Counter::Unsubscribed), arrived),
        Metric::Open => (of(Counter::Opened), arrived),
        Metric::Click => (of(Counter::Clicked), arrived),
        Metric::Engagement => (of(Counter::Engaged), arrived),
        _ => (0, 0),
    }
}
