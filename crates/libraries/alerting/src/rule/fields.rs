use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use window::{Direction, Metric, ScopeKind, Width};

use super::{Hold, Match, Relative, Resolve, Rule, RuleError, RuleWindow, Same, SmallVolume, Test};
use crate::bounds::ALPHA;
use crate::span::Span;
use crate::{Basis, Family, Measure, Share};

/// The error rate of tests with an e-value: Ville's 1/1000.
const E_VALUE_ALPHA: f64 = 0.001;

/// The age of the mail whose opens and clicks are judged: most of them come within a day.
const ENGAGEMENT_WINDOW: RuleWindow = RuleWindow::Cohort { youngest: 24, oldest: 48 };

/// The TOML and JSON form of a rule. The keys from `threshold` on are those of earlier releases.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleFields {
    name: String,
    metric: Option<Measure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    basis: Option<Basis>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default, rename = "match")]
    matches: Match,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    windows: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    test: Option<Test>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warning: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    critical: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    page: Option<f64>,
    #[serde(default)]
    min_volume: u64,
    #[serde(default)]
    min_count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    small: Option<SmallVolume>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confidence: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settle: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<Hold>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolve: Option<Resolve>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remind: Option<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baseline: Option<Relative>,
    #[serde(default)]
    runbook: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    family: Option<Family>,
    #[serde(default = "yes")]
    enabled: bool,

    /// Now `warning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    /// Now `windows`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    widths: Option<Vec<String>>,
    /// Now `resolve.below`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolve_ratio: Option<f64>,
    /// Now `resolve.for`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolve_after: Option<String>,
}

const fn yes() -> bool {
    true
}

impl RuleFields {
    /// Replaces the keys of earlier releases.
    ///
    /// A `threshold` is a `warning`, and `critical` is by default twice (under: half) of it. Rates of opens and
    /// clicks that must not be too low are judged by cohort, because a campaign that has just begun has no
    /// opens yet. `resolve_ratio` and `resolve_after` have new defaults: 0.8 and 30 minutes.
    fn modernize(mut self) -> Result<Self, RuleError> {
        let rule = || self.name.clone();
        let mixed = [
            (self.threshold.is_some() && self.warning.is_some(), "threshold", "warning"),
            (self.widths.is_some() && self.windows.is_some(), "widths", "windows"),
            (
                self.resolve_ratio.is_some() && self.resolve.is_some(),
                "resolve_ratio",
                "resolve.below",
            ),
            (
                self.resolve_after.is_some() && self.resolve.is_some(),
                "resolve_after",
                "resolve.for",
            ),
        ];
        if let Some((_, old, new)) = mixed.into_iter().find(|(is_mixed, ..)| *is_mixed) {
            return Err(RuleError::Mixed { rule: rule(), old, new });
        }
        if self.resolve_ratio.is_some() || self.resolve_after.is_some() {
            let mut resolve = Resolve::default();
            if let Some(after) = self.resolve_after.take() {
                let span = after.parse::<Span>();
                resolve.r#for = span.map_err(|error| RuleError::ResolveAfter(rule(), error))?;
            }
            resolve.below = self.resolve_ratio.take().unwrap_or(resolve.below);
            self.resolve = Some(resolve);
        }
        let is_old = self.threshold.is_some() || self.widths.is_some();
        if let Some(widths) = self.widths.take() {
            if widths.iter().any(|width| width == Width::Cohort.as_str()) {
                return Err(RuleError::Cohort(rule()));
            }
            self.windows = Some(widths);
        }
        let Some(threshold) = self.threshold.take() else { return Ok(self) };
        self.warning = Some(threshold);
        let is_under = self.direction == Some(Direction::Under);
        let default = if is_under { threshold / 2.0 } else { threshold * 2.0 };
        // A rate is never below 0, so such a threshold was never reached.
        self.critical = Some(self.critical.unwrap_or(default)).filter(|it| !is_under || *it != 0.0);
        let is_engagement = matches!(
            self.metric,
            Some(Measure::Rate(
                Metric::Open | Metric::OpenWithMachines | Metric::Click | Metric::Engagement
            ))
        );
        if is_old && is_under && is_engagement && self.basis.is_none() {
            if self.windows.as_ref().is_some_and(Vec::is_empty) {
                return Err(RuleError::NoWidths(rule()));
            }
            self.basis = Some(Basis::Cohort);
            self.windows = Some(vec![ENGAGEMENT_WINDOW.to_string()]);
        }
        Ok(self)
    }
}

impl TryFrom<RuleFields> for Rule {
    type Error = RuleError;

