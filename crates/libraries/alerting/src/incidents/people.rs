//! What people do with incidents.

use event::Dimension;
use serde::{Deserialize, Serialize};

use super::changelog::StateKey;
use super::{Action, ActionError, IncidentSettings, Incidents};
use crate::grouping::Member;
use crate::{Change, Incident, IncidentId, ResolveReason, Severity};

/// A planned send. Part of a value of the changelog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    by: String,
    source: String,
    campaign: Option<String>,
    from: i64,
    pub(super) until: i64,
}

impl Incidents {
    /// Does what a person has decided, and appends the changed incident to `out`. `now` is the time of
    /// the log in UTC microseconds.
    ///
    /// # Errors
    /// Returns why the action is not possible. It then has no effect.
    pub fn handle(
        &mut self,
        action: &Action,
        now: i64,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) -> Result<(), ActionError> {
        self.advance(now, settings, out);
        action.check(self.now)?;
        let handled = self.do_action(action, settings, out);
        self.schedule(settings);
        handled
    }

    fn do_action(
        &mut self,
        action: &Action,
        settings: &IncidentSettings,
        out: &mut Vec<Incident>,
    ) -> Result<(), ActionError> {
        let now = self.now;
        let id = match action {
            Action::Acknowledge { incident, by } => {
                let id = self.open_id(*incident)?;
                self.people(id)?.acknowledged_by = Some(by.clone());
                id
            }
            Action::Assign { incident, to, .. } => {
                let id = self.open_id(*incident)?;
                self.people(id)?.assigned_to = Some(to.clone());
                id
            }
            Action::Snooze { incident, until, .. } => {
                let id = self.open_id(*incident)?;
                self.people(id)?.snoozed_until = Some(*until).filter(|until| *until > now);
                if let Some(tracked) = self.incidents.get_mut(&id) {
                    tracked.known_severity = tracked.severity;
                }
                id
            }
            Action::Judge { incident, judgement, .. } => {
                self.people(*incident)?.judged = Some(judgement.as_str().to_owned());
                *incident
            }
            Action::Close { incident, by } => {
                let id = self.open_id(*incident)?;
                let people = self.people(id)?;
                people.closed_by = Some(by.clone());
                people.snoozed_until = None;
                self.end(id, Some(ResolveReason::Closed), settings, out);
                return Ok(());
            }
            Action::PlanSend { by, source, campaign, from, until } => {
                if self.plans.len() >= Action::MAX_PLANS {
                    return Err(ActionError::TooManyPlans);
                }
                let (by, source, campaign) = (by.clone(), source.clone(), campaign.clone());
                self.plans.push(Plan { by, source, campaign, from: *from, until: *until });
                self.changed.insert(StateKey::Plans);
                self.next_due = self.next_due.min(*until);
                return Ok(());
            }
        };
        self.publish(id, Change::Handled, false, out);
        Ok(())
    }

    /// Returns the open incident that an id stands for: itself, or the one that it is now part of.
    fn open_id(&self, named: IncidentId) -> Result<IncidentId, ActionError> {
        let mut id = named;
        // Each merge leads to an incident that was open later, so this ends.
        loop {
            let tracked = self.incidents.get(&id).filter(|tracked| tracked.seq > 0);
            let tracked = tracked.ok_or(ActionError::UnknownIncident(named))?;
            match &tracked.ended {
                None => return Ok(id),
                Some(ended) => id = ended.merged_into.ok_or(ActionError::Ended(named))?,
            }
        }
    }

    fn people(&mut self, id: IncidentId) -> Result<&mut crate::People, ActionError> {
        let tracked = self.incidents.get_mut(&id).filter(|tracked| tracked.seq > 0);
        tracked.map(|tracked| &mut tracked.people).ok_or(ActionError::UnknownIncident(id))
    }

    /// Returns until when a planned send holds back the notifications of an incident.
    pub(super) fn planned_until(&self, id: IncidentId) -> Option<i64> {
        let tracked = self.incidents.get(&id)?;
        if tracked.severity == Severity::Page {
            return None;
        }
        let mut members = tracked.members.keys();
        let (Some(source), None) = (members.next().and_then(Member::source), members.next()) else {
            return None;
        };
        let cause = tracked.cause.as_ref().map_or(&tracked.lead.scope, |cause| &cause.scope);
        let applies = |plan: &&Plan| {
            let campaign = plan.campaign.as_deref();
            plan.source == source
                && (plan.from..plan.until).contains(&self.now)
                && campaign
                    .is_none_or(|campaign| cause.value(Dimension::Campaign) == Some(campaign))
        };
        self.plans.iter().filter(applies).map(|plan| plan.until).max()
    }

    /// Forgets the planned sends that are over.
    pub(super) fn end_plans(&mut self) {
        let known = self.plans.len();
        self.plans.retain(|plan| plan.until > self.now);
        if self.plans.len() < known {
            self.changed.insert(StateKey::Plans);
        }
    }
}
