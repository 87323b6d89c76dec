//! Settings and tables with which archive does not start, and records that become dead letters.

use crate::records::{RATE, assert_each_once, await_rollup, produce_events};
use crate::stack::{Stack, record};
use harness::{DEADLINE, Launch, Service, eventually, seen};

/// Runs archive, which must end by itself with an error, and returns its output.
fn error(launch: Launch) -> String {
    let (status, output) = launch.run();
    assert!(!status.success(), "{output}");
    output
}

#[test]
fn archive_does_not_start_on_a_table_without_a_deduplication_window() {
    let stack = Stack::without_topics();
    stack.migrate();
    for table in ["events", "traffic", "message_life", "dead_letters"] {
        let set = |n| {
            stack.database.execute(&format!(
                "ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = {n}"
            ));
        };
        set(0);
        let error = error(stack.launch());
        assert!(error.contains("deduplication_off"), "{error}");
        assert!(error.contains(&format!("ALTER TABLE {}.{table}", stack.database.name)), "{error}");
        set(10_000);
    }
}

#[test]
fn archive_does_not_start_without_a_table() {
    let stack = Stack::without_topics();
    stack.migrate();
    stack.database.execute("DROP TABLE alerts SYNC");
    let error = error(stack.launch().env("MAILPULSE__ARCHIVE__MIGRATE", "false"));
    assert!(error.contains("table_missing") && error.contains("alerts"), "{error}");
}

#[test]
fn archive_does_not_start_if_an_applied_migration_has_changed() {
    let stack = Stack::without_topics();
    stack.migrate();
    stack.database.execute("ALTER TABLE schema_migrations UPDATE checksum = 'x' WHERE version = 2 SETTINGS mutations_sync = 2");
    let error = error(stack.launch());
    assert!(error.contains("migration_changed") && error.contains("0002_rates.sql"), "{error}");
}

#[test]
fn a_record_that_cannot_be_stored_affects_no_other() {
    let stack = Stack::new();
    stack.migrate();
    stack.database.execute("ALTER TABLE events ADD CONSTRAINT no_poison CHECK recipient NOT IN ('u77@example.com', 'u1400@example.com')");
    produce_events(&stack, 0, 1000);
    let topic = stack.cluster.topics.events.as_str();
    let first: [(&str, &[u8]); 2] = [("first", b"often"), ("x", b"kept")];
    let opened = br#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"opened","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"provider_event":"Open","request_id":"r","raw":1}"#;
    let unreadable = [
        record(topic, 0, b"{\"event_id\":", &[]),
        record(topic, 0, b"{}", &[]),
        record(topic, 0, opened, &first),
    ];
    stack.produce(&unreadable, 2);
    produce_events(&stack, 1000, 2000);
    let archive = stack.start();
    stack.database.await_count("events", 1998);
    stack.database.await_count("dead_letters", 5);
    let reasons: String = stack.database.one(
        "SELECT arrayStringConcat(arraySort(groupArray(reason)), ' ') FROM dead_letters \
         WHERE stage = 'archive'",
    );
    assert_eq!(reasons, "bad_headers not_json row_refused row_refused wrong_shape");
    let refused: (String, u64) = stack.database.one(
        "SELECT arrayStringConcat(arraySort(groupArray(JSONExtractString(value, 'recipient'))), ' '), \
         countIf(detail LIKE '%no_poison%' AND origin LIKE '%mail.events/%') \
         FROM dead_letters WHERE reason = 'row_refused'",
    );
    assert_eq!(refused, ("u1400@example.com u77@example.com".into(), 2));
    let kept: (String, String) = stack
        .database
        .one("SELECT headers['x'], hex(key) FROM dead_letters WHERE reason = 'bad_headers'");
    assert_eq!(kept, ("kept".into(), hex::encode_upper("ada@example.com")));
    assert_eq!(stack.database.one::<u64>("SELECT uniqExact(event_id) FROM events"), 1998);
    await_rollup(&stack, 1998);
    archive.await_ready();
}

