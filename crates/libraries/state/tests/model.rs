//! Compares the store with a model of what it should remember, over batches that commit or abort,
//! crashes before and after the local write, lost disks and passing event time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::HashMap;

use common::{Log, PARTITION, commit, engage, id, records};
use event::{EventId, Kind};
use proptest::prelude::*;
use record::FirstSeen;
use state::{Horizons, Hour, MEDIAN_SAMPLES, PendingLimits, Seen, Store};
use tempfile::TempDir;

const HORIZON: u32 = 10;
/// The horizon of memories.
const REMEMBERED: u32 = 25;
/// A batch is written when it is committed if it is large or comes after others.
const LIMITS: PendingLimits = PendingLimits { entries: 30, memory_bytes: 1000, all_bytes: 1 << 20 };

#[derive(Debug, Clone)]
enum Step {
    /// Sends the event with this number. Its hour depends only on the number, so a duplicate has
    /// the same hour.
    Event(u64),
    /// Sends enough new events to move the event hour to this hour.
    Flood(u32),
    Commit,
    RollBack,
    /// Stops and restarts the process.
    Restart,
    /// Restarts the process after it was killed.
    Crash,
    /// The partition is revoked and assigned again.
    Reassign,
    /// Stops the process after the commit in Kafka and before the commit in the store.
    CrashBeforeLocalCommit,
    /// Restarts the process on another machine.
    LoseDisk,
    /// Restarts the process with files of an earlier time.
    StaleDisk,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0..60_u64).prop_map(Step::Event),
        2 => (100..140_u32).prop_map(Step::Flood),
        10 => Just(Step::Commit),
        5 => Just(Step::RollBack),
        3 => Just(Step::Restart),
        3 => Just(Step::Crash),
        3 => Just(Step::Reassign),
        3 => Just(Step::CrashBeforeLocalCommit),
        2 => Just(Step::LoseDisk),
        2 => Just(Step::StaleDisk),
    ]
}

#[derive(Default, Clone)]
struct Known {
    events: HashMap<EventId, Memory>,
    /// Message → the hour of its latest event, its kinds of engagement, and whether the memory has been
    /// beyond its horizon since.
    messages: HashMap<EventId, (Hour, u8, bool)>,
}

#[derive(Clone, Copy)]
struct Memory {
    hour: Hour,
    /// Whether the hour has been beyond the horizon since.
    has_expired: bool,
}

