//! Files that follow their changelog are kept; files that do not are thrown away.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Log, PARTITION, commit, engage, id, records};
use event::{EventId, Kind, OccurredAt};
use record::FirstSight;
use state::{CLOCK_SAMPLES, Engagement, Hour, Sight, StateError, Store};
use tempfile::TempDir;

const HOUR: Hour = Hour(495_000);
const HORIZON: u32 = 72;

struct Member {
    disk: TempDir,
    store: Store,
}

impl Member {
    fn new(log: &Log) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let store = open(&disk, log).0;
        Self { disk, store }
    }

    /// Ends and comes back; returns where it asked the changelog from.
    fn restart(self, log: &Log) -> (Self, Vec<Option<i64>>) {
        let Self { disk, store } = self;
        drop(store);
        let (store, asked) = open(&disk, log);
        (Self { disk, store }, asked)
    }

    fn sight(&mut self, id: EventId) -> Sight {
        self.store.partition(PARTITION).unwrap().sight(&id, HOUR).unwrap()
    }

    /// One event in a round of its own.
    fn round(&mut self, log: &mut Log, number: u64) {
        assert_eq!(self.sight(id(number)), Sight::First);
        commit(&mut self.store, log);
    }
}

fn open(disk: &TempDir, log: &Log) -> (Store, Vec<Option<i64>>) {
    let mut store = Store::open(disk.path(), HORIZON).unwrap();
    let asked = log.restore_counting(&mut store);
    (store, asked)
}

#[test]
fn files_that_are_up_to_date_read_only_their_last_record_again() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    for number in 0..20 {
        member.round(&mut log, number);
    }
    let (mut member, asked) = member.restart(&log);
    assert_eq!(asked, [Some(log.end - 2)], "record, marker, end");
    for number in 0..20 {
        assert_eq!(member.sight(id(number)), Sight::Repeat);
    }
}

#[test]
fn aborted_transactions_make_the_place_early_and_never_late() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.round(&mut log, 1);
    member.sight(id(2));
    let aborted = records(&mut member.store);
    log.abort(&aborted);
    member.store.roll_back();
    member.round(&mut log, 2);
    let (mut member, asked) = member.restart(&log);
    assert_eq!(asked.len(), 1, "they were believed");
    assert!(asked[0].unwrap() < log.end - 2);
    assert_eq!((member.sight(id(1)), member.sight(id(2))), (Sight::Repeat, Sight::Repeat));
    assert_eq!(member.sight(id(3)), Sight::First);
}

#[test]
fn files_behind_the_changelog_catch_up() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.round(&mut log, 1);
    let mut other = Member::new(&log);
    other.round(&mut log, 2);
    other.round(&mut log, 3);
    let (mut member, asked) = member.restart(&log);
    assert_eq!(asked.len(), 1);
    assert_eq!((member.sight(id(2)), member.sight(id(3))), (Sight::Repeat, Sight::Repeat));
}

#[test]
fn files_ahead_of_the_changelog_are_thrown_away() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.round(&mut log, 1);
    let earlier = log.clone();
    member.round(&mut log, 2);
    let (mut member, asked) = member.restart(&earlier);
    assert_eq!(asked.len(), 2, "read again from the beginning");
    assert_eq!(asked[1], None);
    assert_eq!((member.sight(id(1)), member.sight(id(2))), (Sight::Repeat, Sight::First));
}

#[test]
fn files_of_another_changelog_are_thrown_away() {
    for rounds in [0, 1, 2, 3, 10] {
        let mut log = Log::default();
        let mut member = Member::new(&log);
        for number in 0..3 {
            member.round(&mut log, number);
        }
        // The topic was deleted and made anew, or this is another cluster.
        let mut other_log = Log::default();
        let mut other = Member::new(&other_log);
        for number in 0..rounds {
            other.round(&mut other_log, 100 + number);
        }
        let (mut member, asked) = member.restart(&other_log);
        assert_eq!(asked.len(), 2, "{rounds}");
        assert_eq!(member.sight(id(1)), Sight::First, "{rounds}");
        for number in 0..rounds {
            assert_eq!(member.sight(id(100 + number)), Sight::Repeat);
        }
    }
}

