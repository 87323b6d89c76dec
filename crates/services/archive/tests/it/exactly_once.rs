//! Each row once, whatever dies, and when.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, TopicPartitionList};
use kafka::TopicPartition;
use kafka::ranges::{Polled, Range, Ranges};
use kafka::tally::Tally;

use crate::records::{assert_each_once, produce_events, produce_events_to};
use crate::stack::{PATIENCE, Stack, connection, wait_until};

#[test]
fn killed_in_mid_stream_again_and_again() {
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
            let archive = stack.start(&[]);
            // Killed as soon as rows show: their range is marked, and not yet acknowledged.
            let before = stack.count("events");
            wait_until("more rows", || {
                stack.count("events") > before
                    || (producer.is_finished() && before == EVENTS as u64)
            });
            archive.kill();
        }
        producer.join().unwrap();
    });
    let _archive = stack.start(&[]);
    assert_each_once(&stack, EVENTS);
    let passed = settle(&stack);
    assert_each_once(&stack, EVENTS);
    assert_eq!(passed, EVENTS as u64, "the ledger too counts each once");
}

/// Waits until the group has acknowledged every record of `mail.events`, and nothing is pending:
/// what was repeated by mistake would be there by then. Returns how many rows the ledger counts.
fn settle(stack: &Stack) -> u64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", devstack::shared_kafka())
        .set("group.id", stack.topics.group("archive"))
        .create()
        .unwrap();
    let topic = &stack.topics.events;
    let mut passed = 0;
    wait_until("the acknowledgement", || {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(topic, 0, 1);
        let committed = consumer.committed_offsets(partitions, PATIENCE).unwrap();
        let tallies = committed.elements().into_iter().map(|element| {
            let tally = element.metadata().rsplit_once('@').map_or("0,0", |(_, tally)| tally);
            tally.split(',').nth(1).unwrap().parse::<u64>().unwrap()
        });
        passed = tallies.sum();
        committed.elements().iter().all(|element| {
            let last: u64 = stack.ask(&format!(
                "SELECT max(kafka_offset) FROM events WHERE kafka_partition = {}",
                element.partition()
            ));
            element.metadata().starts_with('@')
                && element.offset().to_raw().is_some_and(|next| next > last.cast_signed())
        })
    });
    passed
}

/// Sets the group back: the range is pending, as its owner left it.
fn make_pending(stack: &Stack, partition: i32, range: Range) {
    let topics: Vec<&str> = vec![&stack.topics.events];
    let group = stack.topics.group("archive");
    let ranges = Ranges::open(&connection(), "archive", &group, &topics, 2).unwrap();
    let of = TopicPartition { topic: stack.topics.events.clone(), partition };
    let mut ours = false;
    wait_until("the partition", || {
        ranges
            .poll::<kafka::StreamError>(Duration::from_millis(50), |polled| {
                if let Polled::Assigned(assigned) = polled {
                    ours |= assigned.iter().any(|a| a.partition == of);
                }
                Ok(())
            })
            .unwrap();
        ours
    });
    ranges.mark_pending(std::iter::once((&of, range, Tally::default()))).unwrap();
}

/// Archives events `0..count` and kills the archive once it is all done and acknowledged.
fn archived(stack: &Stack, count: usize) {
    produce_events(stack, 0, count);
    let archive = stack.start(&[]);
    assert_each_once(stack, count);
    settle(stack);
    archive.kill();
}

/// The offsets of the last insert into a partition: from after the one before it to its last row.
fn last_insert(stack: &Stack, partition: i32) -> Range {
    let (before, last): (u64, u64) = stack.ask(&format!(
        "SELECT arraySort(groupArray(last))[-2], arraySort(groupArray(last))[-1] FROM \
         (SELECT max(kafka_offset) AS last FROM events WHERE kafka_partition = {partition} \
         GROUP BY _block_number)"
    ));
    Range { first: before.cast_signed() + 1, last: last.cast_signed() }
}

