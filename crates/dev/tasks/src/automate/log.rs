//! What is in the topics of a run. The structures are our own, so that the model shares no code with `automate`.

use std::collections::BTreeSet;

use anyhow::Context;
use kafka::OwnedRecord;
use record::time_record;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::installation::Installation;

/// A record of `mail.events`.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// The time of a time record: UTC microseconds.
    Time(i64),
    Event(Event),
}

/// The part of an event that the rules of the check are about.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Event {
    #[serde(rename = "event_id")]
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) recipient: String,
    pub(super) message_id: String,
    pub(super) campaign: String,
    #[serde(rename = "received_at")]
    pub(super) at: i64,
    pub(super) authentic: bool,
    /// Why a machine is taken to have caused it. `mail.events` alone has this field.
    automation: Option<Value>,
}

impl Event {
    pub(super) const fn is_machine(&self) -> bool {
        self.automation.is_some()
    }
}

/// A record of `mail.intents`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Intent {
    pub(super) intent_id: String,
    pub(super) rule: String,
    pub(super) at: i64,
    pub(super) follow_up: Option<u16>,
    pub(super) parent: Option<String>,
    pub(super) event: Event,
}

/// A record of `mail.actions`.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Action {
    #[serde(rename = "action_id")]
    pub(super) id: String,
    pub(super) rule: String,
    pub(super) index: String,
    pub(super) event: Event,
}

/// Everything that a run has written.
pub(super) struct Log {
    /// By partition.
    pub(super) events: Vec<Vec<Entry>>,
    /// The records of the events, by partition and offset.
    pub(super) event_records: Vec<OwnedRecord>,
    /// By partition and offset.
    pub(super) intents: Vec<Intent>,
    pub(super) intent_records: Vec<OwnedRecord>,
    /// By partition and offset.
    pub(super) actions: Vec<Action>,
    /// The keys of `mail.segments` whose latest record is a member.
    pub(super) members: BTreeSet<String>,
    pub(super) dead_letters: Vec<OwnedRecord>,
}

impl Log {
    /// Reads the topics, which must be at rest.
    pub(super) fn read(installation: &Installation) -> anyhow::Result<Self> {
        let topics = &installation.topics;
        let event_records = installation.read(&topics.events)?;
        let intent_records = installation.read(&topics.intents)?;
        let mut members = BTreeSet::new();
        for record in installation.read(&topics.segments)? {
            let key = String::from_utf8_lossy(&record.key).into_owned();
            match record.value {
                Some(_) => members.insert(key),
                None => members.remove(&key),
            };
        }
        Ok(Self {
            events: entries(&event_records)?,
            event_records,
            intents: values(&intent_records)?,
            intent_records,
            actions: values(&installation.read(&topics.actions)?)?,
            members,
            dead_letters: installation.read(&topics.dead_letters)?,
        })
    }

    /// Returns all events.
    pub(super) fn all_events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter().flatten().filter_map(|entry| match entry {
            Entry::Event(event) => Some(event),
            Entry::Time(_) => None,
        })
    }
}

fn entries(records: &[OwnedRecord]) -> anyhow::Result<Vec<Vec<Entry>>> {
    let mut partitions: Vec<Vec<Entry>> = Vec::new();
    for record in records {
        let entry = match time_record(&|name| record.header(name)) {
            Some(time) => Entry::Time(time),
            None => Entry::Event(value(record)?),
        };
        let partition = usize::try_from(record.partition)?;
        if partitions.len() <= partition {
            partitions.resize_with(partition + 1, Vec::new);
        }
        partitions[partition].push(entry);
    }
    Ok(partitions)
}

fn values<T: DeserializeOwned>(records: &[OwnedRecord]) -> anyhow::Result<Vec<T>> {
    records.iter().map(value).collect()
}

pub(super) fn value<T: DeserializeOwned>(record: &OwnedRecord) -> anyhow::Result<T> {
    let bytes = record.value.as_deref().unwrap_or_default();
    serde_json::from_slice(bytes).with_context(|| format!("{} cannot be read", record.origin()))
}
