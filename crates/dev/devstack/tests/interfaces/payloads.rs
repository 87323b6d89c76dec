//! Keys and values of records match what `schemas/asyncapi.yaml` says about them.

use std::collections::BTreeSet;

use alerting::{Action, Change, Judgement};
use automation::{ActionRecord, Facts, IncidentFacts, Subject};
use event::{Dimension, EventId, Provider, ReceivedAt};
use providers::Envelope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use suppression::{Author, EntryKey, EntryValue, Purpose, Reason, State};

use crate::document::{assert_valid, file, keys, texts, validator};
use crate::sample::incident;
use crate::support::root;

const ID: &str = "00112233445566778899aabbccddeeff";

/// Asserts that a record matches a message of the document.
fn assert_record(message: &str, key: &str, value: &Value) {
    let message_of = format!("asyncapi.yaml#/components/messages/{message}");
    assert_valid(&validator(&format!("{message_of}/bindings/kafka/key")), &json!(key), message);
    let payload = &file("asyncapi.yaml")["components"]["messages"][message]["payload"];
    let schema = if payload["schema"].is_null() { "payload" } else { "payload/schema" };
    assert_valid(&validator(&format!("{message_of}/{schema}")), value, message);
}

/// Reads a value as the code does, and returns it as the code writes it.
fn written<T: Serialize + DeserializeOwned>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(value.clone()).unwrap()).unwrap()
}

/// The events of all fixtures of all providers.
#[test]
fn the_events_of_every_fixture_match_their_schema() {
    let schema = validator("asyncapi.yaml#/components/messages/event/payload/schema");
    let mut kinds = BTreeSet::new();
    for provider in Provider::ALL {
        let folder = format!("crates/libraries/providers/src/{provider}/fixtures");
        let mut events = 0;
        for entry in std::fs::read_dir(root().join(&folder)).unwrap().flatten() {
            let body = std::fs::read(entry.path()).unwrap();
            let Ok(split) = providers::split(provider, &body) else { continue };
            for raw in split.events() {
                let envelope = Envelope {
                    source: "acme",
                    recipient: raw.recipient,
                    received_at: ReceivedAt(1_762_788_000_000_000),
                    request_id: "r-1",
                };
                let Ok(event) = providers::parse(provider, raw.raw, &envelope) else { continue };
                let text = serde_json::to_string(&event).unwrap();
                let value = serde_json::from_str(&text).unwrap();
                assert_valid(&schema, &value, &entry.path().display().to_string());
                kinds.insert(event.kind);
                events += 1;
            }
        }
        assert!(events > 0, "{folder} has no event");
    }
    assert!(kinds.len() > 10, "{kinds:?}");
}

#[test]
fn rates_match() {
    let counts =
        window::Counts::of([(event::Counter::Delivered, 9), (event::Counter::BouncedHard, 1)]);
    for kind in window::ScopeKind::ALL {
        let value = |dimension: Dimension| Some(dimension.as_str());
        let scope = window::Scope::new(kind, Provider::Ses, "50% off/é", value).unwrap();
        let key = scope.key();
        let window = window::WindowResult::new(window::Width::M5, 30_000_000, counts, 1);
        let rate = window::ScopeRate { scope, window };
        assert_record("rate", &key, &serde_json::to_value(rate).unwrap());
    }
}

#[test]
fn alerts_and_incidents_match() {
    for change in [Change::Opened, Change::Escalated, Change::Resolved] {
        let value = written::<alerting::Incident>(&incident(change, 2, "acme"));
        assert_record("incident", value["id"].as_str().unwrap(), &value);
        let alert = written::<alerting::Alert>(&value["lead"]);
        assert_record("alert", "source/sendgrid/acme", &alert);
        for required in ["severity", "at", "rule"] {
            let mut lacking = value.clone();
            lacking["lead"].as_object_mut().unwrap().remove(required);
            let schema = validator("incident.schema.json");
            assert!(!schema.is_valid(&lacking), "the alert of an incident without {required}");
        }
    }
}

