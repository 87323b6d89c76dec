//! A sender with a form of its own: the ingress splits with the mapping of the source and marks the
//! records, directly and through the spool, over HTTP with a real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Ingress, now_unix};
use devstack::{Dirs, Kafka};
use event::Provider;
use harness::Record;
use record::names;
use testkit::{Credentials, SignedRequest, sign};

const MAPPING: &str = r#"
events = "/events"
fields = { event = "/type", recipient = "/to" }
kinds = { "mail.open" = "opened" }
"#;

fn settings() -> String {
    format!(
        "{}{MAPPING}",
        Credentials::new("http://127.0.0.1").source_toml(Provider::Generic, "own")
    )
}

/// A signed request with one event for each address.
fn request(ingress: &Ingress, addresses: &[&str]) -> SignedRequest {
    let event = |to: &&str| format!(r#"{{"type":"mail.open","to":"{to}","timestamp":1}}"#);
    let events: Vec<String> = addresses.iter().map(event).collect();
    let body = format!(r#"{{"batch":1,"events":[{}]}}"#, events.join(","));
    sign::generic_body(&ingress.credentials, "own", body.into(), now_unix())
}

fn assert_mapped(records: &[Record], addresses: &[&str]) {
    let keys: Vec<&[u8]> = records.iter().map(|record| record.key.as_slice()).collect();
    for address in addresses {
        assert!(keys.contains(&address.as_bytes()), "{address}");
    }
    for record in records {
        assert_eq!(record.header(names::MAPPED), Some(&b""[..]), "enrich needs the mapping too");
        assert!(record.value().starts_with(br#"{"type":"mail.open""#));
    }
}

#[test]
fn events_are_found_where_the_mapping_says_also_after_the_spool() {
    let dirs = Dirs::new().unwrap();
    let mut kafka = Kafka::start_own(&dirs).unwrap();
    let ingress = Ingress::start_on(kafka.bootstrap(), &settings());
    let direct = ["ada@example.com", "grace@example.org"];
    let response = ingress.post(&request(&ingress, &direct));
    assert_eq!((response.status, response.json()["accepted"].as_u64()), (200, Some(2)));
    kafka.kill().unwrap();
    assert_eq!(ingress.post(&request(&ingress, &["alan@example.net"])).status, 200, "spooled");
    kafka.restart().unwrap();
    let opened = ingress.cluster.topics.raw(event::Kind::Opened).to_owned();
    let records = ingress.records(&[&opened], 3);
    assert_eq!(records.len(), 3);
    assert_mapped(&records, &[direct[0], direct[1], "alan@example.net"]);
}
