//! The JSON Schemas, the code and the tables agree.

use std::collections::{BTreeMap, BTreeSet};

use archive::tables::{Actions, Alerts, Coordinates, Incidents, Rates, Table};
use event::{
    Automation, AutomationReason, Bounce, BounceClass, BounceSide, Client, Conversion, Counter,
    Delivery, Device, Dimension, Event, EventId, Geo, Kind, OccurredAt, Permanence, Provider,
    ReceivedAt, TimeFault,
};
use serde_json::Value;

use crate::records::{ALERT, RATE, alert_and_incident};
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
        sender_domain: text("acme.example"),
        sending_ip: text("198.51.100.7"),
        authentic: false,
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
        conversion: Some(Conversion { name: "purchase".into(), value: Some(49.5) }),
        interest: text("shoes"),
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
            time_zone: text("Europe/Amsterdam"),
        }),
        sent_at: Some(OccurredAt(3)),
        claimed_at: Some(OccurredAt(4)),
        sender: text("news@mail.acme.example"),
        delivery: Some(Delivery {
            server: text("mx.example.com"),
            response: text("250 OK"),
            tls: Some(true),
            millis: Some(1_180),
        }),
        signals: vec!["listed".into()],
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
    for inner in ["bounce", "automation", "client", "conversion", "delivery", "geo"] {
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
    let counts = window::Counts::of([(Counter::Delivered, 9), (Counter::BouncedHard, 1)]);
    let rate = |kind| {
        let value = |dimension: Dimension| Some(dimension.as_str());
        let scope = window::Scope::new(kind, Provider::Ses, "acme", value).unwrap();
        let window = window::WindowResult::new(window::Width::M5, 30_000_000, counts, 1);
        serde_json::to_value(window::ScopeRate { scope, window }).unwrap()
    };
    let of_window = window::ScopeKind::ALL.map(rate);
    for value in of_window.iter().chain([&parsed(RATE)]) {
        assert_valid(&schema, value);
        push_rate(value).unwrap();
    }
    for (number, field) in [(0, "tenant"), (6, "source"), (6, "provider")] {
        let mut value = of_window[number].clone();
        let other = if field == "provider" { "ses" } else { "x" };
        value.as_object_mut().unwrap().insert(field.to_owned(), other.into());
        assert!(!is_valid(&schema, &value), "with {field}: {value}");
    }
    for lacking in ["source", "provider"] {
        let mut value = parsed(RATE);
        value.as_object_mut().unwrap().remove(lacking);
        assert!(!is_valid(&schema, &value) && push_rate(&value).is_err(), "without {lacking}");
    }
    let named: Vec<String> =
        serde_json::from_value(schema["properties"]["scope"]["enum"].clone()).unwrap();
    assert_eq!(named, window::ScopeKind::ALL.map(window::ScopeKind::as_str));
    for wrong in ["scope", "counts", "revision", "end", "width"] {
        let mut value = parsed(RATE);
        value.as_object_mut().unwrap().remove(wrong);
        assert!(!is_valid(&schema, &value), "without {wrong}");
        assert!(push_rate(&value).is_err(), "without {wrong}");
    }
    let counters = keys(&schema["properties"]["counts"]["properties"]);
    assert!(
        counters
            .iter()
            .copied()
            .eq(Counter::ALL.iter().map(|it| it.as_str()).collect::<BTreeSet<_>>())
    );
    let columns: BTreeSet<&str> = Rates::COLUMNS.iter().map(|(name, _)| *name).collect();
    let column = |name: &&str| if *name == "injected" { "accepted" } else { *name }.to_owned();
    assert!(counters.iter().all(|name| columns.contains(column(name).as_str())), "{counters:?}");
    for metric in window::Metric::ALL {
        let name = metric.as_str();
        assert!(schema["properties"]["rates"]["properties"].get(name).is_some(), "{name}");
        assert!(columns.contains(format!("{name}_rate").as_str()), "{name}");
    }
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
    let full = serde_json::to_value(alert_and_incident().0).unwrap();
    let scope = ["provider", "source", "campaign"];
    let dimensions = ["mailbox_provider", "sender_domain", "sending_ip", "tenant"];
    let mut of_schema = keys(&schema["properties"]);
    of_schema.retain(|name| !dimensions.contains(name));
    assert_eq!(of_schema, keys(&full), "an alert of a campaign, with {scope:?}");
    for value in [parsed(ALERT), resolved, full] {
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

/// Returns the schema of incidents with the schema of alerts in place of the references to it.
fn incident_schema() -> Value {
    fn resolve(value: &mut Value, alert: &Value) {
        if value.get("$ref").is_some_and(|name| name == "alert.schema.json") {
            *value = alert.clone();
            return;
        }
        match value {
            Value::Object(fields) => fields.values_mut().for_each(|field| resolve(field, alert)),
            Value::Array(items) => items.iter_mut().for_each(|item| resolve(item, alert)),
            _ => {}
        }
    }
    let mut incident = schema("incident");
    resolve(&mut incident, &schema("alert"));
    incident
}

#[test]
fn incidents_match_their_schema_and_can_be_read() {
    let schema = incident_schema();
    let push = |value: &Value| {
        let at = Coordinates { partition: 0, offset: 0 };
        Incidents::default().push(at, value.to_string().as_bytes())
    };
    let full = serde_json::to_value(alert_and_incident().1).unwrap();
    assert_valid(&schema, &full);
    push(&full).unwrap();
    assert_eq!(keys(&schema["properties"]), keys(&full));
    let required: BTreeSet<_> =
        schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut least = full.clone();
    least
        .as_object_mut()
        .unwrap()
        .retain(|name, _| required.contains(name.as_str()) || name == "of");
    assert_valid(&schema, &least);
    push(&least).unwrap();
    for name in required {
        let mut lacking = full.clone();
        lacking.as_object_mut().unwrap().remove(name);
        assert!(!is_valid(&schema, &lacking) && push(&lacking).is_err(), "without {name}");
        assert!(serde_json::from_value::<alerting::Incident>(lacking).is_err(), "without {name}");
    }
    let mut ours = full.clone();
    ours["group"] = "ours".into();
    assert!(!is_valid(&schema, &ours), "ours is of nobody");
    ours.as_object_mut().unwrap().remove("of");
    assert_valid(&schema, &ours);
    push(&ours).unwrap();
}

#[test]
fn actions_match_their_schema_and_can_be_read() {
    let schema = schema("action");
    let push = |value: &Value| {
        let at = Coordinates { partition: 0, offset: 0 };
        Actions::default().push(at, None, value.to_string().as_bytes())
    };
    let full = serde_json::to_value(crate::actions::full()).unwrap();
    assert_valid(&schema, &full);
    push(&full).unwrap();
    // An action has an event or an incident.
    let mut names = keys(&full);
    names.insert("incident");
    assert_eq!(keys(&schema["properties"]), names);
    let mut about_incident = full.clone();
    let mut facts = automation::IncidentFacts::sample();
    facts.reason = Some(alerting::ResolveReason::Recovered);
    about_incident["incident"] = serde_json::to_value(facts).unwrap();
    assert!(!is_valid(&schema, &about_incident), "it has both");
    about_incident.as_object_mut().unwrap().remove("event");
    assert_valid(&schema, &about_incident);
    push(&about_incident).unwrap();
    let of_incident = &schema["properties"]["incident"];
    assert_eq!(keys(&of_incident["properties"]), keys(&about_incident["incident"]));
    let of_event = &schema["properties"]["event"];
    assert_eq!(keys(&of_event["properties"]), keys(&full["event"]));
    let required = |schema: &Value| -> BTreeSet<String> {
        serde_json::from_value(schema["required"].clone()).unwrap()
    };
    let (mut required, of_event) = (required(&schema), required(of_event));
    required.insert("event".to_owned());
    let mut least = full.clone();
    least.as_object_mut().unwrap().retain(|name, _| required.contains(name));
    least["event"].as_object_mut().unwrap().retain(|name, _| of_event.contains(name));
    assert_valid(&schema, &least);
    push(&least).unwrap();
    let can_be_delivered = |value: &Value| {
        serde_json::from_str::<automation::ActionRecord>(&value.to_string()).is_ok()
    };
    assert!(can_be_delivered(&least));
    for name in required {
        let mut lacking = full.clone();
        lacking.as_object_mut().unwrap().remove(&name);
        assert!(!is_valid(&schema, &lacking) && push(&lacking).is_err(), "without {name}");
        assert!(!can_be_delivered(&lacking), "without {name}");
    }
    for name in of_event {
        let mut lacking = full.clone();
        lacking["event"].as_object_mut().unwrap().remove(&name);
        assert!(!is_valid(&schema, &lacking) && !can_be_delivered(&lacking), "without {name}");
    }
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
    // The column conversion has the name of the conversion.
    assert!(fields.remove("conversion_name") && fields.insert("conversion".to_owned()));
    // Columns from headers, and the position in Kafka.
    let further = [
        "first_of_kind",
        "first_engagement",
        "seen",
        "late",
        "sent",
        "counts",
        "corrections",
        "kafka_partition",
        "kafka_offset",
    ];
    fields.extend(further.map(str::to_owned));
    let columns: BTreeSet<_> = Table::Events.columns().iter().map(|(n, _)| n.to_string()).collect();
    assert_eq!(columns, fields);
}

#[test]
fn rows_from_before_a_column_was_added_are_authentic() {
    let stack = Stack::without_topics();
    let database = &stack.database;
    database.create();
    let before =
        archive::schema::MIGRATIONS.iter().take_while(|file| file.name != "0008_sending.sql");
    for statement in before.flat_map(archive::schema::Migration::statements) {
        database.execute(statement);
    }
    database.execute("INSERT INTO events (event_id, ip) VALUES ('a', '198.51.100.7')");
    stack.migrate();
    let row: (bool, u32, bool, Option<String>, Vec<String>) =
        database.one("SELECT authentic, seen, late, toString(sent), signals FROM events");
    assert_eq!(row, (true, 0, false, None, vec![]));
}

/// A soft bounce, and the delivery that makes it a deferral.
#[test]
fn the_view_of_counts_adds_corrections_at_their_own_times() {
    let stack = Stack::without_topics();
    let database = &stack.database;
    database.create();
    stack.migrate();
    database.execute(
        "INSERT INTO events (event_id, source, occurred_at, received_at, sent, counts, corrections) \
         VALUES ('a', 'acme', '1970-01-01 00:01:40', '1970-01-01 00:03:20', '1970-01-01 00:00:50', ['bounced_soft'], ''), \
         ('b', 'acme', '1970-01-01 00:05:00', '1970-01-01 00:03:20', '1970-01-01 00:00:50', ['delivered', 'deferred_settled'], \
          'campaign,tenant:-bounced_soft@100000000,+deferred@100000000'), \
         ('c', 'acme', '1970-01-01 00:05:00', '1970-01-01 00:03:20', NULL, [], '')",
    );
    let sums = "sum(sent), sum(delivered), sum(bounced_soft), sum(deferred), sum(deferred_settled), \
                sum(accepted_by_recipient)";
    let of = |second: u32| -> (i64, i64, i64, i64, i64, i64) {
        database.one(&format!(
            "SELECT {sums} FROM message_counts WHERE source = 'acme' \
             AND toUnixTimestamp(message_sent_at) = 50 AND toUnixTimestamp(counted_at) = {second}"
        ))
    };
    assert_eq!(of(100), (0, 0, 0, 1, 0, 0), "the bounce was a deferral");
    assert_eq!(of(200), (1, 1, 0, 0, 1, 1), "the delivery counts when it was received");
    for counter in Counter::ALL {
        database.execute(&format!("SELECT sum({}) FROM message_counts", counter.as_str()));
    }
}

#[test]
fn the_key_of_rates_can_be_extended_twice_and_old_rows_stay() {
    let stack = Stack::without_topics();
    let database = &stack.database;
    database.create();
    let all = archive::schema::MIGRATIONS.iter();
    let before = all.clone().take_while(|file| file.name != "0009_rates.sql");
    for statement in before.flat_map(archive::schema::Migration::statements) {
        database.execute(statement);
    }
    database.execute(
        "INSERT INTO rates (scope, source, width_seconds, window_end, accepted) \
         VALUES ('source', 'acme', 60, 60, 7)",
    );
    let file = all.clone().find(|file| file.name == "0009_rates.sql").unwrap();
    for statement in [file, file].into_iter().flat_map(archive::schema::Migration::statements) {
        database.execute(statement);
    }
    let row: (u64, String, u64, Option<f64>) =
        database.one("SELECT injected, tenant, bounced_block, delivery_rate FROM rates FINAL");
    assert_eq!(row, (7, String::new(), 0, None));
}

#[test]
fn tables_have_the_columns_that_archive_sends_and_one_that_clickhouse_fills() {
    let stack = Stack::without_topics();
    stack.migrate();
    for table in Table::ALL {
        let described = stack.database.bytes(
            &format!(
                "SELECT name, type FROM system.columns WHERE database = '{}' AND table = '{}' \
                 AND default_kind NOT IN ('ALIAS', 'MATERIALIZED')",
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

#[test]
fn a_new_table_of_events_is_divided_by_the_month_of_receipt() {
    let stack = Stack::without_topics();
    stack.migrate();
    let key: String = stack.database.one(&format!(
        "SELECT partition_key FROM system.tables WHERE database = '{}' AND name = 'events'",
        stack.database.name
    ));
    assert_eq!(key, "toYYYYMM(received_at)");
}

/// Comments are the data dictionary of docs/analysts.md.
#[test]
fn every_column_has_a_comment() {
    let stack = Stack::without_topics();
    stack.migrate();
    let database = &stack.database.name;
    // Nobody reads the views that only fill a table.
    let bare = stack.database.bytes(
        &format!(
            "SELECT concat(table, '.', name) FROM system.columns WHERE database = '{database}' AND comment = '' \
             AND table NOT IN (SELECT name FROM system.tables WHERE database = '{database}' \
             AND engine = 'MaterializedView')"
        ),
        "TSVRaw",
    );
    assert_eq!(String::from_utf8(bare).unwrap(), "");
}
