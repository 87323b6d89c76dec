//! The limit stage: `mail.intents` → `mail.actions`, `mail.segments`. It decides whether the limits of a rule allow
//! what the rule wants. All intents of a rule are in one partition.
//!
//! It also reads `mail.incidents`, and writes what rules want because of an incident to `mail.intents`. It needs no state
//! for that: whether a rule has acted on an incident is decided with the limits of the rule.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use alerting::Incident;
use automation::{
    Action, ActionRecord, IncidentFacts, Intent, LimitRestore, LimitState, Rule, RuleSet, Verdict,
    decide_incident, recipient_digest, segment_record,
};
use erasure::StageErasure;
use kafka::{
    AfterRollback, CommittedCounter, Inputs, Kept, Outcome, Outgoing, Output, Record, Restore,
    Stage, TopicPartition,
};
use metrics::counter;
use record::{Reason, Topics, content_types, names};

use crate::changelog::Changes;

pub(crate) struct LimitStage {
    rules: Arc<RuleSet>,
    incidents_topic: String,
    intents_topic: String,
    actions_topic: String,
    segments_topic: String,
    changelog: String,
    /// The number of partitions of `mail.intents`, and of `mail.incidents`.
    partitions: usize,
    /// The number of partitions of `mail.actions`.
    recipient_partitions: i32,
    owned: HashMap<i32, Limits>,
    erasure: StageErasure,
}

/// The state of a partition.
#[derive(Debug, Default)]
struct Limits {
    changes: Changes,
    /// By rule.
    states: HashMap<String, LimitState>,
}

impl LimitStage {
    /// Returns the stage.
    pub(crate) fn new(
        rules: Arc<RuleSet>,
        topics: &Topics,
        partitions: usize,
        recipient_partitions: i32,
        erasure: StageErasure,
    ) -> Self {
        Self {
            rules,
            incidents_topic: topics.incidents.clone(),
            intents_topic: topics.intents.clone(),
            actions_topic: topics.actions.clone(),
            segments_topic: topics.segments.clone(),
            changelog: topics.limits_changelog.clone(),
            partitions,
            recipient_partitions,
            owned: HashMap::new(),
            erasure,
        }
    }

    /// Sends what rules want because of an incident. Whether they have acted on it is decided with the intents.
    fn receive_incident(
        &self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let Some(value) = record.value() else { return Ok(Outcome::Dropped) }; // it is forgotten
        if !self.rules.reads_incidents() {
            return Ok(Outcome::Dropped);
        }
        let incident: Incident = match serde_json::from_slice(value) {
            Ok(incident) => incident,
            Err(error) => {
                let reason = Reason::of_json(&error);
                return self.erasure.dead_letter(record, reason, &error.to_string(), out);
            }
        };
        let Some(facts) = IncidentFacts::of(&incident) else { return Ok(Outcome::Dropped) };
        let intents = decide_incident(&self.rules, self.partition_of(&facts), &facts);
        for intent in &intents {
            let value = serde_json::to_vec(intent).map_err(kafka::Error::state)?;
            let labels = [("rule", intent.rule.clone())];
            let counter = counter!("mailpulse_automate_intents_total", &labels);
            out.count(&CommittedCounter::new(counter), 1);
            out.send(Outgoing {
                topic: &self.intents_topic,
                partition: None,
                key: intent.rule.as_bytes(),
                value: Some(&value),
                headers: &[(names::SOURCE, intent.subject.source().as_bytes())],
            })?;
        }
        Ok(if intents.is_empty() { Outcome::Dropped } else { Outcome::Passed })
    }

    /// Returns the partition of `mail.actions` for an incident: always the same, so that its actions have an order.
    fn partition_of(&self, incident: &IncidentFacts) -> i32 {
        let id = incident.id.to_string();
        let digest = recipient_digest(id.as_bytes());
        let [a, b, c, d, ..] = *digest.as_bytes();
        let partitions = self.recipient_partitions.unsigned_abs().max(1);
        (u32::from_le_bytes([a, b, c, d]) % partitions).cast_signed()
    }

    /// Sends the actions of an intent that was allowed.
    fn act(&self, rule: &Rule, intent: &Intent, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        for (record, action) in ActionRecord::all(rule, intent) {
            let value = serde_json::to_vec(&record).map_err(kafka::Error::state)?;
            let headers: &[(&str, &[u8])] = &[
                (names::SOURCE, intent.subject.source().as_bytes()),
                (names::CONTENT_TYPE, content_types::ACTION.as_bytes()),
            ];
            out.send(Outgoing {
                topic: &self.actions_topic,
                partition: Some(intent.partition),
                key: intent.subject.key().as_bytes(),
                value: Some(&value),
                headers,
            })?;
            self.move_member(action, &record, intent.partition, out)?;
            let labels = [("rule", rule.name.clone()), ("type", action.name().to_owned())];
            let counter = counter!("mailpulse_automate_actions_total", &labels);
            out.count(&CommittedCounter::new(counter), 1);
        }
        Ok(())
    }

