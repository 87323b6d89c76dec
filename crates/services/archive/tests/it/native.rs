//! Blocks of archive, compared with those that ClickHouse writes for the same rows.

use archive::native::Block;
use archive::tables::{
    Actions, Alerts, Coordinates, DeadLetters, Events, Incidents, Rates, Suppressions, Table,
};

use harness::Database;

const EVENTS: [&str; 3] = [
    r#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"bounced","provider":"ses","source":"acme","occurred_at":1700000000123456,"received_at":1700000001000000,"recipient":"ada@example.com","recipient_domain":"example.com","mailbox_provider":"other","message_id":"m-1","campaign":"spring \"24\"","stream":"bulk","tenant":"acme","sender_domain":"acme.example","sending_ip":"198.51.100.7","authentic":false,"tags":["a","b","a"],"bounce":{"permanence":"hard","class":"invalid_recipient","side":"recipient","status":"5.1.1","diagnostic":"550 no such user","late":true},"provider_event":"Bounce","provider_event_id":"p-1","request_id":"r-1","sent_at":1699999999000001,"claimed_at":1,"sender":"news@acme.example","delivery":{"server":"mx.example.com","response":"é","tls":false,"millis":9999999999},"signals":["auth","listed"],"raw":{"x":[1, 2]}}"#,
    r#"{"event_id":"ff0102030405060708090a0b0c0d0eff","kind":"opened","provider":"sendgrid","source":"acme","occurred_at":-1,"received_at":0,"automation":{"reason":"apple_mpp","confidence":0.75},"user_agent":"Mozilla/5.0","ip":"192.0.2.1","url":"https://example.com/é","provider_event":"open","request_id":"r-2","client":{"device":"proxy","name":"Apple Mail"},"geo":{"country":"NL","city":"Amsterdam","asn":4294967295,"network":"Example Net","time_zone":"Europe/Amsterdam"},"delivery":{"tls":true,"millis":0},"labels":{"team":"growth","tier":"é"},"raw":"\u0000"}"#,
    r#"{"event_id":"ff0102030405060708090a0b0c0d0efe","kind":"clicked","provider":"sendgrid","source":"globex","occurred_at":2,"received_at":3,"tags":["c"],"provider_event":"click","request_id":"r-2","raw":7}"#,
];
/// The same events as ClickHouse's JSON.
const EVENT_ROWS: &str = r#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"bounced","provider":"ses","source":"acme","occurred_at":"2023-11-14 22:13:20.123456","received_at":"2023-11-14 22:13:21.000000","recipient":"ada@example.com","recipient_domain":"example.com","mailbox_provider":"other","message_id":"m-1","campaign":"spring \"24\"","stream":"bulk","tenant":"acme","sender_domain":"acme.example","sending_ip":"198.51.100.7","authentic":false,"tags":["a","b","a"],"bounce_permanence":"hard","bounce_class":"invalid_recipient","bounce_side":"recipient","bounce_status":"5.1.1","bounce_diagnostic":"550 no such user","bounce_late":true,"seen":3,"late":true,"sent":"2023-11-14 22:13:19.000001","counts":["delivered","bounced_soft"],"corrections":"campaign:-deferred@1","provider_event":"Bounce","provider_event_id":"p-1","request_id":"r-1","sent_at":"2023-11-14 22:13:19.000001","claimed_at":"1970-01-01 00:00:00.000001","sender":"news@acme.example","delivery_server":"mx.example.com","delivery_response":"é","delivery_tls":false,"delivery_millis":4294967295,"signals":["auth","listed"],"raw":"{\"x\":[1, 2]}","kafka_partition":7,"kafka_offset":100}
{"event_id":"ff0102030405060708090a0b0c0d0eff","kind":"opened","provider":"sendgrid","source":"acme","occurred_at":"1969-12-31 23:59:59.999999","received_at":"1970-01-01 00:00:00.000000","automation_reason":"apple_mpp","automation_confidence":0.75,"authentic":true,"first_of_kind":true,"first_engagement":true,"seen":3,"late":true,"sent":"2023-11-14 22:13:19.000001","counts":["delivered","bounced_soft"],"corrections":"campaign:-deferred@1","user_agent":"Mozilla/5.0","ip":"192.0.2.1","url":"https://example.com/é","provider_event":"open","request_id":"r-2","client_device":"proxy","client_name":"Apple Mail","geo_country":"NL","geo_city":"Amsterdam","geo_asn":4294967295,"geo_network":"Example Net","geo_time_zone":"Europe/Amsterdam","delivery_tls":true,"delivery_millis":0,"labels":{"team":"growth","tier":"é"},"raw":"\"\\u0000\"","kafka_partition":7,"kafka_offset":101}
{"event_id":"ff0102030405060708090a0b0c0d0efe","kind":"clicked","provider":"sendgrid","source":"globex","occurred_at":"1970-01-01 00:00:00.000002","received_at":"1970-01-01 00:00:00.000003","tags":["c"],"authentic":true,"first_of_kind":true,"first_engagement":true,"seen":3,"late":true,"sent":"2023-11-14 22:13:19.000001","counts":["delivered","bounced_soft"],"corrections":"campaign:-deferred@1","provider_event":"click","request_id":"r-2","raw":"7","kafka_partition":7,"kafka_offset":102}
"#;

