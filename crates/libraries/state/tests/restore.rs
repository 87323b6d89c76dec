//! Files that match the changelog are kept; files that do not are discarded.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Log, PARTITION, commit, engage, id, observation, records, start_of};
use event::{EventId, Kind, OccurredAt};
use record::FirstSeen;
use state::{Horizons, Hour, MEDIAN_SAMPLES, MessageMemory, Seen, StateError, Store};
use tempfile::TempDir;

const HOUR: Hour = Hour(495_000);
const HORIZON: u32 = 72;
const HORIZONS: Horizons = Horizons { ids: HORIZON, memories: 120 };

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

    /// Restarts the member. Also returns the start offset of each read of the changelog.
    fn restart(self, log: &Log) -> (Self, Vec<Option<i64>>) {
        let Self { disk, store } = self;
        drop(store);
        let (store, start_offsets) = open(&disk, log);
        (Self { disk, store }, start_offsets)
    }

    fn insert(&mut self, id: EventId) -> Seen {
        self.store.partition(PARTITION).unwrap().insert(&id, HOUR).unwrap()
    }

    /// Commits one event in its own batch.
    fn commit_event(&mut self, log: &mut Log, number: u64) {
        assert_eq!(self.insert(id(number)), Seen::First);
        commit(&mut self.store, log);
    }
}

fn open(disk: &TempDir, log: &Log) -> (Store, Vec<Option<i64>>) {
    let mut store = Store::open(disk.path(), HORIZONS).unwrap();
    let start_offsets = log.restore_counting(&mut store);
    (store, start_offsets)
}

#[test]
fn for_files_that_are_up_to_date_only_the_last_record_is_read() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    for number in 0..20 {
        member.commit_event(&mut log, number);
    }
    let (mut member, start_offsets) = member.restart(&log);
    assert_eq!(start_offsets, [Some(log.end - 2)], "record, marker, end");
    for number in 0..20 {
        assert_eq!(member.insert(id(number)), Seen::Duplicate);
    }
}

#[test]
fn after_aborted_transactions_the_start_offset_is_too_low_and_never_too_high() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.commit_event(&mut log, 1);
    member.insert(id(2));
    let aborted = records(&mut member.store);
    log.abort(&aborted);
    member.store.roll_back();
    member.commit_event(&mut log, 2);
    let (mut member, start_offsets) = member.restart(&log);
    assert_eq!(start_offsets.len(), 1, "the files were kept");
    assert!(start_offsets[0].unwrap() < log.end - 2);
    assert_eq!((member.insert(id(1)), member.insert(id(2))), (Seen::Duplicate, Seen::Duplicate));
    assert_eq!(member.insert(id(3)), Seen::First);
}

#[test]
fn files_behind_the_changelog_catch_up() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.commit_event(&mut log, 1);
    let mut other = Member::new(&log);
    other.commit_event(&mut log, 2);
    other.commit_event(&mut log, 3);
    let (mut member, start_offsets) = member.restart(&log);
    assert_eq!(start_offsets.len(), 1);
    assert_eq!((member.insert(id(2)), member.insert(id(3))), (Seen::Duplicate, Seen::Duplicate));
}

#[test]
fn files_ahead_of_the_changelog_are_discarded() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.commit_event(&mut log, 1);
    let earlier = log.clone();
    member.commit_event(&mut log, 2);
    let (mut member, start_offsets) = member.restart(&earlier);
    assert_eq!(start_offsets.len(), 2, "read again from the beginning");
    assert_eq!(start_offsets[1], None);
    assert_eq!((member.insert(id(1)), member.insert(id(2))), (Seen::Duplicate, Seen::First));
}

#[test]
fn files_of_another_changelog_are_discarded() {
    for batches in [0, 1, 2, 3, 10] {
        let mut log = Log::default();
        let mut member = Member::new(&log);
        for number in 0..3 {
            member.commit_event(&mut log, number);
        }
        // The topic was deleted and created again, or this is another cluster.
        let mut other_log = Log::default();
        let mut other = Member::new(&other_log);
        for number in 0..batches {
            other.commit_event(&mut other_log, 100 + number);
        }
        let (mut member, start_offsets) = member.restart(&other_log);
        assert_eq!(start_offsets.len(), 2, "{batches}");
        assert_eq!(member.insert(id(1)), Seen::First, "{batches}");
        for number in 0..batches {
            assert_eq!(member.insert(id(100 + number)), Seen::Duplicate);
        }
    }
}

