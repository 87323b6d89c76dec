//! Every record of every topic becomes a row with the same content.

use std::ops::Range;

use harness::Outgoing;

use crate::stack::{Stack, record};

pub const RATE: &[u8] = br#"{"scope":"source","provider":"ses","source":"acme","width":"1m","end":60000000,"revision":0,"counts":{"accepted":4},"rates":{"sent":4,"sent_is_estimated":false,"accepted_by_recipient":0,"bounce":0.0,"hard_bounce":0.0,"complaint":null,"unsubscribe":null,"open":null,"click":null,"engagement":null}}"#;
pub const ALERT: &[u8] = br#"{"episode_id":"000102030405060708090a0b0c0d0e0f","rule":"bounce_rate","scope":"source","provider":"ses","source":"acme","severity":"warning","state":"firing","metric":"bounce","width":"5m","value":0.075,"threshold":0.05,"volume":200,"started_at":50000000,"at":60000000,"runbook":"docs/runbooks.md","summary":"too many"}"#;

/// An alert with every field, and an incident about it.
pub fn alert_and_incident() -> (alerting::Alert, alerting::Incident) {
    let alert: alerting::Alert = serde_json::from_str(
        r#"{"episode_id":"000102030405060708090a0b0c0d0e0f","rule":"hard_bounces","scope":"campaign","provider":"ses","source":"acme","campaign":"spring","severity":"page","state":"resolved","metric":"hard_bounce","width":"campaign","value":0.15,"threshold":0.02,"numerator":30,"volume":200,"by_window":{"1m":[3,20],"campaign":[30,200]},"started_at":50000000,"at":60000000,"runbook":"r","summary":"too many","family":"bounces","basis":"campaign","seq":3,"reason":"closed","bound":0.11,"from":40000000,"to":60000000,"as_of":{"0":12,"5":7},"labels":{"team":"growth"},"remind":5}"#,
    )
    .unwrap();
    let id = "f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0".to_owned();
    let people = alerting::People {
        acknowledged_by: Some("ada".to_owned()),
        assigned_to: Some("bob".to_owned()),
        snoozed_until: Some(70_000_000),
        judged: Some("true".to_owned()),
        closed_by: Some("eve".to_owned()),
    };
    let other = alerting::Alert {
        episode_id: "1".repeat(32).try_into().unwrap(),
        rule: "bounce_rate".to_owned(),
        ..alert.clone()
    };
    let cause = alerting::Cause {
        scope: alert.scope.clone(),
        share: 0.9,
        numerator: 29,
        volume: 190,
        rest_numerator: 1,
        rest_volume: 10,
        to: 60_000_000,
    };
    let incident = alerting::Incident {
        id: id.clone().try_into().unwrap(),
        seq: 4,
        page: 2,
        change: alerting::Change::Resolved,
        state: alerting::IncidentState::Resolved,
        reason: Some(alerting::ResolveReason::Closed),
        severity: alerting::Severity::Page,
        family: alerting::Family::Bounces,
        group: alerting::IncidentGroup::Source { of: "ses/acme".to_owned() },
        opened_at: 50_000_000,
        at: 60_000_000,
        lead: alert.clone(),
        cause: Some(cause),
        others: vec![alerting::EpisodeLine { alert: other }],
        episodes: 2,
        open_episodes: 0,
        people,
        held_back: [("hard_bounces".to_owned(), 1)].into(),
        opened_by: alert.episode_id,
        merged_into: Some(id.try_into().unwrap()),
        sources: vec!["ses/acme".to_owned()],
        source_count: 1,
    };
    (alert, incident)
}

