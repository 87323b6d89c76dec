//! With a key for pseudonyms, nobody's address leaves the ingress.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::collections::BTreeSet;

use common::{Ingress, now_unix};
use devstack::{Dirs, Kafka};
use event::Provider;
use privacy::Pseudonyms;
use providers::Envelope;
use record::RawHeaders;
use kafka::feed::Item;
use testkit::{Plan, SignedRequest, Traffic, sign};

const KEY: &str = "the key of a test, and of nobody else";

fn private() -> String {
    format!("[privacy]\npseudonym_key = {KEY:?}\n")
}

/// Who is written to, in lower case.
fn recipients(traffic: &Traffic) -> BTreeSet<String> {
    traffic.facts().map(|fact| fact.recipient.to_lowercase()).collect()
}

/// Text with everything undone that a reader might undo, in lower case.
fn laid_bare(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).to_lowercase().replace('\\', "");
    text.replace("%2540", "@").replace("%40", "@").replace("u0040", "@").replace("%2b", "+")
}

fn assert_nobody(recipients: &BTreeSet<String>, bytes: &[u8]) {
    let bare = laid_bare(bytes);
    for recipient in recipients {
        assert!(!bare.contains(recipient.as_str()), "{recipient} in {bare}");
    }
}

/// The event of a raw record, as `enrich` reads it.
fn canonical(record: &Item) -> (Provider, event::Kind, String) {
    let headers = RawHeaders::read(&|name| record.header(name)).unwrap();
    let envelope = Envelope {
        source: headers.source,
        recipient: std::str::from_utf8(&record.key).unwrap(),
        received_at: headers.received_at,
        request_id: headers.request_id,
    };
    let event = providers::parse(headers.provider, record.value.as_deref().unwrap(), &envelope);
    let event = event.unwrap();
    (event.provider, event.kind, event.recipient.unwrap().to_string())
}

#[test]
fn events_of_every_provider_carry_pseudonyms_and_are_otherwise_the_same() {
    let ingress = Ingress::start_with(devstack::shared_kafka(), &private());
    let sources = testkit::SOURCES.map(|(provider, name)| (provider, name.to_owned())).to_vec();
    let plan = Plan { sources, ..Plan::small(&ingress.credentials, now_unix()) };
    let traffic = Traffic::new(1, plan);
    let mut accepted = 0;
    for request in traffic.requests() {
        let answer = ingress.post(&request);
        assert_eq!(answer.status, 200, "{}", answer.text);
        accepted += usize::try_from(answer.json()["accepted"].as_u64().unwrap()).unwrap();
    }
    let records = ingress.records(&ingress.all_topics(), accepted);
    assert_eq!(records.len(), accepted);
    let recipients = recipients(&traffic);
    let pseudonyms = Pseudonyms::new(KEY.as_bytes()).unwrap();
    let expected: BTreeSet<String> =
        recipients.iter().map(|recipient| pseudonyms.of(recipient).unwrap()).collect();
    let mut found = BTreeSet::new();
    for record in &records {
        let key = std::str::from_utf8(&record.key).unwrap();
        let (provider, kind, recipient) = canonical(record);
        assert_eq!(key, recipient);
        assert!(expected.contains(key), "{provider} {kind}: {key}");
        assert_nobody(&recipients, record.value.as_deref().unwrap());
        found.insert(recipient);
    }
    assert_eq!(found, expected);
}

/// Authentic bodies that cannot be split, each with an address in it.
fn letters(ingress: &Ingress) -> Vec<SignedRequest> {
    let bodies = [
        r#"[{"event":"delivered","email":"ada@example.com"#,
        r#"{"a":"\u0061da\u0040Example.com"},{"b":"ada%40example.com""#,
        "ada@example.com",
    ];
    let sign = |body: &str| {
        sign::generic_body(&ingress.credentials, "inhouse", body.to_owned().into(), now_unix())
    };
    bodies.into_iter().map(sign).collect()
}

#[test]
fn neither_dead_letters_nor_the_spool_have_an_address() {
    let dirs = Dirs::new().unwrap();
    let mut kafka = Kafka::start_own(&dirs).unwrap();
    let ingress = Ingress::start_with(kafka.bootstrap(), &private());
    let letters = letters(&ingress);
    for letter in &letters {
        let answer = ingress.post(letter);
        assert_eq!(answer.json()["dead_lettered"], 1, "{}", answer.text);
    }
    kafka.kill().unwrap();
    let traffic = common::traffic(&ingress);
    let mut recipients = recipients(&traffic);
    recipients.insert("ada@example.com".into());
    let mut kept = 0;
    for request in letters.into_iter().chain(traffic.requests().take(20)) {
        let answer = ingress.post(&request);
        assert_eq!(answer.status, 200, "{}", answer.text);
        kept += answer.json()["accepted"].as_u64().unwrap();
        kept += answer.json()["dead_lettered"].as_u64().unwrap();
    }
    let spooled = ingress.spooled();
    assert!(laid_bare(&spooled).contains("@example.com"), "the requests are there");
    assert_nobody(&recipients, &spooled);
    kafka.restart().unwrap();
    let count = 3 + usize::try_from(kept).unwrap();
    for record in ingress.records(&ingress.all_topics(), count) {
        assert_nobody(&recipients, &record.key);
        assert_nobody(&recipients, record.value.as_deref().unwrap());
    }
}
