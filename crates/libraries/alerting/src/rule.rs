//! Rules as data.

mod error;
mod fields;
mod matching;
mod rule_window;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use window::{Direction, EARLIER, ScopeKind};

pub use error::RuleError;
pub use matching::{Facts, Match, Pattern};
pub use rule_window::RuleWindow;

use crate::bounds::{is_above, is_below};
use crate::evalue;
use crate::span::Span;
use crate::{Basis, Family, Measure, Severity};

/// What makes a rate a breach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// The exact one-sided bound of the rate is beyond the threshold.
    Bound,
    /// The e-value against a rate of at most the threshold is 1 / `confidence` or more. It may be looked at
    /// after every message.
    EValue,
    /// The counts themselves are beyond `min_count` and the threshold. For signals that are facts, such as an
    /// answer that names a block list: one is enough, and no rate is estimated.
    Count,
    /// The number of events is `threshold` times what is usual at this hour of the day, and so many have a
    /// probability below `confidence`.
    Burst,
    /// The probability of the time without events is below the threshold.
    Gap,
    /// No message was delivered, others have events, and this is not usual.
    Missing,
}

/// With what a rule compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Same {
    /// The same hour of the day on the seven days before.
    HourOfDay,
    /// The same hour of the week in the four weeks before.
    HourOfWeek,
    /// The same weekday in the four weeks before.
    Weekday,
}

/// A comparison with what is usual.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relative {
    /// With what the rule compares.
    pub same: Same,
    /// How far back: 7 days for an hour of the day, otherwise 28 days.
    pub over: Span,
    /// If set, the rule is also broken beyond this multiple of the usual rate. If not, the thresholds
    /// themselves are multiples of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// The lowest threshold that a multiple of the usual rate can give.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
}

/// Windows in which fewer messages are enough for a warning, and only for a warning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmallVolume {
    /// The windows.
    pub windows: Vec<String>,
    /// The smallest denominator there.
    pub min_volume: u64,
}

/// How long a rule must be broken without interruption before an episode opens, by severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// For a warning.
    pub warning: Span,
    /// For severity critical.
    pub critical: Span,
    /// For severity page.
    pub page: Span,
}

impl Default for Hold {
    fn default() -> Self {
        Self { warning: Span::minutes(1), critical: Span::minutes(1), page: Span::ZERO }
    }
}

impl Hold {
    /// An episode opens at once.
    pub const NONE: Self = Self { warning: Span::ZERO, critical: Span::ZERO, page: Span::ZERO };

    /// Returns the hold of a severity.
    pub const fn of(&self, severity: Severity) -> Span {
        match severity {
            Severity::Warning => self.warning,
            Severity::Critical => self.critical,
            Severity::Page => self.page,
        }
    }
}

/// When an episode ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Resolve {
    /// The share of the lowest threshold at which the bound is good, in (0, 1]. For thresholds that a rate
    /// must not fall below, the other way around: 0.8 of 15 % is 18.75 %. Above 50 % the rest counts: 0.8 of
    /// 97 % is 97.6 %.
    pub below: f64,
    /// How long it must stay good.
    pub r#for: Span,
}

