use serde::{Deserialize, Serialize};

use crate::rates::ratio;
use crate::{Metric, Width};

/// The side of the threshold on which a rate is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A rate above the threshold is bad.
    Over,
    /// A rate below the threshold is bad.
    Under,
}

/// A threshold for a rate. Each rule is evaluated for every scope.
///
/// In TOML (keys that may be omitted are commented out):
/// ```toml
/// name = "bounce_rate"
/// metric = "bounce"           # a name of [`Metric`]
/// direction = "over"          # or "under"
/// threshold = 0.05            # a warning fires beyond this rate
/// # critical = 0.10           # default: twice the threshold for "over", half of it for "under"
/// # min_volume = 0            # windows with a smaller denominator (sent or accepted) are ignored
/// # widths = ["1m", "5m", "15m", "60m"]    # also "24h"
/// # resolve_ratio = 1.0       # 0.8 resolves at 80 % of the threshold (for "under": at 125 %)
/// # resolve_after = "0s"      # event time for which the rate must stay there; units s, m, h
/// # runbook = ""              # a link
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RuleFields")]
pub struct Rule {
    /// The name. It must be unique among the rules, because episode ids depend on it.
    pub name: String,
    /// The rate that is compared with the thresholds.
    pub metric: Metric,
    /// The side of the thresholds that is bad.
    pub direction: Direction,
    /// A window whose rate is beyond this fires a warning; 0.05 is 5 %.
    pub threshold: f64,
    /// A window whose rate is beyond this makes the alert critical.
    pub critical: f64,
    /// Windows with a smaller denominator are ignored.
    pub min_volume: u64,
    /// The windows to evaluate. A single window beyond the threshold fires the rule.
    pub widths: Vec<Width>,
    /// How much better than the threshold all windows must be to resolve, in (0, 1]. With 1, an
    /// episode resolves once no window is beyond the threshold.
    pub resolve_ratio: f64,
    /// How long all windows must stay that good to resolve, in microseconds of event time.
    pub resolve_after: i64,
    /// A link to the instructions for the person on call.
    pub runbook: String,
}

/// How bad a window is, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Good enough to resolve an episode.
    Good,
    /// Not bad enough to open an episode and not good enough to resolve one.
    Elevated,
    /// Beyond the threshold.
    Warning,
    /// Beyond the critical threshold.
    Critical,
}

/// An invalid rule in the configuration.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RuleError {
    /// The name is empty.
    #[error("a rule has no name; set `name` to a unique text")]
    NoName,
    /// The threshold is not a number above 0. No rate can be under a threshold of 0.
    #[error("rule `{0}`: threshold must be a number greater than 0, such as 0.05 for 5 %")]
    Threshold(String),
    /// The critical threshold is better than the threshold of the warning.
    #[error(
        "rule `{0}`: critical must be at least threshold for `over`, at most threshold for `under`"
    )]
    Critical(String),
    /// No widths are given, so the rule could never fire.
    #[error("rule `{0}`: widths must name at least one of 1m, 5m, 15m, 60m, 24h")]
    NoWidths(String),
    /// A cohort is not judged, because it is never complete.
    #[error("rule `{0}`: rules judge windows, not cohorts; remove `cohort` from widths")]
    Cohort(String),
    /// `resolve_ratio` is outside (0, 1].
    #[error("rule `{0}`: resolve_ratio must be greater than 0 and at most 1")]
    ResolveRatio(String),
    /// `resolve_after` is not a number with a unit.
    #[error("rule `{0}`: resolve_after must be a whole number with a unit: 90s, 30m, 2h")]
    ResolveAfter(String),
}

impl RuleError {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoName => "rule_without_name",
            Self::Threshold(_) => "rule_threshold_invalid",
            Self::Critical(_) => "rule_critical_invalid",
            Self::NoWidths(_) => "rule_without_widths",
            Self::Cohort(_) => "rule_of_cohorts",
            Self::ResolveRatio(_) => "rule_resolve_ratio_invalid",
            Self::ResolveAfter(_) => "rule_resolve_after_invalid",
        }
    }
}

/// The TOML form of a rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFields {
    name: String,
    metric: Metric,
    direction: Direction,
    threshold: f64,
    critical: Option<f64>,
    #[serde(default)]
    min_volume: u64,
    #[serde(default = "all_widths")]
    widths: Vec<Width>,
    #[serde(default = "default_resolve_ratio")]
    resolve_ratio: f64,
    #[serde(default = "default_resolve_after")]
    resolve_after: String,
    #[serde(default)]
    runbook: String,
}

fn all_widths() -> Vec<Width> {
    Width::OF_RULES.to_vec()
}

const fn default_resolve_ratio() -> f64 {
    1.0
}

