//! Each record becomes one row, whichever process is killed, and whenever.

use std::time::Duration;

use harness::{DEADLINE, eventually, seen};
use kafka::ledger::Ledger;
use kafka::ranges::{Polled, Range, Ranges};
use kafka::{Connection, Offset, TopicPartition};

use crate::records::{assert_each_once, produce_events, produce_events_to};
use crate::stack::Stack;

#[test]
fn archive_killed_repeatedly_in_the_middle_of_its_work() {
    const EVENTS: usize = 24_000;
    let stack = Stack::new();
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let stack = &stack;
            for from in (0..EVENTS).step_by(3000) {
                produce_events(stack, from, from + 3000);
            }
        });
        for _ in 0..8 {
            let mut archive = stack.start();
            // Kill it as soon as rows are visible: their range is pending, and not committed yet.
            let before = stack.database.count("events");
            eventually("more rows", DEADLINE, || {
                let is_done = producer.is_finished() && before == EVENTS as u64;
                seen(stack.database.count("events"), |rows| *rows > before || is_done)
            });
            archive.kill();
        }
        producer.join().unwrap();
    });
    let _archive = stack.start();
    assert_each_once(&stack, EVENTS);
    let passed = settle(&stack);
    assert_each_once(&stack, EVENTS);
    assert_eq!(passed, EVENTS as u64, "the ledger counts each once");
}

/// Waits until the group has committed every record of `mail.events` and no range is pending: an insert
/// repeated by mistake would be visible then. Returns how many rows the ledger counts.
fn settle(stack: &Stack) -> u64 {
    let topics = &stack.cluster.topics;
    let committed = eventually("every record to be committed", DEADLINE, || {
        let committed = stack.cluster.committed(&topics.group("archive"), &topics.events);
        let is_done = |(partition, committed): (usize, &Option<harness::Committed>)| {
            let last: u64 = stack.database.one(&format!(
                "SELECT max(kafka_offset) FROM events WHERE kafka_partition = {partition}"
            ));
            committed.as_ref().is_some_and(|committed| {
                // A pending range is in front of the ledger.
                committed.metadata.starts_with('@') && committed.offset > last.cast_signed()
            })
        };
        seen(committed, |committed| committed.iter().enumerate().all(is_done))
    });
    let passed = committed.iter().flatten().map(|committed| {
        let (_, ledger) = committed.metadata.rsplit_once('@').unwrap();
        ledger.split(',').nth(1).unwrap().parse::<u64>().unwrap()
    });
    passed.sum()
}

/// Commits the beginning of the range with the range as pending, as its previous owner has left it.
fn make_pending(stack: &Stack, partition: i32, range: Range) {
    let connection = Connection {
        bootstrap: stack.cluster.bootstrap.clone(),
        instance: "test".into(),
        group_protocol: "consumer".into(),
        compression: "lz4".into(),
        properties: stack.cluster.properties(),
        ..Default::default()
    };
    let topics: Vec<&str> = vec![&stack.cluster.topics.events];
    let group = stack.cluster.topics.group("archive");
    let ranges = Ranges::open(&connection, "archive", &group, &topics, 2).unwrap();
    let of = TopicPartition { topic: stack.cluster.topics.events.clone(), partition };
    let mut is_owned = false;
    eventually("the partition to be assigned", DEADLINE, || {
        ranges
            .poll::<kafka::Error>(Duration::from_millis(50), |polled| {
                if let Polled::Assigned(assigned) = polled {
                    is_owned |= assigned.iter().any(|a| a.partition == of);
                }
                Ok(())
            })
            .unwrap();
        is_owned
    });
    ranges.mark_pending(std::iter::once((&of, range, Ledger::default()))).unwrap();
}

const fn range(first: u64, last: u64) -> Range {
    Range { first: Offset(first.cast_signed()), last: Offset(last.cast_signed()) }
}

/// Archives the events `0..count`, and kills archive when all of them are committed.
fn archived(stack: &Stack, count: usize) {
    produce_events(stack, 0, count);
    let mut archive = stack.start();
    assert_each_once(stack, count);
    settle(stack);
    archive.kill();
}

/// Returns the range of the last insert into a partition: from the offset after the previous insert to
/// the last row.
fn last_insert(stack: &Stack, partition: i32) -> Range {
    let (before, last): (u64, u64) = stack.database.one(&format!(
        "SELECT arraySort(groupArray(last))[-2], arraySort(groupArray(last))[-1] FROM \
         (SELECT max(kafka_offset) AS last FROM events WHERE kafka_partition = {partition} \
         GROUP BY _block_number)"
    ));
    range(before + 1, last)
}

