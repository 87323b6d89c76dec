//! A tail reads what is in a topic and what follows, without a group, and survives a time without records.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{cluster, connection, numbers, put};
use harness::{Cluster, DEADLINE};
use kafka::tail::{Next, Start, Tail};

const TOPIC: &str = "mail.rates";

fn open(cluster: &Cluster, start: Start) -> Tail {
    Tail::open(&connection(cluster), "test", &cluster.name(TOPIC), start).unwrap()
}

/// Returns the values of all records until the ends were reached and there are `at_least` of them.
fn values(tail: &mut Tail, at_least: usize) -> Vec<String> {
    let until = Instant::now() + DEADLINE;
    let mut values = Vec::new();
    while values.len() < at_least || !tail.has_caught_up() {
        assert!(Instant::now() < until, "only {values:?}");
        match tail.next(Duration::from_millis(100)).unwrap() {
            Next::Record(record) => values.push(String::from_utf8(record.value.unwrap()).unwrap()),
            Next::Nothing => {}
            Next::Away(reason) => panic!("{reason}"),
        }
    }
    values
}

#[test]
fn a_tail_reads_from_the_beginning_and_goes_on() {
    let cluster = cluster(&[(TOPIC, 2)]);
    let producer = cluster.producer();
    put(&cluster, &producer, TOPIC, 0..5);
    let mut tail = open(&cluster, Start::Beginning);
    assert!(!tail.has_caught_up());
    assert_eq!(values(&mut tail, 0), numbers(0..5));
    assert!(tail.answers(DEADLINE));
    put(&cluster, &producer, TOPIC, 5..7);
    assert_eq!(values(&mut tail, 2), numbers(5..7));
    // Nobody shares the partitions.
    assert_eq!(values(&mut open(&cluster, Start::Beginning), 0), numbers(0..7));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "Kafka stamps records with the real time")]
fn a_tail_can_begin_at_a_time() {
    let cluster = cluster(&[(TOPIC, 2)]);
    let producer = cluster.producer();
    put(&cluster, &producer, TOPIC, 0..3);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = i64::try_from(now).unwrap();
    assert_eq!(values(&mut open(&cluster, Start::At(now - 3_600_000)), 0), numbers(0..3));
    let mut later = open(&cluster, Start::At(now + 3_600_000));
    assert_eq!(values(&mut later, 0), numbers(0..0));
    put(&cluster, &producer, TOPIC, 3..4);
    assert_eq!(values(&mut later, 1), numbers(3..4));
}

#[test]
fn a_missing_topic_is_named() {
    let cluster = cluster(&[(TOPIC, 1)]);
    let name = cluster.name("mail.nowhere");
    let opened = Tail::open(&connection(&cluster), "test", &name, Start::Beginning);
    assert!(opened.err().unwrap().to_string().contains("mail.nowhere"));
}
