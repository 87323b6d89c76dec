//! A batch that fails takes effect once all the same, and readers never see the attempts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    Behaviour, Fault, Running, await_output, cluster, ledger, numbers, put, put_to, settled_values,
    values,
};
use harness::{Cluster, DEADLINE, eventually, holds_for, seen};

const TOPICS: [(&str, i32); 4] = [("in", 1), ("out", 1), ("log", 1), ("dead", 1)];

fn cluster_with_input(count: usize) -> Cluster {
    let cluster = cluster(&TOPICS);
    put(&cluster, &cluster.producer(), "in", 0..count);
    cluster
}

/// Returns a fault for record number `at`; batches have 100 records.
fn fault(at: usize, fault: Fault) -> Vec<Fault> {
    let mut all = vec![Fault::None; at];
    all.push(fault);
    all
}

#[test]
fn a_failed_batch_is_rolled_back_and_takes_effect_once() {
    let cluster = cluster_with_input(1_000);
    // In the middle of the second batch, when half of its outputs have been sent.
    let running = Running::start(&cluster, fault(150, Fault::Fails));
    await_output(&cluster, 1_000);
    let calls = Arc::clone(&running.calls);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "out"), numbers(0..1_000), "each once, in order");
    let log = settled_values(&cluster, "log").join(",");
    assert_eq!(log.split(',').collect::<Vec<_>>(), numbers(0..1_000));
    assert_eq!(calls.lock().unwrap().rolled_back, 1);
    assert!(calls.lock().unwrap().committed >= 10);
    assert_eq!(ledger(&cluster), "1000,1000,0,0,0");
}

#[test]
fn a_fenced_producer_is_rebuilt_and_its_batch_takes_effect_once() {
    let cluster = cluster_with_input(500);
    let running = Running::start(&cluster, fault(150, Fault::Fenced));
    await_output(&cluster, 500);
    let calls = Arc::clone(&running.calls);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "out"), numbers(0..500));
    assert_eq!(calls.lock().unwrap().rolled_back, 1);
}

#[test]
fn a_stage_whose_state_fails_ends_the_loop_and_its_successor_continues_there() {
    let cluster = cluster_with_input(300);
    let mut running = Running::start(&cluster, fault(150, Fault::StateFails));
    assert!(matches!(running.result(), Err(kafka::Error::State(_))));
    let committed = values(&cluster, "out");
    assert!(committed.len() < 200, "the failed batch is visible");
    let running = Running::start(&cluster, Vec::new());
    await_output(&cluster, 300);
    let calls = Arc::clone(&running.calls);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "out"), numbers(0..300));
    let calls = calls.lock().unwrap();
    let restored = calls.restored[0].join(",");
    assert_eq!(restored, committed.join(","), "the changelog has the same batches");
    let last = committed.last().map_or(String::new(), |last| format!("after {last}"));
    assert_eq!(calls.metadata, [last], "the metadata belongs to the same batch");
    assert_eq!(ledger(&cluster), "300,300,0,0,0", "the ledger continues");
}

#[test]
fn the_ledger_has_the_outcome_of_every_record() {
    let cluster = cluster_with_input(10);
    let faults = vec![Fault::Drops, Fault::Counts, Fault::Counts, Fault::DeadLetters];
    let running = Running::start(&cluster, faults);
    await_output(&cluster, 6);
    running.stop().unwrap();
    // Read, passed, dropped, dead letters, redriven; the rest of those read was counted.
    assert_eq!(ledger(&cluster), "10,6,1,1,0");
    assert_eq!(settled_values(&cluster, "dead"), ["3"]);
}

#[test]
fn dead_letters_in_a_row_hold_their_partition_and_others_continue() {
    let cluster = cluster(&[("in", 2), ("out", 1), ("log", 2), ("dead", 1)]);
    let producer = cluster.producer();
    put(&cluster, &producer, "in", 0..1_000);
    // 140 unreadable records, a readable one, and then more unreadable ones than the limit of 150.
    let is_unreadable = |number| number < 1_000 && number != 140;
    let behaviour = Behaviour { is_unreadable, ..Behaviour::default() };
    let running = Running::start_with(&cluster, behaviour);
    eventually("the partition to be held", DEADLINE, || {
        seen(running.calls.lock().unwrap().rolled_back, |rolled_back| *rolled_back > 0)
    });
    // After a minute the partition is tried again, so count now.
    let dead = settled_values(&cluster, "dead").len();
    assert!(dead < 140 + 150, "{dead} dead letters: the partition was not held");
    assert!(dead >= 140, "{dead} dead letters: those before the readable record are missing");
    // The other partition is still read.
    put_to(&cluster, &producer, ("in", 1), 5_000..5_001);
    await_output(&cluster, 2);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "out"), ["140", "5000"]);
}

/// Produces numbers to `in`, each of one of these sources in turn.
fn put_refused(cluster: &Cluster, sources: &[&str], count: usize) {
    let topic = cluster.name("in");
    let record = |number: usize| {
        let source = sources[number % sources.len()];
        harness::Outgoing::new(&topic, "k", number.to_string()).on(0).header("source", source)
    };
    cluster.produce(&(0..count).map(record).collect::<Vec<_>>());
}