/// Returns the number of inserts and of rows in a range.
fn inserts_in(stack: &Stack, range: Range) -> (u64, u64) {
    let Range { first, last } = range;
    stack.database.one(&format!(
        "SELECT uniqExact(_block_number), count() FROM events \
         WHERE kafka_partition = 0 AND kafka_offset BETWEEN {first} AND {last}"
    ))
}

#[test]
fn a_pending_range_that_was_not_inserted_is_inserted_exactly() {
    let stack = Stack::new();
    produce_events(&stack, 0, 4000);
    // It ends within a transaction, and is larger than a batch.
    let range = range(0, 1234);
    make_pending(&stack, 0, range);
    let _archive = stack.start();
    stack.database.await_count("events", 4000);
    assert_eq!(inserts_in(&stack, range).0, 1, "one block");
    let next: u64 = stack.database.one(
        "SELECT min(_block_number) FROM events WHERE kafka_partition = 0 AND kafka_offset > 1234",
    );
    let of_range: u64 = stack.database.one(
        "SELECT max(_block_number) FROM events WHERE kafka_partition = 0 AND kafka_offset <= 1234",
    );
    assert!(next > of_range, "the insert ends at the last offset");
    assert_each_once(&stack, 4000);
}

#[test]
fn a_pending_range_that_was_inserted_changes_nothing() {
    let stack = Stack::new();
    archived(&stack, 4000);
    make_pending(&stack, 0, last_insert(&stack, 0));
    let _archive = stack.start();
    settle(&stack);
    assert_each_once(&stack, 4000);
}

/// The condition for events that count, as in the views. Some were admitted by shadow mode only and count.
const COUNTED: &str = "(authentic OR seen > 0 OR notEmpty(counts))";

/// The rollups of the events in these tests, and the start of the slot of time of a row.
const SLOTS: [(&str, &str, &str); 3] = [
    ("traffic", "at15", "toStartOfFifteenMinutes(toDateTime(at, 'UTC'))"),
    ("cohorts", "sent_hour", "toStartOfHour(toDateTime(assumeNotNull(sent), 'UTC'))"),
    ("traffic_domain", "day", "toDate(at, 'UTC')"),
];

#[test]
fn beyond_the_deduplication_window_only_missing_rows_are_inserted() {
    let stack = Stack::new();
    archived(&stack, 4000);
    // Two rows of the last insert are missing, and the sums of its hours. ClickHouse no longer knows
    // the token of that insert, because another partition had more inserts since than it remembers.
    let range = last_insert(&stack, 0);
    let Range { first, last } = range;
    for (table, slot, of_row) in SLOTS {
        stack.database.execute(&format!(
            "ALTER TABLE {table} DELETE WHERE kafka_partition = 0 AND {slot} IN (SELECT {of_row} \
             FROM {}.events WHERE kafka_partition = 0 AND kafka_offset BETWEEN {first} AND {last}) \
             SETTINGS mutations_sync = 2",
            stack.database.name
        ));
    }
    stack.database.execute(&format!(
        "ALTER TABLE message_life DELETE WHERE message_id IN (SELECT message_id FROM {}.events \
         WHERE kafka_partition = 0 AND kafka_offset BETWEEN {first} AND {last}) \
         SETTINGS mutations_sync = 2",
        stack.database.name
    ));
    stack.database.execute(&format!(
        "ALTER TABLE events DELETE WHERE kafka_partition = 0 AND kafka_offset > {} \
         SETTINGS mutations_sync = 2",
        last.0 - 2
    ));
    assert_eq!(stack.database.count("events"), 3998);
    stack
        .database
        .execute("ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 1");
    let mut archive = stack.start();
    produce_events_to(&stack, 4000..6000, |_| 1);
    stack.database.await_count("events", 5998);
    archive.kill();

    make_pending(&stack, 0, range);
    let _archive = stack.start();
    stack.database.await_count("events", 6000);
    settle(&stack);
    let (rows, distinct): (u64, u64) =
        stack.database.one("SELECT count(), uniqExact(event_id) FROM events");
    assert_eq!((rows, distinct), (6000, 6000));
    assert_sums_match_rows(&stack);
}

