//! The match stage: `mail.events` → `mail.intents`. It decides which rules want to act.
//!
//! It also reads `mail.segments`, whose partitions have the same numbers, for the conditions about segments. Time
//! passes with the time records of `mail.events`: they end cooldowns, and make follow-ups due.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use automation::{
    Decision, EngagementDelta, Facts, FollowUp, Intent, Reads, RuleSet, recipient_digest,
};
use erasure::StageErasure;
use event::{Event, Kind};
use kafka::{
    AfterRollback, Alignment, CommittedCounter, Inputs, Kept, Outcome, Outgoing, Output, Record,
    Restore, Stage, TopicPartition,
};
use metrics::counter;
use record::{Reason, Tally, Topics, names, text_header, time_record};

use crate::campaigns::Campaigns;
use crate::changelog::Changes;
use crate::recipients::{Members, Recipients};

/// How long to wait for a partition of `mail.segments` that may have more records. Usually its end is known.
const ALIGNMENT_WAIT: Duration = Duration::from_millis(500);

pub(crate) struct MatchStage {
    rules: Arc<RuleSet>,
    events_topic: String,
    segments_topic: String,
    intents_topic: String,
    changelog: String,
    /// The number of partitions of `mail.events`.
    partitions: usize,
    owned: HashMap<i32, Recipients>,
    campaigns: Arc<Campaigns>,
    erasure: StageErasure,
    /// The erased recipients whose follow-ups were removed.
    erased: Option<[u8; 8]>,
    meters: Meters,
}

struct Meters {
    crowded_out: CommittedCounter,
    scheduled: CommittedCounter,
    answered: CommittedCounter,
    fired: CommittedCounter,
    too_many: CommittedCounter,
    erased: CommittedCounter,
    recipients: metrics::Gauge,
    waiting: metrics::Gauge,
    clock: metrics::Gauge,
    now: i64,
}

impl Meters {
    fn new() -> Self {
        let follow_ups = |outcome| {
            CommittedCounter::new(
                counter!("mailpulse_automate_follow_ups_total", "outcome" => outcome),
            )
        };
        Self {
            crowded_out: CommittedCounter::new(counter!("mailpulse_automate_crowded_out_total")),
            scheduled: follow_ups("scheduled"),
            answered: follow_ups("answered"),
            fired: follow_ups("fired"),
            too_many: follow_ups("too_many"),
            erased: follow_ups("erased"),
            recipients: metrics::gauge!("mailpulse_automate_recipients"),
            waiting: metrics::gauge!("mailpulse_automate_follow_ups_waiting"),
            clock: metrics::gauge!("mailpulse_automate_clock_seconds"),
            now: 0,
        }
    }
}

impl MatchStage {
    /// Returns the stage. `partitions` is the number of partitions of `mail.events`.
    pub(crate) fn new(
        rules: Arc<RuleSet>,
        topics: &Topics,
        partitions: usize,
        campaigns: Arc<Campaigns>,
        erasure: StageErasure,
    ) -> Self {
        Self {
            rules,
            events_topic: topics.events.clone(),
            segments_topic: topics.segments.clone(),
            intents_topic: topics.intents.clone(),
            changelog: topics.automate_changelog.clone(),
            partitions,
            owned: HashMap::new(),
            campaigns,
            erasure,
            erased: None,
            meters: Meters::new(),
        }
    }

    fn send(&self, intent: &Intent, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        let value = serde_json::to_vec(intent).map_err(kafka::Error::state)?;
        let labels = [("rule", intent.rule.clone())];
        out.count(&CommittedCounter::new(counter!("mailpulse_automate_intents_total", &labels)), 1);
        out.send(Outgoing {
            topic: &self.intents_topic,
            partition: None,
            key: intent.rule.as_bytes(),
            value: Some(&value),
            headers: &[(names::SOURCE, intent.subject.source().as_bytes())],
        })
    }

