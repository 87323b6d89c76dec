//! The state of the incidents stage: which episodes belong to which incident, and whom to notify when.
//!
//! An episode joins the open incident of its source and family, or opens one. Tenants have incidents of
//! their own. If the same family breaks at several sources, these have one incident:
//! - at one mailbox provider: as soon as enough sources have broken it (`joins.rs`);
//! - at one ESP or at all sources: when the notification of a source has waited for the others. Every
//!   source but the first waits, so that people get one page and not forty.
//!
//! People are notified of new incidents, higher severities, reminders and ends; a group has a limited
//! number of notifications an hour, and what was held back is summed up in a digest (`publish.rs`).
//!
//! Time is data: `now` comes from the log. Everything is a function of the sequence of calls, so the
//! same log gives the same records after any restart.

mod action;
mod changelog;
mod joins;
mod limit;
mod people;
mod publish;
mod settings;
mod time;
mod tracked;

#[cfg(test)]
mod people_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use event::Provider;

pub use action::{Action, ActionError, Judgement};
pub use changelog::{ChangelogRecord, IncidentsRestore, RestoreError};
pub use settings::IncidentSettings;

use changelog::StateKey;
use limit::Limit;
use people::Plan;
use tracked::{Ended, Episode, Knowledge, Tracked, rank};

use crate::cause::Course;
use crate::grouping::{Member, are_compatible, families, joint_family, mailbox_providers};
use crate::{Alert, AlertState, EpisodeId, Incident, IncidentGroup, IncidentId, ResolveReason};

/// How far the time of the incidents is behind the fastest shard of monitor-rate at most, in microseconds.
const MAX_BEHIND: i64 = 15 * 60 * 1_000_000;

/// All incidents that are open or were open recently. See the module's source for the rules.
#[derive(Debug, Default)]
pub struct Incidents {
    /// The latest time of the log, UTC microseconds.
    now: i64,
    incidents: BTreeMap<IncidentId, Tracked>,
    /// The open episodes, also those of incidents that somebody has closed.
    episodes: BTreeMap<EpisodeId, Episode>,
    /// By the key of the group.
    limits: BTreeMap<String, Limit>,
    plans: Vec<Plan>,
    /// By shard of monitor-rate: the time to which it has come, UTC microseconds.
    clocks: BTreeMap<u32, i64>,
    /// The number of active sources by provider, as each shard of monitor-rate has last counted them.
    active_sources: BTreeMap<u32, BTreeMap<Provider, u32>>,
    /// What differs from the changelog.
    changed: BTreeSet<StateKey>,
    /// The incidents that the current call has changed.
    touched: Vec<IncidentId>,
    /// Until this time, nothing happens without an alert or an action.
    next_due: i64,
}

/// What became of an alert.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It is part of an incident.
    Counted,
    /// It changes nothing: it was received before, or its episode is not known and over.
    Repeated,
    /// There are too many open episodes.
    TooMany,
}

impl Incidents {
    /// Receives a transition of an episode. `now` is the time of the log in UTC microseconds. Appends
    /// the changed incidents to `out`.
    pub fn receive(
        &mut self,
        alert: &Alert,
        now: i64,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) -> Received {
        self.advance(now, settings, out);
        let received = self.apply(alert, settings, out);
        self.schedule(settings);
        received
    }

    /// Receives the time to which a shard of monitor-rate has come, in UTC microseconds, and the number of
    /// its active sources. That number decides whether incidents of several sources are an incident of the
    /// ESP or ours. Appends the incidents that change because time has passed to `out`.
    ///
    /// The time of the incidents is that of the shard that is furthest behind: waits for other sources must
    /// not end before the alerts of all shards that have sent a clock have arrived. A shard that is more than 15
    /// minutes behind the first one holds nothing up, and an incident of severity page waits for it for 30 s.
    pub fn receive_clock(
        &mut self,
        shard: u32,
        now: i64,
        sources: BTreeMap<Provider, u32>,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) {
        self.active_sources.insert(shard, sources);
        let clock = self.clocks.entry(shard).or_insert(now);
        *clock = now.max(*clock);
        self.changed.insert(StateKey::Clock);
        let latest = self.latest_clock();
        let slowest = self.clocks.values().min().copied().unwrap_or(now);
        for (id, tracked) in &mut self.incidents {
            let is_waiting = tracked.knowledge == Knowledge::Waiting && tracked.ended.is_none();
            if is_waiting && tracked.paged_by.is_some_and(|by| by <= latest) {
                tracked.settles_at = Some(i64::MIN);
                self.changed.insert(StateKey::Incident(*id));
                self.next_due = i64::MIN;
            }
        }
        self.advance(slowest.max(latest.saturating_sub(MAX_BEHIND)), settings, out);
    }