#[test]
fn a_local_commit_whose_transaction_was_aborted_is_detected() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.commit_event(&mut log, 1);
    // Both members write the same sequence number, but only the other's transaction commits.
    let mut other = Member::new(&log);
    member.insert(id(2));
    let lost = records(&mut member.store);
    log.abort(&lost);
    member.store.commit().unwrap();
    other.insert(id(2));
    other.insert(id(3));
    commit(&mut other.store, &mut log);
    let (mut member, start_offsets) = member.restart(&log);
    assert_eq!(start_offsets.len(), 2);
    assert_eq!(member.insert(id(3)), Seen::Duplicate);
}

#[test]
fn files_are_kept_while_their_last_record_is_in_the_changelog() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    for number in 0..10 {
        member.commit_event(&mut log, number);
    }
    log.trim(10);
    let (member, start_offsets) = member.restart(&log);
    assert_eq!(start_offsets.len(), 1, "the last record is in the changelog");
    log.trim(log.end);
    let (mut member, start_offsets) = member.restart(&log);
    assert_eq!(start_offsets.len(), 2, "retention has removed the last record");
    member.commit_event(&mut log, 30);
    let (mut member, start_offsets) = member.restart(&log);
    assert_eq!(start_offsets.len(), 1);
    assert_eq!(member.insert(id(30)), Seen::Duplicate);
}

#[test]
fn damaged_files_are_discarded() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.commit_event(&mut log, 1);
    let Member { disk, store } = member;
    drop(store);
    for file in std::fs::read_dir(disk.path().join("ids")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() && path.file_name().unwrap() != "lock" {
            std::fs::write(path, b"damage").unwrap();
        }
    }
    let (store, start_offsets) = open(&disk, &log);
    let mut member = Member { disk, store };
    assert_eq!(start_offsets, [None]);
    assert_eq!(member.insert(id(1)), Seen::Duplicate);
}

#[test]
fn a_second_process_cannot_open_the_directory() {
    let member = Member::new(&Log::default());
    let error = Store::open(member.disk.path(), HORIZONS).err().unwrap();
    assert!(matches!(error, StateError::InUse(_)), "{error}");
    assert!(error.to_string().contains("dedupe.directory"));
}

#[test]
fn a_malformed_changelog_record_stops_the_member() {
    let mut log = Log::default();
    log.append(vec![b"\x04newer".to_vec()]);
    let disk = tempfile::tempdir().unwrap();
    let mut store = Store::open(disk.path(), HORIZONS).unwrap();
    let error = store.restore(PARTITION, |from, apply| log.read(from, apply)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read the changelog of partition 3: record has version 4, but this binary reads only \
         versions up to 3; run the release that wrote it, or a newer one"
    );
    assert!(matches!(store.partition(PARTITION), Err(StateError::NotAssigned(PARTITION))));
}

#[test]
fn a_partition_that_is_assigned_again_catches_up() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    member.commit_event(&mut log, 1);
    member.store.release(PARTITION);
    let mut other = Member::new(&log);
    other.commit_event(&mut log, 2);
    log.restore(&mut member.store);
    assert_eq!((member.insert(id(1)), member.insert(id(2))), (Seen::Duplicate, Seen::Duplicate));
}

#[test]
fn only_the_first_open_and_the_first_click_are_first() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    let first_of = |member: &mut Member, kind| {
        let partition = member.store.partition(PARTITION).unwrap();
        let first = engage(partition, &id(9), kind, HOUR);
        (first.of_kind, first.of_engagement)
    };
    assert_eq!(first_of(&mut member, Kind::Clicked), (true, true));
    assert_eq!(first_of(&mut member, Kind::Clicked), (false, false), "within the batch");
    member.store.roll_back();
    assert_eq!(first_of(&mut member, Kind::Clicked), (true, true), "the batch was rolled back");
    member.insert(id(1));
    commit(&mut member.store, &mut log);
    let (mut member, _) = member.restart(&log);
    assert_eq!(first_of(&mut member, Kind::Opened), (true, false), "after a restart");
    member.insert(id(2));
    commit(&mut member.store, &mut log);
    let mut other = Member::new(&log);
    assert_eq!(first_of(&mut other, Kind::Opened), (false, false), "from the changelog");
    let partition = other.store.partition(PARTITION).unwrap();
    let none = engage(partition, &id(8), Kind::Delivered, HOUR);
    assert_eq!(none, FirstSeen::default());
}