fn at(offset: u64) -> Coordinates {
    Coordinates { partition: 7, offset }
}

/// The headers with what `dedupe` found out, the same for all events.
fn header(name: &str) -> Option<&'static [u8]> {
    match name {
        "first" => Some(b"kind,engagement"),
        "seen" => Some(b"3"),
        "late" => Some(b""),
        "sent" => Some(b"1699999999000001"),
        "counts" => Some(b"delivered,bounced_soft"),
        "corrections" => Some(b"campaign:-deferred@1"),
        _ => None,
    }
}

/// Lets ClickHouse read the rows from JSON and write them as Native, and compares the bytes.
fn compare(table: Table, block: &Block, rows: &str) {
    let database = Database::new("native");
    database.create();
    let columns: Vec<String> =
        table.columns().iter().map(|(name, of)| format!("`{name}` {of}")).collect();
    database.execute(&format!("CREATE TABLE golden ({}) ENGINE = Memory", columns.join(", ")));
    database.execute(&format!("INSERT INTO golden FORMAT JSONEachRow\n{rows}"));
    let expected = database.bytes("SELECT * FROM golden", "Native");
    let found = block.pieces.concat();
    let same = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    assert!(found == expected, "equal up to byte {same} of {} and {}", found.len(), expected.len());
}

#[test]
fn events_are_written_as_clickhouse_writes_them() {
    let mut events = Events::default();
    for (offset, event) in (100..).zip(EVENTS) {
        events.push(at(offset), event.as_bytes(), header).unwrap();
    }
    compare(Table::Events, &events.finish(), EVENT_ROWS);
}

#[test]
fn large_dictionaries_have_wider_indexes() {
    let mut events = Events::default();
    let mut rows = String::new();
    for n in 0..70_000 {
        let (domain, tag) = (format!("d{n}.example"), n % 300);
        let event = format!(
            r#"{{"event_id":"{n:032x}","kind":"delivered","provider":"ses","source":"acme","occurred_at":0,"received_at":0,"recipient_domain":"{domain}","tags":["{tag}"],"provider_event":"x","request_id":"","raw":1}}"#
        );
        events.push(at(n), event.as_bytes(), |_| None).unwrap();
        rows += &format!(
            r#"{{"event_id":"{n:032x}","kind":"delivered","provider":"ses","source":"acme","recipient_domain":"{domain}","authentic":true,"tags":["{tag}"],"provider_event":"x","raw":"1","kafka_partition":7,"kafka_offset":{n}}}"#
        );
    }
    compare(Table::Events, &events.finish(), &rows);
}

#[test]
fn rates_are_written_as_clickhouse_writes_them() {
    let mut rates = Rates::default();
    let value = br#"{"scope":"campaign","provider":"ses","source":"acme","campaign":"spring","width":"5m","end":30000000,"revision":2,"counts":{"accepted":4,"bounced_soft":1},"rates":{"sent":4,"sent_is_estimated":true,"accepted_by_recipient":3,"bounce":0.25,"hard_bounce":0.0,"complaint":null,"unsubscribe":null,"open":null,"click":null,"engagement":0.5}}"#;
    rates.push(at(1), value).unwrap();
    compare(
        Table::Rates,
        &rates.finish(),
        r#"{"scope":"campaign","provider":"ses","source":"acme","campaign":"spring","width_seconds":300,"window_end":"1970-01-01 00:00:30","revision":2,"accepted":4,"bounced_soft":1,"sent":4,"accepted_by_recipient":3,"bounce_rate":0.25,"hard_bounce_rate":0,"engagement_rate":0.5,"kafka_partition":7,"kafka_offset":1}"#,
    );
}

