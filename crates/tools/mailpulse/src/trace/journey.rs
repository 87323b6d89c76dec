//! What is known of one event, in the order in which it happened.

use alerting::page::{mask_address, mask_text_about};
use event::Kind;
use serde::Serialize;

use super::log::{Found, Log};
use super::rows::StoredEvent;
use super::{Journeys, MAX_EVENTS};

/// One step. The names are stable.
#[derive(Debug, Clone)]
pub(super) struct Step {
    /// UTC microseconds.
    pub(super) at: Option<i64>,
    pub(super) name: &'static str,
    pub(super) text: String,
}

/// A line of `--json`. The field names are stable.
#[derive(Debug, Serialize)]
pub(super) struct JsonStep {
    /// Absent if the request has not become an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<String>,
    step: &'static str,
    /// UTC microseconds; null if it is not known.
    at: Option<i64>,
    text: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Journey {
    pub(super) event_id: Option<String>,
    pub(super) row: Option<StoredEvent>,
    recipient: String,
    source: String,
    kind: Option<Kind>,
    message_id: String,
    /// The request whose event was passed on by dedupe.
    request_id: String,
    received_at: i64,
    occurred_at: i64,
    raw: Vec<Found>,
    enriched: Vec<Found>,
    passed: Vec<Found>,
    dead_letters: Vec<Found>,
    pub(super) effects: Vec<Step>,
}

/// Assigns rows and records to events.
pub(super) fn all(stored: Vec<StoredEvent>, log: Log) -> Journeys {
    let Log { mut raw, enriched, events, mut dead_letters } = log;
    let mut journeys = Journeys::new();
    for row in stored {
        journeys.insert(row.event_id.clone(), Journey::of_row(row));
    }
    for (records, is_passed) in [(events, true), (enriched, false)] {
        for record in records {
            if !journeys.contains_key(&record.event_id) && journeys.len() >= MAX_EVENTS {
                continue;
            }
            let journey = journeys
                .entry(record.event_id.clone())
                .or_insert_with(|| Journey::of_record(&record));
            let list = if is_passed { &mut journey.passed } else { &mut journey.enriched };
            list.push(record);
        }
    }
    for journey in journeys.values_mut() {
        let requests: Vec<String> = journey
            .enriched
            .iter()
            .map(|it| it.request_id.clone())
            .chain([journey.request_id.clone()])
            .collect();
        // A request can have several events of a recipient, so its raw records may belong to several events here.
        let is_own = |it: &Found| {
            requests.contains(&it.request_id)
                && it.kind == journey.kind
                && (it.key == journey.recipient || journey.recipient.is_empty())
        };
        journey.raw = raw.iter().filter(|it| is_own(it)).cloned().collect();
        let places: Vec<String> = journey
            .raw
            .iter()
            .chain(&journey.enriched)
            .chain(&journey.passed)
            .map(|it| format!("{}/{}/{}", it.topic, it.partition, it.offset))
            .collect();
        let of_event = |it: &Found| places.contains(&it.origin);
        journey.dead_letters = dead_letters.iter().filter(|it| of_event(it)).cloned().collect();
    }
    // What no event was made of: records that enrich has not read or gave up on, and bodies that could not be split.
    let is_known = |it: &Found, list: fn(&Journey) -> &Vec<Found>| {
        let mut known = journeys.values().flat_map(list);
        known.any(|known| {
            (&known.topic, known.partition, known.offset) == (&it.topic, it.partition, it.offset)
        })
    };
    raw.retain(|it| !is_known(it, |journey| &journey.raw));
    dead_letters.retain(|it| !is_known(it, |journey| &journey.dead_letters));
    for record in raw.into_iter().take(MAX_EVENTS) {
        let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        let mut journey = Journey::of_record(&record);
        journey.event_id = None;
        let (own, others) = dead_letters.into_iter().partition(|it| it.origin == place);
        (journey.dead_letters, dead_letters) = (own, others);
        journey.raw.push(record);
        journeys.insert(place, journey);
    }
    for record in dead_letters {
        let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        let mut journey = Journey::of_record(&record);
        journey.event_id = None;
        journey.dead_letters.push(record);
        journeys.insert(place, journey);
    }
    journeys
}

impl Journey {
    fn of_row(row: StoredEvent) -> Self {
        Self {
            event_id: Some(row.event_id.clone()),
            recipient: row.recipient.clone(),
            source: format!("{}/{}", row.provider, row.source),
            kind: row.kind.parse().ok(),
            message_id: row.message_id.clone(),
            request_id: row.request_id.clone(),
            received_at: row.received_at,
            occurred_at: row.occurred_at,
            row: Some(row),
            ..Self::default()
        }
    }

    /// Takes over a row that was stored before the time that was searched: the records here are later ones of the
    /// event.
    pub(super) fn adopt(&mut self, row: StoredEvent) {
        let of_row = Self::of_row(row);
        *self = Self {
            raw: std::mem::take(&mut self.raw),
            enriched: std::mem::take(&mut self.enriched),
            passed: std::mem::take(&mut self.passed),
            dead_letters: std::mem::take(&mut self.dead_letters),
            effects: std::mem::take(&mut self.effects),
            ..of_row
        };
    }

