//! The real binary on a real Kafka: automated engagement that only its timing reveals.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cluster, delete_state};
use event::{Automation, AutomationReason, Event, EventId, IdBuilder, Kind, Provider};
use harness::{Record, records};
use record::EventHeaders;

const SMALL: &str = "batch_records = 3\nbatch_wait = \"5ms\"";
const SECOND: i64 = 1_000_000;
const START: i64 = 1_780_000_000 * SECOND;

/// Produces events of one message as enrich does.
struct Message<'a> {
    cluster: &'a Cluster,
    events: u8,
}

impl<'a> Message<'a> {
    const fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, events: 0 }
    }

    /// Produces an event that occurred this many seconds after the delivery.
    fn event(&mut self, kind: Kind, second: i64, link: Option<u32>) {
        self.events += 1;
        let headers = records::Enriched {
            provider: Provider::Ses,
            id: EventId([self.events; 16]),
            kind,
            occurred_at: START + second * SECOND,
            engagement: Some(IdBuilder::new("engagement").part(b"m1").finish()),
            link,
        };
        let (id, occurred_at) = (headers.id, headers.occurred_at);
        let value = format!(
            r#"{{"event_id":"{id}","kind":"{kind}","provider":"ses","source":"acme","occurred_at":{occurred_at},"received_at":{occurred_at},"provider_event":"x","request_id":"r","raw":{{"n":{}}}}}"#,
            self.events
        );
        let topics = &self.cluster.topics;
        let record = records::enriched(topics, "ada@example.com", value, &headers);
        self.cluster.produce(&[record]);
    }
}

/// Returns the reason, and whether the event is the first of its kind and the first engagement.
fn verdict(record: &Record) -> (Option<AutomationReason>, bool, bool) {
    let event: Event<'_> = serde_json::from_slice(record.value()).unwrap();
    let headers = EventHeaders::read(&|name| record.header(name)).unwrap();
    assert_eq!(headers.enriched.machine, event.automation.is_some(), "header and value agree");
    assert_eq!(headers.enriched.event_id, event.event_id);
    let reason = event.automation.map(|Automation { reason, .. }| reason);
    (reason, headers.first.of_kind, headers.first.of_engagement)
}

#[test]
fn automated_engagement_is_marked_and_passed() {
    let cluster = Cluster::new();
    let member = cluster.member("", SMALL).spawn();
    let mut message = Message::new(&cluster);
    message.event(Kind::Delivered, 0, None);
    message.event(Kind::Opened, 1, None);
    message.event(Kind::Opened, 60, None);
    for (second, link) in [(100, 1), (101, 2), (102, 3), (103, 4), (200, 5)] {
        message.event(Kind::Clicked, second, Some(link));
    }
    cluster.await_all_processed();
    let input = cluster.read(&cluster.topics.enriched);
    let passed = cluster.read_settled(&cluster.topics.events);
    assert_eq!(passed.len(), 8, "all are passed");
    let verdicts: Vec<_> = passed.iter().map(verdict).collect();
    let burst = Some(AutomationReason::LinkBurst);
    assert_eq!(
        verdicts,
        [
            (None, false, false),
            (Some(AutomationReason::Immediate), true, true),
            (None, true, true), // a person, after the machine
            (None, true, false),
            (None, false, false),
            (burst, true, false), // the first click by a machine
            (burst, false, false),
            (None, false, false),
        ]
    );
    for (before, after) in input.iter().zip(&passed) {
        let is_marked = verdict(after).0.is_some();
        assert_eq!(before.value == after.value, !is_marked, "only marked events are changed");
    }
    let counter = "mailpulse_dedupe_automated_engagements_total";
    member.await_metric(counter, &[], |counted| counted == 3.0);
}

#[test]
fn a_member_with_an_empty_disk_restores_what_was_known_of_a_message() {
    let cluster = Cluster::new();
    let mut member = cluster.member("one", SMALL).spawn();
    let mut message = Message::new(&cluster);
    message.event(Kind::Delivered, 0, None);
    message.event(Kind::Clicked, 50, Some(1));
    message.event(Kind::Clicked, 51, Some(2));
    cluster.await_all_processed();
    member.kill();
    delete_state(&member);
    member.respawn();
    message.event(Kind::Opened, 1, None);
    message.event(Kind::Clicked, 52, Some(3));
    cluster.await_all_processed();
    let passed = cluster.read_settled(&cluster.topics.events);
    let reasons: Vec<_> = passed.iter().map(|record| verdict(record).0).collect();
    let immediate = Some(AutomationReason::Immediate);
    assert_eq!(reasons, [None, None, None, immediate, Some(AutomationReason::LinkBurst)]);
}

#[test]
fn detection_can_be_turned_off() {
    let cluster = Cluster::new();
    let off = format!("{SMALL}\nimmediate_within = \"0s\"\nlink_burst_within = \"0s\"");
    let _member = cluster.member("", &off).spawn();
    let mut message = Message::new(&cluster);
    message.event(Kind::Delivered, 0, None);
    for link in 1..5 {
        message.event(Kind::Clicked, 1, Some(link));
    }
    cluster.await_all_processed();
    let passed = cluster.read_settled(&cluster.topics.events);
    assert!(passed.iter().all(|record| verdict(record).0.is_none()));
    assert!(verdict(&passed[1]).1, "the first engagement is still marked");
}
