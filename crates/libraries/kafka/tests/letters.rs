//! A redrive knows every marker there is, and is the only one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::ops::ControlFlow;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{PATIENCE, Place, numbers};
use rdkafka::producer::Producer;
use record::Topics;
use kafka::letters::{Letters, Redrive, RedriveError};
use kafka::{Outgoing, StreamError};

const DEAD_LETTERS: &str = "mail.dead-letters";

fn topics(place: &Place) -> Topics {
    Topics::new(&place.name(""))
}

fn open(place: &Place, within: Duration) -> Result<Redrive, StreamError> {
    Redrive::open(&place.connection, &topics(place), within)
}

fn values(letters: &Letters, partition: i32, from: i64) -> Vec<String> {
    let mut values = Vec::new();
    letters
        .read(partition, from, |entry| {
            values.push(String::from_utf8(entry.record.value().unwrap().to_vec()).unwrap());
            Ok::<_, StreamError>(ControlFlow::Continue(()))
        })
        .unwrap();
    values
}

/// Sends one record in a transaction of the redrive.
fn send(redrive: &Redrive, topic: &str, value: &str) -> Result<(), RedriveError> {
    redrive.commit(|out| {
        let value = Some(value.as_bytes());
        out.send(Outgoing { topic, partition: Some(0), key: b"k", value, headers: &[] })
    })
}

#[test]
fn a_view_ends_where_the_topic_ended_and_can_be_read_again() {
    let place = Place::new(&[(DEAD_LETTERS, 2)]);
    let producer = place.producer(None);
    place.put(&producer, DEAD_LETTERS, 0..5);
    let letters = Letters::committed(&place.connection, &place.name(DEAD_LETTERS)).unwrap();
    place.put(&producer, DEAD_LETTERS, 5..9);
    for _ in 0..2 {
        assert_eq!(values(&letters, 0, 0), numbers(0..5));
        assert_eq!(values(&letters, 0, 3), numbers(3..5));
    }
    assert!(values(&letters, 0, 5).is_empty());
    assert!(values(&letters, 1, 0).is_empty());
    assert!(values(&letters, 2, 0).is_empty() && values(&letters, -1, 0).is_empty());

    let mut first = Vec::new();
    letters
        .read(0, 1, |entry| {
            first.push((entry.record.offset(), entry.written_at > 1_700_000_000_000));
            Ok::<_, StreamError>(ControlFlow::Break(()))
        })
        .unwrap();
    assert_eq!(first, [(1, true)]);
    let absent = Letters::committed(&place.connection, &place.name("absent"));
    assert!(matches!(absent, Err(StreamError::Topic { .. })));
}

#[test]
fn a_redrive_waits_for_transactions_that_hide_what_its_predecessor_did() {
    let place = Place::new(&[(DEAD_LETTERS, 1)]);
    // Some service is in the middle of a transaction with a dead letter in it, and behind that a
    // redrive has committed its marker.
    let service = place.producer(Some(&place.name("service")));
    service.begin_transaction().unwrap();
    place.put(&service, DEAD_LETTERS, 0..1);
    let predecessor = place.producer(Some(&topics(&place).group("redrive")));
    predecessor.begin_transaction().unwrap();
    place.put(&predecessor, DEAD_LETTERS, 7..8);
    predecessor.commit_transaction(PATIENCE).unwrap();
    let hidden = Letters::committed(&place.connection, &place.name(DEAD_LETTERS)).unwrap();
    assert!(values(&hidden, 0, 0).is_empty(), "the marker lies behind the open transaction");

    let hasty = open(&place, Duration::from_millis(500));
    assert!(matches!(hasty, Err(StreamError::Topic { .. })), "rather none than one that is blind");

    let (said, heard) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let redrive = open(&place, PATIENCE).unwrap();
            said.send(values(redrive.letters(), 0, 0)).unwrap();
        });
        assert!(heard.recv_timeout(Duration::from_secs(2)).is_err(), "opened without the marker");
        service.abort_transaction(PATIENCE).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), ["7"]);
    });
}

#[test]
fn the_next_redrive_ends_the_one_before() {
    let place = Place::new(&[(DEAD_LETTERS, 1), ("out", 1)]);
    let out = place.name("out");
    let first = open(&place, PATIENCE).unwrap();
    send(&first, &out, "1").unwrap();
    first.commit(|_| Ok(())).unwrap(); // nothing to do is no fault
    send(&first, &out, "2").unwrap();

    let second = open(&place, PATIENCE).unwrap();
    assert!(matches!(send(&first, &out, "3"), Err(RedriveError::Superseded)));
    assert!(matches!(send(&first, &out, "4"), Err(RedriveError::Superseded)));
    send(&second, &out, "5").unwrap();
    assert_eq!(place.read("out"), ["1", "2", "5"]);
}

#[test]
fn a_batch_that_fails_is_not_seen() {
    let place = Place::new(&[(DEAD_LETTERS, 1), ("out", 1)]);
    let out = place.name("out");
    let redrive = open(&place, PATIENCE).unwrap();
    let failed = redrive.commit(|all| {
        let value = Some(&b"1"[..]);
        all.send(Outgoing { topic: &out, partition: Some(0), key: b"k", value, headers: &[] })?;
        Err::<(), _>(StreamError::state("broken"))
    });
    assert!(matches!(failed, Err(RedriveError::Stream(StreamError::State(_)))));
    drop(redrive);
    send(&open(&place, PATIENCE).unwrap(), &out, "2").unwrap();
    assert_eq!(place.read("out"), ["2"]);
}