    /// Writes the record of an action about a segment.
    fn move_member(
        &self,
        action: &Action,
        record: &ActionRecord,
        partition: i32,
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        let Some(recipient) = record.subject.recipient() else { return Ok(()) };
        let digest = recipient_digest(recipient.as_bytes());
        let member = segment_record(action, record, digest).map_err(kafka::Error::state)?;
        let Some((key, value)) = member else { return Ok(()) };
        out.send(Outgoing {
            topic: &self.segments_topic,
            partition: Some(partition),
            key: key.as_bytes(),
            value: value.as_deref(),
            headers: &[
                (names::RECEIVED_AT, record.at.to_string().as_bytes()),
                (names::CONTENT_TYPE, content_types::SEGMENT.as_bytes()),
            ],
        })
    }

    fn read(&self, record: &Record<'_>) -> Result<Intent, (Reason, String)> {
        let intent: Intent = serde_json::from_slice(record.value().unwrap_or_default())
            .map_err(|error| (Reason::of_json(&error), error.to_string()))?;
        if !(0..self.recipient_partitions).contains(&intent.partition) {
            let detail = format!("mail.actions has no partition {}", intent.partition);
            return Err((Reason::WrongShape, detail));
        }
        Ok(intent)
    }
}

impl Stage for LimitStage {
    const STAGE: record::Stage = record::Stage::AutomateLimit;

    fn inputs(&self) -> Inputs {
        let topics = vec![self.intents_topic.clone(), self.incidents_topic.clone()];
        Inputs { topics, partitions: 2 * self.partitions }
    }

    fn restore(
        &mut self,
        name: &TopicPartition,
        restore: &Restore<'_>,
    ) -> Result<(), kafka::Error> {
        if name.topic == self.incidents_topic {
            return Ok(());
        }
        let mut restores: BTreeMap<String, LimitRestore> = BTreeMap::new();
        let changelog = (self.changelog.as_str(), name.partition);
        let changes = Changes::restore(restore, changelog, Self::STAGE, |key, value| {
            let (rule, key) = key.split_once('/').unwrap_or((key, ""));
            let of_rule = restores.entry(rule.to_owned()).or_default();
            of_rule.apply(key, value).map_err(kafka::Error::state)
        })?;
        let finish = |(name, restore): (String, LimitRestore)| {
            let state = restore.finish(self.rules.rule(&name));
            (name, state)
        };
        let states = restores.into_iter().map(finish).collect();
        self.owned.insert(name.partition, Limits { changes, states });
        Ok(())
    }

    fn release(&mut self, name: &TopicPartition) {
        if name.topic == self.intents_topic {
            self.owned.remove(&name.partition);
        }
    }

    fn prepare(&mut self, _: &mut dyn Iterator<Item = Record<'_>>) {
        self.erasure.refresh();
    }

    fn process(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        if record.is_redriven_for_another(Self::STAGE) {
            return Ok(Outcome::Dropped);
        }
        if record.topic() == self.incidents_topic {
            return self.receive_incident(record, out);
        }
        let intent = match self.read(record) {
            Ok(intent) => intent,
            Err((reason, detail)) => return self.erasure.dead_letter(record, reason, &detail, out),
        };
        let is_erased = |address| self.erasure.eraser().pseudonym(address).is_some();
        if intent.subject.recipient().is_some_and(is_erased) {
            return Ok(Outcome::Dropped);
        }
        let Some(Limits { changes, states }) = self.owned.get_mut(&record.partition()) else {
            let problem = format!("{} belongs to a partition without state", record.origin());
            return Err(kafka::Error::state(problem));
        };
        let rule = self.rules.rule(&intent.rule);
        let state = states.entry(intent.rule.clone()).or_default();
        match (state.decide(rule, &intent), rule) {
            (Verdict::Allowed, Some(rule)) => {
                for (key, value) in state.allow(rule, &intent).map_err(kafka::Error::state)? {
                    changes.set(format!("{}/{key}", rule.name), value);
                }
                self.act(rule, &intent, out)?;
                Ok(Outcome::Passed)
            }
            (Verdict::Refused(refusal), _) => {
                let labels = [("rule", intent.rule), ("reason", refusal.as_str().to_owned())];
                let counter = counter!("mailpulse_automate_refused_total", &labels);
                out.count(&CommittedCounter::new(counter), 1);
                Ok(Outcome::Dropped)
            }
            (Verdict::Allowed, None) => Ok(Outcome::Dropped),
        }
    }

    fn kept<'r>(&self, record: &Record<'r>) -> Kept<'r> {
        // The key is the rule or the incident, and the value may name a recipient.
        let value = record.value().map(|value| self.erasure.eraser().erase_body(value));
        Kept { key: record.key().into(), value }
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        for (partition, limits) in &mut self.owned {
            limits.changes.write((&self.changelog, *partition), out)?;
        }
        Ok(())
    }

    fn offset_metadata(&self, name: &TopicPartition) -> String {
        let owned = self.owned.get(&name.partition).filter(|_| name.topic == self.intents_topic);
        owned.map_or(String::new(), |limits| limits.changes.metadata())
    }

    /// The batch changed the state in place, so it is restored from the changelog.
    fn rolled_back(&mut self) -> AfterRollback {
        self.owned.clear();
        AfterRollback::Restore
    }
}
