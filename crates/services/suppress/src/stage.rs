//! The stage: from events to entries.

mod evidence;
mod provisional;
mod scopes;
mod time;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use erasure::StageErasure;
use event::{Event, EventId, Kind};
use evidence::evidence;
use jiff::Timestamp;
use kafka::{
    AfterRollback, CommittedCounter, Inputs, Kept, Outcome, Outgoing, Output, Record, Restore,
    Stage, TopicPartition,
};
use metrics::{counter, histogram};
use record::{Reason as DeadLetterReason, Tally, Topics, content_types, names};
use scopes::Scopes;
use suppression::entry::{EntryValue, Evidence};
use suppression::list::{ListBasis, Purposes};
use suppression::{
    Author, EntryKey, Mark, Policy, Reason, RecipientDigest, RecipientKey, Signal, State, Streak,
};

use crate::agenda::DueEntry;
use crate::follower;
use crate::incidents::{Incidents, KnownIncidents};
use crate::store::{Store, Written, mark_of};
use crate::streaks::Streaks;

/// What the settings say about the stage.
#[derive(Debug, Clone)]
pub struct StageSettings {
    pub policy: Policy,
    pub basis: ListBasis,
    pub purposes: Purposes,
    pub keys: RecipientKey,
}

/// Decides who must not be mailed.
pub struct Suppress<'a> {
    settings: StageSettings,
    topics: &'a Topics,
    partitions: usize,
    erasure: StageErasure,
    store: Arc<Store>,
    incidents: Incidents,
    /// The incidents, as this batch knows them.
    known: Arc<KnownIncidents>,
    /// Whether it was logged that no further entry can be provisional.
    is_full: bool,
    streaks: Streaks,
    /// The entries that this batch changes. `None`: forgotten.
    pending: HashMap<EntryKey<'static>, (i32, Option<Written>)>,
    /// The recipients whose soft bounces have suppressed them in this batch.
    pending_soft: HashSet<RecipientDigest>,
    scopes: Scopes,
    /// What happened by itself in this batch.
    handled: BTreeMap<i32, BTreeSet<DueEntry>>,
    /// When the events of this batch that changed something were received, UTC microseconds.
    received: Vec<i64>,
    /// Called during a restore, which may take longer than the health check allows.
    mark_alive: &'a dyn Fn(),
    changes: HashMap<(Reason, State), CommittedCounter>,
}

/// The state of an entry of an event.
#[derive(Debug, Clone, Copy)]
struct EntryState {
    mark: Mark,
    is_provisional: bool,
    /// The incident during which it began.
    incident: Option<EventId>,
}

impl<'a> Suppress<'a> {
    pub fn new(
        settings: StageSettings,
        topics: &'a Topics,
        partitions: usize,
        erasure: StageErasure,
        store: Arc<Store>,
        incidents: Incidents,
        mark_alive: &'a dyn Fn(),
    ) -> Self {
        let changes = Reason::ALL.iter().flat_map(|&reason| {
            State::ALL.iter().map(move |&state| {
                let counter = counter!("mailpulse_suppress_changes_total",
                    "reason" => reason.as_str(), "state" => state.as_str());
                ((reason, state), CommittedCounter::new(counter))
            })
        });
        Self {
            settings,
            topics,
            partitions,
            erasure,
            store,
            known: incidents.known(),
            incidents,
            is_full: false,
            streaks: Streaks::default(),
            pending: HashMap::new(),
            pending_soft: HashSet::new(),
            scopes: Scopes::default(),
            handled: BTreeMap::new(),
            received: Vec::new(),
            mark_alive,
            changes: changes.collect(),
        }
    }