#[test]
fn what_is_remembered_of_a_message_survives_restarts_and_a_lost_disk() {
    const SECOND: i64 = 1_000_000;
    let at = |second: i64| OccurredAt(start_of(HOUR).micros() + second * SECOND);
    let mut log = Log::default();
    let mut member = Member::new(&log);
    let change = |member: &mut Member, change: &dyn Fn(&mut MessageMemory)| {
        let partition = member.store.partition(PARTITION).unwrap();
        let mut memory = partition.memory(&id(9)).unwrap();
        change(&mut memory);
        partition.set_memory(&id(9), memory);
    };
    change(&mut member, &|memory| drop(memory.observe(&observation(Kind::Delivered, at(0)))));
    member.insert(id(1));
    commit(&mut member.store, &mut log);
    let (mut member, _) = member.restart(&log);
    change(&mut member, &|memory| assert_eq!(memory.record_link(1, at(5), SECOND), 1));
    member.insert(id(2));
    commit(&mut member.store, &mut log);
    let mut other = Member::new(&log);
    let known = other.store.partition(PARTITION).unwrap().memory(&id(9)).unwrap();
    let here = member.store.partition(PARTITION).unwrap().memory(&id(9)).unwrap();
    assert_eq!(known, here);
    assert_eq!(known.since_delivery(at(5)), Some(5 * SECOND), "from the changelog");
    assert_eq!({ known }.record_link(2, at(6), SECOND), 2);
    let effect = { known }.observe(&observation(Kind::Bounced, at(7)));
    assert!(effect.is_late && effect.counts.to_string() == "late_bounces");
    assert_eq!((effect.seen, effect.sent), (1, Some(at(0))));
    let other_message = other.store.partition(PARTITION).unwrap().memory(&id(8)).unwrap();
    assert_eq!(other_message, MessageMemory::UNKNOWN);
}

/// The bytes of a record as the releases with version 2 wrote it: id 1 in [`HOUR`]; the message with id
/// 9 was delivered at its beginning and opened by a person.
fn record_of_earlier_release() -> Vec<u8> {
    let hour = [0, 7, 0x8d, 0x98];
    assert_eq!(hour, HOUR.0.to_be_bytes());
    let mut bytes = vec![2];
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1]); // writer, sequence
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(hour);
    bytes.extend(id(1).0);
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(id(9).0);
    bytes.extend(hour);
    bytes.push(1); // opened
    bytes.extend(start_of(HOUR).micros().to_be_bytes());
    bytes.extend([0x80, 0, 0, 0, 0, 0, 0, 0]); // no run of clicks
    bytes.extend([0, 0, 0, 0]);
    bytes
}

#[test]
fn the_changelog_of_an_earlier_release_is_restored_and_continued() {
    let mut log = Log::default();
    log.append(vec![record_of_earlier_release()]);
    let member = Member::new(&log);
    // First from the changelog, then from the files.
    let (member, _) = member.restart(&log);
    let (mut member, start_offsets) = member.restart(&log);
    assert_eq!(start_offsets, [Some(0)]);
    assert_eq!(member.insert(id(1)), Seen::Duplicate);
    let partition = member.store.partition(PARTITION).unwrap();
    assert_eq!(partition.insert_undated(&id(1), Hour(HOUR.0 + 3)).unwrap(), Seen::Duplicate);
    let at = OccurredAt(start_of(HOUR).micros() + 1_000_000);
    let mut memory = partition.memory(&id(9)).unwrap();
    assert_eq!(memory.since_delivery(at), Some(1_000_000));
    assert_eq!(memory.observe(&observation(Kind::Opened, at)).seen, 2);
    let bounce = memory.observe(&observation(Kind::Bounced, at));
    assert_eq!(bounce.counts.to_string(), "late_bounces");
    partition.set_memory(&id(9), memory);
    member.commit_event(&mut log, 2);
    // The last record is of this release now.
    let (mut member, start_offsets) = member.restart(&log);
    assert_eq!(start_offsets.len(), 1);
    let partition = member.store.partition(PARTITION).unwrap();
    assert_eq!(partition.memory(&id(9)).unwrap(), memory);
    assert_eq!(partition.insert_undated(&id(1), Hour(HOUR.0 + 3)).unwrap(), Seen::Duplicate);
}

