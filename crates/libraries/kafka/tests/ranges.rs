//! Who takes a partition over knows which range its predecessor may or may not have finished.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, wait_until};
use kafka::ranges::{Assignment, Polled, Range, Ranges};
use kafka::tally::Tally;
use kafka::{StreamError, TopicPartition, inspect};

fn open(place: &Place) -> Ranges {
    let topic = place.name("in");
    Ranges::open(&place.connection, "cut", &place.name("cut"), &[&topic], 1).unwrap()
}

/// Polls until the partition came and `count` records after it; returns both.
fn take(ranges: &Ranges, count: usize) -> (Assignment, Vec<i64>) {
    let (mut assignment, mut offsets) = (None, Vec::new());
    let until = Instant::now() + PATIENCE;
    while assignment.is_none() || offsets.len() < count {
        assert!(Instant::now() < until, "{assignment:?} {offsets:?}");
        ranges
            .poll::<StreamError>(Duration::from_millis(100), |polled| {
                match polled {
                    Polled::Assigned(mut all) => assignment = all.pop(),
                    Polled::Record(record) => offsets.push(record.offset()),
                    Polled::Revoked(_) => {}
                }
                Ok(())
            })
            .unwrap();
    }
    (assignment.unwrap(), offsets)
}

const PLACE: &str = "MAILPULSE_TEST_PLACE";
const TALLY: Tally = Tally { read: 8, passed: 7, dropped: 0, dead: 1, again: 0 };
const FIRST: Range = Range { first: 0, last: 7 };

#[test]
#[ignore = "a process of the test below"]
fn an_owner_to_be_killed() {
    let place = Place::existing(std::env::var(PLACE).unwrap());
    let first = open(&place);
    let (assignment, offsets) = take(&first, 20);
    assert_eq!((assignment.next, assignment.pending), (None, None), "nothing was done ever");
    assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    first.mark_pending([(&assignment.partition, FIRST, TALLY)].into_iter()).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn the_pending_range_outlives_its_owner() {
    let place = Place::new(&[("in", 1)]);
    place.put(&place.producer(None), "in", 0..20);
    let partition = TopicPartition { topic: place.name("in"), partition: 0 };

    let mut first = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "an_owner_to_be_killed"])
        .env(PLACE, place.name(""))
        .env("MAILPULSE_KAFKA", &place.connection.bootstrap)
        .spawn()
        .unwrap();
    let (group, topic) = (place.name("cut"), place.name("in"));
    wait_until("the first owner to record its range", || {
        let all = inspect::committed_offsets(&place.connection, &group, &topic, 1).unwrap();
        all == [Some((0, format!("{}@8,7,0,1,0", FIRST.to_metadata())))]
    });
    first.kill().unwrap(); // SIGKILL: the group finds out by its silence
    first.wait().unwrap();

    let second = open(&place);
    let (assignment, offsets) = take(&second, 20);
    assert_eq!((assignment.next, assignment.pending), (Some(0), Some(FIRST)));
    assert_eq!(offsets[0], 0, "it reads from the first offset not done");
    second.mark_done([(&partition, 8, TALLY)].into_iter()).unwrap();
    let range = Range { first: 8, last: 12 };
    second.mark_pending([(&partition, range, TALLY)].into_iter()).unwrap();
    drop(second);

    let third = open(&place);
    let (assignment, offsets) = take(&third, 12);
    assert_eq!((assignment.next, assignment.pending), (Some(8), Some(range)));
    assert_eq!(assignment.tally, TALLY);
    assert_eq!(offsets[0], 8);
    third.mark_done([(&partition, 13, TALLY)].into_iter()).unwrap();
    drop(third);

    let (assignment, offsets) = take(&open(&place), 7);
    assert_eq!((assignment.next, assignment.pending), (Some(13), None));
    assert_eq!(assignment.tally, TALLY);
    assert_eq!(offsets, (13..20).collect::<Vec<_>>());
}
