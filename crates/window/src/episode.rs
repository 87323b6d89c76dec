use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Reading, Severity};
use crate::rule::Level;
use crate::time::{ceil, floor};
use crate::{Metric, PANE, Rule, Scope, WindowResult};

/// One scope's open episodes: at most one for each rule, however many windows are beyond its
/// threshold. Serialise it (JSON) to go on after a restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Episodes {
    open: BTreeMap<String, Episode>,
}

/// The time from a rule's first breach in a scope to its resolution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Episode {
    /// The worst so far.
    pub(crate) severity: Severity,
    /// The slide end at which it began.
    pub(crate) started_at: i64,
    /// The worst window at the last evaluation; once all are good, the last worst one.
    pub(crate) reading: Reading,
    /// The last slide end at which some window was too bad to resolve.
    held_at: i64,
    /// Since when all windows have been good enough to resolve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    good_since: Option<i64>,
    /// The rule's, in case the rule goes before the episode does.
    pub(crate) metric: Metric,
    /// The same.
    pub(crate) threshold: f64,
    /// The same.
    pub(crate) runbook: String,
}

impl Episodes {
    /// Whether no episode is open: nothing need be kept.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Judges a scope's windows at a slide end. `windows` are those of every width as they are at
    /// `end`, changed or not; ends must not go back. Appends a transition for each rule that
    /// fires, becomes critical or resolves.
    ///
    /// To be called for every [`Slide`](crate::Slide) that is not `past`. An episode that waits
    /// for its `resolve_after` while nothing changes is resolved by [`settle`](Self::settle).
    pub fn evaluate(
        &mut self,
        scope: &Scope,
        rules: &[Rule],
        end: i64,
        windows: &[WindowResult],
        out: &mut Vec<Alert>,
    ) {
        // Nothing changed between the last slide and this one, so what fell due there is over.
        self.resolve_due(scope, rules, end - PANE, out);
        for rule in rules {
            let worst = Worst::of(rule, windows);
            if let Some(episode) = self.open.get_mut(&rule.name) {
                if episode.observe(rule, end, worst, windows) {
                    out.push(Alert::firing(rule, scope, episode, end));
                }
            } else if let Some((reading, severity)) = worst.and_then(Worst::breach) {
                let episode = Episode::begin(rule, severity, reading, end);
                out.push(Alert::firing(rule, scope, &episode, end));
                self.open.insert(rule.name.clone(), episode);
            }
        }
        self.resolve_due(scope, rules, end, out);
    }

    /// Resolves the episodes that have been good for long enough by now, and those whose rule is
    /// no longer among `rules`. To be called after every advance of the clock, once the scope's
    /// slides were evaluated; `clock` is the watermark, in microseconds.
    pub fn settle(&mut self, scope: &Scope, rules: &[Rule], clock: i64, out: &mut Vec<Alert>) {
        let end = floor(clock);
        self.resolve_due(scope, rules, end, out);
        self.open.retain(|name, episode| {
            let known = rules.iter().any(|rule| rule.name == *name);
            if !known {
                let at = end.max(episode.held_at);
                out.push(Alert::abandoned(name, scope, episode, at));
            }
            known
        });
    }

    /// The least clock at which [`settle`](Self::settle) would resolve an episode of these rules
    /// if no window changed until then. Leaves out episodes whose rule is gone: after the rules
    /// changed, which takes a restart, settle every scope once.
    pub fn due(&self, rules: &[Rule]) -> Option<i64> {
        rules.iter().filter_map(|rule| self.open.get(&rule.name)?.resolves_at(rule)).min()
    }

    fn resolve_due(&mut self, scope: &Scope, rules: &[Rule], end: i64, out: &mut Vec<Alert>) {
        if self.open.is_empty() {
            return;
        }
        for rule in rules {
            let due = self.open.get(&rule.name).and_then(|episode| episode.resolves_at(rule));
            if let Some(at) = due.filter(|&at| at <= end)
                && let Some(episode) = self.open.remove(&rule.name)
            {
                out.push(Alert::resolved(&rule.name, scope, &episode, at));
            }
        }
    }
}

impl Episode {
    pub(crate) fn begin(rule: &Rule, severity: Severity, reading: Reading, end: i64) -> Self {
        Self {
            severity,
            started_at: end,
            reading,
            held_at: end,
            good_since: None,
            metric: rule.metric,
            threshold: rule.threshold,
            runbook: rule.runbook.clone(),
        }
    }

    /// Takes note of how things stand; says whether they are critical for the first time.
    fn observe(
        &mut self,
        rule: &Rule,
        end: i64,
        worst: Option<Worst>,
        windows: &[WindowResult],
    ) -> bool {
        let Some(worst) = worst.filter(|worst| worst.level > Level::Good) else {
            self.reading = self.reading.again(rule.metric, windows);
            // Late events can take back a breach at the very end that showed it. It resolves at
            // the next one, so that no episode ends where it began and a later breach cannot have
            // the same identity.
            self.good_since.get_or_insert(end.max(self.held_at + PANE));
            return false;
        };
        self.reading = worst.reading;
        self.held_at = end;
        self.good_since = None;
        let escalates = worst.level == Level::Critical && self.severity < Severity::Critical;
        if escalates {
            self.severity = Severity::Critical;
        }
        escalates
    }

    /// The slide end at which it resolves if all windows stay good.
    fn resolves_at(&self, rule: &Rule) -> Option<i64> {
        Some(ceil(self.good_since?.saturating_add(rule.resolve_after)))
    }
}

/// The worst of a rule's windows.
#[derive(Debug, Clone, Copy)]
struct Worst {
    level: Level,
    reading: Reading,
}

impl Worst {
    /// The window with the worst rate among those with enough volume, the first of equals.
    fn of(rule: &Rule, windows: &[WindowResult]) -> Option<Self> {
        let mut worst: Option<(Self, f64)> = None;
        for window in windows.iter().filter(|window| rule.widths.contains(&window.width)) {
            let reading = Reading::of(rule.metric, window);
            let level = rule.level(reading.part, reading.volume);
            if let Some((level, value)) = level.zip(reading.value())
                && worst.is_none_or(|(_, other)| rule.beyond(value, other))
            {
                worst = Some((Self { level, reading }, value));
            }
        }
        worst.map(|(worst, _)| worst)
    }

    /// What there is to report if it is beyond the threshold.
    fn breach(self) -> Option<(Reading, Severity)> {
        match self.level {
            Level::Good | Level::Lingering => None,
            Level::Warning => Some((self.reading, Severity::Warning)),
            Level::Critical => Some((self.reading, Severity::Critical)),
        }
    }
}
