//! The new owner of a partition knows which range its predecessor may or may not have finished.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{cluster, connection, put};
use devstack::process;
use harness::{Cluster, Committed, DEADLINE, eventually, layout, seen};
use kafka::ledger::Ledger;
use kafka::ranges::{Assignment, Polled, Range, Ranges};
use kafka::{NextOffset, Offset, TopicPartition};

fn open(cluster: &Cluster) -> Ranges {
    let (group, topic) = (cluster.name("cut"), cluster.name("in"));
    Ranges::open(&connection(cluster), "cut", &group, &[&topic], 1).unwrap()
}

/// Polls until the partition is assigned and `count` records have arrived; returns both.
fn poll(ranges: &Ranges, count: usize) -> (Assignment, Vec<i64>) {
    let (mut assignment, mut offsets) = (None, Vec::new());
    let start = Instant::now();
    while assignment.is_none() || offsets.len() < count {
        assert!(start.elapsed() < DEADLINE, "only {assignment:?} and {offsets:?}");
        ranges
            .poll::<kafka::Error>(Duration::from_millis(100), |polled| {
                match polled {
                    Polled::Assigned(mut all) => assignment = all.pop(),
                    Polled::Record(record) => offsets.push(record.offset().0),
                    Polled::Revoked(_) | Polled::Outside(_) => {}
                }
                Ok(())
            })
            .unwrap();
    }
    (assignment.unwrap(), offsets)
}

const fn range(first: i64, last: i64) -> Range {
    Range { first: Offset(first), last: Offset(last) }
}

const PREFIX: &str = "MAILPULSE_TEST_PREFIX";
const LEDGER: Ledger =
    Ledger { read: 8, passed: 7, dropped: 0, counted: 0, dead_letters: 1, redriven: 0 };
const FIRST: Range = range(0, 7);

#[test]
#[ignore = "run by the_pending_range_outlives_its_owner"]
fn an_owner_that_is_killed() {
    let prefix = std::env::var(PREFIX).unwrap();
    let cluster = Cluster::existing(harness::shared_kafka(), &prefix, layout(1, 1));
    let first = open(&cluster);
    let (assignment, offsets) = poll(&first, 20);
    assert_eq!((assignment.next, assignment.pending), (None, None), "nothing was committed");
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    first.mark_pending([(&assignment.partition, FIRST, LEDGER)].into_iter()).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn the_pending_range_outlives_its_owner() {
    let cluster = cluster(&[("in", 1)]);
    put(&cluster, &cluster.producer(), "in", 0..20);
    let partition = TopicPartition { topic: cluster.name("in"), partition: 0 };

    let mut first = Command::new(std::env::current_exe().unwrap());
    first.args(["--exact", "--ignored", "--nocapture", "an_owner_that_is_killed"]);
    first.env(PREFIX, &cluster.topics.prefix).env("MAILPULSE_KAFKA", &cluster.bootstrap);
    let home = tempfile::tempdir().unwrap();
    let mut first = process::spawn(first, &home.path().join("log")).unwrap();
    let metadata = format!("{}@8,7,0,1,0", FIRST.to_metadata());
    let expected = vec![Some(Committed { offset: 0, metadata })];
    eventually("the first owner to record its range", DEADLINE, || {
        assert!(first.is_running(), "{}", process::tail(first.log(), 30));
        let committed = cluster.committed(&cluster.name("cut"), &cluster.name("in"));
        seen(committed, |committed| *committed == expected)
    });
    // SIGKILL: the group notices only that the member is silent.
    first.kill().unwrap();

    let second = open(&cluster);
    let (assignment, offsets) = poll(&second, 20);
    assert_eq!((assignment.next, assignment.pending), (Some(NextOffset(0)), Some(FIRST)));
    assert_eq!(offsets[0], 0, "it reads from the first offset that is not done");
    second.mark_done([(&partition, NextOffset(8), LEDGER)].into_iter()).unwrap();
    let pending = range(8, 12);
    second.mark_pending([(&partition, pending, LEDGER)].into_iter()).unwrap();
    drop(second);

    let third = open(&cluster);
    let (assignment, offsets) = poll(&third, 12);
    assert_eq!((assignment.next, assignment.pending), (Some(NextOffset(8)), Some(pending)));
    assert_eq!(assignment.ledger, LEDGER);
    assert_eq!(offsets[0], 8);
    third.mark_done([(&partition, NextOffset(13), LEDGER)].into_iter()).unwrap();
    drop(third);

    let (assignment, offsets) = poll(&open(&cluster), 7);
    assert_eq!((assignment.next, assignment.pending), (Some(NextOffset(13)), None));
    assert_eq!(assignment.ledger, LEDGER);
    assert_eq!(offsets, (13..20).collect::<Vec<_>>());
}