    /// Reads the facts that rules decide on. `None` if the event cannot start anything.
    fn facts<'r>(
        &self,
        record: &Record<'r>,
        header: &impl Fn(&str) -> Option<&'r [u8]>,
    ) -> Result<Option<Facts>, Unreadable> {
        let kind: Kind =
            text_header(header, names::KIND)
                .ok()
                .and_then(|kind| kind.parse().ok())
                .ok_or_else(|| Unreadable(Reason::BadHeaders, "no header `kind`".to_owned()))?;
        // An event that dedupe cannot judge may have been acted on.
        let is_left_out =
            [names::UNAUTHENTIC, names::UNJUDGED].iter().any(|it| header(it).is_some());
        if !self.rules.reads(kind) || is_left_out {
            return Ok(None);
        }
        let event: Event<'_> = serde_json::from_slice(record.value().unwrap_or_default())
            .map_err(|error| Unreadable(Reason::of_json(&error), error.to_string()))?;
        let is_erased = |address: &str| self.erasure.eraser().pseudonym(address).is_some();
        let is_erased = event.recipient.as_deref().is_none_or(is_erased) || was_erased(&event);
        let Some(facts) = Facts::of(&event).filter(|_| !is_erased) else { return Ok(None) };
        let counts = if self.rules.uses_score() {
            let tally = Tally::read(header)
                .map_err(|error| Unreadable(Reason::BadHeaders, error.to_string()))?;
            counts(&tally)
        } else {
            EngagementDelta::default()
        };
        Ok(Some(Facts { counts, ..facts }))
    }

    fn decide(
        &mut self,
        partition: i32,
        facts: &Facts,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let Some(recipients) = self.owned.get_mut(&partition) else {
            return Err(no_state(partition));
        };
        let digest = recipient_digest(facts.recipient.as_bytes());
        let answered = recipients.remove_if(digest, |follow_up| follow_up.is_answered_by(facts));
        out.count(&self.meters.answered, answered as u64);
        let before = recipients.state(digest).map_err(kafka::Error::state)?;
        let campaigns = &self.campaigns;
        let reads = Reads {
            is_member: &|segment| recipients.is_member(segment, digest),
            campaign: &|provider, source, campaign| campaigns.counts(provider, source, campaign),
        };
        let decision = automation::decide(&self.rules, partition, facts, &before, &reads);
        let Decision { state, intents, follow_ups, crowded_out } = decision;
        out.count(&self.meters.crowded_out, crowded_out as u64);
        if state != before {
            recipients.set_state(&self.rules, digest, &state).map_err(kafka::Error::state)?;
        }
        for follow_up in follow_ups {
            let was_added = recipients.add(follow_up).map_err(kafka::Error::state)?;
            let meter = if was_added { &self.meters.scheduled } else { &self.meters.too_many };
            out.count(meter, 1);
        }
        for intent in &intents {
            self.send(intent, out)?;
        }
        Ok(if intents.is_empty() { Outcome::Dropped } else { Outcome::Passed })
    }

    /// Lets time pass.
    fn pass_time(
        &mut self,
        partition: i32,
        now: i64,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let Some(recipients) = self.owned.get_mut(&partition) else {
            return Err(no_state(partition));
        };
        self.meters.now = self.meters.now.max(now);
        recipients.expire(&self.rules, now).map_err(kafka::Error::state)?;
        let due: Vec<FollowUp> = recipients.due(now);
        for follow_up in due {
            if self.erasure.eraser().pseudonym(&follow_up.event.recipient).is_some() {
                out.count(&self.meters.erased, 1);
                continue;
            }
            out.count(&self.meters.fired, 1);
            self.send(&follow_up.intent(&self.rules, partition), out)?;
        }
        Ok(Outcome::TimeRecord)
    }

    /// Removes what waits for recipients who were erased since the last call.
    fn forget_erased(&mut self, out: &mut Output<'_>) {
        let fingerprint = self.erasure.eraser().fingerprint();
        if fingerprint == self.erased {
            return;
        }
        self.erased = fingerprint;
        let eraser = self.erasure.eraser();
        let removed: usize = self
            .owned
            .values_mut()
            .map(|it| it.remove_erased(|address| eraser.pseudonym(address).is_some()))
            .sum();
        out.count(&self.meters.erased, removed as u64);
    }
}

/// Why a record cannot be read.
struct Unreadable(Reason, String);

/// Returns what an event changes in the counts that scores are computed from.
fn counts(tally: &Tally) -> EngagementDelta {
    let mut delta = EngagementDelta::default();
    for counter in tally.counts.into_iter().flat_map(|counts| counts.iter()) {
        delta.add(counter.as_str(), 1);
    }
    for change in tally.corrections.iter().flat_map(|corrections| &corrections.changes) {
        delta.add(change.counter.as_str(), if change.adds { 1 } else { -1 });
    }
    delta
}