#[test]
fn a_round_committed_here_that_another_member_committed_is_noticed() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.round(&mut log, 1);
    // Both take the same place in the sequence; the other's is the one that counts.
    let mut other = Member::new(&log);
    member.sight(id(2));
    let lost = records(&mut member.store);
    log.abort(&lost);
    member.store.commit().unwrap();
    other.sight(id(2));
    other.sight(id(3));
    commit(&mut other.store, &mut log);
    let (mut member, asked) = member.restart(&log);
    assert_eq!(asked.len(), 2);
    assert_eq!(member.sight(id(3)), Sight::Repeat);
}

#[test]
fn what_retention_removed_is_not_missed() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    for number in 0..10 {
        member.round(&mut log, number);
    }
    log.trim(10);
    let (member, asked) = member.restart(&log);
    assert_eq!(asked.len(), 1, "its last record is there");
    log.trim(log.end);
    let (mut member, asked) = member.restart(&log);
    assert_eq!(asked.len(), 2, "nothing vouches for it any more");
    member.round(&mut log, 30);
    let (mut member, asked) = member.restart(&log);
    assert_eq!(asked.len(), 1);
    assert_eq!(member.sight(id(30)), Sight::Repeat);
}

#[test]
fn damaged_files_are_thrown_away() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.round(&mut log, 1);
    let Member { disk, store } = member;
    drop(store);
    for file in std::fs::read_dir(disk.path().join("ids")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() && path.file_name().unwrap() != "lock" {
            std::fs::write(path, b"damage").unwrap();
        }
    }
    let (store, asked) = open(&disk, &log);
    let mut member = Member { disk, store };
    assert_eq!(asked, [None]);
    assert_eq!(member.sight(id(1)), Sight::Repeat);
}

#[test]
fn a_directory_has_one_user() {
    let member = Member::new(&Log::default());
    let error = Store::open(member.disk.path(), HORIZON).err().unwrap();
    assert!(matches!(error, StateError::InUse(_)), "{error}");
    assert!(error.to_string().contains("dedupe.directory"));
}

#[test]
fn a_malformed_changelog_stops_the_member() {
    let mut log = Log::default();
    log.append(vec![b"\x03newer".to_vec()]);
    let disk = tempfile::tempdir().unwrap();
    let mut store = Store::open(disk.path(), HORIZON).unwrap();
    let error = store.take_over(PARTITION, |from, apply| log.read(from, apply)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "changelog of partition 3: a record of version 3, this binary knows version 2"
    );
    assert!(matches!(store.partition(PARTITION), Err(StateError::NotOurs(PARTITION))));
}

#[test]
fn a_partition_that_comes_back_knows_what_happened_meanwhile() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.round(&mut log, 1);
    member.store.give_up(PARTITION);
    let mut other = Member::new(&log);
    other.round(&mut log, 2);
    log.restore(&mut member.store);
    assert_eq!((member.sight(id(1)), member.sight(id(2))), (Sight::Repeat, Sight::Repeat));
}

#[test]
fn engagements_are_first_once_for_each_kind() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    let first_of = |member: &mut Member, kind| {
        let partition = member.store.partition(PARTITION).unwrap();
        let first = engage(partition, &id(9), kind, HOUR);
        (first.of_kind, first.of_engagement)
    };
    assert_eq!(first_of(&mut member, Kind::Clicked), (true, true));
    assert_eq!(first_of(&mut member, Kind::Clicked), (false, false), "within the round");
    member.store.roll_back();
    assert_eq!(first_of(&mut member, Kind::Clicked), (true, true), "it did not happen");
    member.sight(id(1));
    commit(&mut member.store, &mut log);
    let (mut member, _) = member.restart(&log);
    assert_eq!(first_of(&mut member, Kind::Opened), (true, false), "over a restart");
    member.sight(id(2));
    commit(&mut member.store, &mut log);
    let mut other = Member::new(&log);
    assert_eq!(first_of(&mut other, Kind::Opened), (false, false), "from the changelog");
    let partition = other.store.partition(PARTITION).unwrap();
    let none = engage(partition, &id(8), Kind::Delivered, HOUR);
    assert_eq!(none, FirstSight::default());
}