    fn try_from(fields: RuleFields) -> Result<Self, RuleError> {
        if fields.name.is_empty() {
            return Err(RuleError::NoName);
        }
        let fields = fields.modernize()?;
        let name = fields.name;
        let needs = |needs| RuleError::Test { rule: name.clone(), needs };
        let metric = fields.metric.ok_or_else(|| needs("`metric` is missing"))?;
        let basis = fields.basis.unwrap_or(match metric {
            Measure::Share(Share::Gap) => Basis::Gap,
            _ => Basis::Arrival,
        });
        let test = fields.test.unwrap_or(match metric {
            Measure::Share(Share::Gap) => Test::Gap,
            Measure::Share(Share::DeliveriesMissing) => Test::Missing,
            _ => Test::Bound,
        });
        let default_direction = if test == Test::Gap { Direction::Under } else { Direction::Over };
        let windows = match fields.windows {
            None => RuleWindow::defaults(basis),
            Some(texts) => {
                let windows = texts.iter().map(|text| window(&name, text, basis));
                windows.collect::<Result<_, _>>()?
            }
        };
        let scopes = fields.scopes.iter().map(|kind| scope_kind(&name, kind));
        let rule = Self {
            metric,
            basis,
            scopes: scopes.collect::<Result<_, _>>()?,
            matches: fields.matches,
            windows,
            direction: fields.direction.unwrap_or(default_direction),
            test,
            warning: fields.warning,
            critical: fields.critical,
            page: fields.page,
            min_volume: fields.min_volume,
            min_count: fields.min_count,
            small: fields.small,
            confidence: fields.confidence.unwrap_or(default_confidence(test)),
            settle: fields.settle.unwrap_or(Span::ZERO),
            hold: fields.hold.unwrap_or(match test {
                Test::EValue => Hold::NONE,
                _ => Hold::default(),
            }),
            resolve: fields.resolve.unwrap_or_default(),
            remind: fields.remind,
            baseline: fields.baseline,
            runbook: fields.runbook,
            labels: fields.labels,
            annotations: fields.annotations,
            family: fields.family.unwrap_or_else(|| family(metric)),
            enabled: fields.enabled,
            name,
        };
        rule.check()?;
        Ok(rule)
    }
}

impl From<&Rule> for RuleFields {
    fn from(rule: &Rule) -> Self {
        let Rule { metric, basis, direction, test, .. } = *rule;
        Self {
            name: rule.name.clone(),
            metric: Some(metric),
            basis: Some(basis),
            scopes: rule.scopes.iter().map(|kind| kind.as_str().to_owned()).collect(),
            matches: rule.matches.clone(),
            windows: Some(rule.windows.iter().map(ToString::to_string).collect()),
            direction: Some(direction),
            test: Some(test),
            warning: rule.warning,
            critical: rule.critical,
            page: rule.page,
            min_volume: rule.min_volume,
            min_count: rule.min_count,
            small: rule.small.clone(),
            confidence: Some(rule.confidence),
            settle: Some(rule.settle),
            hold: Some(rule.hold),
            resolve: Some(rule.resolve),
            remind: rule.remind,
            baseline: rule.baseline,
            runbook: rule.runbook.clone(),
            labels: rule.labels.clone(),
            annotations: rule.annotations.clone(),
            family: Some(rule.family),
            enabled: rule.enabled,
            ..Self::default()
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RuleFields::from(self).serialize(serializer)
    }
}

fn window(rule: &str, text: &str, basis: Basis) -> Result<RuleWindow, RuleError> {
    RuleWindow::parse(text, basis).ok_or_else(|| RuleError::Window {
        rule: rule.to_owned(),
        window: text.to_owned(),
        arrival: Width::JUDGED.map(Width::as_str).join(", "),
    })
}

fn scope_kind(rule: &str, text: &str) -> Result<ScopeKind, RuleError> {
    let kind = ScopeKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| RuleError::Test {
        rule: rule.to_owned(),
        needs: "`scopes` must name kinds of scopes: source, mailbox_provider, campaign, \
                sender_domain, sending_ip, mailbox_provider_sending_ip, tenant, \
                tenant_mailbox_provider",
    })
}

const fn default_confidence(test: Test) -> f64 {
    match test {
        Test::EValue => E_VALUE_ALPHA,
        Test::Burst | Test::Missing => 1e-4,
        Test::Bound | Test::Count | Test::Gap => ALPHA,
    }
}

