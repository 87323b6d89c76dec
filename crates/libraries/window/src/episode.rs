use serde::{Deserialize, Serialize};

use crate::reading::{Reading, Severity};
use crate::rule::Level;
use crate::time::ceil;
use crate::{Metric, PANE, Rule, WindowResult};

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
    pub(crate) held_at: i64,
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
    pub(crate) fn observe(
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
    pub(crate) fn resolves_at(&self, rule: &Rule) -> Option<i64> {
        Some(ceil(self.good_since?.saturating_add(rule.resolve_after)))
    }
}

/// The worst of a rule's windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Worst {
    level: Level,
    reading: Reading,
}

impl Worst {
    /// The window with the worst rate among those with enough volume, the first of equals.
    pub(crate) fn of(rule: &Rule, windows: &[WindowResult]) -> Option<Self> {
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
    pub(crate) fn breach(self) -> Option<(Reading, Severity)> {
        match self.level {
            Level::Good | Level::Lingering => None,
            Level::Warning => Some((self.reading, Severity::Warning)),
            Level::Critical => Some((self.reading, Severity::Critical)),
        }
    }
}