#[test]
fn deliveries_and_runs_of_clicks_are_remembered_over_rounds_restarts_and_machines() {
    const SECOND: i64 = 1_000_000;
    let at = |second: i64| OccurredAt(i64::from(HOUR.0) * 3_600 * SECOND + second * SECOND);
    let mut log = Log::default();
    let mut member = Member::new(&log);
    let change = |member: &mut Member, change: &dyn Fn(&mut Engagement)| {
        let partition = member.store.partition(PARTITION).unwrap();
        let mut engagement = partition.engagement(&id(9)).unwrap();
        change(&mut engagement);
        partition.remember(&id(9), engagement);
    };
    change(&mut member, &|engagement| engagement.delivered(at(0)));
    member.sight(id(1));
    commit(&mut member.store, &mut log);
    let (mut member, _) = member.restart(&log);
    change(&mut member, &|engagement| assert_eq!(engagement.followed(1, at(5), SECOND), 1));
    member.sight(id(2));
    commit(&mut member.store, &mut log);
    let mut other = Member::new(&log);
    let known = other.store.partition(PARTITION).unwrap().engagement(&id(9)).unwrap();
    assert_eq!(known.since_delivery(at(5)), Some(5 * SECOND), "from the changelog");
    assert_eq!({ known }.followed(2, at(6), SECOND), 2);
    let other_message = other.store.partition(PARTITION).unwrap().engagement(&id(8)).unwrap();
    assert_eq!(other_message, Engagement::UNKNOWN);
}

#[test]
fn what_is_older_than_the_horizon_is_let_pass_and_leaves_the_disk() {
    /// Enough for the clock to follow each hour.
    const EACH: u64 = 2_500;
    const { assert!(EACH > CLOCK_SAMPLES as u64) };
    const LAST: u32 = 199;
    let mut log = Log::default();
    let mut member = Member::new(&log);
    let event = |hour: u32| (id(u64::from(hour) * EACH), Hour(HOUR.0 + hour));
    for hour in 0..=LAST {
        let partition = member.store.partition(PARTITION).unwrap();
        for number in 0..EACH {
            let id = id(u64::from(hour) * EACH + number);
            let hour = Hour(HOUR.0 + hour);
            assert_eq!(partition.sight(&id, hour).unwrap(), Sight::First);
            if number == 0 {
                engage(partition, &id, Kind::Opened, hour);
            }
        }
        commit(&mut member.store, &mut log);
    }

    let partition = member.store.partition(PARTITION).unwrap();
    assert_eq!(partition.now(), Some(Hour(HOUR.0 + LAST)));
    let mut sight = |hour| {
        let (id, hour) = event(hour);
        partition.sight(&id, hour).unwrap()
    };
    assert_eq!(sight(LAST - HORIZON), Sight::Repeat);
    assert_eq!(sight(LAST - HORIZON - 1), Sight::BeyondHorizon);
    assert_eq!(sight(0), Sight::BeyondHorizon);

    let mut opened = |of_hour| {
        let now = Hour(HOUR.0 + LAST);
        engage(partition, &event(of_hour).0, Kind::Opened, now).of_engagement
    };
    assert!(!opened(LAST - HORIZON));
    assert!(opened(LAST - HORIZON - 1), "a mark expires by the hour of its first event");

    let written = u64::from(LAST + 1) * EACH * 20;
    let kept = size(&member.disk.path().join("ids/keyspaces"));
    assert!(kept < written * 7 / 10, "{kept} of {written} bytes");
}

/// Bytes of all files below a directory.
fn size(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => size(&entry.path()),
            // A file may go between being listed and being looked at.
            _ => entry.metadata().map_or(0, |data| data.len()),
        })
        .sum()
}