/// Returns what a rule of this measure is about, if it does not say.
const fn family(measure: Measure) -> Family {
    match measure {
        Measure::Rate(metric) => match metric {
            Metric::Bounce
            | Metric::HardBounce
            | Metric::SoftBounce
            | Metric::UndeterminedBounce
            | Metric::LateBounce => Family::Bounces,
            Metric::BlockBounce | Metric::Deferral | Metric::Delivery | Metric::InjectionLoss => {
                Family::Blocks
            }
            Metric::Complaint | Metric::PlainComplaint => Family::Complaints,
            Metric::Unsubscribe
            | Metric::Open
            | Metric::OpenWithMachines
            | Metric::Click
            | Metric::Engagement => Family::Engagement,
        },
        Measure::Share(share) => match share {
            Share::AuthRefused | Share::Throttled | Share::Listed => Family::Blocks,
            Share::Suppressed | Share::Unclassified => Family::ListQuality,
            Share::Gap | Share::DeliveriesMissing => Family::Silence,
        },
    }
}

impl Rule {
    /// Checks what the types cannot.
    pub(crate) fn check(&self) -> Result<(), RuleError> {
        let name = || self.name.clone();
        let thresholds: Vec<f64> =
            [self.warning, self.critical, self.page].into_iter().flatten().collect();
        let is_ordered = thresholds.is_sorted_by(|milder, harder| match self.direction {
            Direction::Over => milder <= harder,
            Direction::Under => milder >= harder,
        });
        if self.windows.is_empty() {
            Err(RuleError::NoWidths(name()))
        } else if thresholds.is_empty() {
            Err(RuleError::NoThreshold(name()))
        } else if thresholds.iter().any(|it| !(*it > 0.0 && it.is_finite())) {
            Err(RuleError::Threshold(name()))
        } else if !is_ordered {
            Err(RuleError::Critical(name()))
        } else if !(self.resolve.below > 0.0 && self.resolve.below <= 1.0) {
            Err(RuleError::ResolveRatio(name()))
        } else if !(self.confidence > 0.0 && self.confidence <= 0.5) {
            Err(RuleError::Confidence(name()))
        } else if ![Span::ZERO, Span::minutes(1)].contains(&self.settle) {
            Err(RuleError::Settle(name()))
        } else {
            self.check_test().map_err(|needs| RuleError::Test { rule: name(), needs })
        }
    }

    fn check_test(&self) -> Result<(), &'static str> {
        let is_over = self.direction == Direction::Over;
        let highest = [self.warning, self.critical, self.page].into_iter().flatten();
        let is_share = highest.fold(0.0, f64::max) < 1.0;
        let is = |share| self.metric == Measure::Share(share);
        let same = self.baseline.map(|baseline| baseline.same);
        match self.test {
            Test::Gap if is_over || !is(Share::Gap) || self.basis != Basis::Gap => Err(
                "test = \"gap\" needs metric = \"gap\", basis = \"gap\" and direction = \"under\"",
            ),
            Test::Gap if !is_share => Err("thresholds of test = \"gap\" are probabilities below 1"),
            _ if self.test != Test::Gap && (is(Share::Gap) || self.basis == Basis::Gap) => {
                Err("metric = \"gap\" needs test = \"gap\"")
            }
            Test::Missing if !is(Share::DeliveriesMissing) || self.basis != Basis::Arrival => Err(
                "test = \"missing\" needs metric = \"deliveries_missing\" and basis = \"arrival\"",
            ),
            Test::EValue if !is_over || !is_share => {
                Err("test = \"e_value\" needs direction = \"over\" and thresholds below 1")
            }
            Test::Burst
                if !is_over
                    || same != Some(Same::HourOfDay)
                    || self.metric != Measure::Rate(Metric::Complaint)
                    || self.windows != [RuleWindow::Arrival(Width::M60)] =>
            {
                Err("test = \"burst\" needs metric = \"complaint\", windows = [\"60m\"], \
                     direction = \"over\" and baseline.same = \"hour_of_day\"")
            }
            Test::Bound => match same {
                Some(Same::HourOfDay) => {
                    Err("baseline.same = \"hour_of_day\" needs test = \"burst\"")
                }
                Some(Same::HourOfWeek)
                    if !is_over || self.metric != Measure::Rate(Metric::Deferral) =>
                {
                    Err("baseline.same = \"hour_of_week\" needs metric = \"deferral\" and \
                         direction = \"over\"")
                }
                Some(Same::Weekday)
                    if is_over
                        || self.metric != Measure::Rate(Metric::Engagement)
                        || self.basis != Basis::Cohort =>
                {
                    Err("baseline.same = \"weekday\" needs metric = \"engagement\", \
                         basis = \"cohort\" and direction = \"under\"")
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
