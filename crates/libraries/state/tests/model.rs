//! The store against a model of what it should remember, through rounds that commit and rounds that
//! do not, crashes before and after the local write, lost disks and the passing of time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::HashMap;

use common::{Log, PARTITION, commit, engage, id, records};
use event::{EventId, Kind};
use proptest::prelude::*;
use record::FirstSight;
use state::{CLOCK_SAMPLES, Hour, Sight, Store};
use tempfile::TempDir;

const HORIZON: u32 = 10;

#[derive(Debug, Clone)]
enum Step {
    /// An event by its number, at an hour that depends on nothing else, so a repeat has the same.
    Event(u64),
    /// So many new events that the clock shows this hour.
    Flood(u32),
    Commit,
    RollBack,
    /// The process ends and comes back.
    Restart,
    /// It ends after Kafka's commit and before its own.
    CrashBeforeLocalCommit,
    /// It comes back on another machine.
    LoseDisk,
    /// It comes back with the files of an earlier time.
    StaleDisk,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0..60_u64).prop_map(Step::Event),
        2 => (100..140_u32).prop_map(Step::Flood),
        10 => Just(Step::Commit),
        5 => Just(Step::RollBack),
        3 => Just(Step::Restart),
        3 => Just(Step::CrashBeforeLocalCommit),
        2 => Just(Step::LoseDisk),
        2 => Just(Step::StaleDisk),
    ]
}

#[derive(Default, Clone)]
struct Known {
    /// Events by id, with whether the clock has been past them since.
    events: HashMap<EventId, Memory>,
    engagements: HashMap<EventId, (Hour, u8)>,
}

#[derive(Clone, Copy)]
struct Memory {
    hour: Hour,
    has_expired: bool,
}

struct World {
    disk: TempDir,
    store: Option<Store>,
    log: Log,
    /// As of the last commit, and with the open round.
    committed: Known,
    open: Known,
    /// Numbers of flood events.
    next: u64,
    /// A copy of the files and how far they were.
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
        let now = self.store().partition(PARTITION).unwrap().now();
        Hour(now.map_or(0, |now| now.0.saturating_sub(HORIZON)))
    }

    fn start(&mut self) {
        let mut store = Store::open(self.disk.path(), HORIZON).unwrap();
        self.log.restore(&mut store);
        self.store = Some(store);
        self.open = self.committed.clone();
        self.note_expired();
    }

    fn note_expired(&mut self) {
        let floor = self.floor();
        let gone = self.open.events.values_mut().filter(|memory| memory.hour < floor);
        gone.for_each(|memory| memory.has_expired = true);
        self.committed = self.open.clone();
    }

    fn event(&mut self, event: EventId, hour: Hour) -> Sight {
        let floor = self.floor();
        let sight = self.store().partition(PARTITION).unwrap().sight(&event, hour).unwrap();
        match (hour < floor, self.open.events.get(&event)) {
            (true, _) => assert_eq!(sight, Sight::BeyondHorizon, "{hour:?} before {floor:?}"),
            (false, None) => assert_eq!(sight, Sight::First, "nothing unseen may be lost"),
            // The clock was past it and came back: both answers are right.
            (false, Some(memory)) if memory.has_expired => assert_ne!(sight, Sight::BeyondHorizon),
            (false, Some(_)) => assert_eq!(sight, Sight::Repeat),
        }
        if sight == Sight::First {
            self.open.events.insert(event, Memory { hour, has_expired: false });
        }
        sight
    }

    /// Three events each belong to one engagement, opens and clicks by turns.
    fn engage(&mut self, number: u64, hour: Hour) {
        let engagement = id(5_000_000 + number / 3);
        let (kind, bit) =
            if number.is_multiple_of(2) { (Kind::Opened, 1) } else { (Kind::Clicked, 2) };
        let floor = self.floor();
        let partition = self.store().partition(PARTITION).unwrap();
        let first = engage(partition, &engagement, kind, hour);
        let known = self.open.engagements.get(&engagement).copied();
        let (since, bits) = known.filter(|(since, _)| *since >= floor).unwrap_or((hour, 0));
        let expected = FirstSight { of_kind: bits & bit == 0, of_engagement: bits == 0 };
        // A mark the clock has been past may be gone or not, once the clock is back.
        if known.is_none() || floor == Hour(0) {
            assert_eq!(first, expected);
        }
        if first.of_kind {
            let bits = if first.of_engagement { bit } else { bits | bit };
            self.open.engagements.insert(engagement, (since, bits));
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Event(number) => {
                let hour = Hour(100 + (number % 40) as u32);
                if self.event(id(number), hour) == Sight::First {
                    self.engage(number, hour);
                }
            }
            Step::Flood(hour) => {
                for _ in 0..CLOCK_SAMPLES {
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
            Step::CrashBeforeLocalCommit => {
                let records = records(self.store());
                self.log.append(records);
                self.committed = self.open.clone();
                self.store = None;
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
    fn it_remembers_what_it_should(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.apply(step);
        }
        // At last everything that was let through is known on a new machine too.
        world.apply(&Step::Commit);
        world.apply(&Step::LoseDisk);
        let known: Vec<_> = world.open.events.iter().map(|(&id, m)| (id, m.hour)).collect();
        for (id, hour) in known {
            world.event(id, hour);
        }
    }
}
