//! The JSON Schemas, the code and the tables agree.

use std::collections::{BTreeMap, BTreeSet};

use archive::tables::{Alerts, Coordinates, Rates, Table};
use event::{
    Automation, AutomationReason, Bounce, BounceClass, BounceSide, Client, Device, Event, EventId,
    Geo, Kind, OccurredAt, Permanence, Provider, ReceivedAt, TimeFault,
};
use serde_json::Value;

use crate::records::{ALERT, RATE};
use crate::stack::Stack;

fn schema(name: &str) -> Value {
    let path = format!("{}/../../../schemas/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn assert_valid(schema: &Value, instance: &Value) {
    let validator = jsonschema::validator_for(schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(instance).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?} in {instance}");
}

fn is_valid(schema: &Value, instance: &Value) -> bool {
    jsonschema::validator_for(schema).unwrap().is_valid(instance)
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Returns an event with every field.
fn full() -> Value {
    let raw = serde_json::value::RawValue::from_string("{\"x\":1}".into()).unwrap();
    let text = |text: &'static str| Some(text.into());
    let event = Event {
        event_id: EventId([0xab; 16]),
        kind: Kind::Clicked,
        provider: Provider::Ses,
        source: "acme".into(),
        occurred_at: OccurredAt(1),
        received_at: ReceivedAt(2),
        time_fault: Some(TimeFault::Missing),
        recipient: text("ada@example.com"),
        recipient_domain: text("example.com"),
        mailbox_provider: text("other"),
        message_id: text("m"),
        campaign: text("c"),
        stream: text("s"),
        tenant: text("t"),
        tags: vec!["t".into()],
        bounce: Some(Bounce {
            permanence: Permanence::Hard,
            class: BounceClass::Content,
            side: BounceSide::Sender,
            status: text("5.1.1"),
            diagnostic: text("no"),
            late: true,
        }),
        automation: Some(Automation { reason: AutomationReason::Bot, confidence: 0.5 }),
        user_agent: text("u"),
        ip: text("192.0.2.1"),
        url: text("https://example.com/"),
        provider_event: "Click".into(),
        provider_event_id: text("p"),
        request_id: "r".into(),
        client: Some(Client { device: Some(Device::Phone), os: text("iOS"), name: text("Safari") }),
        geo: Some(Geo {
            country: text("NL"),
            region: text("NH"),
            city: text("Amsterdam"),
            asn: Some(64_496),
            network: text("Example Net"),
        }),
        labels: [("team".into(), "growth".into())].into(),
        raw: &raw,
    };
    serde_json::to_value(&event).unwrap()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn events_and_their_schema_have_the_same_fields() {
    let (schema, full) = (schema("event"), full());
    assert_valid(&schema, &full);
    assert_eq!(keys(&schema["properties"]), keys(&full));
    for inner in ["bounce", "automation", "client", "geo"] {
        assert_eq!(keys(&schema["properties"][inner]["properties"]), keys(&full[inner]), "{inner}");
    }
    let mut least = full.clone();
    let required: BTreeSet<_> =
        schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    least.as_object_mut().unwrap().retain(|name, _| required.contains(name.as_str()));
    assert_valid(&schema, &least);
    for name in required {
        let mut lacking = full.clone();
        lacking.as_object_mut().unwrap().remove(name);
        assert!(!is_valid(&schema, &lacking), "without {name}");
        // The code requires the same fields.
        let text = lacking.to_string();
        assert!(serde_json::from_str::<Event<'_>>(&text).is_err(), "without {name}");
    }
}

#[test]
fn the_schema_names_every_value_of_every_enum() {
    let schema = schema("event");
    let named = |pointer: &str| -> Vec<String> {
        serde_json::from_value(schema.pointer(pointer).unwrap()["enum"].clone()).unwrap()
    };
    assert_eq!(named("/properties/kind"), Kind::ALL.map(Kind::as_str));
    assert_eq!(named("/properties/provider"), Provider::ALL.map(Provider::as_str));
    let bounce = |field: &str| named(&format!("/properties/bounce/properties/{field}"));
    assert!(bounce("permanence").iter().eq(Permanence::ALL.iter().map(|v| v.as_str())));
    assert!(bounce("class").iter().eq(BounceClass::ALL.iter().map(|v| v.as_str())));
    assert!(bounce("side").iter().eq(BounceSide::ALL.iter().map(|v| v.as_str())));
    let reasons = named("/properties/automation/properties/reason");
    assert!(reasons.iter().eq(AutomationReason::ALL.iter().map(|v| v.as_str())));
    let faults = named("/properties/time_fault");
    assert!(faults.iter().eq(TimeFault::ALL.iter().map(|v| v.as_str())));
    let devices = named("/properties/client/properties/device");
    assert!(devices.iter().eq(Device::ALL.iter().map(|v| v.as_str())));
}

#[test]
fn rates_match_their_schema_and_can_be_read() {
    let schema = schema("rate");
    let counts = window::Counts { accepted: 9, bounced_hard: 1, ..Default::default() };
    let of_window = serde_json::to_value(window::ScopeRate {
        scope: window::Scope::Campaign {
            provider: Provider::Ses,
            source: "acme".into(),
            campaign: "spring".into(),
        },
        window: window::WindowResult::new(window::Width::M5, 30_000_000, counts, 1),
    })
    .unwrap();
    for value in [parsed(RATE), of_window] {
        assert_valid(&schema, &value);
        push_rate(&value).unwrap();
    }
    for wrong in ["scope", "counts", "revision", "end", "width"] {
        let mut value = parsed(RATE);
        value.as_object_mut().unwrap().remove(wrong);
        assert!(!is_valid(&schema, &value), "without {wrong}");
        assert!(push_rate(&value).is_err(), "without {wrong}");
    }
    let counters = keys(&schema["properties"]["counts"]["properties"]);
    let columns: BTreeSet<&str> = Rates::COLUMNS.iter().map(|(name, _)| *name).collect();
    assert!(counters.is_subset(&columns), "{counters:?}");
}

fn push_rate(value: &Value) -> Result<(), archive::tables::RowError> {
    let at = Coordinates { partition: 0, offset: 0 };
    Rates::default().push(at, value.to_string().as_bytes())
}

#[test]
fn alerts_match_their_schema_and_can_be_read() {
    let schema = schema("alert");
    let push = |value: &Value| {
        let at = Coordinates { partition: 0, offset: 0 };
        Alerts::default().push(at, value.to_string().as_bytes())
    };
    let mut resolved = parsed(ALERT);
    resolved["value"] = Value::Null;
    resolved["state"] = "resolved".into();
    let mut of_window = parsed(ALERT);
    let fields = of_window.as_object_mut().unwrap();
    fields.insert("numerator".to_owned(), 15.into());
    let of_window: window::Alert = serde_json::from_value(of_window).unwrap();
    let of_window = serde_json::to_value(&of_window).unwrap();
    for value in [parsed(ALERT), resolved, of_window] {
        assert_valid(&schema, &value);
        push(&value).unwrap();
    }
    for name in ["rule", "severity", "at", "threshold", "width"] {
        let mut value = parsed(ALERT);
        value.as_object_mut().unwrap().remove(name);
        assert!(!is_valid(&schema, &value) && push(&value).is_err(), "without {name}");
    }
    let mut without_name = parsed(ALERT);
    without_name["scope"] = "campaign".into();
    assert!(!is_valid(&schema, &without_name), "a campaign without its name");
}

#[test]
fn every_field_of_an_event_is_a_column() {
    let schema = schema("event");
    let mut fields = BTreeSet::new();
    for (name, property) in schema["properties"].as_object().unwrap() {
        match property.get("properties").and_then(Value::as_object) {
            Some(inner) => fields.extend(inner.keys().map(|inner| format!("{name}_{inner}"))),
            None => drop(fields.insert(name.clone())),
        }
    }
    // Columns from headers, and the position in Kafka.
    let further = ["first_of_kind", "first_engagement", "kafka_partition", "kafka_offset"];
    fields.extend(further.map(str::to_owned));
    let columns: BTreeSet<_> = Table::Events.columns().iter().map(|(n, _)| n.to_string()).collect();
    assert_eq!(columns, fields);
}

#[test]
fn tables_have_the_columns_that_archive_sends_and_one_that_clickhouse_fills() {
    let stack = Stack::without_topics();
    stack.migrate();
    for table in Table::ALL {
        let described = stack.database.bytes(
            &format!(
                "SELECT name, type FROM system.columns WHERE database = '{}' AND table = '{}'",
                stack.database.name,
                table.name()
            ),
            "TSVRaw",
        );
        let described = String::from_utf8(described).unwrap();
        let mut columns: BTreeMap<&str, &str> =
            described.lines().filter_map(|line| line.split_once('\t')).collect();
        assert_eq!(columns.remove("archived_at"), Some("DateTime64(3, 'UTC')"), "{}", table.name());
        let sent: BTreeMap<&str, &str> = table.columns().iter().copied().collect();
        assert_eq!(columns, sent, "{}", table.name());
    }
}