fn default_resolve_after() -> String {
    "0s".to_owned()
}

/// Parses a duration such as `90s`, `30m` or `2h` into microseconds.
fn parse_micros(span: &str) -> Option<i64> {
    let (number, unit) = span.split_at_checked(span.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    i64::from(number.parse::<u32>().ok()?).checked_mul(seconds * 1_000_000)
}

impl TryFrom<RuleFields> for Rule {
    type Error = RuleError;

    fn try_from(fields: RuleFields) -> Result<Self, RuleError> {
        let name = fields.name;
        let critical = fields.critical.unwrap_or(match fields.direction {
            Direction::Over => fields.threshold * 2.0,
            Direction::Under => fields.threshold / 2.0,
        });
        let ordered = match fields.direction {
            Direction::Over => critical >= fields.threshold && critical.is_finite(),
            Direction::Under => critical <= fields.threshold && critical >= 0.0,
        };
        match parse_micros(&fields.resolve_after) {
            _ if name.is_empty() => Err(RuleError::NoName),
            _ if !(fields.threshold > 0.0 && fields.threshold.is_finite()) => {
                Err(RuleError::Threshold(name))
            }
            _ if !ordered => Err(RuleError::Critical(name)),
            _ if fields.widths.is_empty() => Err(RuleError::NoWidths(name)),
            _ if fields.widths.contains(&Width::Cohort) => Err(RuleError::Cohort(name)),
            _ if !(fields.resolve_ratio > 0.0 && fields.resolve_ratio <= 1.0) => {
                Err(RuleError::ResolveRatio(name))
            }
            None => Err(RuleError::ResolveAfter(name)),
            Some(resolve_after) => Ok(Self {
                name,
                metric: fields.metric,
                direction: fields.direction,
                threshold: fields.threshold,
                critical,
                min_volume: fields.min_volume,
                widths: fields.widths,
                resolve_ratio: fields.resolve_ratio,
                resolve_after,
                runbook: fields.runbook,
            }),
        }
    }
}

impl Rule {
    /// Returns the rules that apply if the configuration contains none.
    pub fn defaults() -> Vec<Self> {
        use Direction::{Over, Under};
        use Metric::{Bounce, Complaint, Engagement, Open};
        const ALL: &[Width] = &Width::OF_RULES;
        const HOUR: &[Width] = &[Width::M60];
        [
            ("bounce_rate", Bounce, Over, 0.05, 0.10, 200, ALL),
            ("complaint_rate", Complaint, Over, 0.001, 0.002, 1000, ALL),
            ("low_engagement", Engagement, Under, 0.15, 0.075, 200, HOUR),
            // The requirement is more than 100 delivered messages.
            ("low_opens", Open, Under, 0.10, 0.05, 101, HOUR),
        ]
        .into_iter()
        .map(|(name, metric, direction, threshold, critical, min_volume, widths)| Self {
            name: name.to_owned(),
            metric,
            direction,
            threshold,
            critical,
            min_volume,
            widths: widths.to_vec(),
            resolve_ratio: 1.0,
            resolve_after: 0,
            runbook: format!("docs/runbooks.md#{}", name.replace('_', "-")),
        })
        .collect()
    }

    /// Returns how bad the rate `numerator / volume` is, or `None` if the volume is too small.
    pub(crate) fn level(&self, numerator: u64, volume: u64) -> Option<Level> {
        let rate = ratio(numerator, volume).filter(|_| volume >= self.min_volume)?;
        let elevated_from = match self.direction {
            Direction::Over => self.threshold * self.resolve_ratio,
            Direction::Under => self.threshold / self.resolve_ratio,
        };
        Some(if self.is_beyond(rate, self.critical) {
            Level::Critical
        } else if self.is_beyond(rate, self.threshold) {
            Level::Warning
        } else if self.is_beyond(rate, elevated_from) {
            Level::Elevated
        } else {
            Level::Good
        })
    }

    /// Returns true if `rate` is on the bad side of `other`. An equal rate is not beyond.
    pub(crate) fn is_beyond(&self, rate: f64, other: f64) -> bool {
        match self.direction {
            Direction::Over => rate > other,
            Direction::Under => rate < other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Result<Rule, String> {
        let text = format!("name = \"r\"\nmetric = \"bounce\"\n{more}");
        toml::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn omitted_keys_have_the_documented_defaults() {
        let rule = read("direction = \"over\"\nthreshold = 0.05").unwrap();
        assert_eq!((rule.critical, rule.min_volume, rule.resolve_ratio), (0.1, 0, 1.0));
        assert_eq!((rule.widths, rule.resolve_after), (Width::OF_RULES.to_vec(), 0));
        let rule = read("direction = \"under\"\nthreshold = 0.5").unwrap();
        assert_eq!(rule.critical, 0.25);
    }

    #[test]
    fn every_key_can_be_set() {
        let rule = read(
            "direction = \"over\"\nthreshold = 0.05\ncritical = 0.06\nmin_volume = 7\n\
             widths = [\"5m\"]\nresolve_ratio = 0.8\nresolve_after = \"30m\"\nrunbook = \"x\"",
        )
        .unwrap();
        assert_eq!((rule.critical, rule.min_volume, rule.resolve_ratio), (0.06, 7, 0.8));
        assert_eq!((rule.widths, rule.resolve_after), (vec![Width::M5], 1_800_000_000));
        assert_eq!(rule.runbook, "x");
    }

    #[test]
    fn errors_name_the_invalid_key() {
        for (more, expected) in [
            ("direction = \"over\"\nthreshold = 0", "threshold must be"),
            ("direction = \"over\"\nthreshold = nan", "threshold must be"),
            ("direction = \"over\"\nthreshold = 0.5\ncritical = 0.4", "critical must be"),
            ("direction = \"under\"\nthreshold = 0.5\ncritical = 0.6", "critical must be"),
            ("direction = \"over\"\nthreshold = 0.5\nwidths = []", "widths must name"),
            ("direction = \"over\"\nthreshold = 0.5\nwidths = [\"2m\"]", "unknown variant"),
            ("direction = \"over\"\nthreshold = 0.5\nwidths = [\"cohort\"]", "not cohorts"),
            ("direction = \"over\"\nthreshold = 0.5\nresolve_ratio = 1.5", "resolve_ratio must"),
            ("direction = \"over\"\nthreshold = 0.5\nresolve_after = \"30\"", "resolve_after must"),
            ("direction = \"over\"\nthreshold = 0.5\nresolve_after = \"\"", "resolve_after must"),
            ("direction = \"over\"\nthreshold = 0.5\nresolve_after = \"3é\"", "resolve_after must"),
            ("direction = \"over\"\nthreshold = 0.5\nspeed = 1", "unknown field"),
            ("direction = \"sideways\"\nthreshold = 0.5", "unknown variant"),
        ] {
            let error = read(more).unwrap_err();
            assert!(error.contains(expected), "{more}: {error}");
        }
    }

    #[test]
    fn the_default_rules_equal_their_toml_form() {
        let default =
            |name: &str| Rule::defaults().into_iter().find(|rule| rule.name == name).unwrap();
        for (name, text) in [
            (
                "bounce_rate",
                "metric = 'bounce'\ndirection = 'over'\nthreshold = 0.05\nmin_volume = 200",
            ),
            (
                "complaint_rate",
                "metric = 'complaint'\ndirection = 'over'\nthreshold = 0.001\nmin_volume = 1000",
            ),
            (
                "low_engagement",
                "metric = 'engagement'\ndirection = 'under'\nthreshold = 0.15\nmin_volume = 200\nwidths = ['60m']",
            ),
            (
                "low_opens",
                "metric = 'open'\ndirection = 'under'\nthreshold = 0.10\nmin_volume = 101\nwidths = ['60m']",
            ),
        ] {
            let anchor = name.replace('_', "-");
            let text = format!("name = '{name}'\nrunbook = 'docs/runbooks.md#{anchor}'\n{text}");
            assert_eq!(default(name), toml::from_str(&text).unwrap());
        }
    }

    #[test]
    fn a_rate_at_its_threshold_is_not_beyond_it() {
        let bounce = &Rule::defaults()[0];
        assert_eq!(bounce.level(10, 200), Some(Level::Good));
        assert_eq!(bounce.level(11, 200), Some(Level::Warning));
        assert_eq!(bounce.level(20, 200), Some(Level::Warning));
        assert_eq!(bounce.level(21, 200), Some(Level::Critical));
        assert_eq!(bounce.level(199, 199), None);
        let opens = &Rule::defaults()[3];
        assert_eq!(opens.level(0, 100), None);
        assert_eq!(opens.level(10, 101), Some(Level::Warning));
        assert_eq!(opens.level(20, 200), Some(Level::Good));
        assert_eq!(opens.level(9, 200), Some(Level::Critical));
    }

    #[test]
    fn the_resolve_ratio_requires_a_better_rate_to_resolve() {
        let bounce = Rule { resolve_ratio: 0.5, ..Rule::defaults()[0].clone() };
        assert_eq!(bounce.level(10, 200), Some(Level::Elevated));
        assert_eq!(bounce.level(5, 200), Some(Level::Good));
        let opens = Rule { resolve_ratio: 0.5, ..Rule::defaults()[3].clone() };
        assert_eq!(opens.level(30, 200), Some(Level::Elevated));
        assert_eq!(opens.level(40, 200), Some(Level::Good));
    }
}
