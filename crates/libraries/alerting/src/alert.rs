use std::collections::BTreeMap;

use event::{EventId, IdBuilder};
use serde::{Deserialize, Serialize};
use window::{Metric, Scope};

/// How bad an episode or incident is, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Someone should look at it during the day.
    Warning,
    /// Someone should look at it now.
    Critical,
    /// Someone must be woken.
    Page,
}

/// The state of an episode after a transition. The states `pending` and `recovering` of an episode are
/// not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// The rule is broken.
    Firing,
    /// The episode is open, but too little mail is sent to tell whether the rule is still broken.
    Stale,
    /// The episode is over.
    Resolved,
}

impl AlertState {
    /// Returns the stable name, as in JSON and in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Stale => "stale",
            Self::Resolved => "resolved",
        }
    }
}

/// Why an episode is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResolveReason {
    /// The evidence has been on the good side for long enough.
    Recovered,
    /// Too little mail was sent for an hour.
    NoTraffic,
    /// The configuration no longer has the rule.
    RuleRemoved,
    /// Someone has closed it.
    Closed,
}

/// Which events a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// What happened in the window.
    Arrival,
    /// What has happened to the mail that was sent in the window.
    Cohort,
    /// What has happened since the campaign began.
    Campaign,
    /// The time without events.
    Gap,
}

/// What an incident is about. Episodes of one family and source have one incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Addresses that do not exist, and other bounces.
    Bounces,
    /// Blocks, deferrals, refused authentication, and wording of providers.
    Blocks,
    /// Complaints.
    Complaints,
    /// Opens, clicks and unsubscribes.
    Engagement,
    /// Events that no longer come.
    Silence,
    /// The quality of the list of recipients.
    ListQuality,
}

/// What a rule measures: a rate of docs/metrics.md, or a share that only rules use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measure {
    /// A rate of docs/metrics.md.
    Rate(Metric),
    /// A share that only rules use.
    Share(Share),
}

/// A share that only rules use; docs/metrics.md defines each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Bounces and deferrals because of missing or failed authentication ÷ sent.
    AuthRefused,
    /// Answers of a provider that names the sender's rate or reputation ÷ sent.
    Throttled,
    /// Answers that name a block list ÷ sent.
    Listed,
    /// Messages that the ESP suppressed ÷ (injected + dropped).
    Suppressed,
    /// Bounces whose text is not known ÷ bounces.
    Unclassified,
    /// The time without events, in seconds, ÷ 1. The rate is not a share; it is the gap.
    Gap,
    /// Events other than `delivered` ÷ the same, while `delivered` is 0.
    DeliveriesMissing,
}

/// The identity of an episode: a digest of its rule, its scope and the offsets at its first breach. It
/// is the same in all alerts of the episode, also if the input is processed again. Written as 32
/// hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EpisodeId(EventId);

impl EpisodeId {
    /// Returns the id of an episode of a rule and scope that began with the events before `as_of`.
    pub fn of(rule: &str, scope: &Scope, as_of: &BTreeMap<i32, i64>) -> Self {
        let mut id =
            IdBuilder::new("episode-at").part(rule.as_bytes()).part(scope.key().as_bytes());
        for (partition, offset) in as_of {
            id = id.part(&partition.to_le_bytes()).part(&offset.to_le_bytes());
        }
        Self(id.finish())
    }

    /// Returns the id of an episode that an earlier release opened: a digest of its rule, scope and start.
    pub(crate) fn of_first_release(rule: &str, scope: &Scope, started_at: i64) -> Self {
        let id = IdBuilder::new("episode").part(rule.as_bytes()).part(scope.key().as_bytes());
        Self(id.part(&started_at.to_le_bytes()).finish())
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

/// A transition of an episode. The value of `mail.alerts`.
///
/// `episode_id` and `seq` together identify the transition. The fields without a default are those of
/// the first release; its alerts can be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same in all alerts of the episode.
    pub episode_id: EpisodeId,
    /// The name of the rule.
    pub rule: String,
    /// The scope that breaks the rule.
    #[serde(flatten)]
    pub scope: Scope,
    /// The highest severity that the episode has had so far.
    pub severity: Severity,
    /// The state after the transition.
    pub state: AlertState,
    /// What the rule measures.
    pub metric: Measure,
    /// The window of the rule, such as `5m`, `24h` or `campaign`.
    pub width: String,
    /// The rate in the window (0.05 is 5 %). `None` if the denominator is 0.
    pub value: Option<f64>,
    /// The rule's threshold for `severity`. In a resolved alert: the threshold of a warning.
    pub threshold: f64,
    /// The numerator of `value`.
    pub numerator: u64,
    /// The denominator of `value`, such as messages sent; it depends on the metric.
    pub volume: u64,
    /// By window of the rule: numerator and denominator at the moment of the transition, so that scopes that
    /// break the rule in different windows can be compared. Empty if the rule has only one window, and in
    /// alerts of an earlier release.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_window: BTreeMap<String, (u64, u64)>,
    /// The end of the window of the first breach, UTC microseconds of event time.
    pub started_at: i64,
    /// The end of the window of this transition, UTC microseconds of event time.
    pub at: i64,
    /// A link to the instructions for the person on call, from the rule.
    pub runbook: String,
    /// The alert as one line of text.
    pub summary: String,
    /// What the rule is about.
    #[serde(default = "bounces")]
    pub family: Family,
    /// Which events are counted.
    #[serde(default = "arrival")]
    pub basis: Basis,
    /// The number of the transition in its episode. The first one is 1; alerts of an earlier release
    /// have 0.
    #[serde(default)]
    pub seq: u32,
    /// Why the episode is over. `None` unless `state` is resolved, and in alerts of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ResolveReason>,
    /// The bound of the evidence: with the rule's confidence, the true rate is beyond it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// The first moment of the window, UTC microseconds of event time (for a cohort, of the send time).
    #[serde(default)]
    pub from: i64,
    /// The first moment after the window, in the same unit.
    #[serde(default)]
    pub to: i64,
    /// By partition of `mail.events`: the next offset. Exactly the events before are counted.
    #[serde(default)]
    pub as_of: BTreeMap<i32, i64>,
    /// Labels of the rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How long after the last notification people are reminded of an open incident, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind: Option<i64>,
}

impl Alert {
    /// Returns numerator and denominator in a window of the rule, or `None` if they are not known.
    pub(crate) fn counts_in(&self, width: &str) -> Option<(u64, u64)> {
        let own = (self.width == width).then_some((self.numerator, self.volume));
        own.or_else(|| self.by_window.get(width).copied())
    }
}

fn bounces() -> Family {
    Family::Bounces
}

fn arrival() -> Basis {
    Basis::Arrival
}