/// Returns event number `n` as JSON. Every kind and three sources occur in turn.
pub fn event(n: usize) -> Vec<u8> {
    let kind = event::Kind::ALL[n % event::Kind::ALL.len()];
    let source = ["acme", "globex", "initech"][n % 3];
    let occurred_at = 1_790_000_000_000_000_i64 + n as i64 * 60_000_000;
    let bounce = match kind {
        event::Kind::Bounced => {
            r#""bounce":{"permanence":"hard","class":"invalid_recipient","side":"recipient","status":"5.1.1"},"#
        }
        _ => "",
    };
    let delivery = match kind {
        event::Kind::Delivered => {
            r#""delivery":{"server":"mx","response":"250","tls":true,"millis":7},"#
        }
        event::Kind::Deferred => r#""signals":["auth","listed"],"authentic":false,"#,
        _ => "",
    };
    let sent_at = occurred_at - 5;
    format!(
        r#"{{"event_id":"{n:032x}","kind":"{kind}","provider":"sendgrid","source":"{source}","occurred_at":{occurred_at},"received_at":{},"recipient":"u{n}@example.com","recipient_domain":"example.com","mailbox_provider":"other","message_id":"m{n}","campaign":"c{}","sender_domain":"acme.example","sending_ip":"198.51.100.7","tags":["t"],{bounce}"sent_at":{sent_at},"claimed_at":9,"sender":"news@acme.example",{delivery}"provider_event":"{kind}","request_id":"r","raw":{{"n":{n}}}}}"#,
        occurred_at + 1,
        n % 7,
    )
    .into_bytes()
}

pub fn first_header(n: usize) -> Vec<(&'static str, &'static [u8])> {
    if !n.is_multiple_of(2) {
        return vec![];
    }
    vec![
        ("first", b"kind,engagement"),
        ("tally", b"3;1789999999000001;delivered,engaged"),
        ("late", b""),
        ("corrections", b"campaign:-bounced_soft@1789999999000000,+deferred@1789999998000000"),
    ]
}

/// Produces the events `from..to`, spread over the two partitions.
pub fn produce_events(stack: &Stack, from: usize, to: usize) {
    produce_events_to(stack, from..to, |n| i32::try_from(n % 2).unwrap());
}

pub fn produce_events_to(stack: &Stack, numbers: Range<usize>, partition: impl Fn(usize) -> i32) {
    let topic = &stack.cluster.topics.events;
    let records: Vec<Outgoing> =
        numbers.map(|n| record(topic, partition(n), &event(n), &first_header(n))).collect();
    stack.produce(&records, 100);
}

/// Asserts that the events `0..count` are in ClickHouse, each once, and that the rollup has counted
/// each once.
pub fn assert_each_once(stack: &Stack, count: usize) {
    let count = count as u64;
    stack.database.await_count("events", count);
    let (distinct, wrong): (u64, u64) = stack.database.one(&format!(
        "SELECT uniqExact(event_id), countIf(reinterpretAsUInt128(reverse(unhex(event_id))) >= {count}) FROM events"
    ));
    assert_eq!((distinct, wrong), (count, 0));
    await_rollup(stack, count);
}

/// Waits until the rollup has counted this many events, and asserts that it has counted no more. A view
/// gets its rows after its table.
pub fn await_rollup(stack: &Stack, count: u64) {
    let sql = "SELECT sum(events) FROM events_hourly";
    let what = format!("the rollup to count {count} events");
    let counted: u64 = stack.database.await_one(&what, sql, |counted| *counted >= count);
    assert_eq!(counted, count, "the rollup");
}

