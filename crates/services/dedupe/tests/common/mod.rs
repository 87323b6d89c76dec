//! Topics of one test, traffic with duplicates, members as processes, and a check of their output.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::collections::{HashMap, HashSet};

use event::{CounterSet, DimensionDigests, EventId, Kind, OccurredAt, Provider};
use harness::{Launch, Outgoing, Record, Service, layout, records};
use record::{EnrichedHeaders, EventHeaders, ForDedupe, Tally, names};
use state::{Effect, MessageMemory, Observation};

pub const PARTITIONS: i32 = 3;

/// Topics under a prefix of their own.
pub struct Cluster(harness::Cluster);

/// An event on `mail.enriched`.
#[derive(Debug, Clone)]
pub struct Event {
    pub key: String,
    pub id: u64,
    pub kind: Kind,
    pub engagement: u64,
    pub occurred_at: i64,
}

impl std::ops::Deref for Cluster {
    type Target = harness::Cluster;

    fn deref(&self) -> &harness::Cluster {
        &self.0
    }
}

impl Cluster {
    pub fn new() -> Self {
        Self(harness::Cluster::new("dedupe", layout(PARTITIONS, 1)))
    }

    /// Returns the launch of a member that has this name. `settings` are lines of `[dedupe]`.
    pub fn member(&self, instance: &str, settings: &str) -> Launch {
        Launch::new("dedupe", env!("CARGO_BIN_EXE_dedupe"), self)
            .config(&format!("[dedupe]\ndirectory = \"state\"\n{settings}"))
            .instance(instance)
    }

    /// Produces events, in this order for each key, and returns when all are acknowledged.
    pub fn produce_events(&self, events: &[Event]) {
        let records: Vec<Outgoing> = events.iter().map(|event| self.outgoing(event)).collect();
        self.produce(&records);
    }

    /// Produces an event without a time of its provider: `occurred_at` is the time of receipt.
    pub fn produce_undated(&self, event: &Event) {
        let mut record = self.outgoing(event);
        record.headers.push((names::TIME_FAULT.to_owned(), b"missing".to_vec()));
        self.produce(&[record]);
    }

    fn outgoing(&self, event: &Event) -> Outgoing {
        let headers = records::Enriched {
            provider: Provider::SendGrid,
            id: id(event.id),
            kind: event.kind,
            occurred_at: event.occurred_at,
            engagement: Some(id(event.engagement)),
            link: None,
        };
        let value = format!("value of {}", event.id);
        let for_dedupe = ForDedupe {
            would_count: CounterSet::from_names(would_count(event.kind)),
            ..ForDedupe::default()
        };
        records::enriched(&self.topics, &event.key, value, &headers)
            .header(names::FOR_DEDUPE, for_dedupe.write(&mut [0; ForDedupe::MAX_BYTES]))
    }

    /// Waits until the group has committed the end of its input.
    pub fn await_all_processed(&self) {
        self.await_all_read(&self.topics.group("dedupe"), &self.topics.enriched);
    }

    /// Waits until the group has committed this many records since the beginning.
    pub fn await_processed(&self, records: i64) {
        self.await_committed(&self.topics.group("dedupe"), &self.topics.enriched, records);
    }

    /// Returns how many records the group has committed since the beginning.
    pub fn processed(&self) -> i64 {
        self.committed_sum(&self.topics.group("dedupe"), &self.topics.enriched)
    }

    /// Asserts that the output is the input without duplicates: each partition in its order, with
    /// the same bytes, and every event with what it counts for, given those before it. Returns the
    /// number of records.
    pub fn assert_output(&self) -> usize {
        let input = self.read(&self.topics.enriched);
        let output = self.read_settled(&self.topics.events);
        let mut seen = HashSet::new();
        let mut memories = HashMap::new();
        let mut output_left = output.iter();
        let mut passed = 0;
        for record in &input {
            let event = EnrichedHeaders::read(&|name| record.header(name)).unwrap();
            if !seen.insert(event.event_id) {
                continue;
            }
            let out = output_left.next().expect("an event was lost");
            assert_same(record, out);
            assert_effect(out, &expected_effect(&event, &mut memories));
            passed += 1;
        }
        assert_eq!(output_left.next(), None, "an event was passed twice");
        passed
    }
}

