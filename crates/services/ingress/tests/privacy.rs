//! With a key for pseudonyms, no address leaves the ingress.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use common::{Ingress, now_unix};
use devstack::{Dirs, Kafka};
use event::Provider;
use harness::Record;
use privacy::Pseudonymizer;
use providers::Envelope;
use record::RawHeaders;
use testkit::{Plan, SignedRequest, Traffic, sign};

const KEY: &str = "the key of this test";

fn private() -> String {
    format!("[privacy]\npseudonym_key = {KEY:?}\n")
}

/// Returns the recipients in lower case.
fn recipients(traffic: &Traffic) -> BTreeSet<String> {
    traffic.events().map(|event| event.recipient.to_lowercase()).collect()
}

/// Returns the text without its escapes, in lower case.
fn unescaped(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).to_lowercase().replace('\\', "");
    text.replace("%2540", "@").replace("%40", "@").replace("u0040", "@").replace("%2b", "+")
}

fn assert_no_address(recipients: &BTreeSet<String>, bytes: &[u8]) {
    let text = unescaped(bytes);
    for recipient in recipients {
        assert!(!text.contains(recipient.as_str()), "{recipient} in {text}");
    }
}

/// Parses a raw record as enrich does.
fn canonical(record: &Record) -> (Provider, event::Kind, String) {
    let headers = RawHeaders::read(&|name| record.header(name)).unwrap();
    let envelope = Envelope {
        source: headers.source,
        recipient: std::str::from_utf8(&record.key).unwrap(),
        received_at: headers.received_at,
        request_id: headers.request_id,
    };
    let event = providers::parse(headers.provider, record.value(), &envelope);
    let event = event.unwrap();
    (event.provider, event.kind, event.recipient.unwrap().to_string())
}

#[test]
fn events_of_every_provider_carry_pseudonyms_and_are_otherwise_the_same() {
    let ingress = Ingress::start_with(&private());
    let sources = testkit::SOURCES.map(|(provider, name)| (provider, name.to_owned())).to_vec();
    let plan = Plan { sources, ..Plan::small(&ingress.credentials, now_unix()) };
    let traffic = Traffic::new(1, plan);
    let mut accepted = 0;
    for request in traffic.requests() {
        let response = ingress.post(&request);
        assert_eq!(response.status, 200, "{}", response.text);
        accepted += usize::try_from(response.json()["accepted"].as_u64().unwrap()).unwrap();
    }
    let records = ingress.records(&ingress.all_topics(), accepted);
    assert_eq!(records.len(), accepted);
    let recipients = recipients(&traffic);
    let pseudonyms = Pseudonymizer::new(KEY.as_bytes()).unwrap();
    let expected: BTreeSet<String> =
        recipients.iter().map(|recipient| pseudonyms.pseudonym(recipient).unwrap()).collect();
    let mut found = BTreeSet::new();
    for record in &records {
        let key = std::str::from_utf8(&record.key).unwrap();
        let (provider, kind, recipient) = canonical(record);
        assert_eq!(key, recipient);
        assert!(expected.contains(key), "{provider} {kind}: {key}");
        assert_no_address(&recipients, record.value());
        found.insert(recipient);
    }
    assert_eq!(found, expected);
}

/// Returns authentic requests whose bodies cannot be split, each with an address in it.
fn unsplittable(ingress: &Ingress) -> Vec<SignedRequest> {
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
fn neither_dead_letters_nor_the_spool_contain_an_address() {
    let dirs = Dirs::new().unwrap();
    let mut kafka = Kafka::start_own(&dirs).unwrap();
    let ingress = Ingress::start_on(kafka.bootstrap(), &private());
    let unsplittable = unsplittable(&ingress);
    for request in &unsplittable {
        let response = ingress.post(request);
        assert_eq!(response.json()["dead_lettered"], 1, "{}", response.text);
    }
    kafka.kill().unwrap();
    let traffic = common::traffic(&ingress);
    let mut recipients = recipients(&traffic);
    recipients.insert("ada@example.com".into());
    let mut spooled = 0;
    for request in unsplittable.into_iter().chain(traffic.requests().take(20)) {
        let response = ingress.post(&request);
        assert_eq!(response.status, 200, "{}", response.text);
        spooled += response.json()["accepted"].as_u64().unwrap();
        spooled += response.json()["dead_lettered"].as_u64().unwrap();
    }
    let spool = ingress.spooled();
    assert!(unescaped(&spool).contains("@example.com"), "the requests are in the spool");
    assert_no_address(&recipients, &spool);
    kafka.restart().unwrap();
    let count = 3 + usize::try_from(spooled).unwrap();
    for record in ingress.records(&ingress.all_topics(), count) {
        assert_no_address(&recipients, &record.key);
        assert_no_address(&recipients, record.value());
    }
}