#[test]
fn rows_equal_records() {
    let stack = Stack::new();
    produce_events(&stack, 0, 1100);
    let dead_letter: [(&str, &[u8]); 4] =
        [("reason", b"not_json"), ("stage", b"enrich"), ("source", b"acme"), ("received-at", b"5")];
    let topics = &stack.cluster.topics;
    let others = [
        record(&topics.rates, 0, RATE, &[]),
        record(&topics.alerts, 0, ALERT, &[]),
        record(&topics.dead_letters, 0, b"{\0", &dead_letter),
    ];
    stack.produce(&others, 2);
    let archive = stack.start();
    assert_each_once(&stack, 1100);
    for table in ["rates", "alerts", "dead_letters"] {
        stack.database.await_count(table, 1);
    }

    // ClickHouse compares every column with what the event's number implies.
    let checks = "kind = ['accepted','delivered','deferred','bounced','dropped','opened','clicked','complained','unsubscribed','subscribed','other','verified'][n % 12 + 1] \
        AND source = ['acme','globex','initech'][n % 3 + 1] AND provider = 'sendgrid' \
        AND toUnixTimestamp64Micro(occurred_at) = 1790000000000000 + n * 60000000 \
        AND toUnixTimestamp64Micro(received_at) = toUnixTimestamp64Micro(occurred_at) + 1 \
        AND recipient = concat('u', toString(n), '@example.com') AND recipient_domain = 'example.com' \
        AND message_id = concat('m', toString(n)) AND campaign = concat('c', toString(n % 7)) \
        AND tags = ['t'] AND (bounce_status = '5.1.1') = (kind = 'bounced') \
        AND first_of_kind = (kind IN ('opened', 'clicked') AND n % 2 = 0) \
        AND first_engagement = first_of_kind AND provider_event = kind \
        AND seen = if(n % 2 = 0, 3, 0) AND late = (n % 2 = 0) \
        AND isNull(sent) = (n % 2 = 1) AND counts = if(n % 2 = 0, ['delivered', 'engaged'], []) \
        AND startsWith(corrections, 'campaign:-') = (n % 2 = 0) \
        AND (n % 2 = 1 OR toUnixTimestamp64Micro(assumeNotNull(sent)) = 1789999999000001) \
        AND toUnixTimestamp64Micro(assumeNotNull(sent_at)) = 1790000000000000 + n * 60000000 - 5 \
        AND toUnixTimestamp64Micro(assumeNotNull(claimed_at)) = 9 AND sender = 'news@acme.example' \
        AND sender_domain = 'acme.example' AND sending_ip = '198.51.100.7' \
        AND (delivery_server, delivery_response) = if(kind = 'delivered', ('mx', '250'), ('', '')) \
        AND (isNull(delivery_tls) OR delivery_tls) AND isNull(delivery_millis) = (kind != 'delivered') \
        AND signals = if(kind = 'deferred', ['auth', 'listed'], []) AND authentic = (kind != 'deferred') \
        AND raw = concat('{\"n\":', toString(n), '}') AND kafka_partition = n % 2";
    let right: u64 = stack.database.one(&format!(
        "SELECT countIf({checks}) FROM (SELECT *, toUInt64(reinterpretAsUInt128(reverse(unhex(event_id)))) AS n FROM events)"
    ));
    assert_eq!(right, 1100);
    let (offsets, archived): (u64, u64) = stack.database.one(
        "SELECT uniqExact(kafka_partition, kafka_offset), countIf(archived_at > now() - 3600) FROM events",
    );
    assert_eq!((offsets, archived), (1100, 1100));

    let rate: (u32, u64, f64) =
        stack.database.one("SELECT width_seconds, accepted, assumeNotNull(bounce_rate) FROM rates");
    assert_eq!(rate, (60, 4, 0.0));
    let alert: (String, f64) = stack.database.one("SELECT rule, threshold FROM alerts");
    assert_eq!(alert, ("bounce_rate".into(), 0.05));
    let dead_letter: (String, String, String, String) =
        stack.database.one("SELECT reason, hex(value), key, headers['stage'] FROM dead_letters");
    assert_eq!(
        dead_letter,
        ("not_json".into(), "7B00".into(), "ada@example.com".into(), "enrich".into())
    );
    let events = [("table", "events")];
    archive.await_metric("mailpulse_archive_rows_total", &events, |rows| rows == 1100.0);
    archive.await_metric("mailpulse_archive_event_age_seconds_count", &[], |count| count > 0.0);
    archive.await_ready();
}