struct World {
    disk: TempDir,
    store: Option<Store>,
    log: Log,
    /// The state as of the last commit.
    committed: Known,
    /// The state including the open batch.
    open: Known,
    /// The number of the next flood event.
    next: u64,
    /// A copy of the files at an earlier time.
    stale: Option<TempDir>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            disk: tempfile::tempdir().unwrap(),
            store: None,
            log: Log::default(),
            committed: Known::default(),
            open: Known::default(),
            next: 1_000_000,
            stale: None,
        };
        world.start();
        world
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn floor(&mut self) -> Hour {
        let now = self.store().partition(PARTITION).unwrap().event_hour();
        Hour(now.map_or(0, |now| now.0.saturating_sub(HORIZON)))
    }

    fn memories_floor(&mut self) -> Hour {
        let now = self.store().partition(PARTITION).unwrap().event_hour();
        Hour(now.map_or(0, |now| now.0.saturating_sub(REMEMBERED)))
    }

    fn start(&mut self) {
        let horizons = Horizons::new(HORIZON, REMEMBERED);
        let mut store = Store::open_with(self.disk.path(), horizons, LIMITS).unwrap();
        self.log.restore(&mut store);
        self.store = Some(store);
        self.open = self.committed.clone();
        self.note_expired();
    }

    fn note_expired(&mut self) {
        let floor = self.floor();
        let gone = self.open.events.values_mut().filter(|memory| memory.hour < floor);
        gone.for_each(|memory| memory.has_expired = true);
        let floor = self.memories_floor();
        let gone = self.open.messages.values_mut().filter(|(hour, ..)| *hour < floor);
        gone.for_each(|(.., has_expired)| *has_expired = true);
        self.committed = self.open.clone();
    }

    fn event(&mut self, event: EventId, hour: Hour) -> Seen {
        let floor = self.floor();
        let seen = self.store().partition(PARTITION).unwrap().insert(&event, hour).unwrap();
        match (hour < floor, self.open.events.get(&event)) {
            (true, _) => assert_eq!(seen, Seen::BeyondHorizon, "{hour:?} before {floor:?}"),
            (false, None) => assert_eq!(seen, Seen::First, "nothing unseen may be lost"),
            // The event hour went past the event and came back, so both answers are right.
            (false, Some(memory)) if memory.has_expired => assert_ne!(seen, Seen::BeyondHorizon),
            (false, Some(_)) => assert_eq!(seen, Seen::Duplicate),
        }
        if seen == Seen::First {
            self.open.events.insert(event, Memory { hour, has_expired: false });
        }
        seen
    }

    /// Every three consecutive events belong to one message. Opens and clicks alternate.
    fn engage(&mut self, number: u64, hour: Hour) {
        let message = id(5_000_000 + number / 3);
        let (kind, bit) =
            if number.is_multiple_of(2) { (Kind::Opened, 1) } else { (Kind::Clicked, 2) };
        let floor = self.memories_floor();
        let partition = self.store().partition(PARTITION).unwrap();
        let first = engage(partition, &message, kind, hour);
        let known = self.open.messages.get(&message).copied();
        let (since, bits, has_expired) = known.unwrap_or((Hour(0), 0, false));
        // A memory that has expired may still be stored when the event hour comes back.
        let is_certain = !has_expired || since < floor;
        let bits = if since < floor { 0 } else { bits };
        if is_certain {
            let expected = FirstSeen { of_kind: bits & bit == 0, of_engagement: bits == 0 };
            assert_eq!(first, expected);
        }
        let is_new = bits == 0 && is_certain;
        let (since, bits) = if is_new { (hour, bit) } else { (since.max(hour), bits | bit) };
        self.open.messages.insert(message, (since, bits, !is_certain));
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Event(number) => {
                let hour = Hour(100 + (number % 40) as u32);
                if self.event(id(number), hour) == Seen::First {
                    self.engage(number, hour);
                }
            }
            Step::Flood(hour) => {
                for _ in 0..MEDIAN_SAMPLES {
                    self.next += 1;
                    self.event(id(self.next), Hour(hour));
                }
            }
            Step::Commit => {
                let Self { store, log, .. } = self;
                commit(store.as_mut().unwrap(), log);
                self.note_expired();
            }
            Step::RollBack => {
                let aborted = records(self.store());
                self.log.abort(&aborted);
                self.store().roll_back();
                self.open = self.committed.clone();
            }
            Step::Restart => {
                self.store = None;
                self.start();
            }
            Step::Crash => {
                self.store.take().unwrap().abandon();
                self.start();
            }
            Step::Reassign => {
                self.store().release(PARTITION);
                let Self { store, log, .. } = self;
                log.restore(store.as_mut().unwrap());
                self.open = self.committed.clone();
                self.note_expired();
            }
            Step::CrashBeforeLocalCommit => {
                let records = records(self.store());
                self.log.append(records);
                self.committed = self.open.clone();
                self.store.take().unwrap().abandon();
                self.start();
            }
            Step::LoseDisk => {
                self.store = None;
                self.disk = tempfile::tempdir().unwrap();
                self.start();
            }
            Step::StaleDisk => {
                self.store = None;
                let now = copy(&self.disk);
                if let Some(then) = self.stale.replace(now) {
                    self.disk = then;
                }
                self.start();
            }
        }
    }
}

fn copy(from: &TempDir) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp")
        .args(["-r", "--"])
        .arg(from.path().join("ids"))
        .arg(to.path())
        .status();
    assert!(status.unwrap().success());
    to
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_store_agrees_with_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
        }
        // In the end another machine restores every event that was passed on.
        world.apply(&Step::Commit);
        world.apply(&Step::LoseDisk);
        let known: Vec<_> = world.open.events.iter().map(|(&id, m)| (id, m.hour)).collect();
        for (id, hour) in known {
            world.event(id, hour);
        }
    }
}
