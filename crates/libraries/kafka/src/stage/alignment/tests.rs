use std::cell::RefCell;
use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// The patience of a test that must not leave a partition out.
const LONG: Duration = Duration::from_secs(3600);

/// What a partition returns, in this order; `Nothing` after the last.
struct Script(RefCell<VecDeque<Option<i64>>>);

impl Source for Script {
    type Record = i64;

    fn poll(&self) -> Next<i64> {
        match self.0.borrow_mut().pop_front() {
            Some(Some(time)) => Next::Record(time, time),
            Some(None) => Next::End,
            None => Next::Nothing,
        }
    }
}

impl Script {
    fn push(&self, steps: &[Option<i64>]) {
        self.0.borrow_mut().extend(steps);
    }
}

const END: Option<i64> = None;

fn siblings(scripts: &[&[Option<i64>]]) -> Siblings<Script> {
    siblings_with(None, scripts)
}

fn siblings_with(lead: Option<Lead>, scripts: &[&[Option<i64>]]) -> Siblings<Script> {
    let script = |steps: &&[Option<i64>]| Script(RefCell::new(steps.iter().copied().collect()));
    let mut siblings = Siblings::new(scripts.iter().map(script), lead);
    siblings.set_read(|_| true);
    siblings
}

fn take(siblings: &mut Siblings<Script>, wait: Duration) -> (Vec<i64>, usize) {
    let mut records = Vec::new();
    let receive = |record| {
        records.push(record);
        true
    };
    let taken = siblings.take(usize::MAX, wait, receive).unwrap();
    assert_eq!(taken.records, records.len());
    (records, taken.left_out)
}

#[test]
fn the_least_time_is_next_and_a_partition_that_may_have_more_is_awaited() {
    let mut siblings = siblings(&[&[Some(1), Some(5), Some(9), END], &[Some(2), Some(4)]]);
    assert_eq!(take(&mut siblings, LONG), (vec![1, 2, 4], 0), "the second may have a 4.5");
    assert_eq!(take(&mut siblings, LONG), (vec![], 0));
    siblings.partitions[1].source.push(&[Some(6), END]);
    assert_eq!(take(&mut siblings, LONG), (vec![5, 6, 9], 0));
    siblings.partitions[1].source.push(&[Some(7)]);
    assert_eq!(take(&mut siblings, LONG), (vec![7], 0), "late records are taken too");
}

#[test]
fn a_partition_that_delivers_nothing_is_left_out_after_the_wait_until_it_delivers() {
    let mut siblings = siblings(&[&[Some(1), Some(2)], &[]]);
    assert_eq!(take(&mut siblings, Duration::ZERO), (vec![1, 2], 1));
    siblings.partitions[0].source.push(&[Some(3), Some(4)]);
    siblings.partitions[1].state = State::LeftOut;
    assert_eq!(take(&mut siblings, LONG), (vec![3, 4], 0), "there is no second wait");
    siblings.partitions[1].source.push(&[Some(3)]);
    siblings.partitions[0].source.push(&[Some(5), END]);
    assert_eq!(take(&mut siblings, LONG), (vec![3], 0), "it is awaited again");
}

/// The second of three partitions leads the third.
fn lead(wait: Duration) -> Option<Lead> {
    Some(Lead { leaders: &[1], followers: &[2], wait })
}

#[test]
fn a_follower_waits_until_its_leader_at_the_end_has_reached_its_time() {
    let mut siblings =
        siblings_with(lead(LONG), &[&[END], &[Some(1), END], &[Some(1), Some(4), END]]);
    assert_eq!(take(&mut siblings, LONG), (vec![1, 1], 0), "equal times are not earlier");
    siblings.partitions[0].source.push(&[Some(2), Some(5), END]);
    assert_eq!(take(&mut siblings, LONG), (vec![2], 0), "what comes later waits with the follower");
    siblings.partitions[1].source.push(&[Some(3), END]);
    assert_eq!(take(&mut siblings, LONG), (vec![3], 0));
    siblings.partitions[1].source.push(&[Some(4), END]);
    assert_eq!(take(&mut siblings, LONG), (vec![4, 4, 5], 0), "the leader is first");
}

#[test]
fn a_leader_that_was_awaited_in_vain_delays_no_follower_until_it_delivers() {
    let mut siblings =
        siblings_with(lead(Duration::ZERO), &[&[END], &[END], &[Some(4), Some(5), END]]);
    assert_eq!(take(&mut siblings, LONG), (vec![4, 5], 0), "it is not left out");
    siblings.lead = lead(LONG);
    siblings.partitions[2].source.push(&[Some(6), Some(7), END]);
    assert_eq!(take(&mut siblings, LONG), (vec![6, 7], 0));
    siblings.partitions[1].source.push(&[Some(8), END]);
    siblings.partitions[2].source.push(&[Some(9), END]);
    assert_eq!(take(&mut siblings, LONG), (vec![8], 0), "it is awaited again");
}

