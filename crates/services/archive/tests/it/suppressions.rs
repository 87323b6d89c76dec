//! Records of `mail.suppressions` become rows of `suppressions`, and its view tells what suppresses now.

use std::collections::BTreeSet;

use archive::tables::{Coordinates, Suppressions};
use harness::{DEADLINE, Outgoing, eventually, seen};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use suppression::entry::{EntryFacts, EntryValue, Evidence};
use suppression::table::Table;
use suppression::{Author, EntryKey, Purpose, Reason, RecipientDigest, State, standing};

use crate::stack::Stack;

const SECOND: i64 = 1_000_000;

/// The columns that follow from a record, in the order of [`columns`].
const COLUMNS: &str = "[list, recipient, reason, scope, author, state, purpose, toString(toUnixTimestamp64Micro(since)), \
    toString(toUnixTimestamp64Micro(expires_at)), toString(provisional), event_id, provider, mailbox_provider, status, \
    wording, incident]";

fn key(author: Author) -> EntryKey<'static> {
    EntryKey {
        list: "ses/news".into(),
        recipient: RecipientDigest([7; 16]),
        reason: Reason::HardBounce,
        scope: "".into(),
        author,
    }
}

/// Returns a value with every field that any has.
fn full() -> EntryValue {
    let key =
        EntryKey { scope: "weekly".into(), reason: Reason::Unsubscribe, ..key(Author::Event) };
    EntryValue {
        purpose: Some(Purpose::Marketing),
        expires_at: Some(1_795_255_999_000_000),
        provisional: true,
        evidence: Evidence {
            event_id: Some("01".repeat(16)),
            provider: Some("ses".to_owned()),
            mailbox_provider: Some("gmail".to_owned()),
            status: Some("5.1.1".to_owned()),
            wording: Some("550 5.1.1 <address> é".to_owned()),
            note: Some("a note of ada@example.com".to_owned()),
            who: Some("token ops@192.0.2.1".to_owned()),
            incident: Some("f0".repeat(16)),
        },
        ..EntryValue::new(&key, State::Suppressed, 1_795_255_201_000_001)
    }
}

/// Returns a value with no more fields than every one has.
fn least() -> EntryValue {
    EntryValue::new(&key(Author::Lift), State::Lifted, 1_795_255_202_000_000)
}

/// Returns the record as `suppress` writes it.
fn record(stack: &Stack, value: &EntryValue) -> Outgoing {
    let key = EntryKey {
        list: value.list.clone().into(),
        recipient: value.recipient.parse().unwrap(),
        reason: value.reason,
        scope: value.scope.clone().into(),
        author: value.author,
    };
    let json = serde_json::to_vec(value).unwrap();
    Outgoing::new(&stack.cluster.topics.suppressions, key.to_string(), json).on(0)
}

/// Returns what [`COLUMNS`] must have.
fn columns(value: &EntryValue) -> Vec<Option<String>> {
    let text = |text: &Option<String>| Some(text.clone().unwrap_or_default());
    let Evidence { event_id, provider, mailbox_provider, status, wording, incident, .. } =
        &value.evidence;
    vec![
        Some(value.list.clone()),
        Some(value.recipient.clone()),
        Some(value.reason.as_str().to_owned()),
        Some(value.scope.clone()),
        Some(value.author.as_str().to_owned()),
        Some(value.state.as_str().to_owned()),
        Some(value.purpose.map_or("", Purpose::as_str).to_owned()),
        Some(value.since.to_string()),
        value.expires_at.map(|at| at.to_string()),
        Some(value.provisional.to_string()),
        text(event_id),
        text(provider),
        text(mailbox_provider),
        text(status),
        text(wording),
        text(incident),
    ]
}

/// Returns a time before the present that no retention has reached, in UTC milliseconds.
#[allow(clippy::disallowed_methods, reason = "Kafka stores the time of a record")]
fn an_hour_ago() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap() - 3_600_000
}