#[test]
fn actions_of_people_match() {
    let incident: alerting::IncidentId = ID.to_owned().try_into().unwrap();
    let (by, until) = ("ada".to_owned(), 1_700_000_000_000_000);
    let source = "sendgrid/acme".to_owned();
    let actions = [
        Action::Acknowledge { incident, by: by.clone() },
        Action::Snooze { incident, by: by.clone(), until },
        Action::Assign { incident, by: by.clone(), to: "bob".to_owned() },
        Action::Judge { incident, by: by.clone(), judgement: Judgement::Duplicate },
        Action::Close { incident, by: by.clone() },
        Action::PlanSend {
            by,
            source,
            campaign: Some("spring".to_owned()),
            from: until - 1,
            until,
        },
    ];
    let schema = file("incident-action.schema.json");
    let mut names = BTreeSet::new();
    for action in actions {
        let value = serde_json::to_value(&action).unwrap();
        assert_record("incidentAction", std::str::from_utf8(Action::KEY).unwrap(), &value);
        names.insert(value["action"].as_str().unwrap().to_owned());
        // The code and the schema need the same fields, and allow no others.
        let validator = validator("incident-action.schema.json");
        for name in keys(&value) {
            let mut lacking = value.clone();
            lacking.as_object_mut().unwrap().remove(&name);
            let is_read = serde_json::from_value::<Action>(lacking.clone()).is_ok();
            assert_eq!(validator.is_valid(&lacking), is_read, "{value} without {name}");
        }
        let mut further = value.clone();
        further["other"] = 1.into();
        assert!(
            !validator.is_valid(&further) && serde_json::from_value::<Action>(further).is_err()
        );
    }
    assert_eq!(texts(&schema["properties"]["action"]["enum"]), names);
    assert_record("clock", "clock", &json!({ "shard": 2, "now": 7, "sources": { "ses": 3 } }));
}

#[test]
fn actions_of_rules_match() {
    let subjects = [Subject::Event(Facts::sample()), Subject::Incident(IncidentFacts::sample())];
    for subject in subjects {
        let key = subject.key();
        let record = ActionRecord {
            action_id: EventId([1; 16]),
            rule: "vip-clicked".to_owned(),
            index: "2.0".to_owned(),
            action: "email".to_owned(),
            name: Some("still-there".to_owned()),
            add: None,
            at: 1_795_255_201_000_001,
            intent_id: EventId([2; 16]),
            subject,
        };
        assert_record("action", &key, &serde_json::to_value(&record).unwrap());
    }
}

#[test]
fn members_of_segments_match() {
    let (rule, action_id) = ("vip-clicked".to_owned(), EventId([1; 16]));
    let member = automation::Membership { since: 1_795_255_201_000_001, rule, action_id };
    let key = automation::segment_key("vip", automation::recipient_digest(b"ada@example.com"));
    let value = serde_json::to_value(&member).unwrap();
    assert_record("segment", &key, &value);
    assert_eq!(keys(&file("segment.schema.json")["properties"]), keys(&value));
    assert_eq!(
        texts(&file("segment.schema.json")["required"]),
        keys(&value),
        "each field is always there"
    );
}

#[test]
fn suppressions_match() {
    let schema = file("suppression.schema.json");
    let names = |field: &str| texts(&schema["properties"][field]["enum"]);
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names("reason"), Reason::ALL.iter().map(|it| it.as_str().to_owned()).collect());
    assert_eq!(names("author"), Author::ALL.iter().map(|it| it.as_str().to_owned()).collect());
    assert_eq!(names("purpose"), Purpose::ALL.iter().map(|it| it.as_str().to_owned()).collect());
    assert_eq!(names("state"), State::ALL.iter().map(|it| it.as_str().to_owned()).collect());
    let full = json!({
        "list": "ses/a|b%c",
        "recipient": ID,
        "reason": "hard_bounce",
        "scope": "newsletter",
        "author": "event",
        "state": "suppressed",
        "purpose": "marketing",
        "since": 1_795_255_201_000_001_i64,
        "expires_at": 1_795_255_201_000_002_i64,
        "provisional": true,
        "event_id": ID,
        "provider": "ses",
        "mailbox_provider": "gmail",
        "status": "5.1.1",
        "wording": "no such user",
        "note": "asked on the phone",
        "who": "token crm@192.0.2.1",
        "incident": ID,
    });
    assert_eq!(written::<EntryValue>(&full), full, "the code has other fields");
    assert_eq!(keys(&schema["properties"]), keys(&full));
    let key = EntryKey {
        list: "ses/a|b%c".into(),
        recipient: ID.parse().unwrap(),
        reason: Reason::HardBounce,
        scope: "newsletter".into(),
        author: Author::Event,
    };
    assert_record("suppression", &key.to_string(), &full);
    let without_scope = EntryKey { scope: "".into(), ..key };
    let least = EntryValue::new(&without_scope, State::Lifted, 5);
    let least = serde_json::to_value(&least).unwrap();
    assert_record("suppression", &without_scope.to_string(), &least);
    assert_eq!(texts(&schema["required"]), keys(&least));
    let required = all(&["list", "recipient", "reason", "author", "state", "since"]);
    assert_eq!(keys(&least), required);
    for name in required {
        let mut lacking = least.clone();
        lacking.as_object_mut().unwrap().remove(&name);
        let validator = validator("suppression.schema.json");
        assert!(!validator.is_valid(&lacking), "without {name}");
        assert!(serde_json::from_value::<EntryValue>(lacking).is_err(), "without {name}");
    }
}
