//! A stage whose offsets were lost, or whose topic was created again, holds the partition: it doubles and
//! skips nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{
    Behaviour, Running, await_output, cluster, ledger, numbers, put, settled_values, values,
};
use harness::{Cluster, DEADLINE, Outgoing, eventually, holds_for, seen};
use kafka::TopicPartition;
use kafka::positions::Position;

const TOPICS: [(&str, i32); 5] = [("in", 1), ("out", 1), ("log", 1), ("dead", 1), ("positions", 1)];

fn start(cluster: &Cluster) -> Running {
    Running::start_with(cluster, Behaviour { positions: true, ..Behaviour::default() })
}

/// Processes the numbers below `count` and stops.
fn process(cluster: &Cluster, count: usize) {
    put(cluster, &cluster.producer(), "in", 0..count);
    let running = start(cluster);
    await_output(cluster, count);
    running.stop().unwrap();
}

/// Starts the stage and asserts that it publishes nothing beyond `count` records.
fn assert_held(cluster: &Cluster, count: usize) {
    let running = start(cluster);
    let restored = || running.calls.lock().unwrap().restored.len();
    eventually("the partition to be assigned", DEADLINE, || seen(restored(), |n| *n > 0));
    holds_for("the partition is held", Duration::from_secs(3), || {
        seen(values(cluster, "out").len(), |found| *found == count)
    });
    running.stop().unwrap();
    assert_eq!(settled_values(cluster, "out").len(), count);
}

fn position(cluster: &Cluster) -> Option<Position> {
    let partition = TopicPartition { topic: cluster.name("in"), partition: 0 };
    let key = Position::key(&cluster.name("copy"), &partition);
    let records = cluster.read_settled(&cluster.name("positions"));
    let last = records.iter().rfind(|record| record.key == key.as_bytes())?;
    Position::from_value(last.value.as_deref()?)
}

#[test]
fn a_first_start_begins_at_the_first_record_and_writes_its_position() {
    let cluster = cluster(&TOPICS);
    process(&cluster, 50);
    assert_eq!(settled_values(&cluster, "out"), numbers(0..50));
    let position = position(&cluster).unwrap();
    assert!((1..=50).contains(&position.next.0), "{position:?}");
    assert!(position.topic_id.is_some(), "the broker tells the id of the topic");
    put(&cluster, &cluster.producer(), "in", 50..60);
    let running = start(&cluster);
    await_output(&cluster, 60);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "out"), numbers(0..60));
}

#[test]
fn an_installation_without_positions_continues() {
    let cluster = cluster(&TOPICS);
    put(&cluster, &cluster.producer(), "in", 0..50);
    let running = Running::start(&cluster, Vec::new());
    await_output(&cluster, 50);
    running.stop().unwrap();
    assert_eq!(position(&cluster), None);
    put(&cluster, &cluster.producer(), "in", 50..60);
    let running = start(&cluster);
    await_output(&cluster, 60);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "out"), numbers(0..60));
    assert_eq!(ledger(&cluster), "60,60,0,0,0");
}

#[test]
fn lost_offsets_hold_the_partition() {
    let cluster = cluster(&TOPICS);
    process(&cluster, 50);
    cluster.delete_group(&cluster.name("copy"));
    assert_held(&cluster, 50);
}

#[test]
fn an_offset_of_another_program_holds_the_partition() {
    let cluster = cluster(&TOPICS);
    process(&cluster, 50);
    cluster.commit(&cluster.name("copy"), &cluster.name("in"), 10);
    assert_held(&cluster, 50);
}

#[test]
fn a_topic_that_was_created_again_holds_the_partition() {
    let cluster = cluster(&TOPICS);
    process(&cluster, 50);
    cluster.delete_topic(&cluster.name("in"));
    cluster.create_plain(&[("in", 1)]);
    put(&cluster, &cluster.producer(), "in", 100..160);
    assert_held(&cluster, 50);
}

#[test]
fn an_accepted_offset_releases_the_partition() {
    let cluster = cluster(&TOPICS);
    process(&cluster, 50);
    put(&cluster, &cluster.producer(), "in", 50..60);
    cluster.delete_group(&cluster.name("copy"));
    assert_held(&cluster, 50);
    let partition = TopicPartition { topic: cluster.name("in"), partition: 0 };
    let topic = cluster.name("positions");
    kafka::positions::accept(
        &common::connection(&cluster),
        &topic,
        &cluster.name("copy"),
        &partition,
        kafka::NextOffset(50),
    )
    .unwrap();
    let running = start(&cluster);
    await_output(&cluster, 60);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "out"), numbers(0..60));
}

/// A quiet partition that is written in transactions: the marker of the last one is behind the committed
/// offset, and the retention deletes both.
#[test]
fn a_partition_whose_read_records_expired_continues() {
    let cluster = cluster(&TOPICS);
    let records: Vec<_> = (0..50)
        .map(|number: usize| Outgoing::new(&cluster.name("in"), "k", number.to_string()))
        .collect();
    let producer = cluster.transactional_producer(&cluster.name("upstream"));
    producer.produce_in_transactions(&records, 50);
    let running = start(&cluster);
    await_output(&cluster, 50);
    running.stop().unwrap();
    let (group, topic) = (cluster.name("copy"), cluster.name("in"));
    assert_eq!(
        (cluster.committed_sum(&group, &topic), cluster.end_offsets(&topic)),
        (50, vec![51])
    );
    cluster.delete_records(&topic, 51);
    put(&cluster, &cluster.producer(), "in", 50..60);
    let running = start(&cluster);
    await_output(&cluster, 60);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "out"), numbers(0..60));
}

#[test]
fn expired_unread_records_hold_the_partition() {
    let cluster = cluster(&TOPICS);
    process(&cluster, 50);
    put(&cluster, &cluster.producer(), "in", 50..100);
    cluster.delete_records(&cluster.name("in"), 90);
    assert_held(&cluster, 50);
}
