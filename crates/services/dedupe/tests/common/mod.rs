//! Topics of one test, traffic with duplicates, members as processes, and a check of their output.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(dead_code, reason = "each test file is a crate of its own and uses a part")]

use std::collections::{HashMap, HashSet};

use event::{EventId, Kind, Provider};
use harness::{Launch, Outgoing, Record, Service, layout, records};
use record::{EnrichedHeaders, FirstSeen, names};

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
            engagement: event.kind.is_engagement().then(|| id(event.engagement)),
            link: None,
        };
        let value = format!("value of {}", event.id);
        records::enriched(&self.topics, &event.key, value, &headers)
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
    /// the same bytes, and every open and click with what it is the first of. Returns the number of
    /// records.
    pub fn assert_output(&self) -> usize {
        let input = self.read(&self.topics.enriched);
        let output = self.read_settled(&self.topics.events);
        let mut seen = HashSet::new();
        let mut engagements = HashMap::<EventId, u8>::new();
        let mut output_left = output.iter();
        let mut passed = 0;
        for record in &input {
            let event = EnrichedHeaders::read(&|name| record.header(name)).unwrap();
            if !seen.insert(event.event_id) {
                continue;
            }
            let out = output_left.next().expect("an event was lost");
            assert_same(record, out);
            let first = out.header(names::FIRST).map(|v| FirstSeen::from_header(v).unwrap());
            let expected = expected_first(&event, &mut engagements);
            assert_eq!(first, expected, "input {}/{}", record.partition, record.offset);
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

/// `engagements` has a bit for each kind of an engagement that was seen before.
fn expected_first(
    event: &EnrichedHeaders,
    engagements: &mut HashMap<EventId, u8>,
) -> Option<FirstSeen> {
    let bit = match event.kind {
        Kind::Opened => 1,
        Kind::Clicked => 2,
        _ => return None,
    };
    let bits = engagements.entry(event.engagement_id.unwrap()).or_default();
    let first = FirstSeen { of_kind: *bits & bit == 0, of_engagement: *bits == 0 };
    *bits |= bit;
    Some(first)
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