#[test]
fn events_older_than_the_horizon_are_not_looked_up_and_are_deleted_from_disk() {
    /// More than MEDIAN_SAMPLES, so that the event hour follows each hour.
    const EACH: u64 = 2_500;
    const { assert!(EACH > MEDIAN_SAMPLES as u64) };
    const LAST: u32 = 199;
    let mut log = Log::default();
    let mut member = Member::new(&log);
    let event = |hour: u32| (id(u64::from(hour) * EACH), Hour(HOUR.0 + hour));
    for hour in 0..=LAST {
        let partition = member.store.partition(PARTITION).unwrap();
        for number in 0..EACH {
            let id = id(u64::from(hour) * EACH + number);
            let hour = Hour(HOUR.0 + hour);
            assert_eq!(partition.insert(&id, hour).unwrap(), Seen::First);
            if number == 0 {
                engage(partition, &id, Kind::Opened, hour);
            }
        }
        commit(&mut member.store, &mut log);
    }

    let partition = member.store.partition(PARTITION).unwrap();
    assert_eq!(partition.event_hour(), Some(Hour(HOUR.0 + LAST)));
    let mut insert = |hour| {
        let (id, hour) = event(hour);
        partition.insert(&id, hour).unwrap()
    };
    assert_eq!(insert(LAST - HORIZON), Seen::Duplicate);
    assert_eq!(insert(LAST - HORIZON - 1), Seen::BeyondHorizon);
    assert_eq!(insert(0), Seen::BeyondHorizon);

    let mut opened = |of_hour| {
        let now = Hour(HOUR.0 + LAST);
        engage(partition, &event(of_hour).0, Kind::Opened, now).of_engagement
    };
    let memories = HORIZONS.memories;
    assert!(!opened(LAST - HORIZON - 1), "memories have a horizon of their own");
    assert!(!opened(LAST - memories));
    assert!(opened(LAST - memories - 1), "a memory expires by the hour of its latest event");
    assert!(!opened(LAST - memories - 1), "the latest event was just now");
    let partition = member.store.partition(PARTITION).unwrap();
    assert!(partition.remembers(Hour(HOUR.0 + LAST - memories)));
    assert!(!partition.remembers(Hour(HOUR.0 + LAST - memories - 1)));

    // A restore writes this changelog in several parts.
    let mut other = Member::new(&log);
    let partition = other.store.partition(PARTITION).unwrap();
    assert_eq!(partition.event_hour(), Some(Hour(HOUR.0 + LAST)));
    for of_hour in [LAST - HORIZON, LAST - 30, LAST] {
        let (id, hour) = event(of_hour);
        assert_eq!(partition.insert(&id, hour).unwrap(), Seen::Duplicate, "{of_hour}");
        assert!(partition.memory(&id).unwrap().has(Kind::Opened, false), "{of_hour}");
    }

    let written = u64::from(LAST + 1) * EACH * 20;
    let kept = size(&member.disk.path().join("ids/keyspaces"));
    assert!(kept < written * 7 / 10, "{kept} of {written} bytes");
}

/// Returns the size of all files below a directory in bytes.
fn size(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => size(&entry.path()),
            // The store may delete a file after it was listed.
            _ => entry.metadata().map_or(0, |data| data.len()),
        })
        .sum()
}

/// An event without a time of its provider has the hour in which it was received.
#[test]
fn an_undated_event_is_a_duplicate_in_any_hour_of_the_horizon() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    let mut insert = |member: &mut Member, number, hour: u32| {
        let seen =
            member.store.partition(PARTITION).unwrap().insert_undated(&id(number), Hour(hour));
        commit(&mut member.store, &mut log);
        seen.unwrap()
    };
    assert_eq!(insert(&mut member, 1, HOUR.0), Seen::First);
    assert_eq!(insert(&mut member, 1, HOUR.0 + 3), Seen::Duplicate);
    assert_eq!(insert(&mut member, 1, HOUR.0 + HORIZON), Seen::Duplicate);
    // The one that was received later is sometimes read first.
    assert_eq!(insert(&mut member, 1, HOUR.0 - 3), Seen::Duplicate);
    assert_eq!(insert(&mut member, 2, HOUR.0 + 3), Seen::First);
    assert_eq!(insert(&mut member, 1, HOUR.0 + HORIZON + 1), Seen::First);
}

#[test]
fn an_undated_event_is_one_after_a_rollback_a_restart_and_a_lost_disk() {
    let mut log = Log::default();
    let mut member = Member::new(&log);
    let insert = |member: &mut Member, hour: u32| {
        member.store.partition(PARTITION).unwrap().insert_undated(&id(1), Hour(hour)).unwrap()
    };
    assert_eq!(insert(&mut member, HOUR.0), Seen::First);
    assert_eq!(insert(&mut member, HOUR.0 + 3), Seen::Duplicate, "within a batch");
    let aborted = records(&mut member.store);
    log.abort(&aborted);
    member.store.roll_back();
    assert_eq!(insert(&mut member, HOUR.0 + 3), Seen::First, "the batch was rolled back");
    commit(&mut member.store, &mut log);
    let (mut member, _) = member.restart(&log);
    assert_eq!(insert(&mut member, HOUR.0), Seen::Duplicate, "after a restart");
    let mut other = Member::new(&log);
    assert_eq!(insert(&mut other, HOUR.0), Seen::Duplicate, "from the changelog");
}