fn assert_same(input: &Record, output: &Record) {
    let origin = format!("input {}/{}", input.partition, input.offset);
    assert_eq!(output.partition, input.partition, "{origin}");
    assert_eq!(output.header(names::EVENT_ID), input.header(names::EVENT_ID), "{origin}");
    assert_eq!((&output.key, &output.value), (&input.key, &input.value), "{origin}");
    assert_eq!(output.headers[..input.headers.len()], input.headers, "{origin}");
}

/// Returns what an event of this kind counts for if it is the first.
pub const fn would_count(kind: Kind) -> &'static str {
    match kind {
        Kind::Accepted => "injected",
        Kind::Delivered => "delivered",
        Kind::Deferred => "deferred,deferrals",
        Kind::Bounced => "bounced_soft,unclassified",
        Kind::Dropped => "dropped",
        Kind::Opened => "opened,engaged",
        Kind::Clicked => "clicked,engaged",
        Kind::Complained => "complained",
        Kind::Unsubscribed => "unsubscribed",
        Kind::Subscribed | Kind::Verified | Kind::Other => "",
    }
}

/// Adds the event to the memory of its message.
fn expected_effect(
    event: &EnrichedHeaders,
    memories: &mut HashMap<EventId, MessageMemory>,
) -> Effect {
    let message = event.engagement_id.unwrap();
    let memory = memories.entry(message).or_insert(MessageMemory::UNKNOWN);
    memory.observe(&Observation {
        kind: event.kind,
        machine: false,
        counted_at: OccurredAt(event.occurred_at.micros()),
        sent_at: None,
        would_count: CounterSet::from_names(would_count(event.kind)).unwrap(),
        digests: DimensionDigests::default(),
        may_be_duplicate: false,
    })
}

fn assert_effect(out: &Record, expected: &Effect) {
    let origin = format!("output {}/{}", out.partition, out.offset);
    let headers = EventHeaders::read(&|name| out.header(name)).unwrap();
    let Tally { seen, counts, sent, corrections } = Tally::read(&|name| out.header(name)).unwrap();
    assert_eq!(headers.first, expected.first, "{origin}");
    assert_eq!(seen, Some(expected.seen), "{origin}");
    assert_eq!((counts, sent), (Some(expected.counts), expected.sent), "{origin}");
    assert_eq!(corrections, expected.corrections, "{origin}");
    assert_eq!(out.header(names::LATE).is_some(), expected.is_late, "{origin}");
}

/// Returns the value of a header.
pub fn text(record: &Record, name: &str) -> Option<String> {
    record.header(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Returns events of 300 recipients. A fifth of them are duplicates, some of the event just before
/// and some of much earlier ones; each has the time of its original.
pub fn traffic(count: usize, seed: u64) -> Vec<Event> {
    let mut state = seed;
    let mut random = move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut events: Vec<Event> = Vec::with_capacity(count);
    for number in 0..count {
        let repeated = match random(10) {
            0 => events.last().cloned(),
            1 if number > 0 => Some(events[random(number)].clone()),
            _ => None,
        };
        events.push(repeated.unwrap_or_else(|| {
            let recipient = random(300);
            Event {
                key: format!("r{recipient}@example.com"),
                id: seed << 32 | number as u64,
                kind: Kind::ALL[random(8)],
                // Two messages to each recipient.
                engagement: (1 << 60) + (recipient * 2 + random(2)) as u64,
                occurred_at: 1_780_000_000_000_000 + number as i64 * 1_000_000,
            }
        }));
    }
    events
}

/// Returns an id whose bits are as evenly distributed as those of a digest.
pub fn id(seed: u64) -> EventId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    id[8..].copy_from_slice(&seed.to_be_bytes());
    EventId(id)
}

/// Deletes the local copy of a member's state.
pub fn delete_state(member: &Service) {
    std::fs::remove_dir_all(member.home().join("state")).unwrap();
}