    /// Applies an event that may say something about its recipient.
    fn decide(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let value = record.value().unwrap_or_default();
        let event: Event<'_> = match serde_json::from_slice(value) {
            Ok(event) => event,
            Err(error) => {
                let reason = DeadLetterReason::of_json(&error);
                return self.erasure.dead_letter(record, reason, &error.to_string(), out);
            }
        };
        let headers = record.look_up();
        let tally = match Tally::read(&|name| headers.get(name)) {
            Ok(tally) => tally,
            Err(error) => {
                let detail = error.to_string();
                return self.erasure.dead_letter(
                    record,
                    DeadLetterReason::BadHeaders,
                    &detail,
                    out,
                );
            }
        };
        let (Some(signal), Some(address)) =
            (Signal::of(&event, tally.seen), event.recipient.as_deref())
        else {
            return Ok(Outcome::Dropped);
        };
        // A duplicate that is older than the memory of dedupe would count twice.
        if signal == Signal::SoftBounce && headers.get(names::UNJUDGED).is_some() {
            return Ok(Outcome::Dropped);
        }
        let recipient = self.settings.keys.of_event(address, self.erasure.eraser());
        self.apply(record.partition(), &event, signal, recipient, out)
    }

    fn apply(
        &mut self,
        partition: i32,
        event: &Event<'_>,
        signal: Signal,
        recipient: RecipientDigest,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let at = event.occurred_at.not_after(event.received_at).micros().div_euclid(1_000_000);
        let list = self.settings.basis.list_of(event);
        let reason = signal.reason();
        let Some(scope) = self.scope(event, signal, &list) else { return Ok(Outcome::Dropped) };
        let key = EntryKey {
            list: Cow::Owned(list.clone()),
            recipient,
            reason,
            scope: Cow::Owned(scope),
            author: Author::Event,
        };
        let streak_key = (recipient, list);
        let mut streak = if reason == Reason::SoftBounces {
            self.streaks.get(partition, &streak_key)
        } else {
            Streak::default()
        };
        let before = self.state(&key);
        let mark = before.map(|it| it.mark);
        let decided = self.settings.policy.decide(signal, at, mark, &mut streak);
        let is_counted =
            reason == Reason::SoftBounces && self.streaks.set(partition, streak_key, streak);
        let Some(mark) = decided else {
            return Ok(if is_counted { Outcome::Counted } else { Outcome::Dropped });
        };
        self.received.push(event.received_at.micros());
        let mut evidence = evidence(event, signal);
        let mut is_provisional = false;
        if signal == Signal::HardBounce
            && let Some(doubt) = self.doubt(partition, &key, event, at, before)
        {
            evidence.incident = Some(doubt.incident.to_string());
            is_provisional = doubt.waits;
        }
        self.publish(partition, key, mark, evidence, is_provisional, out)?;
        Ok(Outcome::Passed)
    }

    /// Returns the scope of the entry that the event is about. `None` if the event must not change any.
    fn scope(&mut self, event: &Event<'_>, signal: Signal, list: &str) -> Option<String> {
        if signal.reason() != Reason::Unsubscribe {
            return Some(String::new());
        }
        let scope = self.settings.purposes.scope_of(event);
        if self.scopes.admit(&self.store.table, list, &scope) {
            return Some(scope.into_owned());
        }
        // A subscription must not lift what other scopes share.
        (signal != Signal::Subscribe).then(String::new)
    }

    /// Returns the state of an entry, with what this batch has changed.
    fn state(&self, key: &EntryKey<'static>) -> Option<EntryState> {
        if let Some((_, written)) = self.pending.get(key) {
            return written.as_ref().map(|Written { facts, .. }| EntryState {
                mark: Mark {
                    at: facts.since.div_euclid(1_000_000),
                    is_lifted: facts.state == State::Lifted,
                },
                is_provisional: facts.provisional,
                incident: facts.incident,
            });
        }
        let found = self.store.table.get(key)?;
        Some(EntryState {
            mark: mark_of(&found),
            is_provisional: found.form.provisional,
            incident: found.form.incident,
        })
    }

    fn mark(&self, key: &EntryKey<'static>) -> Option<Mark> {
        self.state(key).map(|it| it.mark)
    }

    /// Writes the new state of an entry.
    fn publish(
        &mut self,
        partition: i32,
        key: EntryKey<'static>,
        mark: Mark,
        evidence: Evidence,
        is_provisional: bool,
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        let state = if mark.is_lifted { State::Lifted } else { State::Suppressed };
        let mut value = EntryValue::new(&key, state, mark.at.saturating_mul(1_000_000));
        let expires_at = self.settings.policy.expires_at(key.reason, mark);
        value.expires_at = expires_at.map(|at| at.saturating_mul(1_000_000));
        let is_shared = key.scope.is_empty() && self.scopes.is_full(&self.store.table, &key.list);
        if key.reason == Reason::Unsubscribe && !is_shared {
            value.purpose = Some(self.settings.purposes.of(&key.list, &key.scope));
        }
        value.provisional = is_provisional;
        value.evidence = evidence;
        if let Some(counter) = self.changes.get(&(key.reason, state)) {
            out.count(counter, 1);
        }
        if key.reason == Reason::SoftBounces {
            self.pending_soft.insert(key.recipient);
        }
        self.write(partition, key, &value, out)
    }

    /// Writes a record of an entry.
    fn write(
        &mut self,
        partition: i32,
        key: EntryKey<'static>,
        value: &EntryValue,
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        let json = serde_json::to_vec(value).map_err(kafka::Error::state)?;
        self.send(partition, &key, Some(&json), out)?;
        let written = Written::read(&json)
            .ok_or_else(|| kafka::Error::state("a record of an entry cannot be read back"))?;
        self.pending.insert(key, (partition, Some(written)));
        Ok(())
    }

    fn send(
        &self,
        partition: i32,
        key: &EntryKey<'_>,
        value: Option<&[u8]>,
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        let topic = &self.topics.suppressions;
        let key = key.to_string();
        let (partition, key) = (Some(partition), key.as_bytes());
        let headers = &[(names::CONTENT_TYPE, content_types::SUPPRESSION.as_bytes())];
        out.send(Outgoing { topic, partition, key, value, headers })
    }

    /// Returns whether a sign that the address works can change anything, without reading the event.
    fn may_end_soft_bounces(&self, record: &Record<'_>) -> bool {
        let Ok(address) = std::str::from_utf8(record.key()) else { return true };
        let recipient = self.settings.keys.of_event(address, self.erasure.eraser());
        self.streaks.has(record.partition(), recipient)
            || self.pending_soft.contains(&recipient)
            || self.store.table.of(recipient).iter().any(|found| {
                found.form.reason == Reason::SoftBounces && found.form.author == Author::Event
            })
    }
}

