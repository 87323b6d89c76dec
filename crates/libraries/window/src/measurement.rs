use serde::{Deserialize, Serialize};

use crate::rates::{View, fraction, ratio};
use crate::{Metric, Width, Window};

/// How far a rate is beyond the thresholds of its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The rate is beyond the rule's threshold.
    Warning,
    /// The rate is beyond the rule's critical threshold.
    Critical,
}

impl Severity {
    /// Returns the stable name, as in JSON and in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// The rate of one metric in one window. Part of an episode's state in the changelog, hence the
/// old field name in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) width: Width,
    #[serde(rename = "part")]
    pub(crate) numerator: u64,
    /// The denominator.
    pub(crate) volume: u64,
}

impl Measurement {
    pub(crate) fn of(metric: Metric, window: &Window) -> Self {
        let is_known = window.reports_injected || metric != Metric::InjectionLoss;
        let fraction = is_known.then(|| fraction(metric, &window.counts, View::Arrival));
        let (numerator, volume) = fraction.unwrap_or_default();
        Self { width: window.width, numerator, volume }
    }

    /// Returns the measurement of the window of the same width among `windows`.
    pub(crate) fn updated(self, metric: Metric, windows: &[Window]) -> Self {
        let window = windows.iter().find(|window| window.width == self.width);
        window.map_or(self, |window| Self::of(metric, window))
    }

    /// Returns the rate, or `None` if the volume is 0.
    pub(crate) fn value(self) -> Option<f64> {
        ratio(self.numerator, self.volume)
    }
}