/// Offsets of the rows in a range, by insert.
fn inserts_in(stack: &Stack, range: Range) -> (u64, u64) {
    let Range { first, last } = range;
    stack.ask(&format!(
        "SELECT uniqExact(_block_number), count() FROM events \
         WHERE kafka_partition = 0 AND kafka_offset BETWEEN {first} AND {last}"
    ))
}

#[test]
fn a_pending_range_that_had_not_happened_is_cut_exactly() {
    let stack = Stack::new();
    produce_events(&stack, 0, 4000);
    // Ends within a transaction, and is larger than a batch would be.
    let range = Range { first: 0, last: 1234 };
    make_pending(&stack, 0, range);
    let _archive = stack.start(&[]);
    stack.await_count("events", 4000);
    assert_eq!(inserts_in(&stack, range).0, 1, "one block");
    let next: u64 = stack.ask(
        "SELECT min(_block_number) FROM events WHERE kafka_partition = 0 AND kafka_offset > 1234",
    );
    let of_range: u64 = stack.ask(
        "SELECT max(_block_number) FROM events WHERE kafka_partition = 0 AND kafka_offset <= 1234",
    );
    assert!(next > of_range, "cut at the last offset");
    assert_each_once(&stack, 4000);
}

#[test]
fn a_pending_range_that_had_happened_changes_nothing() {
    let stack = Stack::new();
    archived(&stack, 4000);
    make_pending(&stack, 0, last_insert(&stack, 0));
    let _archive = stack.start(&[]);
    settle(&stack);
    assert_each_once(&stack, 4000);
}

#[test]
fn beyond_the_window_it_looks_before_it_inserts() {
    let stack = Stack::new();
    archived(&stack, 4000);
    // Two rows of the last insert are missing, and its hours' sums; and ClickHouse no longer
    // knows that insert: another partition had more since than it remembers.
    let range = last_insert(&stack, 0);
    let Range { first, last } = range;
    stack.execute(&format!(
        "ALTER TABLE events_hourly DELETE WHERE kafka_partition = 0 AND hour IN ( \
         SELECT toStartOfHour(toDateTime(occurred_at, 'UTC')) FROM {}.events \
         WHERE kafka_partition = 0 AND kafka_offset BETWEEN {first} AND {last} \
         ) SETTINGS mutations_sync = 2",
        stack.database
    ));
    stack.execute(&format!(
        "ALTER TABLE events DELETE WHERE kafka_partition = 0 AND kafka_offset > {} \
         SETTINGS mutations_sync = 2",
        last - 2
    ));
    assert_eq!(stack.count("events"), 3998);
    stack.execute("ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 1");
    let archive = stack.start(&[]);
    produce_events_to(&stack, 4000..6000, |_| 1);
    stack.await_count("events", 5998);
    archive.kill();

    make_pending(&stack, 0, range);
    let _archive = stack.start(&[]);
    stack.await_count("events", 6000);
    settle(&stack);
    let (rows, distinct): (u64, u64) = stack.ask("SELECT count(), uniqExact(event_id) FROM events");
    assert_eq!((rows, distinct), (6000, 6000));
    assert_sums_follow(&stack);
}

/// Takes rows away and leaves their tokens, as ClickHouse does when it is killed between the two.
fn lose_rows(stack: &Stack, table: &str, range: Range) {
    let Range { first, last } = range;
    stack.execute(&format!(
        "ALTER TABLE {table} DELETE WHERE kafka_partition = 0 \
         AND kafka_offset BETWEEN {first} AND {last} SETTINGS mutations_sync = 2"
    ));
}