#[test]
fn rows_equal_records_and_name_nobody() {
    let stack = Stack::new();
    let topic = &stack.cluster.topics.suppressions;
    let written_at = an_hour_ago();
    let unreadable = Outgoing::new(topic, key(Author::Event).to_string(), "{\"list\":").on(0);
    stack.produce(
        &[
            record(&stack, &full()).written_at(written_at),
            unreadable,
            record(&stack, &least()).written_at(written_at + 1),
            Outgoing::tombstone(topic, "no key of an entry").on(0),
            Outgoing::tombstone(topic, key(Author::Lift).to_string())
                .on(0)
                .written_at(written_at + 2),
        ],
        2,
    );
    let archive = stack.start();
    stack.database.await_count("suppressions", 3);
    stack.database.await_count("dead_letters", 2);
    let rows: Vec<(Vec<Option<String>>, i64)> = stack.database.one(&format!(
        "SELECT groupArray(({COLUMNS}, toUnixTimestamp64Micro(assumeNotNull(written_at)))) \
         FROM (SELECT * FROM suppressions ORDER BY kafka_offset)"
    ));
    let mut forgotten = columns(&least());
    forgotten[5] = Some("forgotten".to_owned());
    forgotten[7] = None;
    let expected = [
        (columns(&full()), written_at * 1_000),
        (columns(&least()), (written_at + 1) * 1_000),
        (forgotten, (written_at + 2) * 1_000),
    ];
    assert_eq!(rows, expected);
    let dead: Vec<(String, String)> = stack.database.one(
        "SELECT groupArray((reason, value)) FROM (SELECT * FROM dead_letters ORDER BY kafka_partition, kafka_offset)",
    );
    let expected = [("not_json", "{\"list\":"), ("wrong_shape", "")];
    assert_eq!(dead, expected.map(|(reason, value)| (reason.to_owned(), value.to_owned())));
    for text in ["ada", "token"] {
        let named: u64 = stack.database.one(&format!(
            "SELECT countIf(position(toString(tuple(*)), '{text}') > 0) FROM suppressions"
        ));
        assert_eq!(named, 0, "{text}: who and note are left out");
    }
    archive.await_ready();
}

#[test]
fn archive_killed_repeatedly_stores_each_change_once() {
    const RECORDS: u64 = 9_000;
    let stack = Stack::new();
    let value = |n: u64| {
        let key = EntryKey {
            recipient: RecipientDigest(u128::from(n).to_be_bytes()),
            ..key(Author::Event)
        };
        EntryValue::new(&key, State::Suppressed, n.cast_signed())
    };
    let records: Vec<Outgoing> = (0..RECORDS)
        .map(|n| record(&stack, &value(n)).on(i32::from(n.is_multiple_of(3))))
        .collect();
    stack.produce(&records, 100);
    for _ in 0..5 {
        let mut archive = stack.start();
        let before = stack.database.count("suppressions");
        // Its range is pending when its rows become visible.
        eventually("more rows", DEADLINE, || {
            seen(stack.database.count("suppressions"), |rows| *rows > before || before == RECORDS)
        });
        archive.kill();
    }
    let _archive = stack.start();
    stack.database.await_count("suppressions", RECORDS);
    let topics = &stack.cluster.topics;
    let group = topics.group("archive");
    // Without the marker of the transaction, which follows the last record.
    let ends = stack.cluster.end_offsets(&topics.suppressions);
    eventually("every record to be committed", DEADLINE, || {
        let committed = stack.cluster.committed(&group, &topics.suppressions);
        let is_done = committed.iter().zip(&ends).all(|(committed, end)| {
            // A pending range is in front of the ledger.
            committed
                .as_ref()
                .is_some_and(|it| it.metadata.starts_with('@') && it.offset >= end - 1)
        });
        if is_done { Ok(()) } else { Err(format!("{committed:?}")) }
    });
    let found: (u64, u64) = stack.database.one(
        "SELECT (count(), uniqExact(recipient, toUnixTimestamp64Micro(assumeNotNull(since)))) FROM suppressions",
    );
    assert_eq!(found, (RECORDS, RECORDS));
}

