//! The real binary on a real Kafka: machines that only their timing gives away.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Cluster, Member, wipe};
use event::{Automation, AutomationReason, Event, EventId, IdBuilder, Kind};
use record::{EventHeaders, names};
use kafka::OwnedRecord;

const SMALL: &str = "batch_records = 3\nbatch_wait = \"5ms\"";
const SECOND: i64 = 1_000_000;
const START: i64 = 1_780_000_000 * SECOND;

/// An event of the one message, and its record as `enrich` writes it.
struct Mail<'a> {
    cluster: &'a Cluster,
    events: u8,
}

impl Mail<'_> {
    /// Something happens to the message, so many seconds after its delivery.
    fn event(&mut self, kind: Kind, second: i64, link: Option<u32>) {
        self.events += 1;
        let id = EventId([self.events; 16]);
        let message = IdBuilder::new("engagement").part(b"m1").finish();
        let occurred_at = (START + second * SECOND).to_string();
        let value = format!(
            r#"{{"event_id":"{id}","kind":"{kind}","provider":"ses","source":"acme","occurred_at":{occurred_at},"received_at":{occurred_at},"provider_event":"x","request_id":"r","raw":{{"n":{}}}}}"#,
            self.events
        );
        let link = link.map(u32::to_be_bytes);
        let mut headers: Vec<(&str, &[u8])> = vec![
            (names::PROVIDER, b"ses"),
            (names::EVENT_ID, id.as_bytes()),
            (names::KIND, kind.as_str().as_bytes()),
            (names::OCCURRED_AT, occurred_at.as_bytes()),
            (names::ENGAGEMENT_ID, message.as_bytes()),
        ];
        headers.extend(link.as_ref().map(|link| (names::LINK, link.as_slice())));
        self.cluster.produce_one("ada@example.com", value.as_bytes(), &headers);
    }
}

/// Reason, and whether it is the first of its kind and the first engagement.
fn verdict(record: &OwnedRecord) -> (Option<AutomationReason>, bool, bool) {
    let event: Event<'_> = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
    let headers = EventHeaders::read(&|name| record.header(name)).unwrap();
    assert_eq!(headers.enriched.machine, event.automation.is_some(), "header and value agree");
    assert_eq!(headers.enriched.event_id, event.event_id);
    let reason = event.automation.map(|Automation { reason, .. }| reason);
    (reason, headers.first.of_kind, headers.first.of_engagement)
}

#[test]
fn they_are_marked_and_counted_apart_and_pass() {
    let cluster = Cluster::new();
    let member = Member::start(&cluster, "", SMALL);
    let mut mail = Mail { cluster: &cluster, events: 0 };
    mail.event(Kind::Delivered, 0, None);
    mail.event(Kind::Opened, 1, None);
    mail.event(Kind::Opened, 60, None);
    for (second, link) in [(100, 1), (101, 2), (102, 3), (103, 4), (200, 5)] {
        mail.event(Kind::Clicked, second, Some(link));
    }
    cluster.await_all_read();
    let input = cluster.read(&cluster.topics.enriched);
    let passed = cluster.read(&cluster.topics.events);
    assert_eq!(passed.len(), 8, "never dropped");
    let verdicts: Vec<_> = passed.iter().map(verdict).collect();
    let burst = Some(AutomationReason::LinkBurst);
    assert_eq!(
        verdicts,
        [
            (None, false, false),
            (Some(AutomationReason::Immediate), true, true),
            (None, true, true), // the reader behind the machine
            (None, true, false),
            (None, false, false),
            (burst, true, false), // the first click of a machine
            (burst, false, false),
            (None, false, false),
        ]
    );
    for (before, after) in input.iter().zip(&passed) {
        let is_marked = verdict(after).0.is_some();
        assert_eq!(before.value == after.value, !is_marked, "the others are as they were");
    }
    assert_eq!(member.counter("mailpulse_machines_found_total"), 3.0);
}

#[test]
fn what_was_known_of_a_message_is_known_on_another_machine() {
    let cluster = Cluster::new();
    let member = Member::start(&cluster, "one", SMALL);
    let mut mail = Mail { cluster: &cluster, events: 0 };
    mail.event(Kind::Delivered, 0, None);
    mail.event(Kind::Clicked, 50, Some(1));
    mail.event(Kind::Clicked, 51, Some(2));
    cluster.await_all_read();
    let home = member.kill();
    wipe(home.path());
    let _member = Member::resume(home, &cluster, "one", SMALL);
    mail.event(Kind::Opened, 1, None);
    mail.event(Kind::Clicked, 52, Some(3));
    cluster.await_all_read();
    let passed = cluster.read(&cluster.topics.events);
    let reasons: Vec<_> = passed.iter().map(|record| verdict(record).0).collect();
    let immediate = Some(AutomationReason::Immediate);
    assert_eq!(reasons, [None, None, None, immediate, Some(AutomationReason::LinkBurst)]);
}

#[test]
fn they_can_be_turned_off() {
    let cluster = Cluster::new();
    let off = format!("{SMALL}\nimmediate = \"0s\"\nburst_within = \"0s\"");
    let _member = Member::start(&cluster, "", &off);
    let mut mail = Mail { cluster: &cluster, events: 0 };
    mail.event(Kind::Delivered, 0, None);
    for link in 1..5 {
        mail.event(Kind::Clicked, 1, Some(link));
    }
    cluster.await_all_read();
    let passed = cluster.read(&cluster.topics.events);
    assert!(passed.iter().all(|record| verdict(record).0.is_none()));
    assert!(verdict(&passed[1]).1, "and firsts are told all the same");
}
