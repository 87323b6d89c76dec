use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rule::{Hold, Match, Pattern, Resolve, Rule};
use crate::span::Span;

/// Values of rules for some scopes. Where several overrides match, the most specific one wins, value by value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// The scopes.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Patterns for the names of the rules. Empty: all rules.
    #[serde(default)]
    pub rules: Vec<Pattern>,
    /// The values.
    pub values: Values,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Origin {
    /// The rule itself.
    Rule,
    /// An override with this match.
    Override(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule => f.write_str("rule"),
            Self::Override(of) => write!(f, "override for {of}"),
        }
    }
}

/// Declares the values that an override can set, from one line each.
macro_rules! values {
    ($($(#[$doc:meta])+ $key:ident: $type:ty => |$rule:ident, $value:ident| $set:expr;)+) => {
        /// The values of a rule that an override can set.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Values {
            $($(#[$doc])+
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub $key: Option<$type>,)+
        }

        impl Override {
            /// Sets the values of a rule.
            pub(crate) fn apply(&self, rule: &mut Rule) {
                $(if let Some($value) = &self.values.$key {
                    let $rule = &mut *rule;
                    $set;
                })+
            }

            /// Notes which values of a rule this override sets.
            pub(crate) fn explain(&self, values: &mut [(&'static str, String, Origin)]) {
                $(if let Some(value) = &self.values.$key {
                    let key = stringify!($key);
                    if let Some(found) = values.iter_mut().find(|(name, ..)| *name == key) {
                        found.1 = json(value);
                        found.2 = Origin::Override(self.matches.to_string());
                    }
                })+
            }
        }

        /// Returns the values of a rule that overrides can set.
        pub(crate) fn values(rule: &Rule) -> Vec<(&'static str, String, Origin)> {
            vec![$((stringify!($key), json(&rule.$key), Origin::Rule)),+]
        }
    };
}

values! {
    /// The threshold of a warning.
    warning: f64 => |rule, value| rule.warning = Some(*value);
    /// The threshold of severity critical.
    critical: f64 => |rule, value| rule.critical = Some(*value);
    /// The threshold of severity page.
    page: f64 => |rule, value| rule.page = Some(*value);
    /// The smallest denominator.
    min_volume: u64 => |rule, value| rule.min_volume = *value;
    /// The smallest numerator.
    min_count: u64 => |rule, value| rule.min_count = *value;
    /// The error rate.
    confidence: f64 => |rule, value| rule.confidence = *value;
    /// How long the rule must be broken.
    hold: Hold => |rule, value| rule.hold = *value;
    /// When an episode ends.
    resolve: Resolve => |rule, value| rule.resolve = *value;
    /// When people are reminded.
    remind: Span => |rule, value| rule.remind = Some(*value);
    /// A link to the instructions.
    runbook: String => |rule, value| rule.runbook.clone_from(value);
    /// Labels; those of the rule with other names stay.
    labels: BTreeMap<String, String> => |rule, value| rule.labels.extend(value.clone());
    /// Texts for people; those of the rule with other names stay.
    annotations: BTreeMap<String, String> => |rule, value| rule.annotations.extend(value.clone());
    /// Whether the rule is judged.
    enabled: bool => |rule, value| rule.enabled = *value;
}

impl Override {
    /// Returns whether it is about the rule with this name.
    pub(crate) fn concerns(&self, rule: &str) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|pattern| pattern.matches(rule))
    }

    /// Returns how specific it is: first by the match, then by whether it names rules.
    pub(crate) fn weight(&self) -> ((usize, usize, usize), bool) {
        (self.matches.weight(), !self.rules.is_empty())
    }
}

/// Returns a value as people write it. No value of a rule lacks a JSON form.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
