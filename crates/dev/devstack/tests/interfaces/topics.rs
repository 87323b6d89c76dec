//! The public topics: which they are, their settings, and the headers of their records.

use std::collections::{BTreeMap, BTreeSet};

use event::{EventId, Kind, Provider, ReceivedAt};
use record::{
    DEAD_LETTER_REASONS, DeadLetter, EventHeaders, Layout, Offset, Origin, RawHeaders, Stage,
    Tally, TimeRecord, TopicSpec, Topics, names,
};
use serde_json::{Value, json};

use crate::document::{assert_valid, file, keys, literals, texts, validator};
use crate::support::{read, root};

/// Topics whose records only Mailpulse reads.
const PRIVATE: [&str; 11] = [
    "mail.panes",
    "mail.changelog.dedupe",
    "mail.changelog.monitor",
    "mail.changelog.incidents",
    "mail.positions",
    "mail.erased",
    "mail.changelog.suppress",
    "mail.intents",
    "mail.changelog.automate",
    "mail.changelog.automate-limits",
    "mail.campaigns",
];

fn document() -> Value {
    file("asyncapi.yaml")
}

fn specs() -> Vec<TopicSpec> {
    let layout = Layout {
        recipient_partitions: 6,
        scope_partitions: 6,
        replication: 3,
        dedupe_horizon_hours: 72,
        max_message_bytes: 20 << 20,
    };
    Topics::new("").specs(layout)
}

/// Returns the channel of every described topic.
fn channels(document: &Value) -> BTreeMap<String, &Value> {
    let mut channels = BTreeMap::new();
    for channel in document["channels"].as_object().unwrap().values() {
        let address = channel["address"].as_str().unwrap();
        if address.contains("{kind}") {
            let kinds = texts(&channel["parameters"]["kind"]["enum"]);
            channels.extend(kinds.iter().map(|kind| (address.replace("{kind}", kind), channel)));
        } else {
            channels.insert(address.to_owned(), channel);
        }
    }
    channels
}

fn messages(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    document["components"]["messages"].as_object().unwrap().iter()
}

#[test]
fn every_topic_is_described_or_private() {
    let document = document();
    let described: BTreeSet<String> = channels(&document).into_keys().collect();
    let private = PRIVATE.map(str::to_owned);
    assert!(private.iter().all(|topic| !described.contains(topic)), "{described:?}");
    let all: BTreeSet<String> = specs().into_iter().map(|spec| spec.name).collect();
    assert_eq!(described.into_iter().chain(private).collect::<BTreeSet<_>>(), all);
    let sent: BTreeSet<&str> = document["operations"]
        .as_object()
        .unwrap()
        .values()
        .map(|operation| operation["channel"]["$ref"].as_str().unwrap())
        .collect();
    let names = keys(&document["channels"]);
    let channels: Vec<String> = names.iter().map(|name| format!("#/channels/{name}")).collect();
    assert_eq!(sent, channels.iter().map(String::as_str).collect());
}

#[test]
fn the_settings_of_topics_are_those_with_which_they_are_created() {
    let document = document();
    let channels = channels(&document);
    for spec in specs() {
        let Some(channel) = channels.get(&spec.name) else { continue };
        let described = &channel["bindings"]["kafka"]["topicConfiguration"];
        let setting = |name: &str| {
            spec.settings.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
        };
        let policy: Vec<&str> = setting("cleanup.policy").unwrap().split(',').collect();
        assert_eq!(described["cleanup.policy"], json!(policy), "{}", spec.name);
        let retention = setting("retention.ms").map(|value| value.parse::<u64>().unwrap());
        assert_eq!(described["retention.ms"], json!(retention), "{}", spec.name);
    }
}