impl Stage for Suppress<'_> {
    const STAGE: record::Stage = record::Stage::Suppress;

    fn inputs(&self) -> Inputs {
        Inputs { topics: vec![self.topics.events.clone()], partitions: self.partitions }
    }

    fn restore(
        &mut self,
        partition: &TopicPartition,
        restore: &Restore<'_>,
    ) -> Result<(), kafka::Error> {
        let number = partition.partition;
        let from = Some(self.store.own(number)).filter(|&next| next > 0);
        let entries =
            restore.changelog(&self.topics.suppressions, number, from, |key, value| {
                (self.mark_alive)();
                match follower::read(key, value) {
                    Some((key, written)) => self.store.commit(number, &key, written),
                    None => tracing::warn!(
                        partition = number,
                        "a record of mail.suppressions cannot be read and is ignored"
                    ),
                }
                Ok(())
            })?;
        let (streaks, mark_alive) = (&mut self.streaks, self.mark_alive);
        streaks.begin(number);
        let changelog = &self.topics.suppress_changelog;
        let read = restore.changelog(changelog, number, None, |key, value| {
            mark_alive();
            streaks.restore(number, key, value);
            Ok(())
        })?;
        let (entries, streaks) = (entries.records, read.records);
        tracing::info!(partition = number, entries, streaks, "state restored from changelog");
        Ok(())
    }

    fn release(&mut self, partition: &TopicPartition) {
        self.store.release(partition.partition);
        self.streaks.release(partition.partition);
    }

    fn process(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        if record.is_redriven_for_another(Self::STAGE) {
            return Ok(Outcome::Dropped); // it was processed when it was first read
        }
        if let Some(time) = record.time_record() {
            self.pass(record.partition(), time.time, out)?;
            return Ok(Outcome::TimeRecord);
        }
        let headers = record.look_up();
        let kind = headers.get(names::KIND).and_then(|kind| std::str::from_utf8(kind).ok());
        let Some(kind) = kind.and_then(|kind| kind.parse::<Kind>().ok()) else {
            let detail = "header `kind` is missing or malformed";
            return self.erasure.dead_letter(record, DeadLetterReason::BadHeaders, detail, out);
        };
        let matters = headers.get(names::UNAUTHENTIC).is_none()
            && match kind {
                Kind::Bounced | Kind::Complained | Kind::Unsubscribed | Kind::Subscribed => true,
                Kind::Delivered | Kind::Opened => {
                    headers.get(names::MACHINE).is_none() && self.may_end_soft_bounces(record)
                }
                _ => false,
            };
        if matters { self.decide(record, out) } else { Ok(Outcome::Dropped) }
    }

    fn prepare(&mut self, _: &mut dyn Iterator<Item = Record<'_>>) {
        self.erasure.refresh();
        self.known = self.incidents.known();
    }

    fn kept<'r>(&self, record: &Record<'r>) -> Kept<'r> {
        self.erasure.kept(record)
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        self.settle(out)?;
        let topic = &self.topics.suppress_changelog;
        self.streaks.changelog(|partition, key, value| {
            let (partition, key) = (Some(partition), key.as_bytes());
            out.send(Outgoing { topic, partition, key, value, headers: &[] })
        })
    }

    fn committed(&mut self) -> Result<(), kafka::Error> {
        for (key, (partition, written)) in self.pending.drain() {
            self.store.commit(partition, &key, written);
        }
        self.pending_soft.clear();
        self.scopes.clear();
        for (partition, entries) in std::mem::take(&mut self.handled) {
            self.store.remove_due(partition, &entries);
        }
        self.streaks.committed();
        if !self.received.is_empty() {
            let (now, age) = (now(), histogram!("mailpulse_suppress_decision_age_seconds"));
            for received in self.received.drain(..) {
                age.record((now.as_microsecond() - received).max(0) as f64 / 1e6);
            }
        }
        Ok(())
    }

    fn rolled_back(&mut self) -> AfterRollback {
        self.pending.clear();
        self.pending_soft.clear();
        self.scopes.clear();
        self.handled.clear();
        self.received.clear();
        self.streaks.rolled_back();
        AfterRollback::Keep
    }
}

#[expect(clippy::disallowed_methods, reason = "measures how old an event is when it is decided")]
fn now() -> Timestamp {
    Timestamp::now()
}