/// Returns whether the event has a pseudonym in place of its recipient, because the recipient was erased.
fn was_erased(event: &Event<'_>) -> bool {
    let local =
        event.recipient.as_deref().and_then(|it| it.rsplit_once('@')).map(|(local, _)| local);
    event.raw.get() == "{}" && local.is_some_and(privacy::is_pseudonym)
}

fn no_state(partition: i32) -> kafka::Error {
    kafka::Error::state(format!("partition {partition} of mail.events has no state"))
}

/// The time by which events and members of segments are put into one order.
fn time_of(record: &Record<'_>) -> Option<i64> {
    let number = |name| std::str::from_utf8(record.header(name)?).ok()?.parse().ok();
    number(names::RECEIVED_AT).or_else(|| number(names::TIME))
}

impl Stage for MatchStage {
    const STAGE: record::Stage = record::Stage::AutomateMatch;

    fn inputs(&self) -> Inputs {
        let topics = vec![self.events_topic.clone(), self.segments_topic.clone()];
        Inputs { topics, partitions: 2 * self.partitions }
    }

    fn alignment(&self) -> Option<Alignment> {
        Some(Alignment { time: time_of, wait: ALIGNMENT_WAIT, lead: None })
    }

    fn restore(
        &mut self,
        name: &TopicPartition,
        restore: &Restore<'_>,
    ) -> Result<(), kafka::Error> {
        let number = name.partition;
        if name.topic == self.segments_topic {
            let mut members = Members::default();
            let restored =
                restore.changelog(&self.segments_topic, number, None, |key, value| {
                    members.apply(&self.rules, key, value.is_some());
                    Ok(())
                })?;
            members.next_offset = restored.next_offset;
            self.owned.entry(number).or_default().members = members;
            return Ok(());
        }
        let mut recipients = Recipients::default();
        let changelog = (self.changelog.as_str(), number);
        let changes = Changes::restore(restore, changelog, Self::STAGE, |key, value| {
            recipients.apply(key, value).map_err(kafka::Error::state)
        })?;
        recipients.finish_restore(changes, &self.rules).map_err(kafka::Error::state)?;
        if let Some(former) = self.owned.get_mut(&number) {
            recipients.members = std::mem::take(&mut former.members);
        }
        self.owned.insert(number, recipients);
        self.erased = None;
        Ok(())
    }

    fn release(&mut self, name: &TopicPartition) {
        if name.topic == self.events_topic {
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
        let partition = record.partition();
        if record.topic() == self.segments_topic {
            let recipients = self.owned.entry(partition).or_default();
            let members = &mut recipients.members;
            if record.offset().0 >= members.next_offset {
                members.apply(&self.rules, record.key(), record.value().is_some());
            }
            return Ok(Outcome::Counted);
        }
        if record.is_redriven_for_another(Self::STAGE) {
            return Ok(Outcome::Dropped); // it was acted on when it was first read
        }
        let headers = record.look_up();
        let header = |name: &str| headers.get(name);
        if let Some(time) = time_record(&header) {
            return self.pass_time(partition, time, out);
        }
        match self.facts(record, &header) {
            Ok(Some(facts)) => self.decide(partition, &facts, out),
            Ok(None) => Ok(Outcome::Dropped),
            Err(Unreadable(reason, detail)) => {
                self.erasure.dead_letter(record, reason, &detail, out)
            }
        }
    }

    fn kept<'r>(&self, record: &Record<'r>) -> Kept<'r> {
        self.erasure.kept(record)
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        self.forget_erased(out);
        for (partition, recipients) in &mut self.owned {
            recipients.changes.write((&self.changelog, *partition), out)?;
        }
        Ok(())
    }

    fn offset_metadata(&self, name: &TopicPartition) -> String {
        let owned = self.owned.get(&name.partition).filter(|_| name.topic == self.events_topic);
        owned.map_or(String::new(), |recipients| recipients.changes.metadata())
    }

    fn committed(&mut self) -> Result<(), kafka::Error> {
        let count =
            |count: fn(&Recipients) -> usize| self.owned.values().map(count).sum::<usize>() as f64;
        self.meters.recipients.set(count(Recipients::states));
        self.meters.waiting.set(count(Recipients::waiting));
        self.meters.clock.set(self.meters.now as f64 / 1e6);
        Ok(())
    }

    /// The batch changed the state in place, so it is restored from the changelog.
    fn rolled_back(&mut self) -> AfterRollback {
        self.owned.clear();
        AfterRollback::Restore
    }
}
