use event::{EventId, IdBuilder};
use serde::{Deserialize, Serialize};

use crate::episode::Episode;
use crate::rates::ratio;
use crate::reading::{Reading, Severity};
use crate::{Direction, Metric, Rule, Scope, Width};

/// Whether an episode is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is.
    Firing,
    /// It is over.
    Resolved,
}

impl State {
    /// The stable name: JSON value, metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// The identity of an episode: a digest of rule, scope and start, the same in all its alerts and
/// after any replay. Written as 32 hexadecimal digits.
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
/// `episode_id`, `severity` and `state` together identify the transition. One that becomes
/// critical has the same `episode_id` and `started_at` as when it fired, and a later `at`; falling
/// back to a warning is not reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The episode.
    pub episode_id: EpisodeId,
    /// The rule's name.
    pub rule: String,
    /// Where it happened.
    #[serde(flatten)]
    pub scope: Scope,
    /// The worst so far.
    pub severity: Severity,
    /// Whether the episode is open.
    pub state: State,
    /// The rate the rule watches.
    pub metric: Metric,
    /// The window the figures are of: the worst one, or the last worst one when resolved.
    pub width: Width,
    /// The rate in that window (0.05 is 5 %); `None` only when resolved with nothing to divide by.
    pub value: Option<f64>,
    /// The threshold that was passed; when resolved, the warning's.
    pub threshold: f64,
    /// The numerator of `value`.
    pub numerator: u64,
    /// The denominator of `value`: messages sent, or accepted, by the metric's definition.
    pub volume: u64,
    /// The slide end at which the episode began, UTC microseconds of event time.
    pub started_at: i64,
    /// The slide end of this transition, UTC microseconds of event time.
    pub at: i64,
    /// Where it says what to do.
    pub runbook: String,
    /// One line for people.
    pub summary: String,
}

impl Alert {
    /// An episode that fired, or became critical.
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

    /// An episode that is over.
    pub(crate) fn resolved(rule: &str, scope: &Scope, episode: &Episode, at: i64) -> Self {
        Self::of(rule, scope, episode, at, State::Resolved, "resolved")
    }

    /// An episode that is over because its rule is gone.
    pub(crate) fn abandoned(rule: &str, scope: &Scope, episode: &Episode, at: i64) -> Self {
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
        let Episode { severity, metric, threshold, started_at, reading, .. } = *episode;
        let Reading { width, part, volume } = reading;
        Self {
            episode_id: EpisodeId::of(rule, scope, started_at),
            rule: rule.to_owned(),
            scope: scope.clone(),
            severity,
            state,
            metric,
            width,
            value: reading.value(),
            threshold,
            numerator: part,
            volume,
            started_at,
            at,
            runbook: episode.runbook.clone(),
            summary: format!("{scope}: {}, {outcome}", figures(metric, reading)),
        }
    }
}

/// `bounce rate 7.5 % in 5m (15 of 200 sent)`
fn figures(metric: Metric, Reading { width, part, volume }: Reading) -> String {
    let rate = ratio(part, volume).map_or_else(|| "not known".to_owned(), percent);
    format!("{metric} {rate} in {width} ({part} of {volume} {})", metric.volume_of())
}

/// A rate in per cent, to a thousandth of one, without idle zeros: `7.5 %`.
fn percent(rate: f64) -> String {
    let digits = format!("{:.3}", rate * 100.0);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use event::Provider;

    use super::*;

    #[test]
    fn an_alert_reads_as_documented() {
        let scope = Scope::Source { provider: Provider::SendGrid, source: "acme".into() };
        let reading = Reading { width: Width::M5, part: 15, volume: 200 };
        let rule = &Rule::seeds()[0];
        let episode = Episode::begin(rule, Severity::Warning, reading, 50_000_000);
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
    fn identities_depend_on_rule_scope_and_start() {
        let scope = |source: &str| Scope::Source { provider: Provider::Ses, source: source.into() };
        let id = EpisodeId::of("bounce_rate", &scope("acme"), 10);
        // Written down, so that a change of the digest does not go unseen: people's tools hold it.
        assert_eq!(id.to_string(), "6d9631a182317e6f632723979c6bbf76");
        assert_eq!(id, EpisodeId::of("bounce_rate", &scope("acme"), 10));
        assert_ne!(id, EpisodeId::of("low_opens", &scope("acme"), 10));
        assert_ne!(id, EpisodeId::of("bounce_rate", &scope("other"), 10));
        assert_ne!(id, EpisodeId::of("bounce_rate", &scope("acme"), 20));
    }

    #[test]
    fn per_cents_are_short() {
        for (rate, text) in
            [(0.05, "5 %"), (0.001, "0.1 %"), (0.0747, "7.47 %"), (1.0, "100 %"), (0.0, "0 %")]
        {
            assert_eq!(percent(rate), text);
        }
    }
}