#[test]
fn alerts_are_written_as_clickhouse_writes_them() {
    let mut alerts = Alerts::default();
    let value = br#"{"episode_id":"000102030405060708090a0b0c0d0e0f","rule":"bounce_rate","scope":"mailbox_provider","provider":"ses","source":"acme","mailbox_provider":"gmail","severity":"warning","state":"firing","metric":"bounce","width":"5m","value":0.075,"threshold":0.05,"volume":200,"started_at":50000000,"at":60000000,"runbook":"docs/runbooks.md","summary":"too many"}"#;
    alerts.push(at(1), value).unwrap();
    compare(
        Table::Alerts,
        &alerts.finish(),
        r#"{"episode_id":"000102030405060708090a0b0c0d0e0f","rule":"bounce_rate","scope":"mailbox_provider","provider":"ses","source":"acme","mailbox_provider":"gmail","severity":"warning","state":"firing","metric":"bounce","window":"5m","width_seconds":300,"value":0.075,"threshold":0.05,"volume":200,"started_at":"1970-01-01 00:00:50","at":"1970-01-01 00:01:00","runbook":"docs/runbooks.md","summary":"too many","kafka_partition":7,"kafka_offset":1}"#,
    );
}

#[test]
fn alerts_and_incidents_with_every_field_are_written_as_clickhouse_writes_them() {
    let (alert, incident) = crate::records::alert_and_incident();
    let mut alerts = Alerts::default();
    alerts.push(at(1), serde_json::to_string(&alert).unwrap().as_bytes()).unwrap();
    compare(
        Table::Alerts,
        &alerts.finish(),
        r#"{"episode_id":"000102030405060708090a0b0c0d0e0f","rule":"hard_bounces","scope":"campaign","provider":"ses","source":"acme","campaign":"spring","family":"bounces","basis":"campaign","seq":3,"severity":"page","state":"resolved","reason":"closed","metric":"hard_bounce","window":"campaign","value":0.15,"threshold":0.02,"bound":0.11,"numerator":30,"volume":200,"started_at":"1970-01-01 00:00:50","at":"1970-01-01 00:01:00","window_from":"1970-01-01 00:00:40","window_to":"1970-01-01 00:01:00","as_of":{"0":12,"5":7},"runbook":"r","summary":"too many","labels":{"team":"growth"},"kafka_partition":7,"kafka_offset":1}"#,
    );
    let record = serde_json::to_string(&incident).unwrap();
    let mut incidents = Incidents::default();
    incidents.push(at(1), record.as_bytes()).unwrap();
    let mut row: serde_json::Value = serde_json::from_str(
        r#"{"id":"f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0","seq":4,"page":2,"change":"resolved","state":"resolved","reason":"closed","severity":"page","family":"bounces","group":"source","group_of":"ses/acme","sources":["ses/acme"],"source_count":1,"opened_at":"1970-01-01 00:00:50","at":"1970-01-01 00:01:00","lead_rule":"hard_bounces","lead_scope":"campaign/ses/acme/spring","lead_metric":"hard_bounce","lead_window":"campaign","lead_numerator":30,"lead_volume":200,"lead_value":0.15,"lead_threshold":0.02,"lead_bound":0.11,"summary":"too many","runbook":"r","cause_scope":"campaign/ses/acme/spring","cause_share":0.9,"cause_numerator":29,"cause_volume":190,"cause_rest_numerator":1,"cause_rest_volume":10,"episodes":2,"open_episodes":0,"acknowledged_by":"ada","assigned_to":"bob","snoozed_until":"1970-01-01 00:01:10","judged":"true","closed_by":"eve","merged_into":"f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0","kafka_partition":7,"kafka_offset":1}"#,
    )
    .unwrap();
    row["record"] = record.into();
    let episode = alert.episode_id.to_string();
    row["opened_by"] = episode.clone().into();
    row["lead_episode_id"] = episode.clone().into();
    row["episode_ids"] = serde_json::json!([episode, "1".repeat(32)]);
    compare(Table::Incidents, &incidents.finish(), &row.to_string());
}

