//! Every record of every topic becomes a row with the same content.

use std::ops::Range;

use harness::Outgoing;

use crate::stack::{Stack, record};

pub const RATE: &[u8] = br#"{"scope":"source","provider":"ses","source":"acme","width":"1m","end":60000000,"revision":0,"counts":{"accepted":4},"rates":{"sent":4,"sent_is_estimated":false,"accepted_by_recipient":0,"bounce":0.0,"hard_bounce":0.0,"complaint":null,"unsubscribe":null,"open":null,"click":null,"engagement":null}}"#;
pub const ALERT: &[u8] = br#"{"episode_id":"000102030405060708090a0b0c0d0e0f","rule":"bounce_rate","scope":"source","provider":"ses","source":"acme","severity":"warning","state":"firing","metric":"bounce","width":"5m","value":0.075,"threshold":0.05,"volume":200,"started_at":50000000,"at":60000000,"runbook":"docs/runbooks.md","summary":"too many"}"#;

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
