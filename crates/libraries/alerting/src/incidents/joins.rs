//! Joins incidents across sources.

use std::collections::{BTreeMap, BTreeSet};

use event::Provider;

use super::changelog::StateKey;
use super::tracked::{Ended, Knowledge, Tracked};
use super::{IncidentSettings, Incidents};
use crate::grouping::{JoinKey, Member, are_compatible, joint_family};
use crate::{Family, Incident, IncidentGroup, IncidentId};

/// The greatest number of sources of an incident. They are part of one record of the changelog.
const MAX_MEMBERS: usize = 5_000;

impl Incidents {
    /// Joins an incident with those of other sources that break the same family at the same mailbox
    /// provider, if they are enough. Returns the incident that it is part of now.
    ///
    /// Incidents of which only general measures are known may still turn out to be about bad lists. They
    /// are joined only after they have waited (`with_general`).
    pub(super) fn join_by_mailbox_provider(
        &mut self,
        mut id: IncidentId,
        with_general: bool,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) -> IncidentId {
        let Some(tracked) = self.incidents.get(&id) else { return id };
        for mailbox_provider in tracked.mailbox_providers.keys().cloned().collect::<Vec<_>>() {
            let key = JoinKey::MailboxProvider(mailbox_provider.clone());
            let has = |tracked: &Tracked, member: &Member| {
                let members = tracked.mailbox_providers.get(&mailbox_provider);
                (with_general || !tracked.is_general)
                    && members.is_some_and(|members| members.contains(member))
            };
            id = self.join(id, &key, settings, |_| true, has, out);
        }
        id
    }

    /// Joins an incident whose notification has waited with those of other sources of the ESP, or with
    /// those of all sources. Returns the incident that it is part of now.
    pub(super) fn join_by_sender(
        &mut self,
        id: IncidentId,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) -> IncidentId {
        let active = self.active_by_provider();
        let all: u32 = active.values().sum();
        let is_most = |members: usize, of: u32, share: f64| members as f64 >= f64::from(of) * share;

        // A mailbox provider explains an incident better than the ESP does.
        let is_unexplained = |tracked: &Tracked| {
            let mut joins = tracked.joins.iter();
            !joins.any(|key| matches!(key, JoinKey::MailboxProvider(_)))
        };
        let is_ours = |members: &BTreeSet<Member>| {
            let providers: BTreeSet<_> = members.iter().filter_map(Member::provider).collect();
            all > 0 && providers.len() > 1 && is_most(members.len(), all, settings.join_share_ours)
        };
        let has = |tracked: &Tracked, _: &Member| is_unexplained(tracked);
        let joined = self.join(id, &JoinKey::Ours, settings, is_ours, has, out);
        if joined != id {
            return joined;
        }
        let providers = self.incidents.get(&id).map(providers_of).unwrap_or_default();
        let [provider] = *providers.iter().copied().collect::<Vec<_>>() else { return id };
        let is_of_provider = |members: &BTreeSet<Member>| {
            let known = active.get(&provider).copied().unwrap_or(0);
            is_most(members.len(), known, settings.join_share)
        };
        let has = |tracked: &Tracked, _: &Member| {
            is_unexplained(tracked) && providers_of(tracked) == providers
        };
        self.join(id, &JoinKey::Provider(provider), settings, is_of_provider, has, out)
    }

    /// Joins an incident with the others that have what `key` names: always with one that was joined by
    /// the same key, otherwise if they have enough sources that broke within the time for joins, and
    /// `is_enough` accepts these. `has` returns whether an incident has it at a source.
    fn join(
        &mut self,
        id: IncidentId,
        key: &JoinKey,
        settings: &IncidentSettings,
        is_enough: impl Fn(&BTreeSet<Member>) -> bool,
        has: impl Fn(&Tracked, &Member) -> bool,
        out: &mut Vec<Incident>,
    ) -> IncidentId {
        let Some(tracked) = self.incidents.get(&id) else { return id };
        let can_join = settings.join_sources > 0
            && !tracked.is_tenant()
            && tracked.ended.is_none()
            && tracked.members.keys().any(|member| has(tracked, member))
            && !tracked.joins.contains(key);
        if !can_join {
            return id;
        }
        let since = self.now.saturating_sub(settings.join_within);
        let recent = |tracked: &Tracked| {
            let members = tracked.members.iter().filter(|(_, at)| **at >= since);
            let members = members.filter(|(member, _)| has(tracked, member));
            members.map(|(member, _)| member.clone()).collect::<BTreeSet<_>>()
        };
        let family = joined_family(tracked, key);
        let mut ids = vec![id];
        let mut members = recent(tracked);
        let mut is_joined = false;
        for (other_id, other) in &self.incidents {
            let is_other = *other_id != id && other.ended.is_none() && !other.is_tenant();
            if !is_other || joined_family(other, key) != family {
                continue;
            }
            let was_joined = other.joins.contains(key);
            let recent = recent(other);
            if was_joined || !recent.is_empty() {
                ids.push(*other_id);
                members.extend(recent);
                is_joined |= was_joined;
            }
        }
        let all = ids.iter().filter_map(|id| self.incidents.get(id));
        if all.map(|tracked| tracked.members.len()).sum::<usize>() > MAX_MEMBERS {
            return id;
        }
        let enough = usize::try_from(settings.join_sources.max(2)).unwrap_or(usize::MAX);
        if !is_joined && (members.len() < enough || !is_enough(&members)) {
            return id;
        }
        self.merge(&ids, key, settings, out).unwrap_or(id)
    }

