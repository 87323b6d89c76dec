use serde::{Deserialize, Serialize};

use crate::rates::ratio;
use crate::{Metric, Width, WindowResult};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Beyond the rule's threshold.
    Warning,
    /// Beyond its critical threshold.
    Critical,
}

impl Severity {
    /// The stable name: JSON value, metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A rate as one window shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) width: Width,
    pub(crate) part: u64,
    pub(crate) volume: u64,
}

impl Reading {
    pub(crate) const fn of(metric: Metric, window: &WindowResult) -> Self {
        let (part, volume) = metric.parts(&window.counts);
        Self { width: window.width, part, volume }
    }

    /// The window of the same width as it is now.
    pub(crate) fn again(self, metric: Metric, windows: &[WindowResult]) -> Self {
        let window = windows.iter().find(|window| window.width == self.width);
        window.map_or(self, |window| Self::of(metric, window))
    }

    pub(crate) fn value(self) -> Option<f64> {
        ratio(self.part, self.volume)
    }
}