impl Default for Resolve {
    fn default() -> Self {
        Self { below: 0.8, r#for: Span::minutes(30) }
    }
}

/// A rule. Its TOML form has the names of these fields; `match` is [`matches`](Self::matches).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "fields::RuleFields")]
pub struct Rule {
    /// The name. It is unique among the rules, because episode ids depend on it.
    pub name: String,
    /// What is compared with the thresholds.
    pub metric: Measure,
    /// Which events count.
    pub basis: Basis,
    /// The kinds of scopes that are judged. Empty: all.
    pub scopes: Vec<ScopeKind>,
    /// Which of these scopes are judged.
    pub matches: Match,
    /// The windows. A single one beyond a threshold breaks the rule.
    pub windows: Vec<RuleWindow>,
    /// The side of the thresholds that is bad.
    pub direction: Direction,
    /// What makes a rate a breach.
    pub test: Test,
    /// Thresholds: shares (0.05 is 5 %), multiples or probabilities, depending on the test.
    pub warning: Option<f64>,
    /// See [`warning`](Self::warning).
    pub critical: Option<f64>,
    /// See [`warning`](Self::warning).
    pub page: Option<f64>,
    /// Windows with a smaller denominator are not judged.
    pub min_volume: u64,
    /// A smaller numerator is no breach. Only for rules whose bad side is `over`.
    pub min_count: u64,
    /// Windows that are judged from fewer messages on, but then never above a warning.
    pub small: Option<SmallVolume>,
    /// The error rate of the evidence (alpha): 0.0005 is one false breach in 2,000 independent windows.
    pub confidence: f64,
    /// The bounces of the last so many minutes do not count yet, because the deliveries may be slower, if the
    /// campaign is younger than that, or if more than [`SETTLES_ABOVE`](crate::SETTLES_ABOVE) messages were sent
    /// in the last minute. `0s` or `1m`.
    pub settle: Span,
    /// How long the rule must be broken.
    pub hold: Hold,
    /// When an episode ends.
    pub resolve: Resolve,
    /// How long after the last notification people are reminded. By default 24 hours, and 4 hours after a page.
    pub remind: Option<Span>,
    /// The comparison with what is usual.
    pub baseline: Option<Relative>,
    /// A link to the instructions for the person on call.
    pub runbook: String,
    /// Labels that the alerts have, too.
    pub labels: BTreeMap<String, String>,
    /// Texts for people.
    pub annotations: BTreeMap<String, String>,
    /// What the rule is about.
    pub family: Family,
    /// Whether the rule is judged at all.
    pub enabled: bool,
}

impl Rule {
    /// The severities that a rule can have, the highest first.
    pub const SEVERITIES: [Severity; 3] = [Severity::Page, Severity::Critical, Severity::Warning];

    /// Returns the threshold of a severity.
    pub const fn threshold(&self, severity: Severity) -> Option<f64> {
        match severity {
            Severity::Warning => self.warning,
            Severity::Critical => self.critical,
            Severity::Page => self.page,
        }
    }

    /// Returns the mildest threshold that the rule has. Every valid rule has one.
    pub fn lowest_threshold(&self) -> f64 {
        self.warning.or(self.critical).or(self.page).unwrap_or(f64::MAX)
    }

    /// Returns how long after the last notification people are reminded.
    pub fn remind(&self, severity: Severity) -> Span {
        self.remind.unwrap_or(match severity {
            Severity::Page => Span::hours(4),
            Severity::Warning | Severity::Critical => Span::hours(24),
        })
    }

    /// Returns the smallest denominator at which a window is judged at all.
    pub fn min_volume_of(&self, window: &RuleWindow) -> u64 {
        self.small
            .as_ref()
            .filter(|small| small.windows.iter().any(|it| window.is(it)))
            .map_or(self.min_volume, |small| small.min_volume.min(self.min_volume))
    }

    /// Returns whether the rule is judged again at the ends before when it begins to be broken. Cohorts and campaigns have
    /// no counts of earlier times, and the look-back must reach as far as `hold`.
    pub(crate) fn is_looked_back_at(&self) -> bool {
        let Hold { warning, critical, page } = self.hold;
        let longest = warning.max(critical).max(page).micros();
        self.basis == Basis::Arrival && 0 < longest && longest <= EARLIER
    }

    /// Returns the longest window, in microseconds.
    pub fn longest(&self) -> i64 {
        self.windows.iter().map(RuleWindow::reach).max().unwrap_or(0)
    }

    /// Returns whether the evidence for a rate beyond `threshold` is enough.
    pub(crate) fn is_beyond(&self, k: u64, n: u64, threshold: f64) -> bool {
        match (self.test, self.direction) {
            (Test::EValue, _) => evalue::stops(k, n, threshold, self.confidence),
            (Test::Count, _) => crate::bounds::float(k) >= threshold * crate::bounds::float(n),
            (_, Direction::Over) => is_above(k, n, threshold, self.confidence),
            (_, Direction::Under) => is_below(k, n, threshold, self.confidence),
        }
    }

    /// Returns whether the bound is not yet good enough to end an episode with this lowest threshold.
    pub(crate) fn is_elevated(&self, k: u64, n: u64, lowest: f64) -> bool {
        let share = self.resolve.below;
        match self.direction {
            Direction::Over if self.test == Test::Count => self.is_beyond(k, n, share * lowest),
            Direction::Over => is_above(k, n, share * lowest, self.confidence),
            Direction::Under if lowest > 0.5 => {
                is_below(k, n, 1.0 - share * (1.0 - lowest), self.confidence)
            }
            Direction::Under => is_below(k, n, (lowest / share).min(1.0), self.confidence),
        }
    }
}
