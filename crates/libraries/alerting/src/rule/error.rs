/// An invalid rule or override in the configuration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RuleError {
    /// The name is empty.
    #[error("a rule has no name; set `name` to a unique text")]
    NoName,
    /// Two rules have this name.
    #[error(
        "two rules have the name `{0}`; names must be unique, because episodes are named by them"
    )]
    SameName(String),
    /// A threshold is not a number above 0. No rate can be under a threshold of 0.
    #[error("rule `{0}`: thresholds must be numbers greater than 0, such as 0.05 for 5 %")]
    Threshold(String),
    /// There is no threshold.
    #[error("rule `{0}` can never be broken; set `warning`, `critical` or `page`")]
    NoThreshold(String),
    /// A higher severity has a milder threshold.
    #[error(
        "rule `{0}`: critical must be beyond warning, and page beyond critical, on the bad side of \
         `direction`"
    )]
    Critical(String),
    /// No windows are given, so the rule could never fire.
    #[error("rule `{0}`: `windows` must name at least one window")]
    NoWidths(String),
    /// The basis has no such window.
    #[error(
        "rule `{rule}`: `{window}` is not a window of its basis; arrival has {arrival}, cohort has spans \
         of hours such as 24h and 24h-48h (up to 192h), campaign has `campaign`, and gap has `gap`"
    )]
    Window {
        /// The name of the rule.
        rule: String,
        /// The window.
        window: String,
        /// The windows of basis arrival.
        arrival: String,
    },
    /// A file of an earlier release has a rule of cohorts, which it never had.
    #[error(
        "rule `{0}`: `cohort` is not a width; set basis = \"cohort\" and windows such as 24h-48h"
    )]
    Cohort(String),
    /// `resolve.below` is outside (0, 1].
    #[error("rule `{0}`: resolve.below must be greater than 0 and at most 1")]
    ResolveRatio(String),
    /// `resolve.for` is not a span.
    #[error("rule `{0}`: {1}")]
    ResolveAfter(String, crate::span::NotASpan),
    /// `confidence` is not an error rate.
    #[error(
        "rule `{0}`: confidence must be greater than 0 and at most 0.5; it is the share of false breaches, \
         such as 0.0005"
    )]
    Confidence(String),
    /// The test needs something that the rule does not have.
    #[error("rule `{rule}`: {needs}")]
    Test {
        /// The name of the rule.
        rule: String,
        /// What to change.
        needs: &'static str,
    },
    /// `settle` is neither 0s nor 1m.
    #[error("rule `{0}`: settle must be 0s or 1m")]
    Settle(String),
    /// A pattern is not valid.
    #[error("`{0}` is not a pattern; write a name, with * for any text and ? for any character")]
    Pattern(String),
    /// A file mixes the names of two releases.
    #[error(
        "rule `{rule}`: `{old}` is the name of an earlier release for `{new}`; write only one of them"
    )]
    Mixed {
        /// The name of the rule.
        rule: String,
        /// The old name.
        old: &'static str,
        /// The new name.
        new: &'static str,
    },
    /// There are too many rules or overrides.
    #[error("{0} {1} are too many; at most {2} are allowed")]
    TooMany(usize, &'static str, usize),
}

impl RuleError {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoName => "rule_without_name",
            Self::SameName(_) => "rule_name_not_unique",
            Self::Threshold(_) => "rule_threshold_invalid",
            Self::NoThreshold(_) => "rule_without_threshold",
            Self::Critical(_) => "rule_critical_invalid",
            Self::NoWidths(_) => "rule_without_widths",
            Self::Window { .. } => "rule_window_invalid",
            Self::Cohort(_) => "rule_of_cohorts",
            Self::ResolveRatio(_) => "rule_resolve_ratio_invalid",
            Self::ResolveAfter(..) => "rule_resolve_after_invalid",
            Self::Confidence(_) => "rule_confidence_invalid",
            Self::Test { .. } => "rule_test_invalid",
            Self::Settle(_) => "rule_settle_invalid",
            Self::Pattern(_) => "rule_pattern_invalid",
            Self::Mixed { .. } => "rule_of_two_releases",
            Self::TooMany(..) => "rules_too_many",
        }
    }
}
