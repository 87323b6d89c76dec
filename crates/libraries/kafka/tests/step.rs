//! Rounds that fail happen once all the same, and readers never see the attempts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, Running, Trouble, numbers, wait_until};
use rdkafka::producer::{BaseRecord, Producer};
use kafka::{StreamError, inspect};

const TOPICS: [(&str, i32); 4] = [("in", 1), ("out", 1), ("log", 1), ("dead", 1)];

fn place_with_input(count: usize) -> Arc<Place> {
    let place = Arc::new(Place::new(&TOPICS));
    place.put(&place.producer(None), "in", 0..count);
    place
}

fn troubles(at: usize, trouble: Trouble) -> Vec<Trouble> {
    let mut all = vec![Trouble::None; at];
    all.push(trouble);
    all
}

#[test]
fn a_failed_round_is_rolled_back_and_happens_once() {
    let place = place_with_input(1_000);
    // In the middle of the second round: half of its outputs are sent already.
    let running = Running::start(&place, 100, troubles(150, Trouble::Fails));
    place.await_output(1_000);
    let calls = Arc::clone(&running.calls);
    running.stop().unwrap();
    assert_eq!(place.read("out"), numbers(0..1_000), "each once, in order");
    assert_eq!(place.read("log").join(",").split(',').collect::<Vec<_>>(), numbers(0..1_000));
    assert_eq!(calls.lock().unwrap().rolled_back, 1);
    assert!(calls.lock().unwrap().committed >= 10);
    assert_eq!(place.tally(), "1000,1000,0,0,0", "read, passed, dropped, dead, again");
}

#[test]
fn a_fenced_producer_is_rebuilt_and_its_round_happens_once() {
    let place = place_with_input(500);
    let running = Running::start(&place, 100, troubles(150, Trouble::Fenced));
    place.await_output(500);
    let calls = Arc::clone(&running.calls);
    running.stop().unwrap();
    assert_eq!(place.read("out"), numbers(0..500));
    assert_eq!(calls.lock().unwrap().rolled_back, 1);
}

#[test]
fn a_step_whose_state_fails_ends_the_loop_and_its_successor_goes_on_from_there() {
    let place = place_with_input(300);
    let mut running = Running::start(&place, 100, troubles(150, Trouble::StateFails));
    assert!(matches!(running.ended(), Err(StreamError::State(_))));
    let seen = place.read("out");
    assert!(seen.len() < 200, "the failed round is not visible");
    let running = Running::start(&place, 100, Vec::new());
    place.await_output(300);
    let calls = Arc::clone(&running.calls);
    running.stop().unwrap();
    assert_eq!(place.read("out"), numbers(0..300));
    let calls = calls.lock().unwrap();
    assert_eq!(calls.restored[0].join(","), seen.join(","), "the changelog is of the same rounds");
    let last = seen.last().map_or(String::new(), |last| format!("after {last}"));
    assert_eq!(calls.metadata, [last], "and so is the offset's metadata");
    assert_eq!(place.tally(), "300,300,0,0,0", "it counts on from its predecessor");
}

#[test]
fn refusals_in_a_row_hold_their_partition_and_the_others_go_on() {
    let place = Arc::new(Place::new(&[("in", 2), ("out", 1), ("log", 2), ("dead", 1)]));
    let producer = place.producer(None);
    // 140 bad ones, one that is good, and then as many bad ones as hold the partition.
    place.put(&producer, "in", 0..1_000);
    let mut troubles = vec![Trouble::Refuses; 140 + 1 + 150];
    troubles[140] = Trouble::None;
    let running = Running::start(&place, 100, troubles);
    wait_until("the partition to be held", || {
        running.calls.lock().unwrap().rolled_back > 0 && !place.read("dead").is_empty()
    });
    // The other partition is read on.
    let (text, topic) = ("5000", place.name("in"));
    let other = BaseRecord::to(&topic).partition(1).key("k").payload(text);
    assert!(producer.send(other).is_ok());
    producer.flush(PATIENCE).unwrap();
    wait_until("the other partition", || place.read("out").iter().any(|number| number == text));
    running.stop().unwrap();
    let dead = place.read("dead");
    assert!(dead.len() < 140 + 150, "{} dead letters: it was not held", dead.len());
    assert!(dead.len() >= 140, "those in front of the good one");
    assert_eq!(place.read("out"), ["140", text]);
}

#[test]
fn what_was_aborted_is_never_read() {
    let place = Arc::new(Place::new(&TOPICS));
    let upstream = place.producer(Some(&place.name("upstream")));
    upstream.begin_transaction().unwrap();
    place.put(&upstream, "in", 0..10);
    upstream.abort_transaction(PATIENCE).unwrap();
    upstream.begin_transaction().unwrap();
    place.put(&upstream, "in", 10..20);
    upstream.commit_transaction(PATIENCE).unwrap();
    upstream.begin_transaction().unwrap();
    place.put(&upstream, "in", 20..30);

    let running = Running::start(&place, 100, Vec::new());
    place.await_output(10);
    assert_eq!(place.read("out"), numbers(10..20), "and nothing of the open transaction");
    upstream.commit_transaction(PATIENCE).unwrap();
    place.await_output(20);
    running.stop().unwrap();
    assert_eq!(place.read("out"), numbers(10..30));
}

#[test]
fn a_restore_waits_for_a_vanished_owners_transaction() {
    let place = Arc::new(Place::new(&TOPICS));
    // An owner that stalled in the middle of its transaction, and a later one that committed.
    let stalled = place.producer(Some(&place.name("stalled")));
    stalled.begin_transaction().unwrap();
    place.put(&stalled, "log", 0..1);
    let later = place.producer(Some(&place.name("later")));
    later.begin_transaction().unwrap();
    place.put(&later, "log", 1..2);
    later.commit_transaction(PATIENCE).unwrap();
    assert!(place.read("log").is_empty(), "the committed record lies behind the open transaction");

    let running = Running::start(&place, 100, Vec::new());
    let restored = || running.calls.lock().unwrap().restored.clone();
    let looked = Instant::now();
    while looked.elapsed() < Duration::from_secs(2) {
        assert!(restored().is_empty(), "restored without what was committed");
        std::thread::sleep(Duration::from_millis(50));
    }
    stalled.abort_transaction(PATIENCE).unwrap();
    wait_until("the restore", || !restored().is_empty());
    assert_eq!(restored(), [["1"]]);
}

#[test]
fn rounds_commit_offsets_with_their_outputs() {
    let place = place_with_input(50);
    let running = Running::start(&place, 100, Vec::new());
    place.await_output(50);
    running.stop().unwrap();
    let (group, input) = (place.name("copy"), place.name("in"));
    let offsets = inspect::committed_offsets(&place.connection, &group, &input, 1).unwrap();
    assert_eq!(offsets, [Some((50, "after 49@50,50,0,0,0".to_owned()))]);
}
