use serde::{Deserialize, Serialize};

use crate::measurement::{Measurement, Severity};
use crate::rule::Level;
use crate::time::ceil;
use crate::{Metric, PANE, Rule, Window};

/// The time from a rule's first breach in a scope to its resolution. The changelog stores it as
/// JSON with the field names of its first release.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Episode {
    /// The highest severity so far.
    pub(crate) severity: Severity,
    /// The slide end of the first breach.
    pub(crate) started_at: i64,
    /// The worst window at the last evaluation. While all windows are good: the window that was the
    /// worst one before, with its current counts.
    #[serde(rename = "reading")]
    pub(crate) measurement: Measurement,
    /// The last slide end at which a window was too bad for the episode to resolve.
    #[serde(rename = "held_at")]
    pub(crate) last_bad_at: i64,
    /// The slide end since which all windows have been good enough to resolve the episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    good_since: Option<i64>,
    /// Copied from the rule, like `threshold` and `runbook`, because an alert needs them even if
    /// the rule was removed.
    pub(crate) metric: Metric,
    pub(crate) threshold: f64,
    pub(crate) runbook: String,
}

impl Episode {
    pub(crate) fn open(
        rule: &Rule,
        severity: Severity,
        measurement: Measurement,
        end: i64,
    ) -> Self {
        Self {
            severity,
            started_at: end,
            measurement,
            last_bad_at: end,
            good_since: None,
            metric: rule.metric,
            threshold: rule.threshold,
            runbook: rule.runbook.clone(),
        }
    }

    /// Updates the episode from the windows at the slide end `end`, of which `worst` is the worst.
    /// Returns true if the episode became critical.
    pub(crate) fn update(
        &mut self,
        rule: &Rule,
        end: i64,
        worst: Option<WorstWindow>,
        windows: &[Window],
    ) -> bool {
        let Some(worst) = worst.filter(|worst| worst.level > Level::Good) else {
            self.measurement = self.measurement.updated(rule.metric, windows);
            // Late events can revoke a breach at the very slide end that showed it. In that case the
            // episode resolves at the next slide end. Otherwise it would end where it began, and a
            // later breach at that end would get the same episode id.
            self.good_since.get_or_insert(end.max(self.last_bad_at + PANE));
            return false;
        };
        self.measurement = worst.measurement;
        self.last_bad_at = end;
        self.good_since = None;
        let became_critical = worst.level == Level::Critical && self.severity < Severity::Critical;
        if became_critical {
            self.severity = Severity::Critical;
        }
        became_critical
    }

    /// Returns the slide end at which the episode resolves if all windows stay good, or `None` if
    /// some window is bad.
    pub(crate) fn resolves_at(&self, rule: &Rule) -> Option<i64> {
        Some(ceil(self.good_since?.saturating_add(rule.resolve_after)))
    }
}

/// The window of a rule that has the worst rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorstWindow {
    level: Level,
    measurement: Measurement,
}

impl WorstWindow {
    /// Finds the window with the worst rate among those with enough volume. If rates are equal, the
    /// first window counts.
    pub(crate) fn find(rule: &Rule, windows: &[Window]) -> Option<Self> {
        let mut worst: Option<(Self, f64)> = None;
        for window in windows.iter().filter(|window| rule.widths.contains(&window.width)) {
            let measurement = Measurement::of(rule.metric, window);
            let level = rule.level(measurement.numerator, measurement.volume);
            if let Some((level, value)) = level.zip(measurement.value())
                && worst.is_none_or(|(_, other)| rule.is_beyond(value, other))
            {
                worst = Some((Self { level, measurement }, value));
            }
        }
        worst.map(|(worst, _)| worst)
    }

    /// Returns the measurement and its severity if it is beyond a threshold of the rule.
    pub(crate) fn breach(self) -> Option<(Measurement, Severity)> {
        match self.level {
            Level::Good | Level::Elevated => None,
            Level::Warning => Some((self.measurement, Severity::Warning)),
            Level::Critical => Some((self.measurement, Severity::Critical)),
        }
    }
}