/// An entry that suppresses: list, recipient, reason, scope, and since when in seconds.
type Suppressed = (String, String, String, String, i64);

#[test]
fn the_view_says_what_the_service_says() {
    let stack = Stack::without_topics();
    stack.database.create();
    stack.migrate();
    let mut rng = StdRng::seed_from_u64(23);
    // Half an hour away from every full hour before the present, so that nothing expires during the test.
    let present = an_hour_ago() / 1_000 + 3_600;
    let hours_ago = |hours: i64| present - 1_800 - hours * 3_600;
    let (mut rows, table) = (Suppressions::default(), Table::default());
    let mut recipients = BTreeSet::new();
    for offset in 0..6_000_u64 {
        let recipient = RecipientDigest([rng.random_range(0..150); 16]);
        recipients.insert(recipient.to_string());
        let key = EntryKey {
            list: ["ses/news", "global"][rng.random_range(0..2)].into(),
            recipient,
            reason: [Reason::SoftBounces, Reason::Unsubscribe][rng.random_range(0..2)],
            scope: ["", "weekly"][rng.random_range(0..2)].into(),
            author: Author::ALL[rng.random_range(0..3)],
        };
        let at = Coordinates { partition: 0, offset };
        let text = key.to_string();
        if rng.random_range(0..8) == 0 {
            rows.push(at, None, text.as_bytes(), None).unwrap();
            table.apply(&key, None);
            continue;
        }
        // Few different times, so that lifts meet states of the same second.
        let since = hours_ago(rng.random_range(0..20)) + rng.random_range(0..2);
        let state = if key.author == Author::Lift {
            State::Lifted
        } else {
            State::ALL[rng.random_range(0..2)]
        };
        let mut value = EntryValue::new(&key, state, since * SECOND + rng.random_range(0..SECOND));
        // Less than an hour, too, which counts as a whole one.
        let lasts = rng.random_range(0..20) * 3_600 + rng.random_range(-1_500..1_500);
        value.expires_at = (rng.random_range(0..3) == 0).then_some((since + lasts) * SECOND);
        let json = serde_json::to_vec(&value).unwrap();
        rows.push(at, None, text.as_bytes(), Some(&json)).unwrap();
        table.apply(&key, Some(EntryFacts::from(&value)));
    }
    stack.insert(archive::tables::Table::Suppressions, &rows.finish());

    let mut expected: Vec<Suppressed> = Vec::new();
    let mut entries = 0;
    for recipient in &recipients {
        let rows = table.of(recipient.parse().unwrap());
        for entry in standing::entries(&rows, None, present) {
            entries += 1;
            if entry.state == State::Suppressed {
                let standing::Entry { list, reason, scope, since, .. } = entry;
                let reason = reason.as_str().to_owned();
                expected.push((list, recipient.clone(), reason, scope, since));
            }
        }
    }
    expected.sort();
    assert!(expected.len() > 200 && entries > expected.len() + 200, "{} {entries}", expected.len());
    let found: Vec<Suppressed> = stack.database.one(
        "SELECT arraySort(groupArray((list, recipient, reason, scope, toInt64(toUnixTimestamp(since))))) \
         FROM suppressed_now",
    );
    assert_eq!(found, expected);
    // The setting makes the entries without a tombstone join NULL.
    let with_nulls: u64 =
        stack.database.one("SELECT count() FROM suppressed_now SETTINGS join_use_nulls = 1");
    assert_eq!(with_nulls, expected.len() as u64);
    let over: u64 =
        stack.database.one("SELECT count() FROM suppressed_now WHERE expires_at <= now()");
    assert_eq!(over, 0);
}