#[test]
fn dead_letters_of_one_source_do_not_hold_a_partition() {
    let cluster = cluster(&TOPICS);
    put_refused(&cluster, &["bad"], 1_000);
    put(&cluster, &cluster.producer(), "in", 1_000..1_010);
    let behaviour = Behaviour { is_unreadable: |number| number < 1_000, ..Behaviour::default() };
    let running = Running::start_with(&cluster, behaviour);
    await_output(&cluster, 10);
    let calls = Arc::clone(&running.calls);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "dead").len(), 1_000);
    assert_eq!(calls.lock().unwrap().rolled_back, 0);
}

#[test]
fn dead_letters_of_three_sources_hold_their_partition() {
    let cluster = cluster(&TOPICS);
    put_refused(&cluster, &["one", "two", "three"], 1_000);
    let behaviour = Behaviour { is_unreadable: |_| true, ..Behaviour::default() };
    let running = Running::start_with(&cluster, behaviour);
    eventually("the partition to be held", DEADLINE, || {
        seen(running.calls.lock().unwrap().rolled_back, |rolled_back| *rolled_back > 0)
    });
    running.stop().unwrap();
    // The limit is 150, and the batch that reached it had no effect.
    assert_eq!(settled_values(&cluster, "dead").len(), 100);
}

#[test]
fn a_held_partition_is_not_idle() {
    let cluster = cluster(&TOPICS);
    put_refused(&cluster, &["one", "two", "three"], 200);
    let behaviour = Behaviour { is_unreadable: |_| true, ..Behaviour::default() };
    let running = Running::start_with(&cluster, behaviour);
    eventually("the partition to be held", DEADLINE, || {
        seen(running.calls.lock().unwrap().rolled_back, |rolled_back| *rolled_back > 0)
    });
    // The end of the partition was reached in the batch that was rolled back.
    running.calls.lock().unwrap().idle = 0;
    holds_for("the held partition has unread records", Duration::from_secs(2), || {
        seen(running.calls.lock().unwrap().idle, |idle| *idle == 0)
    });
    running.stop().unwrap();
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    let cluster = cluster_with_input(500);
    // Each key has one byte and each value up to three, so a batch has at most ten records.
    let behaviour = Behaviour { batch_bytes: 20, ..Behaviour::default() };
    let running = Running::start_with(&cluster, behaviour);
    await_output(&cluster, 500);
    running.stop().unwrap();
    let batches = settled_values(&cluster, "log");
    let longest = batches.iter().map(|batch| batch.split(',').count()).max();
    assert!(longest <= Some(10), "{longest:?} records in a batch");
    assert_eq!(settled_values(&cluster, "out"), numbers(0..500));
}

#[test]
fn records_of_aborted_transactions_are_never_read() {
    let cluster = cluster(&TOPICS);
    let upstream = cluster.transactional_producer(&cluster.name("upstream"));
    upstream.begin();
    put(&cluster, &upstream, "in", 0..10);
    upstream.abort();
    upstream.begin();
    put(&cluster, &upstream, "in", 10..20);
    upstream.commit();
    upstream.begin();
    put(&cluster, &upstream, "in", 20..30);

    let running = Running::start(&cluster, Vec::new());
    await_output(&cluster, 10);
    assert_eq!(values(&cluster, "out"), numbers(10..20), "nothing of the open transaction");
    upstream.commit();
    await_output(&cluster, 20);
    running.stop().unwrap();
    assert_eq!(settled_values(&cluster, "out"), numbers(10..30));
}

#[test]
fn a_restore_waits_for_the_open_transaction_of_a_vanished_owner() {
    let cluster = cluster(&TOPICS);
    // One owner stalled in the middle of its transaction, and a later one committed.
    let stalled = cluster.transactional_producer(&cluster.name("stalled"));
    stalled.begin();
    put(&cluster, &stalled, "log", 0..1);
    let later = cluster.transactional_producer(&cluster.name("later"));
    later.begin();
    put(&cluster, &later, "log", 1..2);
    later.commit();
    assert!(values(&cluster, "log").is_empty(), "the open transaction hides the committed record");

    let running = Running::start(&cluster, Vec::new());
    let restored = || running.calls.lock().unwrap().restored.clone();
    holds_for("nothing is restored without the committed record", Duration::from_secs(2), || {
        seen(restored(), Vec::is_empty)
    });
    stalled.abort();
    eventually("the restore", DEADLINE, || !restored().is_empty());
    assert_eq!(restored(), [["1"]]);
}

#[test]
fn offsets_are_committed_with_their_outputs() {
    let cluster = cluster_with_input(50);
    let running = Running::start(&cluster, Vec::new());
    await_output(&cluster, 50);
    running.stop().unwrap();
    let committed = cluster.committed(&cluster.name("copy"), &cluster.name("in"));
    let metadata = "after 49@50,50,0,0,0".to_owned();
    assert_eq!(committed, [Some(harness::Committed { offset: 50, metadata })]);
}
