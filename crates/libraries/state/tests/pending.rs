//! Committed batches are in memory until there are many. Whatever happens to the process, the answers are
//! those of one that never stopped.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Log, PARTITION, commit, id, observation, records, start_of};
use event::Kind;
use proptest::collection::vec;
use proptest::prelude::*;
use state::{Effect, Horizons, Hour, MEDIAN_SAMPLES, MessageMemory, PendingLimits, Seen, Store};
use tempfile::TempDir;

const HORIZONS: Horizons = Horizons { ids: 10, memories: 25 };
const KINDS: [Kind; 4] = [Kind::Delivered, Kind::Opened, Kind::Bounced, Kind::Clicked];

#[derive(Debug, Clone)]
enum Step {
    /// An event of a message, with its hour. An undated one may come again with another hour.
    Event {
        number: u64,
        hour: u32,
        is_undated: bool,
    },
    /// Enough events to move the event hour on by some hours, and none beyond the horizon. The samples of the event hour
    /// are in memory only, and the changelog lacks events beyond the horizon, so after a restart the event
    /// hour might otherwise differ for some time.
    Flood(u32),
    Commit,
    RollBack,
    Crash,
    CrashBeforeLocalCommit,
    Restart,
    Reassign,
}

fn step() -> impl Strategy<Value = Step> {
    let event =
        (0..40_u64, 0..4_u32, prop::bool::weighted(0.2)).prop_map(|(number, later, is_undated)| {
            let later = if is_undated { later } else { 0 };
            Step::Event { number, hour: 100 + (number % 30) as u32 + later, is_undated }
        });
    prop_oneof![
        40 => event,
        2 => (1..4_u32).prop_map(Step::Flood),
        12 => Just(Step::Commit),
        5 => Just(Step::RollBack),
        4 => Just(Step::Crash),
        2 => Just(Step::CrashBeforeLocalCommit),
        2 => Just(Step::Restart),
        2 => Just(Step::Reassign),
    ]
}

/// A store with its directory and its changelog.
struct Member {
    disk: TempDir,
    store: Option<Store>,
    log: Log,
    limits: PendingLimits,
    next: u64,
}

impl Member {
    fn new(limits: PendingLimits) -> Self {
        let disk = tempfile::tempdir().unwrap();
        let mut member = Self { disk, store: None, log: Log::default(), limits, next: 1_000_000 };
        member.start();
        member
    }