/// Deletes rows and keeps their tokens, as ClickHouse does if it is killed between writing the two.
fn lose_rows(stack: &Stack, table: &str, range: Range) {
    let Range { first, last } = range;
    // The deletion may leave an empty part. When ClickHouse removes that, it also forgets its token.
    stack.database.execute(&format!("ALTER TABLE {table} MODIFY SETTING remove_empty_parts = 0"));
    stack.database.execute(&format!(
        "ALTER TABLE {table} DELETE WHERE kafka_partition = 0 \
         AND kafka_offset BETWEEN {first} AND {last} SETTINGS mutations_sync = 2"
    ));
}

#[test]
fn rows_that_are_missing_although_their_token_is_known_are_inserted_again() {
    let stack = Stack::new();
    archived(&stack, 4000);
    let whole = last_insert(&stack, 0);
    // First all rows of an insert are lost, then the second half of those inserted again.
    let half = Range { first: Offset(i64::midpoint(whole.first.0, whole.last.0)), ..whole };
    for lost in [whole, half] {
        lose_rows(&stack, "events", lost);
        assert!(stack.database.count("events") < 4000);
        make_pending(&stack, 0, whole);
        let mut archive = stack.start();
        settle(&stack);
        assert_each_once(&stack, 4000);
        assert_sums_match_rows(&stack);
        archive.kill();
    }
    // The third time, every token so far is known.
    lose_rows(&stack, "events", whole);
    make_pending(&stack, 0, whole);
    let _archive = stack.start();
    settle(&stack);
    assert_each_once(&stack, 4000);
    assert_sums_match_rows(&stack);
}

/// A view can lose its rows in the same way.
#[test]
fn sums_that_are_missing_although_their_token_is_known_are_restored() {
    let stack = Stack::new();
    archived(&stack, 4000);
    let range = last_insert(&stack, 0);
    for (table, ..) in SLOTS {
        stack.database.execute(&format!(
            "ALTER TABLE {table} DELETE WHERE kafka_partition = 0 SETTINGS mutations_sync = 2"
        ));
    }
    stack.database.execute("TRUNCATE TABLE message_life");
    make_pending(&stack, 0, range);
    let _archive = stack.start();
    settle(&stack);
    let Range { first, last } = range;
    for (table, slot, of_row) in SLOTS {
        let sum = if table == "traffic" { "events" } else { "delivered + engaged" };
        let (slots, expected): (u64, u64) = stack.database.one(&format!(
            "SELECT (SELECT uniqExact({slot}) FROM {table} WHERE kafka_partition = 0 AND {sum} > 0), \
             (SELECT uniqExact({of_row}) FROM events WHERE kafka_partition = 0 \
             AND kafka_offset BETWEEN {first} AND {last} AND (notEmpty(counts) OR '{table}' = 'traffic'))"
        ));
        assert!(slots >= expected && expected > 0, "{table}: {slots} of {expected} slots");
    }
    let (lives, rows): (u64, u64) = stack.database.one(&format!(
        "SELECT (SELECT count() FROM message_life FINAL), (SELECT count() FROM events \
         WHERE kafka_partition = 0 AND kafka_offset BETWEEN {first} AND {last} AND {COUNTED})"
    ));
    assert!(lives == rows && rows > 100, "{lives} lives of {rows} rows");
}

/// Rows from before the rollups, and rows from before `counts`, of which the kinds tell what they count for.
#[test]
fn rows_of_earlier_releases_enter_the_rollups() {
    let stack = Stack::new();
    archived(&stack, 2000);
    stack.database.execute(
        "ALTER TABLE events UPDATE counts = [], corrections = '', \
         archived_at = toDateTime64('2020-01-01 00:00:00', 3, 'UTC') \
         WHERE kafka_partition = 0 SETTINGS mutations_sync = 2",
    );
    let tables =
        SLOTS.map(|(table, ..)| table).into_iter().chain(["message_life", "rollups_filled"]);
    tables.for_each(|table| stack.database.execute(&format!("TRUNCATE TABLE {table}")));
    let _archive = stack.start();
    produce_events(&stack, 2000, 2400);
    stack.database.await_count("events", 2400);
    settle(&stack);
    let (old, expected): (i64, i64) = stack.database.one(
        "SELECT (SELECT toInt64(sum(delivered)) FROM traffic WHERE kafka_partition = 0), \
         (SELECT toInt64(countIf(kind = 'delivered' AND archived_at < '2021-01-01') \
         + countIf(has(counts, 'delivered'))) FROM events WHERE kafka_partition = 0)",
    );
    assert!(old == expected && expected > 100, "{old} of {expected} deliveries");
    let (sums, rows): (u64, u64) = stack
        .database
        .one("SELECT (SELECT toUInt64(sum(events)) FROM traffic), (SELECT count() FROM events)");
    assert_eq!((sums, rows), (2400, 2400));
    let (lives, expected): (u64, u64) = stack.database.one(&format!(
        "SELECT (SELECT count() FROM message_life FINAL), (SELECT countIf({COUNTED}) FROM events)"
    ));
    assert_eq!(lives, expected);
    let filled: u64 = stack.database.one("SELECT count() FROM rollups_filled FINAL");
    assert_eq!(filled, 2);
}

