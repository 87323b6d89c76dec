//! Decides which change is published, and whether people are notified.

use std::collections::BTreeMap;

use super::changelog::StateKey;
use super::tracked::Knowledge;
use super::{IncidentSettings, Incidents};
use crate::{Change, Incident, IncidentId, Severity};

impl Incidents {
    /// Publishes a new incident, unless its notification waits for other sources.
    fn announce(&mut self, id: IncidentId, settings: &IncidentSettings, out: &mut Vec<Incident>) {
        let now = self.now;
        let is_waiting = self.may_be_joined(id, settings);
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        if settings.join_sources > 0 && !tracked.is_tenant() {
            let wait = join_wait(tracked.severity, settings);
            tracked.settles_at = Some(now.saturating_add(wait));
        }
        if is_waiting {
            tracked.knowledge = Knowledge::Waiting;
            self.limit_wait_of_page(id);
            self.touch(id);
        } else {
            self.notify_opened(id, settings, out);
        }
    }

    /// Limits how long a slow shard of monitor-rate can hold up an incident of severity page.
    fn limit_wait_of_page(&mut self, id: IncidentId) {
        let latest = self.latest_clock();
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        if tracked.severity == Severity::Page && tracked.paged_by.is_none() {
            tracked.paged_by = Some(latest.saturating_add(PAGE_WAITS_FOR_SHARDS));
        }
    }

    /// Notifies people of a new incident, unless a planned send or the limit holds it back.
    pub(super) fn notify_opened(
        &mut self,
        id: IncidentId,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) {
        let now = self.now;
        let planned = self.planned_until(id);
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        tracked.known_severity = tracked.severity;
        tracked.reminded_from = now;
        if let Some(until) = planned {
            tracked.knowledge = Knowledge::Planned(until);
            return self.publish(id, Change::Updated, false, out);
        }
        let limit = self.limits.entry(tracked.group.key()).or_default();
        let is_free = limit.free_at(settings.notifications_per_hour) <= now;
        // An incident that is worse than what people know of the group is an escalation.
        if is_free || limit.is_worst(tracked.severity, now) {
            return self.publish(id, Change::Opened, !is_free, out);
        }
        tracked.knowledge = Knowledge::Limited;
        limit.hold_back(&tracked.lead.rule, id);
        self.publish(id, Change::Updated, false, out);
    }

    /// Publishes what has changed in an incident.
    pub(super) fn review(
        &mut self,
        id: IncidentId,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) {
        let now = self.now;
        let planned = self.planned_until(id);
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        if tracked.ended.is_some() {
            return;
        }
        if tracked.open.is_empty() {
            let reason = tracked.lead.reason;
            return self.end(id, reason, settings, out);
        }
        if tracked.knowledge == Knowledge::New {
            return self.announce(id, settings, out);
        }
        if tracked.knowledge == Knowledge::Waiting {
            let until = now.saturating_add(join_wait(tracked.severity, settings));
            tracked.settles_at = tracked.settles_at.map(|at| at.min(until));
            return self.limit_wait_of_page(id);
        }
        // The limit is that of another group if the incident was joined.
        let limit = self.limits.get(&tracked.group.key());
        let is_free = limit.is_none_or(|of| of.free_at(settings.notifications_per_hour) <= now);
        if tracked.knowledge == Knowledge::Limited && is_free && !tracked.is_snoozed() {
            return self.notify_opened(id, settings, out);
        }
        let is_planned = matches!(tracked.knowledge, Knowledge::Planned(_)) && planned.is_some();
        if tracked.severity > tracked.known_severity && !is_planned {
            tracked.people.snoozed_until = None;
            return self.publish(id, Change::Escalated, true, out);
        }
        let is_young = now.saturating_sub(tracked.created_at) < settings.update_every;
        if is_young || now.saturating_sub(tracked.published_at) >= settings.update_every {
            self.publish(id, Change::Updated, false, out);
        } else {
            tracked.is_unpublished = true;
        }
    }

    /// Publishes that an incident is over. People who were notified of it are told, unless it is snoozed
    /// or the limit holds the notification back.
    pub(super) fn announce_end(
        &mut self,
        id: IncidentId,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) {
        self.touch(id);
        let now = self.now;
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        if tracked.knowledge != Knowledge::Notified {
            return self.publish(id, Change::Updated, false, out);
        }
        let limit = self.limits.entry(tracked.group.key()).or_default();
        let is_free = limit.free_at(settings.notifications_per_hour) <= now;
        if is_free && tracked.people.snoozed_until.is_none() {
            return self.publish(id, Change::Resolved, false, out);
        }
        if tracked.people.snoozed_until.is_none() {
            limit.hold_back(&tracked.lead.rule, id);
            self.changed.insert(StateKey::Group(tracked.group.key()));
        }
        if let Some(ended) = &mut tracked.ended {
            ended.is_owed = true;
        }
    }

    /// Publishes that an incident is now part of another one. If nothing of it was published, it is
    /// forgotten.
    pub(super) fn announce_merged(
        &mut self,
        id: IncidentId,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) {
        if self.incidents.get(&id).is_some_and(|tracked| tracked.seq == 0) {
            self.incidents.remove(&id);
        } else {
            self.announce_end(id, settings, out);
        }
    }

    /// Appends the record of a change. `is_exempt` means that it does not count for the limit.
    pub(super) fn publish(
        &mut self,
        id: IncidentId,
        change: Change,
        is_exempt: bool,
        out: &mut Vec<Incident>,
    ) {
        self.touch(id);
        let now = self.now;
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        tracked.seq = tracked.seq.saturating_add(1);
        tracked.published_at = now;
        tracked.is_unpublished = false;
        let mut held_back = BTreeMap::new();
        if change.notifies() {
            tracked.page = tracked.page.saturating_add(1);
            tracked.reminded_from = now;
            tracked.known_severity = tracked.severity;
            match &mut tracked.ended {
                None => tracked.knowledge = Knowledge::Notified,
                Some(ended) if change == Change::Resolved => ended.is_owed = false,
                Some(_) => {} // a digest: the end itself may still be owed
            }
            let key = tracked.group.key();
            let limit = self.limits.entry(key.clone()).or_default();
            limit.notified(tracked.severity, now, is_exempt);
            if matches!(change, Change::Digest | Change::Resolved) {
                held_back = std::mem::take(&mut limit.held_back);
                limit.last_held = None;
            }
            self.changed.insert(StateKey::Group(key));
        } else if tracked.knowledge == Knowledge::Limited {
            self.changed.insert(StateKey::Group(tracked.group.key()));
        }
        let latest = self.latest_clock();
        let Some(tracked) = self.incidents.get(&id) else { return };
        // People ask how long ago something was. If a shard is slow, `now` is before the alert.
        let at = latest.max(tracked.lead.at);
        let mut open = tracked.open.iter().filter_map(|id| self.episodes.get(id)).peekable();
        let is_stale = open.peek().is_some() && open.all(|episode| episode.is_stale);
        let mut record = tracked.record(id, change, at, is_stale, self.alerts(tracked));
        record.held_back = held_back;
        out.push(record);
    }
}

/// How long an incident of severity page waits for a slow shard of monitor-rate at most, in microseconds.
const PAGE_WAITS_FOR_SHARDS: i64 = 30_000_000;

/// Returns how long an incident of a severity waits for those of other sources.
const fn join_wait(severity: Severity, settings: &IncidentSettings) -> i64 {
    match severity {
        Severity::Page => settings.join_wait_page,
        Severity::Warning | Severity::Critical => settings.join_wait,
    }
}