    fn start(&mut self) {
        let mut store = Store::open_with(self.disk.path(), HORIZONS, self.limits).unwrap();
        self.log.restore(&mut store);
        self.store = Some(store);
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn event(&mut self, number: u64, hour: Hour, is_undated: bool) -> (Seen, Option<Effect>) {
        let partition = self.store().partition(PARTITION).unwrap();
        let (id, message) = (id(number), id(5_000_000 + number / 4));
        let seen = if is_undated {
            partition.insert_undated(&id, hour).unwrap()
        } else {
            partition.insert(&id, hour).unwrap()
        };
        let effect = (seen == Seen::First).then(|| {
            let mut memory = partition.memory(&message).unwrap();
            let kind = KINDS[number as usize % KINDS.len()];
            let effect = memory.observe(&observation(kind, start_of(hour)));
            partition.set_memory(&message, memory);
            effect
        });
        (seen, effect)
    }

    fn flood(&mut self, hour: u32, events: usize) {
        for _ in 0..events {
            self.next += 1;
            let id = id(self.next);
            self.store().partition(PARTITION).unwrap().insert(&id, Hour(hour)).unwrap();
        }
    }

    fn commit(&mut self) {
        let Self { store, log, .. } = self;
        commit(store.as_mut().unwrap(), log);
    }

    fn roll_back(&mut self) {
        let aborted = records(self.store());
        self.log.abort(&aborted);
        self.store().roll_back();
    }

    /// Everything that the changelog contains is answered alike by a new member.
    fn memories(&mut self) -> Vec<MessageMemory> {
        let partition = self.store().partition(PARTITION).unwrap();
        (0..10).map(|number| partition.memory(&id(5_000_000 + number)).unwrap()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn a_member_that_crashes_answers_like_one_that_never_stops(
        steps in vec(step(), 1..120),
        entries in 1..60_usize,
        memory_bytes in 1..3000_usize,
    ) {
        let limits = PendingLimits { entries, memory_bytes, ..PendingLimits::DEFAULT };
        let (mut member, mut steady) = (Member::new(limits), Member::new(PendingLimits::DEFAULT));
        let mut event_hour = 110;
        for step in &steps {
            match *step {
                Step::Event { number, hour, is_undated } => {
                    let expected = steady.event(number, Hour(hour), is_undated);
                    prop_assert_eq!(member.event(number, Hour(hour), is_undated), expected);
                }
                Step::Flood(hours) => {
                    event_hour += hours;
                    member.flood(event_hour, MEDIAN_SAMPLES);
                    steady.flood(event_hour, MEDIAN_SAMPLES);
                }
                Step::Commit => {
                    member.commit();
                    steady.commit();
                }
                Step::RollBack => {
                    member.roll_back();
                    steady.roll_back();
                }
                Step::Crash => {
                    member.store.take().unwrap().abandon();
                    member.start();
                    steady.roll_back();
                }
                Step::CrashBeforeLocalCommit => {
                    let records = records(member.store());
                    member.log.append(records);
                    member.store.take().unwrap().abandon();
                    member.start();
                    steady.commit();
                }
                Step::Restart => {
                    member.store = None;
                    member.start();
                    steady.roll_back();
                }
                Step::Reassign => {
                    let Member { store, log, .. } = &mut member;
                    store.as_mut().unwrap().release(PARTITION);
                    log.restore(store.as_mut().unwrap());
                    steady.roll_back();
                }
            }
            prop_assert_eq!(member.memories(), steady.memories());
        }
    }
}

/// Commits `count` events in batches of a thousand, each of a message of its own.
fn fill(member: &mut Member, first: u64, count: u64) {
    for number in first..first + count {
        member.event(number * 4, Hour(100), false);
        if number % 1000 == 999 {
            member.commit();
        }
    }
    member.commit();
}

/// Returns the number of records that a new process reads.
fn records_to_read(member: &mut Member) -> usize {
    let mut records = 0;
    let mut store = Store::open(member.disk.path(), HORIZONS).unwrap();
    let log = &member.log;
    store
        .restore(PARTITION, |from, apply| {
            log.read(from, &mut |record| {
                records += 1;
                apply(record)
            })
        })
        .unwrap();
    member.store = Some(store);
    records
}

#[test]
fn what_is_committed_is_written_on_release_and_when_the_store_is_closed() {
    let mut member = Member::new(PendingLimits::DEFAULT);
    fill(&mut member, 0, 5000);
    member.event(7, Hour(100), false);
    member.store().release(PARTITION);
    member.store.take().unwrap().abandon();
    assert_eq!(records_to_read(&mut member), 1);
    assert_eq!(member.event(4, Hour(100), false).0, Seen::Duplicate);
    assert_eq!(member.event(7, Hour(100), false).0, Seen::First, "its batch was open");

    fill(&mut member, 5000, 5000);
    member.store = None;
    assert_eq!(records_to_read(&mut member), 1);

    fill(&mut member, 10_000, 5000);
    member.store.take().unwrap().abandon();
    assert_eq!(records_to_read(&mut member), 6, "nothing was written, and the last record is read");
    assert_eq!(member.event(14_999 * 4, Hour(100), false).0, Seen::Duplicate);
}

#[test]
fn after_a_crash_no_id_is_missing_that_a_later_event_hour_has_deleted() {
    let limits = PendingLimits { entries: 1000, ..PendingLimits::DEFAULT };
    let mut member = Member::new(limits);
    let old = (1, Hour(99), false);
    assert_eq!(member.event(old.0, old.1, old.2).0, Seen::First);
    member.flood(100, MEDIAN_SAMPLES);
    member.commit();
    // Not enough to be written, and not enough to know the event hour from them.
    member.flood(120, MEDIAN_SAMPLES / 2 + 100);
    member.commit();
    assert_eq!(member.event(old.0, old.1, old.2).0, Seen::BeyondHorizon);
    member.store.take().unwrap().abandon();
    member.start();
    assert_eq!(member.event(old.0, old.1, old.2).0, Seen::BeyondHorizon, "and not the first");
}

#[test]
fn what_is_in_memory_is_bounded() {
    let limits = PendingLimits { entries: 6000, memory_bytes: 1 << 20, all_bytes: 1 << 20 };
    let mut member = Member::new(limits);
    let mut most = 0;
    for thousand in 0..40 {
        fill(&mut member, thousand * 1000, 1000);
        most = most.max(member.store().pending_bytes());
    }
    // Below 8000 ids of 21 bytes and memories of 64, in tables that may be half empty.
    assert!((100_000..1_200_000).contains(&most), "{most}");
    member.store.take().unwrap().abandon();
    assert!(records_to_read(&mut member) <= 6, "all others were written before");
    assert_eq!(member.event(0, Hour(100), false).0, Seen::Duplicate);
}

#[test]
fn all_partitions_together_are_bounded() {
    const PARTITIONS: i32 = 40;
    const BYTES: usize = 300_000;
    let limits = PendingLimits { entries: 6000, memory_bytes: 1 << 20, all_bytes: BYTES };
    let disk = tempfile::tempdir().unwrap();
    let mut store = Store::open_with(disk.path(), HORIZONS, limits).unwrap();
    for partition in 0..PARTITIONS {
        store.restore(partition, |_, _| Ok::<_, state::StateError>(0)).unwrap();
    }
    let mut most = 0;
    for number in 0..40_000_u64 {
        let partition = (number % PARTITIONS as u64) as i32;
        store.partition(partition).unwrap().insert(&id(number), Hour(100)).unwrap();
        if number % 1000 == 999 {
            assert_eq!(store.changelog().count(), PARTITIONS as usize);
            store.commit().unwrap();
            most = most.max(store.pending_bytes());
        }
    }
    assert!((BYTES / 2..=BYTES).contains(&most), "{most}");
    let seen = store.partition(0).unwrap().insert(&id(0), Hour(100)).unwrap();
    assert_eq!(seen, Seen::Duplicate);
}