#[test]
fn a_token_whose_rows_are_not_there_is_not_believed() {
    let stack = Stack::new();
    archived(&stack, 4000);
    let whole = last_insert(&stack, 0);
    // All rows of an insert; then, of the one that has brought them back, the second half.
    let half = Range { first: whole.first + (whole.last - whole.first) / 2, ..whole };
    for lost in [whole, half] {
        lose_rows(&stack, "events", lost);
        assert!(stack.count("events") < 4000);
        make_pending(&stack, 0, whole);
        let archive = stack.start(&[]);
        settle(&stack);
        assert_each_once(&stack, 4000);
        assert_sums_follow(&stack);
        archive.kill();
    }
    // A third time, with every token so far known and of no use.
    lose_rows(&stack, "events", whole);
    make_pending(&stack, 0, whole);
    let _archive = stack.start(&[]);
    settle(&stack);
    assert_each_once(&stack, 4000);
    assert_sums_follow(&stack);
}

/// The part of the view has the same gap.
#[test]
fn sums_that_were_lost_behind_their_token_are_brought() {
    let stack = Stack::new();
    archived(&stack, 4000);
    let range = last_insert(&stack, 0);
    stack.execute(
        "ALTER TABLE events_hourly DELETE WHERE kafka_partition = 0 SETTINGS mutations_sync = 2",
    );
    make_pending(&stack, 0, range);
    let _archive = stack.start(&[]);
    settle(&stack);
    let Range { first, last } = range;
    let sums: u64 = stack.ask(&format!(
        "SELECT sum(events) FROM events_hourly WHERE kafka_partition = 0 \
         AND hour IN (SELECT toStartOfHour(toDateTime(occurred_at, 'UTC')) FROM events \
         WHERE kafka_partition = 0 AND kafka_offset BETWEEN {first} AND {last})"
    ));
    assert!(sums > (last - first).cast_unsigned() / 2, "{sums} of offsets {first} to {last}");
}

/// Every hourly sum is what the rows say.
fn assert_sums_follow(stack: &Stack) {
    let of = |select: &str| {
        stack.ask::<String>(&format!(
            "SELECT arrayStringConcat(arraySort(groupArray(toString(t))), '\\n') FROM ({select})"
        ))
    };
    let select: String =
        stack.ask("SELECT as_select FROM system.tables WHERE name = 'events_hourly_feed' AND database = currentDatabase()");
    let keys = "hour, provider, source, mailbox_provider, campaign, kafka_partition";
    let sums = "sum(events), sum(delivered), sum(bounced), sum(opened), sum(engaged)";
    let group =
        |from: &str| format!("SELECT tuple({keys}, {sums}) AS t FROM {from} GROUP BY {keys}");
    let (expected, found) = (of(&group(&format!("({select})"))), of(&group("events_hourly")));
    assert!(!expected.is_empty());
    let only = |these: &str, those: &str| {
        let only: Vec<String> =
            these.lines().filter(|line| !those.contains(line)).map(str::to_owned).collect();
        only
    };
    assert_eq!(only(&found, &expected), only(&expected, &found), "found, and what the rows say");
    assert_eq!(found, expected);
}

#[test]
fn clickhouse_killed_in_mid_stream() {
    const EVENTS: usize = 12_000;
    let dirs = devstack::Dirs::new().unwrap();
    let mut clickhouse = devstack::ClickHouse::start_own(&dirs).unwrap();
    let stack = Stack::on(clickhouse.url());
    let archive = stack.start(&[]);
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            for from in (0..EVENTS).step_by(1000) {
                produce_events(&stack, from, from + 1000);
            }
        });
        for round in 1..=3 {
            wait_until("more rows", || stack.count("events") >= round * 1500);
            clickhouse.kill().unwrap();
            wait_until("the hold", || archive.get("/readyz").contains("clickhouse_away"));
            assert!(archive.get("/metrics").contains("mailpulse_archive_held"));
            clickhouse.restart().unwrap();
        }
        producer.join().unwrap();
    });
    assert_each_once(&stack, EVENTS);
    wait_until("readiness", || archive.get("/readyz").starts_with("HTTP/1.1 200"));
    settle(&stack);
    assert_each_once(&stack, EVENTS);
}