#[test]
fn a_leader_ahead_of_its_time_is_awaited_again_after_its_next_record() {
    let mut siblings =
        siblings_with(lead(LONG), &[&[END], &[Some(100), Some(3), END], &[Some(2), END]]);
    assert_eq!(take(&mut siblings, LONG), (vec![2, 100, 3], 0));
    siblings.partitions[2].source.push(&[Some(4), END]);
    assert_eq!(take(&mut siblings, LONG), (vec![], 0));
}

#[test]
fn each_follower_has_a_wait_of_its_own() {
    let wait = Duration::from_millis(40);
    let mut siblings = siblings_with(lead(wait), &[&[END], &[END], &[Some(4), END]]);
    assert_eq!(take(&mut siblings, LONG), (vec![], 0));
    std::thread::sleep(wait);
    siblings.partitions[2].first = Some((5, 5));
    assert_eq!(take(&mut siblings, LONG), (vec![], 0), "another record");
    std::thread::sleep(wait);
    assert_eq!(take(&mut siblings, LONG), (vec![5], 0));
}

#[test]
fn a_leader_that_another_member_reads_is_not_followed() {
    let mut siblings = siblings_with(lead(LONG), &[&[END], &[END], &[Some(4), END]]);
    let leader = std::ptr::from_ref(&siblings.partitions[1].source);
    siblings.set_read(|source| !std::ptr::eq(source, leader));
    assert_eq!(take(&mut siblings, LONG), (vec![4], 0));
}

#[test]
fn partitions_of_other_members_and_held_ones_are_not_awaited_and_not_read() {
    let mut siblings = siblings(&[&[Some(1), END], &[Some(0)]]);
    let second = std::ptr::from_ref(&siblings.partitions[1].source);
    siblings.set_read(|source| !std::ptr::eq(source, second));
    assert_eq!(take(&mut siblings, LONG), (vec![1], 0));
    siblings.set_read(|_| true);
    assert_eq!(take(&mut siblings, LONG), (vec![0], 0));
}

#[test]
fn a_forgotten_partition_is_read_again() {
    let mut siblings = siblings(&[&[Some(1), END], &[END]]);
    assert_eq!(siblings.take(0, LONG, |_| true).unwrap(), Taken::default());
    let first = std::ptr::from_ref(&siblings.partitions[0].source);
    assert!(siblings.forget(|source| std::ptr::eq(source, first)));
    assert!(!siblings.forget(|source| std::ptr::eq(source, first)));
    assert_eq!(take(&mut siblings, LONG), (vec![], 0));
    siblings.partitions[0].source.push(&[Some(1), END]);
    assert_eq!(take(&mut siblings, LONG), (vec![1], 0));
}

#[test]
fn a_receiver_that_is_full_gets_the_rest_later() {
    let mut siblings = siblings(&[&[Some(1), Some(2), Some(3), END]]);
    assert_eq!(siblings.take(usize::MAX, LONG, |_| false).unwrap().records, 1);
    assert_eq!(siblings.take(1, LONG, |_| true).unwrap().records, 1);
    assert_eq!(take(&mut siblings, LONG), (vec![3], 0));
}

proptest! {
    /// However the records of sorted partitions become available, they are taken in order, each once.
    #[test]
    fn sorted_partitions_become_one_sorted_sequence(
        partitions in prop::collection::vec(prop::collection::vec(0_i64..1000, 0..30), 1..6),
        chunks in prop::collection::vec((0_usize..6, 1_usize..8), 0..60),
    ) {
        let mut rest: Vec<VecDeque<i64>> = partitions
            .iter()
            .map(|times| {
                let mut times = times.clone();
                times.sort_unstable();
                times.into()
            })
            .collect();
        let empty: Vec<&[Option<i64>]> = vec![&[]; rest.len()];
        let mut siblings = siblings(&empty);
        let mut taken = Vec::new();
        for (partition, count) in chunks {
            let partition = partition % rest.len();
            let count = count.min(rest[partition].len());
            let next: Vec<_> = rest[partition].drain(..count).map(Some).collect();
            siblings.partitions[partition].source.push(&next);
            taken.extend(take(&mut siblings, LONG).0);
        }
        for (partition, rest) in rest.iter().enumerate() {
            let rest: Vec<_> = rest.iter().copied().map(Some).chain([END]).collect();
            siblings.partitions[partition].source.push(&rest);
        }
        taken.extend(take(&mut siblings, LONG).0);
        let mut expected: Vec<i64> = partitions.concat();
        expected.sort_unstable();
        prop_assert_eq!(taken, expected);
    }
}