/// Alerts share their topic with records that are no alerts, and a redrive to a topic is for one of its readers.
#[test]
fn alerts_and_incidents_become_rows_and_what_is_for_others_does_not() {
    let stack = Stack::new();
    let (alert, incident) = alert_and_incident();
    let topics = &stack.cluster.topics;
    let alert = |key: &str| {
        let value = serde_json::to_vec(&alert).unwrap();
        Outgoing::new(&topics.alerts, key, value).on(0)
    };
    let incident = || {
        let value = serde_json::to_vec(&incident).unwrap();
        Outgoing::new(&topics.incidents, incident.id.to_string(), value).on(0)
    };
    let key = "campaign/ses/acme/spring";
    stack.produce(
        &[
            Outgoing::new(&topics.alerts, "clock", r#"{"shard":0,"now":1}"#).on(0),
            alert(key),
            Outgoing::new(&topics.alerts, "action", r#"{"action":"close"}"#).on(0),
            alert(key).header("redriven", b"monitor-incidents"),
            incident(),
            incident().header("redriven", b"notify"),
            alert(key).header("redriven", b"archive"),
            incident().header("redriven", b"archive"),
        ],
        3,
    );
    let archive = stack.start();
    for table in ["alerts", "incidents"] {
        stack.database.await_count(table, 2);
    }
    // Without the marker of the transaction, which follows the last record.
    for topic in [&topics.alerts, &topics.incidents] {
        let last: i64 = stack.cluster.end_offsets(topic).iter().sum();
        stack.cluster.await_committed(&topics.group("archive"), topic, last - 1);
    }
    let ledger = |topic| {
        let committed = stack.cluster.committed(&topics.group("archive"), topic);
        committed[0].as_ref().unwrap().metadata.clone()
    };
    assert_eq!(
        ledger(&topics.alerts),
        "@5,2,3,0,1",
        "read, passed, dropped, dead letters, redriven"
    );
    assert_eq!(ledger(&topics.incidents), "@3,2,1,0,1");
    for table in ["alerts", "incidents"] {
        stack.database.await_count(table, 2);
    }
    assert!(stack.cluster.read_settled(&topics.dead_letters).is_empty());
    let alert: (String, u32, String, String, u32, u64, i64) = stack.database.one(
        "SELECT DISTINCT basis, seq, reason, window, width_seconds, numerator, \
         toUnixTimestamp64Micro(window_from) FROM alerts",
    );
    let expected = ("campaign".into(), 3, "closed".into(), "campaign".into(), 0, 30, 40_000_000);
    assert_eq!(alert, expected);
    let as_of: Vec<(u16, u64)> = stack
        .database
        .one("SELECT DISTINCT CAST(as_of AS Array(Tuple(UInt16, UInt64))) FROM alerts");
    assert_eq!(as_of, [(0, 12), (5, 7)]);
    let incident: (String, String, String, String, Vec<String>, String, u64) = stack.database.one(
        "SELECT DISTINCT id, group, group_of, lead_scope, episode_ids, judged, cause_rest_volume FROM incidents",
    );
    let episodes = vec!["000102030405060708090a0b0c0d0e0f".to_owned(), "1".repeat(32)];
    assert_eq!(
        incident,
        (
            "f0".repeat(16),
            "source".into(),
            "ses/acme".into(),
            key.into(),
            episodes,
            "true".into(),
            10
        )
    );
    archive.await_ready();
}

#[test]
fn time_records_become_neither_rows_nor_dead_letters() {
    let stack = Stack::new();
    let topic = &stack.cluster.topics.events;
    let time =
        |time: &[u8], partition| Outgoing::new(topic, "", "").on(partition).header("time", time);
    stack.produce(&[time(b"1", 0), time(b"1", 1)], 2);
    produce_events(&stack, 0, 20);
    // Without a transaction, whose marker would follow the last record.
    stack.cluster.produce(&[time(b"2", 0), time(b"2", 1)]);
    let archive = stack.start();
    assert_each_once(&stack, 20);
    stack.cluster.await_all_read(&stack.cluster.topics.group("archive"), topic);

    // A partition without events is committed too, so that it does not fall behind its retention.
    stack.cluster.produce(&[time(b"3", 0)]);
    stack.cluster.await_all_read(&stack.cluster.topics.group("archive"), topic);
    assert!(stack.cluster.read_settled(&stack.cluster.topics.dead_letters).is_empty());
    let committed = stack.cluster.committed(&stack.cluster.topics.group("archive"), topic);
    let ledgers: Vec<_> = committed.into_iter().flatten().map(|it| it.metadata).collect();
    assert_eq!(ledgers, ["@10,10,0,0,0"; 2], "read, passed, dropped, dead letters, redriven");
    archive.await_ready();
}