    /// Forgets the clocks of shards that no longer exist, because `mail.panes` has only `count` partitions.
    pub fn keep_shards(&mut self, count: u32) {
        let before = self.clocks.len() + self.active_sources.len();
        self.clocks.retain(|shard, _| *shard < count);
        self.active_sources.retain(|shard, _| *shard < count);
        if self.clocks.len() + self.active_sources.len() != before {
            self.changed.insert(StateKey::Clock);
        }
    }

    /// Returns the time of the fastest shard of monitor-rate. It is the best guess of the present.
    fn latest_clock(&self) -> i64 {
        self.clocks.values().copied().max().unwrap_or(self.now).max(self.now)
    }

    /// Returns the latest time of the log, UTC microseconds.
    pub const fn now(&self) -> i64 {
        self.now
    }

    /// Returns the number of open incidents.
    pub fn open_incidents(&self) -> usize {
        self.incidents.values().filter(|tracked| tracked.ended.is_none()).count()
    }

    /// Returns the number of open episodes.
    pub fn open_episodes(&self) -> usize {
        self.episodes.len()
    }

    fn apply(
        &mut self,
        alert: &Alert,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) -> Received {
        let Some(known) = self.episodes.get(&alert.episode_id) else {
            if alert.state == AlertState::Resolved {
                return Received::Repeated;
            }
            return self.open_episode(alert, settings, out);
        };
        if alert.seq != 0 && alert.seq <= known.seq {
            return Received::Repeated;
        }
        let id = known.incident;
        let is_closed = self.incidents.get(&id).is_none_or(|tracked| tracked.ended.is_some());
        let severity = self.incidents.get(&id).map(|tracked| tracked.severity);
        if is_closed && alert.state != AlertState::Resolved && Some(alert.severity) > severity {
            self.remove_episode(alert);
            return self.open_episode(alert, settings, out);
        }
        match alert.state {
            AlertState::Resolved => self.remove_episode(alert),
            AlertState::Firing | AlertState::Stale => self.update_episode(alert, settings),
        }
        if !is_closed {
            let id = self.join_by_mailbox_provider(id, false, settings, out);
            self.review(id, settings, out);
        }
        Received::Counted
    }

    fn open_episode(
        &mut self,
        alert: &Alert,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) -> Received {
        if self.episodes.len() >= settings.max_all_episodes {
            return Received::TooMany;
        }
        let member = Member::of(&alert.scope);
        let home = self.home_of(alert, &member);
        let id = home.unwrap_or_else(|| self.open_incident(alert, &member, settings));
        self.add_episode(id, alert, member, settings);
        let id = self.join_by_mailbox_provider(id, false, settings, out);
        self.review(id, settings, out);
        Received::Counted
    }

    /// Returns the incident that an episode of a member joins: one of the same family, or one that its
    /// measure fits.
    fn home_of(&self, alert: &Alert, member: &Member) -> Option<IncidentId> {
        let families = families(alert);
        let homes = self.incidents.iter().filter(|(_, tracked)| {
            tracked.accepts_episodes()
                && tracked.members.contains_key(member)
                && are_compatible(tracked.families(), families)
        });
        let order = |(id, tracked): &(&IncidentId, &Tracked)| {
            (tracked.family != families.0, tracked.created_at, **id)
        };
        homes.min_by_key(order).map(|(id, _)| *id)
    }

    fn open_incident(
        &mut self,
        alert: &Alert,
        member: &Member,
        settings: &IncidentSettings,
    ) -> IncidentId {
        let mut group = member.group();
        if self.open_incidents() >= settings.max_open {
            // So many incidents at once have a common cause, which is probably ours.
            group = IncidentGroup::Ours;
            let families = families(alert);
            let mut all = self.incidents.iter();
            let common = all.find(|(_, tracked)| {
                tracked.ended.is_none()
                    && tracked.group == IncidentGroup::Ours
                    && are_compatible(tracked.families(), families)
            });
            if let Some((id, _)) = common {
                return *id;
            }
        }
        let id = IncidentId::of(&group, alert);
        self.incidents.insert(id, Tracked::new(alert, group, self.now));
        id
    }

    /// Adds an open episode to an incident.
    fn add_episode(
        &mut self,
        id: IncidentId,
        alert: &Alert,
        member: Member,
        settings: &IncidentSettings,
    ) {
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        tracked.members.entry(member.clone()).or_insert(self.now);
        tracked.ended = None;
        tracked.episodes = tracked.episodes.saturating_add(1);
        tracked.open.insert(alert.episode_id);
        tracked.opened_at = tracked.opened_at.min(alert.started_at);
        (tracked.family, tracked.is_general) = joint_family(tracked.families(), families(alert));
        let episode = Episode {
            incident: id,
            member,
            seq: alert.seq,
            is_stale: false,
            alert: None,
            moments: Vec::new(),
        };
        self.episodes.insert(alert.episode_id, episode);
        self.update_episode(alert, settings);
    }

