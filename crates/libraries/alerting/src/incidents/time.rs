//! What happens because time passes: the ends of waits and snoozes, reminders, digests, and forgetting.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::changelog::StateKey;
use super::tracked::{Knowledge, Tracked};
use super::{IncidentSettings, Incidents};
use crate::{Change, Incident, IncidentId, Severity};

impl Incidents {
    /// Advances the time to `now`, UTC microseconds, and appends the incidents that change by it to
    /// `out`. An earlier time than the latest one has no effect.
    pub fn advance(&mut self, now: i64, settings: &IncidentSettings, out: &mut Vec<Incident>) {
        if now > self.now {
            self.now = now;
            self.changed.insert(StateKey::Clock);
        }
        if self.now < self.next_due {
            return;
        }
        self.end_plans();
        self.end_waits(settings, out);
        let all = self.incidents.iter();
        let due = all.filter(|(_, tracked)| self.due(tracked, settings) <= self.now);
        for id in due.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.pass(id, settings, out);
        }
        for group in self.groups_with_held_notifications() {
            self.release(&group, settings, out);
        }
        self.forget_idle_limits();
        self.touched.clear();
        let incidents = self.incidents.values().map(|tracked| self.due(tracked, settings));
        let limits = self.limits.keys().map(|key| self.limit_due(key, settings));
        let plans = self.plans.iter().map(|plan| plan.until);
        self.next_due = incidents.chain(limits).chain(plans).min().unwrap_or(i64::MAX);
    }

    /// Takes the incidents that a call has changed into account in the time at which something is due.
    pub(super) fn schedule(&mut self, settings: &IncidentSettings) {
        for id in std::mem::take(&mut self.touched) {
            let Some(tracked) = self.incidents.get(&id) else { continue };
            let limit = self.limit_due(&tracked.group.key(), settings);
            self.next_due = self.next_due.min(self.due(tracked, settings)).min(limit);
        }
    }

    /// Returns when something happens to an incident without an alert or an action.
    fn due(&self, tracked: &Tracked, settings: &IncidentSettings) -> i64 {
        let free_at = || {
            let limit = self.limits.get(&tracked.group.key());
            limit.map_or(i64::MIN, |limit| limit.free_at(settings.notifications_per_hour))
        };
        let snoozed_until = tracked.people.snoozed_until;
        if let Some(ended) = &tracked.ended {
            return match snoozed_until {
                Some(until) if ended.is_owed => until,
                None if ended.is_owed => free_at(),
                // A closed incident is kept while its episodes are open, so that they stay closed.
                _ if !tracked.open.is_empty() => i64::MAX,
                _ => ended.at.saturating_add(settings.keep_ended),
            };
        }
        let update = if tracked.is_unpublished {
            tracked.published_at.saturating_add(settings.update_every)
        } else {
            i64::MAX
        };
        let notification = match (tracked.knowledge, snoozed_until) {
            (Knowledge::New, _) => return i64::MAX, // the current call decides
            (Knowledge::Waiting, _) => i64::MAX,
            (_, Some(until)) | (Knowledge::Planned(until), None) => until,
            (Knowledge::Limited, None) => free_at(),
            (Knowledge::Digested | Knowledge::Notified, None) => {
                reminder_due(tracked, settings).max(free_at())
            }
        };
        notification.min(update).min(tracked.settles_at.unwrap_or(i64::MAX))
    }

    /// Joins the incidents that have waited for other sources, and notifies people of those that are left.
    /// All are joined by the most precise key before any is joined by the next one, so that their order
    /// does not matter.
    fn end_waits(&mut self, settings: &IncidentSettings, out: &mut Vec<Incident>) {
        let now = self.now;
        let settling = self.incidents.iter_mut().filter(|(_, tracked)| {
            tracked.ended.is_none() && tracked.settles_at.is_some_and(|at| at <= now)
        });
        let mut ids: Vec<_> = settling
            .map(|(id, tracked)| {
                tracked.settles_at = None;
                (tracked.created_at, *id)
            })
            .collect();
        ids.sort_unstable();
        let ids: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
        for id in &ids {
            self.touch(*id);
        }
        let ids = ids.into_iter();
        let ids = ids.map(|id| self.join_by_mailbox_provider(id, true, settings, out));
        let ids: Vec<_> = ids.collect();
        let ids = ids.into_iter().map(|id| self.join_by_sender(id, settings, out));
        for id in ids.collect::<BTreeSet<_>>() {
            let Some(tracked) = self.incidents.get(&id) else { continue };
            match tracked.knowledge {
                Knowledge::Waiting => self.notify_opened(id, settings, out),
                _ if tracked.is_unpublished => self.review(id, settings, out),
                _ => {}
            }
        }
    }

    /// Does what is due for an incident, except what the limit holds back.
    fn pass(&mut self, id: IncidentId, settings: &IncidentSettings, out: &mut Vec<Incident>) {
        let now = self.now;
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        let snooze_ends = tracked.people.snoozed_until.is_some_and(|until| until <= now);
        if snooze_ends {
            tracked.people.snoozed_until = None;
            self.touch(id);
        }
        let Some(tracked) = self.incidents.get_mut(&id) else { return };
        if let Some(ended) = &tracked.ended {
            if snooze_ends && ended.is_owed {
                self.announce_end(id, settings, out);
            } else if !ended.is_owed && ended.at.saturating_add(settings.keep_ended) <= now {
                self.forget(id);
            }
            return;
        }
        let mut remind_now = false;
        match tracked.knowledge {
            Knowledge::Planned(until) if until <= now => {
                return self.notify_opened(id, settings, out);
            }
            // The incident is still open, so people are reminded as soon as the limit allows it.
            Knowledge::Digested | Knowledge::Notified if snooze_ends => {
                tracked.reminded_from = now.saturating_sub(remind_after(tracked, settings));
                remind_now = true;
            }
            _ => {}
        }
        let Some(tracked) = self.incidents.get(&id) else { return };
        let can_remind = matches!(tracked.knowledge, Knowledge::Digested | Knowledge::Notified)
            && !tracked.is_snoozed()
            && (remind_now || reminder_due(tracked, settings) <= now)
            && self.is_free(tracked, settings);
        if can_remind {
            self.publish(id, Change::Reminder, false, out);
        } else if tracked.is_unpublished
            && tracked.published_at.saturating_add(settings.update_every) <= now
        {
            self.publish(id, Change::Updated, false, out);
        }
    }

    fn is_free(&self, tracked: &Tracked, settings: &IncidentSettings) -> bool {
        let limit = self.limits.get(&tracked.group.key());
        limit.is_none_or(|limit| limit.free_at(settings.notifications_per_hour) <= self.now)
    }

    fn groups_with_held_notifications(&self) -> BTreeSet<String> {
        let held = self
            .incidents
            .values()
            .filter(|tracked| is_limited(tracked) || is_end_limited(tracked));
        let mut groups: BTreeSet<_> = held.map(|tracked| tracked.group.key()).collect();
        let limits = self.limits.iter().filter(|(_, limit)| !limit.held_back.is_empty());
        groups.extend(limits.map(|(group, _)| group.clone()));
        groups
    }

    /// Sends what the limit of a group has held back, as far as it allows: a digest about the most
    /// severe open incident, then the ends of incidents, then a digest of what is over already.
    fn release(&mut self, group: &str, settings: &IncidentSettings, out: &mut Vec<Incident>) {
        loop {
            let limit = self.limits.entry(group.to_owned()).or_default();
            if limit.free_at(settings.notifications_per_hour) > self.now {
                return;
            }
            let last_held = limit.last_held.filter(|_| !limit.held_back.is_empty());
            let of_group = self.incidents.iter().filter(|(_, of)| of.group.key() == group);
            let limited: Vec<_> = of_group.clone().filter(|(_, of)| is_limited(of)).collect();
            let order =
                |(id, of): &&(&IncidentId, &Tracked)| (Reverse(of.severity), of.created_at, **id);
            if let Some(&(&id, _)) = limited.iter().min_by_key(order) {
                let limited: Vec<_> = limited.into_iter().map(|(id, _)| *id).collect();
                for other in limited.into_iter().filter(|other| *other != id) {
                    self.mark_digested(other);
                }
                self.publish(id, Change::Digest, false, out);
                continue;
            }
            let ended = of_group.filter(|(_, of)| is_end_limited(of));
            let at = |of: &Tracked| of.ended.as_ref().map(|ended| ended.at);
            if let Some((&id, _)) = ended.min_by_key(|(id, of)| (at(of), **id)) {
                self.publish(id, Change::Resolved, false, out);
            } else if let Some(id) = last_held.filter(|id| self.can_sum_up(*id, group)) {
                self.publish(id, Change::Digest, false, out);
            } else {
                if let Some(limit) = self.limits.get_mut(group) {
                    limit.held_back.clear();
                    limit.last_held = None;
                    self.changed.insert(StateKey::Group(group.to_owned()));
                }
                return;
            }
        }
    }

    /// Returns whether a digest of a group can be about an incident. It may be over.
    fn can_sum_up(&self, id: IncidentId, group: &str) -> bool {
        let tracked = self.incidents.get(&id);
        tracked.is_some_and(|tracked| {
            let is_merged = tracked.ended.as_ref().is_some_and(|end| end.merged_into.is_some());
            tracked.group.key() == group && !tracked.is_snoozed() && !is_merged
        })
    }

    fn mark_digested(&mut self, id: IncidentId) {
        if let Some(tracked) = self.incidents.get_mut(&id) {
            tracked.knowledge = Knowledge::Digested;
            tracked.reminded_from = self.now;
            self.touch(id);
        }
    }

    fn limit_due(&self, group: &str, settings: &IncidentSettings) -> i64 {
        let Some(limit) = self.limits.get(group) else { return i64::MAX };
        if limit.held_back.is_empty() {
            limit.idle_at()
        } else {
            limit.free_at(settings.notifications_per_hour)
        }
    }

    fn forget_idle_limits(&mut self) {
        let now = self.now;
        let idle = self.limits.extract_if(.., |_, limit| limit.is_idle(now));
        self.changed.extend(idle.map(|(group, _)| StateKey::Group(group)));
    }

    /// Forgets the incidents that were over first, if there are too many.
    pub(super) fn forget_oldest(&mut self, settings: &IncidentSettings) {
        let ended = self.incidents.iter().filter_map(|(id, tracked)| {
            let ended = tracked.ended.as_ref().filter(|ended| !ended.is_owed)?;
            Some((ended.at, *id))
        });
        let mut ended: Vec<_> = ended.collect();
        let excess = ended.len().saturating_sub(settings.max_ended);
        if excess > 0 {
            ended.sort_unstable();
            for (_, id) in ended.into_iter().take(excess) {
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: IncidentId) {
        self.changed.insert(StateKey::Incident(id));
        let open = self.incidents.remove(&id).map(|tracked| tracked.open).unwrap_or_default();
        for episode in open {
            self.episodes.remove(&episode);
            self.changed.insert(StateKey::Episode(episode));
        }
    }
}

/// Returns whether the limit holds back that an incident is new.
fn is_limited(tracked: &Tracked) -> bool {
    tracked.knowledge == Knowledge::Limited && tracked.ended.is_none() && !tracked.is_snoozed()
}

/// Returns whether the limit holds back that an incident is over.
fn is_end_limited(tracked: &Tracked) -> bool {
    tracked.ended.as_ref().is_some_and(|ended| ended.is_owed) && !tracked.is_snoozed()
}

fn remind_after(tracked: &Tracked, settings: &IncidentSettings) -> i64 {
    tracked.lead.remind.unwrap_or(match tracked.severity {
        Severity::Page => settings.remind_page,
        Severity::Warning | Severity::Critical => settings.remind,
    })
}

/// Returns when people are next reminded. Nobody is reminded of an incident that somebody has acknowledged.
fn reminder_due(tracked: &Tracked, settings: &IncidentSettings) -> i64 {
    if tracked.people.acknowledged_by.is_some() {
        return i64::MAX;
    }
    tracked.reminded_from.saturating_add(remind_after(tracked, settings).max(1))
}
