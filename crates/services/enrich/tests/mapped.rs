//! A sender with a form of its own: enrich parses with the mapping of the source, on real Kafka.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::Stage;
use event::{Event, Kind, Provider};
use harness::records;
use record::names;

/// The secret cannot be resolved here: enrich must not need it.
const SOURCES: &str = r#"
[[source]]
provider = "generic"
name = "own"
secrets = ["file:/nonexistent/secret"]
events = "/events"
fields = { event = "/type", recipient = "/to" }
kinds = { "mail.open" = "opened", risky = "verified" }
"#;

const EVENT: &str =
    r#"{"type":"mail.open","to":"ada@example.com","id":"1","timestamp":1795255100}"#;

#[test]
fn a_record_is_parsed_with_the_mapping_of_its_source_or_becomes_a_dead_letter() {
    let stage = Stage::start(SOURCES);
    let topics = &stage.cluster.topics;
    let raw = |source| {
        records::raw(topics, Provider::Generic, source, Kind::Opened, "ada@example.com", EVENT)
    };
    let mapped = |source| raw(source).header(names::MAPPED, "");
    let checked = r#"{"type":"risky","to":"eve@example.com","id":"2","timestamp":1795255100}"#;
    let verified = Kind::Verified;
    let checked =
        records::raw(topics, Provider::Generic, "own", verified, "eve@example.com", checked);
    let checked = checked.header(names::MAPPED, "");
    stage.cluster.produce(&[mapped("own"), mapped("gone"), raw("plain"), checked]);

    let dead_letters = stage.dead_letters(1);
    assert_eq!(dead_letters[0].header(names::REASON), Some(&b"no_mapping"[..]));
    assert_eq!(dead_letters[0].header(names::SOURCE), Some(&b"gone"[..]));
    assert_eq!(dead_letters[0].value(), EVENT.as_bytes(), "unchanged, so that it can be redriven");

    let enriched = stage.enriched(3);
    let kind = |source: &str| {
        let event = |record: &harness::Record| {
            let event: Event<'_> = serde_json::from_slice(record.value()).unwrap();
            let is_it = event.source.as_str() == source && event.kind != verified;
            is_it.then_some(event.kind)
        };
        enriched.iter().find_map(event).unwrap()
    };
    assert_eq!(kind("own"), Kind::Opened);
    let words: Vec<_> =
        enriched.iter().map(|record| record.json()["provider_event"].clone()).collect();
    assert!(words.contains(&"risky".into()), "the result of the verification is kept: {words:?}");
    let is_verified = |record: &&harness::Record| record.json()["kind"] == "verified";
    assert_eq!(enriched.iter().filter(is_verified).count(), 1);
    assert_eq!(kind("plain"), Kind::Other, "our own form, in which `type` means nothing");
}