    fn of_record(record: &Found) -> Self {
        Self {
            event_id: Some(record.event_id.clone()),
            recipient: record.key.clone(),
            source: record.source.clone(),
            kind: record.kind,
            message_id: record.message_id.clone(),
            request_id: record.request_id.clone(),
            received_at: record.received_at,
            occurred_at: record.occurred_at,
            ..Self::default()
        }
    }

    /// Returns whether the event is a row.
    pub(super) const fn is_complete(&self) -> bool {
        self.row.is_some()
    }

    /// When the ingress received it: UTC microseconds.
    pub(super) fn received_at(&self) -> Option<i64> {
        (self.received_at > 0).then_some(self.received_at)
    }

    pub(super) fn title(&self) -> String {
        let or = |text: &str, none: &str| {
            if text.is_empty() { none.to_owned() } else { text.to_owned() }
        };
        let kind = self.kind.map_or("unknown kind", Kind::as_str);
        let what = self
            .event_id
            .as_ref()
            .map_or_else(|| "no event".to_owned(), |event_id| format!("event {event_id}"));
        let message = if self.message_id.is_empty() {
            String::new()
        } else {
            format!(", message {}", self.message_id)
        };
        format!("{what}: {kind}, {}, {}{message}", self.source, or(&self.recipient, "no recipient"))
    }

    /// Returns the same with masked addresses.
    pub(super) fn masked(&self) -> Self {
        let mask = |text: &str| mask_text_about(text, &self.recipient);
        let mut masked = self.clone();
        masked.message_id = mask(&self.message_id);
        if !self.recipient.is_empty() {
            masked.recipient = mask_address(&self.recipient);
        }
        for record in &mut masked.dead_letters {
            record.failure = mask(&record.failure);
        }
        masked
    }

    /// Returns the steps in the order in which they happen; duplicates and effects come last.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut add = |at: Option<i64>, name, text: String| steps.push(Step { at, name, text });
        if self.occurred_at > 0 {
            add(Some(self.occurred_at), "occurred", "by the clock of the provider".to_owned());
        }
        add(self.received_at(), "received", format!("request {}", self.request_id));
        let is_own = |it: &&Found| it.request_id == self.request_id;
        for record in self.raw.iter().filter(is_own) {
            add(record.written_at, "raw", record.place());
        }
        for record in self.enriched.iter().filter(is_own).take(1) {
            add(record.written_at, "enriched", record.place());
        }
        for record in self.passed.iter().take(1) {
            add(
                record.written_at,
                "passed",
                format!("{}: dedupe had not seen it before", record.place()),
            );
        }
        if let Some(row) = self.row.as_ref().filter(|_| self.passed.is_empty()) {
            let place =
                format!("mail.events/{} at offset {}", row.kafka_partition, row.kafka_offset);
            add(None, "passed", format!("{place}, which is not there any more or was not read"));
        }
        match &self.row {
            Some(row) => add(Some(row.archived_at), "row", "table events".to_owned()),
            None => add(None, "missing", self.missing().to_owned()),
        }
        let raw = self.raw.iter().filter(|it| !is_own(it));
        for record in raw {
            let text = format!("{}, request {}: received again", record.place(), record.request_id);
            add(record.written_at, "raw", text);
        }
        let repeated = self.enriched.iter().filter(is_own).skip(1);
        for record in repeated.chain(self.enriched.iter().filter(|it| !is_own(it))) {
            let text = format!(
                "{}, request {}: dedupe drops it, because it is the event of request {}",
                record.place(),
                record.request_id,
                self.request_id
            );
            add(record.written_at, "duplicate", text);
        }
        for record in &self.dead_letters {
            let text = format!(
                "{}; see `mailpulse dead-letters show {}/{}`",
                record.failure, record.partition, record.offset
            );
            add(record.written_at, "dead_letter", text);
        }
        steps.extend(self.effects.iter().cloned());
        steps
    }

    /// Returns why there may be no row.
    fn missing(&self) -> &'static str {
        if !self.dead_letters.is_empty() {
            "no row: the event became a dead letter"
        } else if !self.passed.is_empty() {
            "no row yet: see that archive runs and has no lag"
        } else if !self.enriched.is_empty() {
            "not in mail.events: dedupe has not read it, or knows it from before the time that was searched (--since)"
        } else {
            "not in mail.enriched: see that enrich runs and has no lag"
        }
    }

    pub(super) fn json_steps(&self) -> Vec<JsonStep> {
        let step = |Step { at, name, text }| {
            let event_id = self.event_id.clone();
            JsonStep { event_id, step: name, at, text }
        };
        self.steps().into_iter().map(step).collect()
    }
}

impl Found {
    fn place(&self) -> String {
        format!("{}/{} at offset {}", self.topic, self.partition, self.offset)
    }
}