#[test]
fn a_lost_offset_holds_its_partition_until_an_operator_accepts_another() {
    let stack = Stack::new();
    stack.migrate();
    produce_events(&stack, 0, 100);
    let mut archive = stack.start();
    assert_each_once(&stack, 100);
    archive.stop();
    let (events, group) =
        (stack.cluster.topics.events.clone(), stack.cluster.topics.group("archive"));
    let next: Vec<i64> = stack.cluster.end_offsets(&events);
    stack.cluster.delete_group(&group);
    produce_events(&stack, 100, 150);
    let mut archive = stack.start();
    await_held(&archive, "offset_lost", 2);
    archive.stop();
    assert_eq!(stack.database.count("events"), 100, "nothing is inserted again");
    let connection = kafka::Connection {
        bootstrap: stack.cluster.bootstrap.clone(),
        compression: "lz4".to_owned(),
        properties: stack.cluster.properties(),
        ..kafka::Connection::default()
    };
    for (partition, next) in (0..).zip(next) {
        let partition = kafka::TopicPartition { topic: events.clone(), partition };
        let topic = &stack.cluster.topics.positions;
        let next = kafka::NextOffset(next);
        kafka::positions::accept(&connection, topic, &group, &partition, next).unwrap();
    }
    let _archive = stack.start();
    assert_each_once(&stack, 150);
}

#[test]
fn an_offset_that_went_back_holds_its_partition() {
    let stack = Stack::new();
    stack.migrate();
    produce_events(&stack, 0, 100);
    let mut archive = stack.start();
    assert_each_once(&stack, 100);
    archive.stop();
    let (events, group) =
        (stack.cluster.topics.events.clone(), stack.cluster.topics.group("archive"));
    stack.cluster.commit(&group, &events, 10);
    let archive = stack.start();
    await_held(&archive, "offset_went_back", 1);
    archive.await_unready("offset_went_back");
    assert_only_the_other_partition_continues(&stack);
}

#[test]
fn a_partition_that_lost_records_is_held_and_the_others_continue() {
    let stack = Stack::new();
    stack.migrate();
    let (events, group) =
        (stack.cluster.topics.events.clone(), stack.cluster.topics.group("archive"));
    stack.cluster.commit(&group, &events, 5_000);
    let archive = stack.start();
    await_held(&archive, "offset_beyond_end", 1);
    assert_only_the_other_partition_continues(&stack);
    archive.await_unready("offset_beyond_end");
}

/// Produces events to both partitions, and asserts that only those of partition 1 are archived.
fn assert_only_the_other_partition_continues(stack: &Stack) {
    let count =
        |partition: i32| format!("SELECT countIf(kafka_partition = {partition}) FROM events");
    let before: [u64; 2] = [0, 1].map(|partition| stack.database.one(&count(partition)));
    produce_events(stack, 1_000, 1_100);
    let wanted = before[1] + 50;
    stack.database.await_one("50 more rows", &count(1), |rows: &u64| *rows == wanted);
    assert_eq!(stack.database.one::<u64>(&count(0)), before[0]);
}

/// Waits until `count` partitions are held for a reason.
fn await_held(archive: &Service, reason: &str, count: usize) {
    eventually(&format!("{count} partitions to be held"), DEADLINE, || {
        let labels = [("reason", reason)];
        let held = archive.metrics().count("mailpulse_archive_partition_held", &labels, 1.0);
        seen(held, |held| *held == count)
    });
}

#[test]
fn many_dead_letters_in_a_row_hold_the_partition() {
    let stack = Stack::new();
    stack.migrate();
    stack.database.execute("ALTER TABLE events ADD CONSTRAINT nothing CHECK provider = 'none'");
    produce_events(&stack, 0, 100);
    let archive = stack.launch().env("MAILPULSE__ARCHIVE__REFUSAL_LIMIT", "5").spawn();
    await_held(&archive, "refusals", 2);
    // The metric changes before the health does.
    archive.await_unready("refusals");
    // Other topics are still archived.
    stack.produce(&[record(&stack.cluster.topics.rates, 0, RATE, &[])], 1);
    stack.database.await_count("rates", 1);
    assert_eq!(stack.database.count("events"), 0);
    let dead_letters = stack.cluster.read_settled(&stack.cluster.topics.dead_letters);
    assert!(dead_letters.len() <= 8, "{}: more than four per partition", dead_letters.len());
}
