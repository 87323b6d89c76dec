//! The first decision: which rules want to act on an event.

use event::{EventId, IdBuilder, Kind, Provider};
use serde::{Deserialize, Serialize};
use window::Counts;

use crate::{Action, ConditionValue, Facts, IncidentFacts, RecipientState, RuleSet, Subject};

/// How many rules may act on one event. Those with a lower priority do not.
pub const MOST_INTENTS: usize = 8;

/// What a rule wants to do: the value of `mail.intents`. The limits decide whether it is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The digest of rule and event, and of the follow-up.
    pub intent_id: EventId,
    /// The rule.
    pub rule: String,
    /// [`RuleSet::digest`] of the rules in force.
    pub rules: String,
    /// When it was decided: the receipt of the event, or when the follow-up was due. UTC microseconds.
    pub at: i64,
    /// The index of the follow-up in `do`; absent if the event itself started the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow_up: Option<u16>,
    /// The intent that the follow-up belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<EventId>,
    /// The partition of the recipient, or that of the actions about the incident.
    pub partition: i32,
    /// What the conditions were about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ConditionValue>,
    /// What started the rule.
    #[serde(flatten)]
    pub subject: Subject,
}

/// Actions that are due later: a record of the changelog of the match stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    /// The id of the intent that it becomes.
    pub id: EventId,
    /// The rule.
    pub rule: String,
    /// The index in `do`.
    pub index: u16,
    /// UTC microseconds.
    pub due: i64,
    /// An event of this kind makes it unnecessary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<Kind>,
    /// The intent that it belongs to.
    pub parent: EventId,
    /// The event that started the rule.
    pub event: Facts,
}

/// What conditions read besides the state.
pub struct Reads<'a> {
    /// Returns whether the recipient is a member of a segment.
    pub is_member: &'a dyn Fn(&str) -> bool,
    /// Returns the counts of a campaign since it began, by provider, source and campaign. `None` if they are not known.
    pub campaign: &'a dyn Fn(Provider, &str, &str) -> Option<Counts>,
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// The state after the event.
    pub state: RecipientState,
    /// What the rules want to do, in the order of their priorities.
    pub intents: Vec<Intent>,
    /// What is due later.
    pub follow_ups: Vec<FollowUp>,
    /// The number of rules that did not act, because [`MOST_INTENTS`] others had a higher priority.
    pub crowded_out: usize,
}

/// Decides which rules want to act on an event. The result depends on the arguments alone.
///
/// Nothing follows from an event that is not authentic. An event of a machine starts only rules with
/// `human = false`, and is not remembered.
pub fn decide(
    rules: &RuleSet,
    partition: i32,
    facts: &Facts,
    state: &RecipientState,
    reads: &Reads<'_>,
) -> Decision {
    let mut decision = Decision { state: state.clone(), ..Decision::default() };
    if !facts.authentic {
        return decision;
    }
    if facts.human {
        decision.state.observe(rules, facts);
    }
    let at = facts.received_at.micros();
    for rule in rules.rules().iter().filter(|rule| rule.when.matches(facts)) {
        let is_cooling = |cooldown| decision.state.is_cooling(&rule.name, cooldown, at);
        if rule.cooldown.is_some_and(is_cooling) {
            continue;
        }
        let Some(values) = rule.evaluate(facts, &decision.state, reads) else { continue };
        if decision.intents.len() >= MOST_INTENTS {
            decision.crowded_out += 1;
            continue;
        }
        if rule.cooldown.is_some() {
            decision.state.acted(&rule.name, at);
        }
        let intent_id = intent_id(&rule.name, facts.event_id, None);
        for (index, action) in (0..).zip(&rule.actions) {
            if let Action::FollowUp(follow_up) = action {
                decision.follow_ups.push(FollowUp {
                    id: self::intent_id(&rule.name, facts.event_id, Some(index)),
                    rule: rule.name.clone(),
                    index,
                    due: at.saturating_add(follow_up.after),
                    unless: follow_up.unless,
                    parent: intent_id,
                    event: facts.clone(),
                });
            }
        }
        decision.intents.push(Intent {
            intent_id,
            rule: rule.name.clone(),
            rules: rules.digest().to_owned(),
            at,
            follow_up: None,
            parent: None,
            partition,
            values,
            subject: Subject::Event(facts.clone()),
        });
    }
    decision
}

/// Decides which rules want to act on a change of an incident: all that match, because incidents are few. Whether they
/// have done so before, and their cooldowns, are part of the second decision. `partition` is that of the actions.
pub fn decide_incident(rules: &RuleSet, partition: i32, incident: &IncidentFacts) -> Vec<Intent> {
    let started = rules.rules().iter().filter(|rule| rule.when.matches_incident(incident));
    let wanted = started.filter_map(|rule| Some((rule, rule.evaluate_incident(incident)?)));
    let intents = wanted.map(|(rule, values)| Intent {
        intent_id: intent_id(&rule.name, incident.transition_id(), None),
        rule: rule.name.clone(),
        rules: rules.digest().to_owned(),
        at: incident.at,
        follow_up: None,
        parent: None,
        partition,
        values,
        subject: Subject::Incident(incident.clone()),
    });
    intents.collect()
}

impl FollowUp {
    /// Returns whether the event makes the follow-up unnecessary: a person's event of the kind `unless`, about the same
    /// message, or from the same source if the first event names no message. A click tells that the mail was opened,
    /// too.
    pub fn is_answered_by(&self, facts: &Facts) -> bool {
        let is_kind = self.unless.is_some_and(|kind| {
            kind == facts.kind || (kind == Kind::Opened && facts.kind == Kind::Clicked)
        });
        let first = &self.event;
        let is_same_source = (first.provider, &first.source) == (facts.provider, &facts.source);
        let is_same_message = first.message_id.is_none() || first.message_id == facts.message_id;
        is_kind
            && facts.human
            && facts.authentic
            && is_same_source
            && is_same_message
            && facts.event_id != first.event_id
    }

    /// Returns the intent that the follow-up becomes when it is due.
    pub fn intent(self, rules: &RuleSet, partition: i32) -> Intent {
        Intent {
            intent_id: self.id,
            rule: self.rule,
            rules: rules.digest().to_owned(),
            at: self.due,
            follow_up: Some(self.index),
            parent: Some(self.parent),
            partition,
            values: Vec::new(),
            subject: Subject::Event(self.event),
        }
    }
}

/// Returns the id of an intent about an event, or about the transition of an incident.
fn intent_id(rule: &str, event_id: EventId, follow_up: Option<u16>) -> EventId {
    let id = IdBuilder::new("intent").part(rule.as_bytes()).part(event_id.as_bytes());
    match follow_up {
        None => id.finish(),
        Some(index) => id.part(&index.to_le_bytes()).finish(),
    }
}