    /// Merges incidents into the first one that people know of, or else the first one. Returns it.
    fn merge(
        &mut self,
        ids: &[IncidentId],
        key: &JoinKey,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) -> Option<IncidentId> {
        let order = |id: &&IncidentId| {
            let tracked = self.incidents.get(*id);
            tracked
                .map(|tracked| (tracked.knowledge != Knowledge::Notified, tracked.created_at, **id))
        };
        let target = *ids.iter().min_by_key(order)?;
        for other in ids.iter().filter(|id| **id != target) {
            self.move_episodes(*other, target);
            self.limit_details(target, settings);
            self.announce_merged(*other, settings, out);
        }
        let tracked = self.incidents.get_mut(&target)?;
        tracked.joins.insert(key.clone());
        tracked.is_unpublished = true;
        self.refresh(target);
        let group = self.joint_group(target);
        if let (Some(tracked), Some(group)) = (self.incidents.get_mut(&target), group) {
            tracked.group = group;
        }
        Some(target)
    }

    fn move_episodes(&mut self, from: IncidentId, to: IncidentId) {
        let now = self.now;
        let Some(other) = self.incidents.get_mut(&from) else { return };
        let ended = Ended { at: now, reason: None, merged_into: Some(to), is_owed: false };
        other.ended = Some(ended);
        let (open, members) = (std::mem::take(&mut other.open), other.members.clone());
        let detailed = std::mem::take(&mut other.detailed);
        let (families, joins) = (other.families(), other.joins.clone());
        let (severity, opened_at) = (other.severity, other.opened_at);
        let (episodes, knowledge) = (other.episodes, other.knowledge);
        let settles_at = other.settles_at.take();
        self.touch(from);

        for id in &open {
            if let Some(episode) = self.episodes.get_mut(id) {
                episode.incident = to;
                self.changed.insert(StateKey::Episode(*id));
            }
        }
        let Some(target) = self.incidents.get_mut(&to) else { return };
        target.open.extend(open);
        target.detailed += detailed;
        for (member, since) in members {
            let known = target.members.entry(member).or_insert(since);
            *known = since.min(*known);
        }
        (target.family, target.is_general) = joint_family(target.families(), families);
        target.joins.extend(joins);
        target.severity = target.severity.max(severity);
        target.opened_at = target.opened_at.min(opened_at);
        target.episodes = target.episodes.saturating_add(episodes);
        if target.knowledge == Knowledge::New {
            target.knowledge = knowledge;
        }
        let settles = target.settles_at.into_iter().chain(settles_at);
        target.settles_at = settles.min();
        target.is_unpublished = true;
    }

    /// Returns the group of a joined incident. If several mailbox providers have joined it, it is the
    /// one with the most sources.
    fn joint_group(&self, id: IncidentId) -> Option<IncidentGroup> {
        let tracked = self.incidents.get(&id)?;
        let count = |key: &JoinKey| match key {
            JoinKey::MailboxProvider(of) => {
                tracked.mailbox_providers.get(of).map_or(0, BTreeSet::len)
            }
            JoinKey::Ours | JoinKey::Provider(_) => 0,
        };
        // Of equal counts, the first key wins.
        tracked.joins.iter().rev().max_by_key(|key| count(key)).map(JoinKey::group)
    }

    /// Returns whether another source has broken the same family recently, or is part of a joined
    /// incident, so that the notification of this incident waits.
    pub(super) fn may_be_joined(&self, id: IncidentId, settings: &IncidentSettings) -> bool {
        let Some(tracked) = self.incidents.get(&id) else { return false };
        let active: u32 = self.active_by_provider().values().sum();
        let is_possible = active == 0 || active >= settings.join_sources;
        if settings.join_sources == 0 || tracked.is_tenant() || !is_possible {
            return false;
        }
        let since = self.now.saturating_sub(settings.join_within);
        self.incidents.iter().any(|(other_id, other)| {
            *other_id != id
                && other.ended.is_none()
                && !other.is_tenant()
                && are_compatible(tracked.families(), other.families())
                && other.members.keys().any(|member| !tracked.members.contains_key(member))
                && (!other.joins.is_empty() || other.members.values().any(|at| *at >= since))
        })
    }

    fn active_by_provider(&self) -> BTreeMap<Provider, u32> {
        let mut all = BTreeMap::new();
        for (provider, count) in self.active_sources.values().flatten() {
            let sum: &mut u32 = all.entry(*provider).or_default();
            *sum = sum.saturating_add(*count);
        }
        all
    }
}

fn providers_of(tracked: &Tracked) -> BTreeSet<Provider> {
    tracked.members.keys().filter_map(Member::provider).collect()
}

/// Returns the family that incidents must have in common to be joined by a key. If a mailbox provider
/// holds most of the bounces of every kind, they are taken for blocks.
fn joined_family(tracked: &Tracked, key: &JoinKey) -> Family {
    match key {
        JoinKey::MailboxProvider(_) if tracked.is_general => Family::Blocks,
        JoinKey::MailboxProvider(_) | JoinKey::Ours | JoinKey::Provider(_) => tracked.family,
    }
}