    /// Takes over the latest alert of an open episode.
    fn update_episode(&mut self, alert: &Alert, settings: &IncidentSettings) {
        let Some(episode) = self.episodes.get_mut(&alert.episode_id) else { return };
        let Some(tracked) = self.incidents.get_mut(&episode.incident) else { return };
        tracked.severity = tracked.severity.max(alert.severity);
        episode.seq = alert.seq;
        episode.is_stale = alert.state == AlertState::Stale;
        let id = episode.incident;
        if episode.alert.is_none() {
            tracked.detailed += 1;
        }
        episode.keep(alert);
        self.changed.insert(StateKey::Episode(alert.episode_id));
        self.limit_details(id, settings);
        self.refresh(id);
    }

    /// Forgets the alerts of the least important episodes if the incident has too many.
    fn limit_details(&mut self, id: IncidentId, settings: &IncidentSettings) {
        let Some(tracked) = self.incidents.get(&id) else { return };
        let excess = tracked.detailed.saturating_sub(settings.max_episodes.max(1));
        if excess == 0 {
            return;
        }
        let mut alerts = self.alerts(tracked);
        alerts.sort_by(|left, right| rank(right, left));
        let least: Vec<_> = alerts.iter().take(excess).map(|alert| alert.episode_id).collect();
        for episode_id in least {
            if let Some(episode) = self.episodes.get_mut(&episode_id) {
                episode.forget_details();
                self.changed.insert(StateKey::Episode(episode_id));
            }
        }
        if let Some(tracked) = self.incidents.get_mut(&id) {
            tracked.detailed -= excess;
        }
    }

    /// Removes an episode that is over. If it was the last one, its alert becomes the lead.
    fn remove_episode(&mut self, alert: &Alert) {
        let Some(episode) = self.episodes.remove(&alert.episode_id) else { return };
        self.changed.insert(StateKey::Episode(alert.episode_id));
        let Some(tracked) = self.incidents.get_mut(&episode.incident) else { return };
        tracked.open.remove(&alert.episode_id);
        tracked.detailed -= usize::from(episode.alert.is_some());
        if tracked.ended.is_some() {
            self.touch(episode.incident);
            return;
        }
        if tracked.open.is_empty() {
            *tracked.lead = alert.clone();
        } else {
            let mut others = tracked.open.iter().filter_map(|id| self.episodes.get(id));
            if !others.any(|other| other.member == episode.member) {
                tracked.members.remove(&episode.member);
            }
        }
        self.refresh(episode.incident);
    }

    /// Derives the lead, the cause and the mailbox providers from the open episodes.
    fn refresh(&mut self, id: IncidentId) {
        self.touch(id);
        let Some(tracked) = self.incidents.get(&id) else { return };
        let courses = self.courses(tracked);
        let by_rank = |left: &&Course<'_>, right: &&Course<'_>| rank(left.alert, right.alert);
        let Some(&lead) = courses.iter().min_by(by_rank) else {
            return; // the lead and the cause stay as they were
        };
        let cause = crate::cause::cause(lead, courses.iter().copied());
        let mailbox_providers = mailbox_providers(tracked.family, &courses);
        let lead = Box::new(lead.alert.clone());
        if let Some(tracked) = self.incidents.get_mut(&id) {
            (tracked.lead, tracked.cause) = (lead, cause);
            tracked.mailbox_providers = mailbox_providers;
        }
    }

    /// Returns the alerts of the open episodes that are kept.
    fn alerts(&self, tracked: &Tracked) -> Vec<&Alert> {
        self.courses(tracked).into_iter().map(|course| course.alert).collect()
    }

    /// Returns the open episodes whose alerts are kept.
    fn courses(&self, tracked: &Tracked) -> Vec<Course<'_>> {
        let episodes = tracked.open.iter().filter_map(|id| self.episodes.get(id));
        episodes.filter_map(Episode::course).collect()
    }

    /// Ends an incident for the reason of its last episode.
    fn end(
        &mut self,
        id: IncidentId,
        reason: Option<ResolveReason>,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) {
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        let ended = Ended { at: self.now, reason, merged_into: None, is_owed: false };
        tracked.ended = Some(ended);
        self.announce_end(id, settings, out);
        self.forget_oldest(settings);
    }

    /// Notes that an incident differs from the changelog.
    fn touch(&mut self, id: IncidentId) {
        self.changed.insert(StateKey::Incident(id));
        self.touched.push(id);
    }
}