/// Asserts that every sum and every life is that of the rows.
fn assert_sums_match_rows(stack: &Stack) {
    const COUNTERS: &str = "sum(delivered) AS delivered, sum(deferred) AS deferred, \
        sum(bounced_soft) AS bounced_soft, sum(engaged) AS engaged";
    const OF_COHORTS: &str = "sum(delivered) AS delivered, sum(bounced_soft) AS bounced_soft, \
        sum(engaged) AS engaged";
    let pairs = [
        (
            format!("SELECT source, at15 AS slot, {COUNTERS} FROM traffic GROUP BY ALL"),
            format!(
                "SELECT source, toStartOfFifteenMinutes(toDateTime(counted_at, 'UTC')) AS slot, \
                 {COUNTERS} FROM message_counts GROUP BY ALL"
            ),
        ),
        (
            format!("SELECT source, sent_hour AS slot, {OF_COHORTS} FROM cohorts GROUP BY ALL"),
            format!(
                "SELECT source, toStartOfHour(toDateTime(message_sent_at, 'UTC')) AS slot, \
                 {OF_COHORTS} FROM message_counts WHERE message_sent_at IS NOT NULL GROUP BY ALL"
            ),
        ),
        (
            format!("SELECT source, day AS slot, {COUNTERS} FROM traffic_domain GROUP BY ALL"),
            format!(
                "SELECT source, toDate(counted_at, 'UTC') AS slot, {COUNTERS} \
                 FROM message_counts GROUP BY ALL"
            ),
        ),
    ];
    for (found, expected) in pairs {
        let rows: u64 = stack.database.one(&format!("SELECT toUInt64(count()) FROM ({expected})"));
        assert!(rows > 2, "{rows}: {expected}");
        for (these, those) in [(&found, &expected), (&expected, &found)] {
            let filled = "(delivered, engaged) != (0, 0)";
            let only =
                format!("SELECT * FROM ({these}) WHERE {filled} EXCEPT SELECT * FROM ({those})");
            let only: u64 = stack.database.one(&format!("SELECT toUInt64(count()) FROM ({only})"));
            assert_eq!(only, 0, "{these} has rows that are not in {those}");
        }
    }
    let (lives, expected): (u64, u64) = stack.database.one(&format!(
        "SELECT (SELECT toUInt64(count()) FROM message_life FINAL), \
         (SELECT uniqExact(source, recipient, message_id, provider) FROM events WHERE {COUNTED})"
    ));
    assert_eq!(lives, expected, "lives of messages");
}

#[test]
fn clickhouse_killed_repeatedly_in_the_middle_of_its_work() {
    const EVENTS: usize = 12_000;
    let dirs = devstack::Dirs::new().unwrap();
    let mut clickhouse = devstack::ClickHouse::start_own(&dirs).unwrap();
    let stack = Stack::on(clickhouse.url());
    let archive = stack.start();
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            for from in (0..EVENTS).step_by(1000) {
                produce_events(&stack, from, from + 1000);
            }
        });
        for round in 1..=3 {
            eventually("more rows", DEADLINE, || {
                seen(stack.database.count("events"), |rows| *rows >= round * 1500)
            });
            clickhouse.kill().unwrap();
            archive.await_unready("clickhouse_away");
            let held = "mailpulse_archive_partition_held";
            archive.await_metric(held, &[("reason", "clickhouse_away")], |held| held > 0.0);
            clickhouse.restart().unwrap();
        }
        producer.join().unwrap();
    });
    assert_each_once(&stack, EVENTS);
    archive.await_ready();
    settle(&stack);
    assert_each_once(&stack, EVENTS);
}
