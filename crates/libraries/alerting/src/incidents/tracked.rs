use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cause::{Course, Moment};
use crate::grouping::{JoinKey, Member, families, is_general};
use crate::{
    Alert, AlertState, Cause, Change, EpisodeId, EpisodeLine, Family, Incident, IncidentGroup,
    IncidentId, IncidentState, People, ResolveReason, Severity,
};

/// An incident that is open, or that was open recently. A value of the changelog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Tracked {
    /// As [`Incident::seq`] of the latest record. 0 if none was published.
    pub(super) seq: u32,
    /// As [`Incident::page`].
    pub(super) page: u32,
    pub(super) family: Family,
    /// Whether all episodes so far have had a measure that counts blocks and dead addresses alike.
    pub(super) is_general: bool,
    pub(super) group: IncidentGroup,
    /// What has joined sources to this incident.
    pub(super) joins: BTreeSet<JoinKey>,
    /// The sources (or the tenant) with open episodes, and since when they have had one. If the
    /// incident is over: the last of them.
    pub(super) members: BTreeMap<Member, i64>,
    /// The highest severity so far.
    pub(super) severity: Severity,
    /// The severity that people know of, or that was held back. A higher one is an escalation.
    pub(super) known_severity: Severity,
    /// As [`Incident::opened_at`].
    pub(super) opened_at: i64,
    pub(super) opened_by: EpisodeId,
    /// The time in the log at which the incident was opened.
    pub(super) created_at: i64,
    pub(super) lead: Box<Alert>,
    pub(super) cause: Option<Cause>,
    /// The number of all episodes so far.
    pub(super) episodes: u32,
    pub(super) people: People,
    pub(super) knowledge: Knowledge,
    /// When the incident is compared with those of other sources for the last time. `None` after that.
    pub(super) settles_at: Option<i64>,
    /// If the incident waits with severity page: when people are notified even if a shard of monitor-rate is slow. It
    /// is a time of the fastest shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) paged_by: Option<i64>,
    /// The time of the last notification, or of the opening.
    pub(super) reminded_from: i64,
    /// The time of the latest record.
    pub(super) published_at: i64,
    /// Whether the text has changed since the latest record.
    pub(super) is_unpublished: bool,
    pub(super) ended: Option<Ended>,
    /// The open episodes.
    #[serde(skip)]
    pub(super) open: BTreeSet<EpisodeId>,
    /// The number of open episodes whose alerts are kept.
    #[serde(skip)]
    pub(super) detailed: usize,
    /// The mailbox providers by which the incident can be joined, and the sources at which it can.
    #[serde(skip)]
    pub(super) mailbox_providers: BTreeMap<String, BTreeSet<Member>>,
}

/// Whether people know of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Knowledge {
    /// The incident was opened by the current call, which decides what people are told.
    New,
    /// Nothing is published yet: until [`Tracked::settles_at`], other sources may turn out to have the
    /// same incident.
    Waiting,
    /// A planned send holds the notification back until this time.
    Planned(i64),
    /// The hourly limit holds the notification back.
    Limited,
    /// A digest has counted the incident, but it was not about it.
    Digested,
    /// People were notified.
    Notified,
}

/// The end of an incident.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) at: i64,
    pub(super) reason: Option<ResolveReason>,
    pub(super) merged_into: Option<IncidentId>,
    /// Whether the limit or a snooze holds the notification back.
    pub(super) is_owed: bool,
}

/// An open episode. A value of the changelog.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Episode {
    pub(super) incident: IncidentId,
    pub(super) member: Member,
    pub(super) seq: u32,
    pub(super) is_stale: bool,
    /// The latest alert. `None` if the incident has too many episodes to keep it.
    pub(super) alert: Option<Box<Alert>>,
    /// The counts at its latest alerts, at most [`MAX_MOMENTS`]. Empty if the alert is not kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) moments: Vec<Moment>,
}

/// An episode has few alerts: at most one for each severity, and some when it becomes stale and recovers.
const MAX_MOMENTS: usize = 5;

impl Episode {
    /// Takes over the latest alert.
    pub(super) fn keep(&mut self, alert: &Alert) {
        self.alert = Some(Box::new(alert.clone()));
        let moment = Moment::of(alert);
        // The alert of an episode that becomes stale repeats the latest counts.
        if self.moments.last() == Some(&moment) {
            return;
        }
        // The first moment stays: scopes that broke the rule at that time are compared with it.
        if self.moments.len() >= MAX_MOMENTS {
            self.moments.remove(1);
        }
        self.moments.push(moment);
    }

