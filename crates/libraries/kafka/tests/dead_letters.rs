//! A redrive sees every marker of the redrives before it, and only one redrive commits at a time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::ops::ControlFlow;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{cluster, connection, numbers, put, settled_values};
use harness::{Cluster, DEADLINE};
use kafka::Outgoing;
use kafka::dead_letters::{DeadLetterView, Redrive, RedriveError};

const DEAD_LETTERS: &str = "mail.dead-letters";

fn open(cluster: &Cluster, within: Duration) -> Result<Redrive, kafka::Error> {
    Redrive::open(&connection(cluster), &cluster.topics, within)
}

fn view(cluster: &Cluster, topic: &str) -> Result<DeadLetterView, kafka::Error> {
    DeadLetterView::committed(&connection(cluster), &cluster.name(topic))
}

fn values(view: &DeadLetterView, partition: i32, from: i64) -> Vec<String> {
    let mut values = Vec::new();
    view.read(partition, from, |entry| {
        values.push(String::from_utf8(entry.record.value().unwrap().to_vec()).unwrap());
        Ok::<_, kafka::Error>(ControlFlow::Continue(()))
    })
    .unwrap();
    values
}

/// Sends one record to `out` in a transaction of the redrive.
fn send(cluster: &Cluster, redrive: &Redrive, value: &str) -> Result<(), RedriveError> {
    let topic = &cluster.name("out");
    redrive.commit(|out| {
        let value = Some(value.as_bytes());
        out.send(Outgoing { topic, partition: Some(0), key: b"k", value, headers: &[] })
    })
}

#[test]
fn a_view_ends_where_the_topic_ended_and_can_be_read_twice() {
    let cluster = cluster(&[(DEAD_LETTERS, 2)]);
    let producer = cluster.producer();
    put(&cluster, &producer, DEAD_LETTERS, 0..5);
    let dead_letters = view(&cluster, DEAD_LETTERS).unwrap();
    put(&cluster, &producer, DEAD_LETTERS, 5..9);
    for _ in 0..2 {
        assert_eq!(values(&dead_letters, 0, 0), numbers(0..5));
        assert_eq!(values(&dead_letters, 0, 3), numbers(3..5));
    }
    for (partition, from) in [(0, 5), (1, 0), (2, 0), (-1, 0)] {
        assert!(values(&dead_letters, partition, from).is_empty(), "{partition}/{from}");
    }

    let mut first = Vec::new();
    dead_letters
        .read(0, 1, |entry| {
            first.push((entry.record.offset().0, entry.written_at > 1_700_000_000_000));
            Ok::<_, kafka::Error>(ControlFlow::Break(()))
        })
        .unwrap();
    assert_eq!(first, [(1, true)]);
    assert!(matches!(view(&cluster, "absent"), Err(kafka::Error::Topic { .. })));
}

#[test]
fn a_redrive_waits_for_transactions_that_hide_the_markers_of_its_predecessor() {
    let cluster = cluster(&[(DEAD_LETTERS, 1)]);
    // A service has an open transaction with a dead letter. Behind it a redrive committed a marker.
    let service = cluster.transactional_producer(&cluster.name("service"));
    service.begin();
    put(&cluster, &service, DEAD_LETTERS, 0..1);
    let predecessor = cluster.transactional_producer(&cluster.topics.group("redrive"));
    predecessor.begin();
    put(&cluster, &predecessor, DEAD_LETTERS, 7..8);
    predecessor.commit();
    let hidden = view(&cluster, DEAD_LETTERS).unwrap();
    assert!(values(&hidden, 0, 0).is_empty(), "the open transaction hides the marker");

    let impatient = open(&cluster, Duration::from_millis(500));
    assert!(matches!(impatient, Err(kafka::Error::Topic { .. })), "it opened without the marker");

    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let redrive = open(&cluster, DEADLINE).unwrap();
            sender.send(values(redrive.view(), 0, 0)).unwrap();
        });
        let opened = receiver.recv_timeout(Duration::from_secs(2));
        assert!(opened.is_err(), "it opened without the marker");
        service.abort();
        assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), ["7"]);
    });
}

#[test]
fn a_later_redrive_ends_the_earlier_one() {
    let cluster = cluster(&[(DEAD_LETTERS, 1), ("out", 1)]);
    let first = open(&cluster, DEADLINE).unwrap();
    send(&cluster, &first, "1").unwrap();
    first.commit(|_| Ok(())).unwrap(); // an empty transaction is no error
    send(&cluster, &first, "2").unwrap();

    let second = open(&cluster, DEADLINE).unwrap();
    assert!(matches!(send(&cluster, &first, "3"), Err(RedriveError::Superseded)));
    assert!(matches!(send(&cluster, &first, "4"), Err(RedriveError::Superseded)));
    send(&cluster, &second, "5").unwrap();
    assert_eq!(settled_values(&cluster, "out"), ["1", "2", "5"]);
}

#[test]
fn a_batch_that_fails_is_not_visible() {
    let cluster = cluster(&[(DEAD_LETTERS, 1), ("out", 1)]);
    let topic = &cluster.name("out");
    let redrive = open(&cluster, DEADLINE).unwrap();
    let failed = redrive.commit(|out| {
        let value = Some(&b"1"[..]);
        out.send(Outgoing { topic, partition: Some(0), key: b"k", value, headers: &[] })?;
        Err::<(), _>(kafka::Error::state("broken"))
    });
    assert!(matches!(failed, Err(RedriveError::Kafka(kafka::Error::State(_)))));
    drop(redrive);
    send(&cluster, &open(&cluster, DEADLINE).unwrap(), "2").unwrap();
    assert_eq!(settled_values(&cluster, "out"), ["2"]);
}
