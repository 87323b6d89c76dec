//! What enrich says about the sending of a message, and the headers by which dedupe counts, on real
//! Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::path::Path;
use std::process::Command;

use common::Stage;
use event::{DimensionDigests, Event, Kind, OccurredAt, Provider};
use harness::{Outgoing, Record, records};
use record::{EnrichedHeaders, names};
use serde_json::{Value, json};

const SOURCES: &str = r#"
[[source]]
provider = "generic"
name = "acme"
secrets = ["file:/nonexistent/secret"]
sender = "News <News@mail.acme.co.uk>"
feedback_loops = ["comcast"]
[[source]]
provider = "generic"
name = "globex"
sender_pointer = "/brand/from"
"#;

/// Returns a raw event in the generic form, as the ingress publishes it.
fn raw(stage: &Stage, source: &str, kind: Kind, recipient: &str, fields: Value) -> Outgoing {
    let mut raw = json!({
        "id": recipient, "event": kind.as_str(), "recipient": recipient,
        "timestamp": 1_799_999_990, "message_id": "m1",
    });
    raw.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let topics = &stage.cluster.topics;
    records::raw(topics, Provider::Generic, source, kind, recipient, raw.to_string())
}

fn event(record: &Record) -> Event<'_> {
    serde_json::from_slice(record.value()).unwrap()
}

fn headers(record: &Record) -> EnrichedHeaders {
    EnrichedHeaders::read(&|name| record.header(name)).unwrap()
}

/// The names of what the event would count for; `None` if it counts for nothing.
fn would_count(record: &Record) -> Option<String> {
    headers(record).would_count.map(|counters| counters.to_string())
}

#[test]
fn headers_have_everything_by_which_dedupe_counts() {
    let stage = Stage::start(SOURCES);
    let sent = json!({
        "sent_at": 1_799_999_980, "sending_ip": "198.51.100.7", "campaign": "spring",
        "delivery": {"server": "mx.example.com", "response": "250 OK", "tls": true, "millis": 10_000},
    });
    let refused = json!({
        "message_id": null, "bounce": {"diagnostic": "421 4.7.0 [TSS04] temporarily deferred"},
    });
    let opened = json!({"timestamp": 1_900_000_000, "sent_at": 1_500_000_000, "ip": "192.0.2.1"});
    let bounced = json!({
        "brand": {"from": "Globex <A@News.globex.example>"}, "sender": "b@initech.example",
        "bounce": {"permanence": "hard", "diagnostic": "550 5.7.1 blocked using zen.spamhaus.org"},
    });
    let unauthentic = raw(&stage, "acme", Kind::Delivered, "tom@gmail.com", json!({}));
    stage.cluster.produce(&[
        raw(&stage, "acme", Kind::Delivered, "ada@comcast.net", sent),
        raw(&stage, "acme", Kind::Deferred, "bob@yahoo.com", refused),
        raw(&stage, "globex", Kind::Opened, "eve@yahoo.com", opened),
        raw(&stage, "globex", Kind::Bounced, "joe@yahoo.com", bounced),
        unauthentic.header(names::UNAUTHENTIC, ""),
    ]);
    let records = stage.enriched(5);
    let of = |name: &[u8]| records.iter().find(|record| record.key.starts_with(name)).unwrap();
    for record in &records {
        let (event, headers) = (event(record), headers(record));
        assert_eq!(headers.received_at, event.received_at);
        assert_eq!(headers.engagement_id, event.engagement_id());
        assert_eq!(headers.sent_at, event.sent_at);
        assert_eq!(headers.authentic, event.authentic);
        assert_eq!(headers.digests, DimensionDigests::of(&event));
        assert!(record.header(names::FOR_DEDUPE).is_some());
        assert!(record.header(names::RECEIVED_AT).is_some());
    }

    let (ada, bob, eve, joe, tom) = (of(b"ada"), of(b"bob"), of(b"eve"), of(b"joe"), of(b"tom"));
    assert_eq!(would_count(ada).as_deref(), Some("delivered,delivered_fbl"));
    assert!(headers(ada).engagement_id.is_some());
    let delivered = event(ada);
    assert_eq!(delivered.sent_at, Some(OccurredAt(1_799_999_980_000_000)));
    assert_eq!(delivered.sender.as_deref(), Some("news@mail.acme.co.uk"));
    assert_eq!(delivered.sender_domain.as_deref(), Some("acme.co.uk"));
    assert_eq!(delivered.sending_ip.as_deref(), Some("198.51.100.7"));
    let delivery = delivered.delivery.unwrap();
    assert_eq!((delivery.tls, delivery.millis), (Some(true), Some(10_000)));

    assert_eq!(would_count(bob).as_deref(), Some("deferred,deferrals,throttled"));
    assert!(headers(bob).engagement_id.is_none(), "the event names no message");
    assert_eq!(event(bob).signals, ["yahoo_tss04".into()]);

    let opened = event(eve);
    assert_eq!(would_count(eve).as_deref(), Some("opened,engaged"));
    assert!(headers(eve).is_undated && headers(eve).engagement_id.is_some());
    assert_eq!(opened.claimed_at, Some(OccurredAt(1_900_000_000_000_000)));
    assert_eq!((opened.sent_at, opened.sender), (None, None));

    let counters = "bounced_block,late_bounces_fbl,listed";
    assert_eq!(would_count(joe).as_deref(), Some(counters));
    assert_eq!(event(joe).sender_domain.as_deref(), Some("globex.example"), "not the provider's");

    assert!(!headers(tom).authentic && !event(tom).authentic);
    assert_eq!(would_count(tom), None, "it counts for nothing");
}

#[test]
fn events_of_shadow_mode_count_if_the_operator_wants_it() {
    let stage = Stage::start("[enrich]\ncount_unauthentic = true\n");
    let record = raw(&stage, "acme", Kind::Delivered, "tom@gmail.com", json!({}));
    stage.cluster.produce(&[record.header(names::UNAUTHENTIC, "")]);
    let [record] = &stage.enriched(1)[..] else { panic!("one event") };
    assert!(!headers(record).authentic);
    assert_eq!(would_count(record).as_deref(), Some("delivered"));
}

#[test]
fn a_source_that_cannot_be_used_is_reported_before_the_service_starts() {
    let directory = tempfile::tempdir().unwrap();
    for (key, message) in [
        ("feedback_loops = [\"aol\"]", "`aol`"),
        ("sender = \"/from\"", "source[0].sender"),
        ("sender_pointer = \"from\"", "source[0].sender_pointer"),
    ] {
        let config = directory.path().join("mailpulse.toml");
        let source = format!("[[source]]\nprovider = \"resend\"\nname = \"acme\"\n{key}\n");
        std::fs::write(&config, source).unwrap();
        let output = Command::new(Path::new(env!("CARGO_BIN_EXE_enrich")))
            .args(["--check", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && error.contains(message), "{key}: {error}");
    }
}