    /// Forgets the details.
    pub(super) fn forget_details(&mut self) {
        (self.alert, self.moments) = (None, Vec::new());
    }

    /// Returns what is known of the episode, unless its alert is not kept.
    pub(super) fn course(&self) -> Option<Course<'_>> {
        Some(Course { alert: self.alert.as_deref()?, moments: &self.moments })
    }
}

impl Tracked {
    /// Returns an incident without episodes.
    pub(super) fn new(alert: &Alert, group: IncidentGroup, now: i64) -> Self {
        let (family, is_general) = families(alert);
        Self {
            seq: 0,
            page: 0,
            family,
            is_general,
            group,
            joins: BTreeSet::new(),
            members: BTreeMap::new(),
            severity: alert.severity,
            known_severity: alert.severity,
            opened_at: alert.started_at,
            opened_by: alert.episode_id,
            created_at: now,
            lead: Box::new(alert.clone()),
            cause: None,
            episodes: 0,
            people: People::default(),
            knowledge: Knowledge::New,
            settles_at: None,
            paged_by: None,
            reminded_from: now,
            published_at: now,
            is_unpublished: false,
            ended: None,
            open: BTreeSet::new(),
            detailed: 0,
            mailbox_providers: BTreeMap::new(),
        }
    }

    /// Returns what tells which episodes fit.
    pub(super) const fn families(&self) -> (Family, bool) {
        (self.family, self.is_general)
    }

    /// Returns whether another episode can join: the incident is open, or nobody knows that it is over.
    pub(super) fn accepts_episodes(&self) -> bool {
        self.ended.as_ref().is_none_or(|ended| {
            ended.is_owed
                && ended.merged_into.is_none()
                && ended.reason != Some(ResolveReason::Closed)
        })
    }

    pub(super) const fn is_tenant(&self) -> bool {
        matches!(self.group, IncidentGroup::Tenant { .. })
    }

    pub(super) fn is_snoozed(&self) -> bool {
        self.people.snoozed_until.is_some()
    }

    /// Returns the record of a change, with the detailed alerts of the open episodes in any order.
    pub(super) fn record(
        &self,
        id: IncidentId,
        change: Change,
        now: i64,
        is_stale: bool,
        mut alerts: Vec<&Alert>,
    ) -> Incident {
        alerts.sort_by(|left, right| rank(left, right));
        let others = alerts.into_iter().filter(|alert| alert.episode_id != self.lead.episode_id);
        let others = others.take(Incident::MAX_OTHERS);
        let ended = self.ended.as_ref();
        let sources = self.members.keys().filter_map(Member::source);
        Incident {
            id,
            seq: self.seq,
            page: self.page,
            change,
            state: match ended {
                Some(_) => IncidentState::Resolved,
                None if is_stale => IncidentState::Stale,
                None => IncidentState::Open,
            },
            reason: ended.and_then(|ended| ended.reason),
            severity: self.severity,
            family: self.family,
            group: self.group.clone(),
            opened_at: self.opened_at,
            at: now,
            lead: (*self.lead).clone(),
            cause: self.cause.clone(),
            others: others.map(|alert| EpisodeLine { alert: alert.clone() }).collect(),
            episodes: self.episodes,
            open_episodes: u32::try_from(self.open.len()).unwrap_or(u32::MAX),
            people: self.people.clone(),
            held_back: BTreeMap::new(),
            opened_by: self.opened_by,
            merged_into: ended.and_then(|ended| ended.merged_into),
            sources: sources.clone().take(Incident::MAX_SOURCES).map(str::to_owned).collect(),
            source_count: u32::try_from(sources.count()).unwrap_or(u32::MAX),
        }
    }
}

/// Compares by how much a person must know of an episode. The first one is what the page is about: the
/// most severe one of the widest scope.
pub(super) fn rank(left: &Alert, right: &Alert) -> Ordering {
    let key = |alert: &Alert| {
        (
            Reverse(alert.severity),
            alert.state != AlertState::Firing,
            alert.scope.kind().dimensions().len(),
            is_general(alert.metric),
            Reverse(alert.volume),
        )
    };
    let tie = || (&left.scope, &left.rule).cmp(&(&right.scope, &right.rule));
    key(left).cmp(&key(right)).then_with(tie)
}
