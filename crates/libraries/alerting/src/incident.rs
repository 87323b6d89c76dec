use std::collections::BTreeMap;

use event::{EventId, IdBuilder};
use serde::{Deserialize, Serialize};
use window::Scope;

use crate::{Alert, EpisodeId, Family, ResolveReason, Severity};

/// The identity of an incident: a digest of its group and the episode that opened it. Written as 32
/// hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IncidentId(pub(crate) EventId);

impl IncidentId {
    /// Returns the id of the incident that an alert opens in a group.
    pub fn of(group: &IncidentGroup, opened_by: &Alert) -> Self {
        // `seq` differs if an episode opens a second incident after somebody has closed the first.
        let id = IdBuilder::new("incident")
            .part(group.key().as_bytes())
            .part(String::from(opened_by.episode_id).as_bytes())
            .part(&opened_by.seq.to_le_bytes());
        Self(id.finish())
    }
}

impl std::fmt::Display for IncidentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<IncidentId> for String {
    fn from(id: IncidentId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for IncidentId {
    type Error = event::ParseIdError;

    fn try_from(text: String) -> Result<Self, event::ParseIdError> {
        text.parse().map(Self)
    }
}

/// What the episodes of an incident have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "group", rename_all = "snake_case")]
pub enum IncidentGroup {
    /// One source.
    Source {
        /// The provider and the source, as in the key of the scope: `sendgrid/acme`.
        of: String,
    },
    /// One tenant.
    Tenant {
        /// The tenant.
        of: String,
    },
    /// One mailbox provider, at several sources.
    MailboxProvider {
        /// The mailbox provider.
        of: String,
    },
    /// One ESP, at several sources.
    Provider {
        /// The provider.
        of: String,
    },
    /// All sources: the cause is probably ours.
    Ours,
}

impl IncidentGroup {
    /// Returns the text form, which limits of notifications are kept by: `source/sendgrid/acme`,
    /// `tenant/acme`, `mailbox_provider/gmail`, `provider/ses` or `ours`.
    pub fn key(&self) -> String {
        match self {
            Self::Source { of } => format!("source/{of}"),
            Self::Tenant { of } => format!("tenant/{of}"),
            Self::MailboxProvider { of } => format!("mailbox_provider/{of}"),
            Self::Provider { of } => format!("provider/{of}"),
            Self::Ours => "ours".to_owned(),
        }
    }
}

/// What has changed since the previous record of the incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The incident is new. People are notified.
    Opened,
    /// The severity is higher. People are notified at once.
    Escalated,
    /// The incident has been open for long. People are reminded.
    Reminder,
    /// The source has had many notifications within an hour: this one sums up what was held back. The
    /// incident is the most severe one that was held back; its state may already be resolved.
    Digest,
    /// The text has changed. People are not notified; open alerts are updated. If the state is
    /// resolved, people were never notified of the incident, and it is over.
    Updated,
    /// Someone has acknowledged, snoozed, assigned or judged the incident.
    Handled,
    /// The incident is over, or it is now part of another one ([`Incident::merged_into`]). People who
    /// were notified are told. No notification of the incident follows.
    Resolved,
}

impl Change {
    /// Returns the stable name, as in JSON and in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Escalated => "escalated",
            Self::Reminder => "reminder",
            Self::Digest => "digest",
            Self::Updated => "updated",
            Self::Handled => "handled",
            Self::Resolved => "resolved",
        }
    }

    /// Returns whether people are notified.
    pub const fn notifies(self) -> bool {
        matches!(
            self,
            Self::Opened | Self::Escalated | Self::Reminder | Self::Digest | Self::Resolved
        )
    }
}

/// Whether an incident is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// At least one episode is open.
    Open,
    /// Episodes are open, but too little mail is sent to judge them.
    Stale,
    /// All episodes are over.
    Resolved,
}

/// The smallest scope that holds at least 80 % of the excess of the source or tenant. The counts are
/// those of the alerts of the two scopes that are closest to each other in time, in the window of the source or
/// tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    /// The scope.
    pub scope: Scope,
    /// Its share of the excess, from 0.8 to 1. The excess of a scope is its numerator minus threshold
    /// times denominator.
    pub share: f64,
    /// The numerator of the scope.
    pub numerator: u64,
    /// The denominator of the scope.
    pub volume: u64,
    /// The numerator of everything else of the source.
    pub rest_numerator: u64,
    /// The denominator of everything else of the source. 0 if it is not known.
    pub rest_volume: u64,
    /// The end of the window of the source in which they were compared, UTC microseconds of event time. 0 in
    /// records of an earlier release.
    #[serde(default)]
    pub to: i64,
}

/// One episode of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeLine {
    /// The latest alert of the episode.
    pub alert: Alert,
}

/// What people have done with an incident.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct People {
    /// Who has acknowledged the incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    /// Who works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_to: Option<String>,
    /// Until when nobody is notified, UTC microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<i64>,
    /// `true`, `false` or `duplicate`: whether the page was right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<String>,
    /// Who has closed the incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<String>,
}

/// An incident after a change. The value of `mail.incidents`, keyed by the incident's id.
///
/// `id` and `seq` identify the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// The same in all records of the incident.
    pub id: IncidentId,
    /// The number of the record. The first one is 1.
    pub seq: u32,
    /// The number of notifications so far, including this record if it notifies. If it is 0, people do
    /// not know of the incident yet.
    pub page: u32,
    /// What has changed.
    pub change: Change,
    /// Whether the incident is open.
    pub state: IncidentState,
    /// Why the incident is over: the reason of its last episode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ResolveReason>,
    /// The highest severity that the incident has had so far.
    pub severity: Severity,
    /// What the incident is about.
    pub family: Family,
    /// What its episodes have in common.
    #[serde(flatten)]
    pub group: IncidentGroup,
    /// The start of the first episode, UTC microseconds of event time.
    pub opened_at: i64,
    /// The time of this change, in the same unit.
    pub at: i64,
    /// The episode that the page is about: the most severe one of the widest scope.
    pub lead: Alert,
    /// The cause, if one scope has most of the excess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The other episodes, the most severe ones first; at most [`Incident::MAX_OTHERS`].
    #[serde(default)]
    pub others: Vec<EpisodeLine>,
    /// The number of all episodes, and of those that are open.
    pub episodes: u32,
    /// The number of open episodes.
    pub open_episodes: u32,
    /// What people have done with it.
    #[serde(default)]
    pub people: People,
    /// How many notifications were held back, by rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_back: BTreeMap<String, u32>,
    /// The episode that opened the incident.
    pub opened_by: EpisodeId,
    /// The incident that this one is now part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<IncidentId>,
    /// The sources with open episodes, as in the keys of scopes (`sendgrid/acme`); at most
    /// [`Incident::MAX_SOURCES`]. Empty for a tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The number of all sources with open episodes.
    #[serde(default)]
    pub source_count: u32,
}

impl Incident {
    /// The greatest number of episodes in [`Incident::others`].
    pub const MAX_OTHERS: usize = 20;

    /// The greatest number of sources in [`Incident::sources`].
    pub const MAX_SOURCES: usize = 10;
}
