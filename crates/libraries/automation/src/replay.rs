//! What rules would have done with events of the past: both decisions, for one process that knows everything.

use std::collections::{BTreeMap, HashMap, HashSet};

use event::EventId;

use crate::{
    Action, ActionRecord, Facts, FollowUp, IncidentFacts, Intent, LimitState, Reads,
    RecipientState, Refusal, RuleSet, Verdict, decide, decide_incident,
};

/// The state of a replay. It begins without any history, and knows no rates of campaigns.
pub struct Replay<'r> {
    rules: &'r RuleSet,
    states: HashMap<String, RecipientState>,
    /// Segments with their members.
    members: HashSet<(String, String)>,
    follow_ups: BTreeMap<(i64, EventId), FollowUp>,
    limits: HashMap<String, LimitState>,
}

/// What followed from an intent.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The actions.
    Acted(Vec<ActionRecord>),
    /// The limits refused it.
    Refused(Box<Intent>, Refusal),
}

impl<'r> Replay<'r> {
    /// Returns a replay without history.
    pub fn new(rules: &'r RuleSet) -> Self {
        Self {
            rules,
            states: HashMap::new(),
            members: HashSet::new(),
            follow_ups: BTreeMap::new(),
            limits: HashMap::new(),
        }
    }

    /// Lets time pass until `now`, UTC microseconds, and returns what followed.
    pub fn pass_time(&mut self, now: i64) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while let Some(entry) = self.follow_ups.first_entry()
            && entry.key().0 <= now
        {
            let intent = entry.remove().intent(self.rules, 0);
            outcomes.push(self.judge(intent));
        }
        outcomes
    }

    /// Receives an event, in the order of receipt, and returns what followed.
    pub fn receive(&mut self, facts: &Facts) -> Vec<Outcome> {
        let mut outcomes = self.pass_time(facts.received_at.micros());
        let recipient = &facts.recipient;
        self.follow_ups.retain(|_, follow_up| {
            follow_up.event.recipient != *recipient || !follow_up.is_answered_by(facts)
        });
        let known = self.states.get(recipient).cloned().unwrap_or_default();
        let members = &self.members;
        let is_member = |segment: &str| members.contains(&(segment.to_owned(), recipient.clone()));
        let reads = Reads { is_member: &is_member, campaign: &|_, _, _| None };
        let decision = decide(self.rules, 0, facts, &known, &reads);
        if !decision.state.is_empty() {
            self.states.insert(recipient.clone(), decision.state);
        }
        for follow_up in decision.follow_ups {
            self.follow_ups.insert((follow_up.due, follow_up.id), follow_up);
        }
        outcomes.extend(decision.intents.into_iter().map(|intent| self.judge(intent)));
        outcomes
    }

    /// Receives a change of an incident, in the order of its time among the events, and returns what followed.
    pub fn receive_incident(&mut self, incident: &IncidentFacts) -> Vec<Outcome> {
        let mut outcomes = self.pass_time(incident.at);
        let intents = decide_incident(self.rules, 0, incident);
        outcomes.extend(intents.into_iter().map(|intent| self.judge(intent)));
        outcomes
    }

    fn judge(&mut self, intent: Intent) -> Outcome {
        let rule = self.rules.rule(&intent.rule);
        let state = self.limits.entry(intent.rule.clone()).or_default();
        match (state.decide(rule, &intent), rule) {
            (Verdict::Refused(refusal), _) => Outcome::Refused(Box::new(intent), refusal),
            (Verdict::Allowed, None) => Outcome::Refused(Box::new(intent), Refusal::RuleGone),
            (Verdict::Allowed, Some(rule)) => {
                // The changes are only needed for a changelog. They are numbers and names, so they can be written.
                let _ = state.allow(rule, &intent);
                let acted = ActionRecord::all(rule, &intent).into_iter().map(|(record, action)| {
                    let recipient = record.subject.recipient().unwrap_or_default();
                    let member = |segment: &String| (segment.clone(), recipient.to_owned());
                    match action {
                        Action::SegmentAdd(segment) => drop(self.members.insert(member(segment))),
                        Action::SegmentRemove(segment) => {
                            self.members.remove(&member(segment));
                        }
                        _ => {}
                    }
                    record
                });
                Outcome::Acted(acted.collect())
            }
        }
    }
}