/// Returns the values of the constants in a module of `headers.rs`.
fn constants(module: &str) -> BTreeSet<String> {
    let source = read("crates/libraries/record/src/headers.rs");
    let body = source.split(&format!("pub mod {module} {{\n")).nth(1).unwrap();
    let body = body.split("\n}\n").next().unwrap();
    let values = body.lines().filter(|line| line.trim_start().starts_with("pub const "));
    values.map(|line| line.split('"').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn every_header_is_described_and_exists() {
    let document = document();
    let mut described = BTreeSet::new();
    for (_, message) in messages(&document) {
        let properties = keys(&message["headers"]["properties"]);
        let required = texts(&message["headers"]["required"]);
        assert!(required.is_subset(&properties), "{required:?} {properties:?}");
        for (name, schema) in message["headers"]["properties"].as_object().into_iter().flatten() {
            if let Some(reference) = schema["$ref"].as_str() {
                assert_eq!(reference, format!("#/components/schemas/{name}"));
            }
        }
        described.extend(properties);
    }
    assert_eq!(described, constants("names"));
    // What is under components is used.
    let schemas = keys(&document["components"]["schemas"]);
    let unused: Vec<_> =
        schemas.iter().filter(|name| *name != "empty" && !described.contains(*name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn every_content_type_belongs_to_a_message_with_the_schema_of_its_name() {
    let document = document();
    let mut described = BTreeSet::new();
    for (name, message) in messages(&document) {
        let content_type = message["contentType"].as_str().unwrap();
        let header = &message["headers"]["properties"]["content-type"];
        let Some(rest) = content_type.strip_prefix("application/vnd.mailpulse.") else {
            assert!(header.is_null(), "{name}");
            continue;
        };
        assert_eq!(header["const"], content_type, "{name}");
        assert!(
            !texts(&message["headers"]["required"]).contains("content-type"),
            "{name}: old records have none"
        );
        let schema = format!("{}.schema.json", rest.strip_suffix(".v1+json").unwrap());
        assert_eq!(message["payload"]["schema"]["$ref"], schema, "{name}");
        described.insert(content_type.to_owned());
    }
    assert_eq!(described, constants("content_types"));
}

#[test]
fn every_schema_is_valid_and_belongs_to_a_message() {
    let document = document();
    let used: BTreeSet<&str> = messages(&document)
        .filter_map(|(_, message)| message["payload"]["schema"]["$ref"].as_str())
        .collect();
    let files = std::fs::read_dir(root().join("schemas")).unwrap().flatten();
    let files = files.map(|entry| entry.file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter(|name| name.ends_with(".schema.json")).collect();
    assert_eq!(used, files.iter().map(String::as_str).collect());
    for name in &files {
        assert!(jsonschema::meta::is_valid(&file(name)), "{name}");
        validator(name);
    }
}

type Headers<'h> = Vec<(&'static str, Vec<u8>)>;

/// Asserts that a message describes exactly these headers, except for `others`, and that their values match.
fn assert_headers(message: &str, headers: &Headers<'_>, others: &[&str]) {
    let document = document();
    let described = &document["components"]["messages"][message]["headers"];
    let written: BTreeSet<String> = headers.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut expected = keys(&described["properties"]);
    expected.retain(|name| !others.contains(&name.as_str()));
    assert_eq!(written, expected, "{message}");
    let value: BTreeMap<_, _> = headers
        .iter()
        .map(|(name, value)| (*name, String::from_utf8_lossy(value).into_owned()))
        .collect();
    let validator = validator(&format!("asyncapi.yaml#/components/messages/{message}/headers"));
    assert_valid(&validator, &json!(value), message);
    for name in texts(&described["required"]) {
        let mut lacking = json!(value);
        lacking.as_object_mut().unwrap().remove(&name);
        assert!(!validator.is_valid(&lacking), "{message} without {name}");
    }
}

fn owned<'h>(
    headers: impl IntoIterator<Item = (&'static str, std::borrow::Cow<'h, [u8]>)>,
) -> Headers<'h> {
    headers.into_iter().map(|(name, value)| (name, value.into_owned())).collect()
}

#[test]
fn raw_records_time_records_and_dead_letters_have_the_described_headers() {
    let raw = RawHeaders {
        provider: Provider::Ses,
        source: "news",
        received_at: ReceivedAt(1_795_255_200_000_000),
        request_id: "019ad9a1c6d07b3f9d1e0a4f6f000001",
        authentic: false,
    };
    assert_headers("rawEvent", &owned(raw.headers()), &[names::MAPPED, names::REDRIVEN]);
    let time = TimeRecord { time: 1_795_255_200_000_000, id: Some("host-1_0a1b"), is_last: true };
    assert_headers("rawTime", &owned(time.headers()), &[]);
    let time = TimeRecord { id: None, is_last: false, ..time };
    assert_headers("time", &owned(time.headers()), &[]);
    let origin = Origin { topic: "mail.raw.bounced", partition: 3, offset: Offset(17) };
    for origin in [Some(origin), None] {
        let letter = DeadLetter {
            stage: Stage::Enrich,
            reason: DEAD_LETTER_REASONS[0],
            detail: "no",
            origin,
        };
        assert_headers(
            "deadLetter",
            &owned(letter.headers()),
            &[names::TRUNCATED, names::TRUNCATED_KEY],
        );
    }
}

/// The headers of an event that the readers of `mail.events` read.
fn headers_of_an_event() -> Headers<'static> {
    let mut for_dedupe = [0; record::ForDedupe::MAX_BYTES];
    let for_dedupe = record::ForDedupe::default().write(&mut for_dedupe).to_vec();
    let mut tally = Vec::new();
    Tally::write(Some(1), Some(event::OccurredAt(-5)), event::CounterSet::EMPTY, &mut tally);
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        (names::EVENT_ID, EventId([7; 16]).as_bytes().to_vec()),
        (names::KIND, text("clicked")),
        (names::OCCURRED_AT, text("1795255200000000")),
        (names::RECEIVED_AT, text("1795255200000001")),
        (names::PROVIDER, text("ses")),
        (names::SOURCE, text("news")),
        (names::TIME_FAULT, text("missing")),
        (names::ENGAGEMENT_ID, vec![7; 16]),
        (names::FOR_DEDUPE, for_dedupe),
        (names::UNAUTHENTIC, Vec::new()),
        (names::MACHINE, Vec::new()),
        (names::ERASED, vec![1; 8]),
        (names::LINK, vec![0, 0, 1, 2]),
        (names::CONTENT_TYPE, text(record::content_types::EVENT)),
        (names::TALLY, tally),
        (
            names::CORRECTIONS,
            text("mailbox_provider,campaign:-bounced_soft@1795255200000000,+deferred@-5"),
        ),
        (names::LATE, Vec::new()),
        (names::FIRST, text("kind,engagement")),
        (names::UNJUDGED, Vec::new()),
    ]
}

#[test]
fn readers_of_events_need_the_headers_that_are_required_and_read_the_others() {
    let earlier = [
        names::REDRIVEN,
        names::SENT_AT,
        names::WOULD_COUNT,
        names::DIMENSION_DIGESTS,
        names::SEEN,
        names::SENT,
        names::COUNTS,
    ];
    let headers = headers_of_an_event();
    assert_headers("event", &headers, &earlier);
    let read = |without: Option<&str>| {
        let of = |name: &str| {
            let is_meant = |(key, _): &&(&str, Vec<u8>)| *key == name && Some(name) != without;
            headers.iter().find(is_meant).map(|(_, value)| value.as_slice())
        };
        EventHeaders::read(&of).is_ok() && Tally::read(&of).is_ok()
    };
    assert!(read(None));
    let document = document();
    let needed: BTreeSet<String> = headers
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .filter(|name| !read(Some(name)))
        .collect();
    for message in ["event", "enrichedEvent"] {
        let described = &document["components"]["messages"][message]["headers"];
        assert_eq!(texts(&described["required"]), needed, "{message}");
    }
    // enrich writes no header that only dedupe adds.
    let of =
        |message: &str| keys(&document["components"]["messages"][message]["headers"]["properties"]);
    let added: BTreeSet<String> = of("event").difference(&of("enrichedEvent")).cloned().collect();
    let source = read_file_of("enrich");
    for name in added {
        let constant = name.replace('-', "_").to_uppercase();
        assert!(!source.contains(&format!("names::{constant},")), "enrich writes {name}");
    }
}

fn read_file_of(service: &str) -> String {
    read(&format!("crates/services/{service}/src/stage.rs"))
}

#[test]
fn every_kind_has_a_raw_topic_and_a_header() {
    let document = document();
    let kinds: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(texts(&document["channels"]["raw"]["parameters"]["kind"]["enum"]), kinds);
    assert_eq!(texts(&document["components"]["schemas"]["kind"]["enum"]), kinds);
}

#[test]
fn the_descriptions_have_the_version_of_the_release() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(document()["info"]["version"], version);
    assert_eq!(file("openapi/ingress.yaml")["info"]["version"], version);
}

#[test]
fn the_page_names_every_public_topic() {
    let page = read("docs/api.md");
    let document = document();
    let rows = literals(&page.replace('`', "\""), "mail.");
    for channel in document["channels"].as_object().unwrap().values() {
        let address = channel["address"].as_str().unwrap().replace("{kind}", "<kind>");
        assert!(rows.contains(&address), "docs/api.md does not name {address}");
    }
}