#[test]
fn actions_are_written_as_clickhouse_writes_them() {
    let mut actions = Actions::default();
    let (action, intent, event) = ("1".repeat(32), "2".repeat(32), "3".repeat(32));
    let full = format!(
        r#"{{"action_id":"{action}","rule":"clicked","index":"2.0","type":"email","name":"still-there","at":60000000,"intent_id":"{intent}","event":{{"event_id":"{event}","kind":"clicked","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"recipient":"ada@example.com","mailbox_provider":"gmail","message_id":"m","campaign":"spring","tenant":"north","url":"https://acme.example/","tags":["t"],"human":true,"authentic":true}}}}"#
    );
    let least = format!(
        r#"{{"action_id":"{action}","rule":"clicked","index":"0","type":"points","add":-5,"at":0,"intent_id":"{intent}","event":{{"event_id":"{event}","kind":"opened","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"recipient":"bob@example.com","human":true,"authentic":true}}}}"#
    );
    actions.push(at(1), Some(61_500_000), full.as_bytes()).unwrap();
    actions.push(at(2), None, least.as_bytes()).unwrap();
    compare(
        Table::Actions,
        &actions.finish(),
        &format!(
            r#"{{"action_id":"{action}","rule":"clicked","index":"2.0","type":"email","name":"still-there","at":"1970-01-01 00:01:00","decided_at":"1970-01-01 00:01:01.5","intent_id":"{intent}","follow_up":true,"event_id":"{event}","kind":"clicked","provider":"ses","source":"acme","tenant":"north","campaign":"spring","message_id":"m","recipient":"ada@example.com","mailbox_provider":"gmail","kafka_partition":7,"kafka_offset":1}}
{{"action_id":"{action}","rule":"clicked","index":"0","type":"points","add":-5,"at":"1970-01-01 00:00:00","intent_id":"{intent}","event_id":"{event}","kind":"opened","provider":"ses","source":"acme","recipient":"bob@example.com","kafka_partition":7,"kafka_offset":2}}"#
        ),
    );
}

#[test]
fn suppressions_are_written_as_clickhouse_writes_them() {
    let mut rows = Suppressions::default();
    let (recipient, event, incident) = ("1".repeat(32), "2".repeat(32), "f".repeat(32));
    let full = format!(
        r#"{{"list":"ses/news","recipient":"{recipient}","reason":"hard_bounce","scope":"s","author":"event","state":"suppressed","purpose":"marketing","since":60000000,"expires_at":61500000,"provisional":true,"event_id":"{event}","provider":"ses","mailbox_provider":"gmail","status":"5.1.1","wording":"550 é","incident":"{incident}","note":"n","who":"w"}}"#
    );
    let key = format!("ses/news|{recipient}|hard_bounce|s|event");
    rows.push(at(1), Some(61_500_000), key.as_bytes(), Some(full.as_bytes())).unwrap();
    rows.push(at(2), None, key.as_bytes(), None).unwrap();
    compare(
        Table::Suppressions,
        &rows.finish(),
        &format!(
            r#"{{"list":"ses/news","recipient":"{recipient}","reason":"hard_bounce","scope":"s","author":"event","state":"suppressed","purpose":"marketing","since":"1970-01-01 00:01:00","expires_at":"1970-01-01 00:01:01.5","provisional":true,"event_id":"{event}","provider":"ses","mailbox_provider":"gmail","status":"5.1.1","wording":"550 é","incident":"{incident}","written_at":"1970-01-01 00:01:01.5","kafka_partition":7,"kafka_offset":1}}
{{"list":"ses/news","recipient":"{recipient}","reason":"hard_bounce","scope":"s","author":"event","state":"forgotten","kafka_partition":7,"kafka_offset":2}}"#
        ),
    );
}

#[test]
fn dead_letters_are_written_as_clickhouse_writes_them() {
    let mut dead_letters = DeadLetters::default();
    let headers: [(&str, &[u8]); 4] = [
        ("source", b"acme"),
        ("received-at", b"1700000001000000"),
        ("reason", b"not_json"),
        ("stage", b"enrich"),
    ];
    dead_letters.push(at(1), b"key", b"{", &headers);
    dead_letters.push(at(2), b"", b"", &[]);
    compare(
        Table::DeadLetters,
        &dead_letters.finish(),
        r#"{"reason":"not_json","stage":"enrich","source":"acme","key":"key","value":"{","headers":{"source":"acme","received-at":"1700000001000000","reason":"not_json","stage":"enrich"},"received_at":"2023-11-14 22:13:21","kafka_partition":7,"kafka_offset":1}
{"kafka_partition":7,"kafka_offset":2}"#,
    );
}
