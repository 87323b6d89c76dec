use event::{EventId, IdBuilder};
use serde::{Deserialize, Serialize};

use crate::episode::Episode;
use crate::measurement::{Measurement, Severity};
use crate::rates::ratio;
use crate::{Direction, Metric, Rule, Scope, Width};

/// Whether an episode is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The episode is open.
    Firing,
    /// The episode is over.
    Resolved,
}

impl State {
    /// Returns the stable name, as in JSON and in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// The identity of an episode: a digest of its rule, scope and start. It is the same in all alerts
/// of the episode, also if the input is processed again. Written as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EpisodeId(EventId);

impl EpisodeId {
    fn of(rule: &str, scope: &Scope, started_at: i64) -> Self {
        let id = IdBuilder::new("episode")
            .part(rule.as_bytes())
            .part(scope.key().as_bytes())
            .part(&started_at.to_le_bytes())
            .finish();
        Self(id)
    }
}

impl std::fmt::Display for EpisodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<EpisodeId> for String {
    fn from(id: EpisodeId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for EpisodeId {
    type Error = event::ParseIdError;

    fn try_from(text: String) -> Result<Self, event::ParseIdError> {
        text.parse().map(Self)
    }
}

/// A transition of an episode: it fired, became critical, or resolved. The value of `mail.alerts`,
/// keyed by [`Scope::key`].
///
/// `episode_id`, `severity` and `state` together identify the transition. An episode that becomes
/// critical keeps the `episode_id` and `started_at` with which it fired and has a later `at`. If it
/// falls back to a warning, no alert is published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same in all alerts of the episode.
    pub episode_id: EpisodeId,
    /// The name of the rule.
    pub rule: String,
    /// The scope whose rate is beyond the threshold.
    #[serde(flatten)]
    pub scope: Scope,
    /// The highest severity that the episode has had so far.
    pub severity: Severity,
    /// Whether the episode is still open.
    pub state: State,
    /// The rate that the rule compares with its thresholds.
    pub metric: Metric,
    /// The window to which `value`, `numerator` and `volume` belong: the one with the worst rate. In
    /// a resolved alert: the window that was the worst at the last breach, with its current counts.
    pub width: Width,
    /// The rate in that window (0.05 is 5 %). `None` only in a resolved alert whose volume is 0.
    pub value: Option<f64>,
    /// The rule's threshold for `severity`. In a resolved alert: the threshold of a warning.
    pub threshold: f64,
    /// The numerator of `value`.
    pub numerator: u64,
    /// The denominator of `value`, such as messages sent; it depends on the metric.
    pub volume: u64,
    /// The slide end at which the episode began, UTC microseconds of event time.
    pub started_at: i64,
    /// The slide end of this transition, UTC microseconds of event time.
    pub at: i64,
    /// A link to the instructions for the person on call, from the rule.
    pub runbook: String,
    /// The alert as one line of text.
    pub summary: String,
}

impl Alert {
    /// Returns the alert of an episode that fired or became critical.
    pub(crate) fn firing(rule: &Rule, scope: &Scope, episode: &Episode, at: i64) -> Self {
        let threshold = match episode.severity {
            Severity::Warning => rule.threshold,
            Severity::Critical => rule.critical,
        };
        let side = match rule.direction {
            Direction::Over => "over",
            Direction::Under => "under",
        };
        let beyond = format!("{side} {}", percent(threshold));
        Self { threshold, ..Self::of(&rule.name, scope, episode, at, State::Firing, &beyond) }
    }

    /// Returns the alert of an episode that resolved because all windows are good again.
    pub(crate) fn resolved(rule: &str, scope: &Scope, episode: &Episode, at: i64) -> Self {
        Self::of(rule, scope, episode, at, State::Resolved, "resolved")
    }

    /// Returns the alert of an episode that is over because its rule was removed.
    pub(crate) fn rule_removed(rule: &str, scope: &Scope, episode: &Episode, at: i64) -> Self {
        Self::of(rule, scope, episode, at, State::Resolved, "resolved: the rule is gone")
    }

    fn of(
        rule: &str,
        scope: &Scope,
        episode: &Episode,
        at: i64,
        state: State,
        outcome: &str,
    ) -> Self {
        let Episode { severity, metric, threshold, started_at, measurement, .. } = *episode;
        let Measurement { width, numerator, volume } = measurement;
        Self {
            episode_id: EpisodeId::of(rule, scope, started_at),
            rule: rule.to_owned(),
            scope: scope.clone(),
            severity,
            state,
            metric,
            width,
            value: measurement.value(),
            threshold,
            numerator,
            volume,
            started_at,
            at,
            runbook: episode.runbook.clone(),
            summary: format!("{scope}: {}, {outcome}", figures(metric, measurement)),
        }
    }
}

/// Returns a text such as `bounce rate 7.5 % in 5m (15 of 200 sent)`.
fn figures(metric: Metric, measurement: Measurement) -> String {
    let Measurement { width, numerator, volume } = measurement;
    let rate = ratio(numerator, volume).map_or_else(|| "not known".to_owned(), percent);
    format!("{metric} {rate} in {width} ({numerator} of {volume} {})", metric.denominator_name())
}

/// Returns the rate in per cent with at most three decimals and no trailing zeros, such as `7.5 %`.
fn percent(rate: f64) -> String {
    let digits = format!("{:.3}", rate * 100.0);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;

    #[test]
    fn an_alert_has_the_documented_json_form() {
        let scope = Scope::Source { provider: Provider::SendGrid, source: "acme".into() };
        let measurement = Measurement { width: Width::M5, numerator: 15, volume: 200 };
        let rule = &Rule::defaults()[0];
        let episode = Episode::open(rule, Severity::Warning, measurement, 50_000_000);
        let alert = Alert::firing(rule, &scope, &episode, 50_000_000);
        let json = serde_json::to_string(&alert).unwrap();
        assert_eq!(
            json,
            format!(
                r##"{{"episode_id":"{}","rule":"bounce_rate","scope":"source","provider":"sendgrid","source":"acme","severity":"warning","state":"firing","metric":"bounce","width":"5m","value":0.075,"threshold":0.05,"numerator":15,"volume":200,"started_at":50000000,"at":50000000,"runbook":"docs/runbooks.md#bounce-rate","summary":"source/sendgrid/acme: bounce rate 7.5 % in 5m (15 of 200 sent), over 5 %"}}"##,
                alert.episode_id
            )
        );
        assert_eq!(serde_json::from_str::<Alert>(&json).unwrap(), alert);
    }

    #[test]
    fn an_episode_id_depends_on_rule_scope_and_start() {
        let scope = |source: &str| Scope::Source { provider: Provider::Ses, source: source.into() };
        let id = EpisodeId::of("bounce_rate", &scope("acme"), 10);
        // Fixed, because users' tools store episode ids: the digest must never change.
        assert_eq!(id.to_string(), "6d9631a182317e6f632723979c6bbf76");
        assert_eq!(id, EpisodeId::of("bounce_rate", &scope("acme"), 10));
        assert_ne!(id, EpisodeId::of("low_opens", &scope("acme"), 10));
        assert_ne!(id, EpisodeId::of("bounce_rate", &scope("other"), 10));
        assert_ne!(id, EpisodeId::of("bounce_rate", &scope("acme"), 20));
    }

    #[test]
    fn percentages_have_no_trailing_zeros() {
        for (rate, text) in
            [(0.05, "5 %"), (0.001, "0.1 %"), (0.0747, "7.47 %"), (1.0, "100 %"), (0.0, "0 %")]
        {
            assert_eq!(percent(rate), text);
        }
    }
}
