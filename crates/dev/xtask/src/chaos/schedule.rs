//! Which actions, in which order, with what rest between them: a function of the seed.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::action::{Action, Seconds, Sort};
use crate::build::SERVICES;
use crate::supervisor::Member;

/// The services that run in several members, and how many. All of them share the partitions of
/// their topics.
pub(crate) const GROUPS: [(&str, u8); 4] =
    [("enrich", 2), ("dedupe", 2), ("monitor", 2), ("archive", 2)];

/// How long it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Every sort of action once and every binary killed, in about three minutes.
    Short,
    /// At least that, and on until so much time is filled.
    Minutes(u64),
}

/// An action and the rest before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Traffic flows undisturbed for so long first, counted from the end of the action before.
    pub(crate) rest: Duration,
    pub(crate) action: Action,
}

/// What is going to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule(pub(crate) Vec<Step>);

impl Schedule {
    /// The schedule of a seed: the same for the same seed and length.
    pub(crate) fn draw(seed: u64, length: Length) -> Self {
        let mut dice = Dice { rng: StdRng::seed_from_u64(seed), length };
        let mut schedule = Self(Vec::new());
        loop {
            let mut round: Vec<Action> = dice.round();
            round.shuffle(&mut dice.rng);
            for action in round {
                // A round is finished only by the shortest run: elsewhere the time decides.
                if matches!(length, Length::Minutes(minutes)
                    if schedule.has_all() && schedule.lasts().as_secs() >= minutes * 60)
                {
                    return schedule;
                }
                schedule.0.push(Step { rest: dice.rest(), action });
            }
            if length == Length::Short {
                return schedule;
            }
        }
    }

    /// The planned length. Servers that are slow to come back make it longer.
    pub(crate) fn lasts(&self) -> Duration {
        self.0.iter().map(|step| step.rest + step.action.lasts()).sum()
    }

    fn has_all(&self) -> bool {
        Sort::ALL.iter().all(|&sort| self.0.iter().any(|step| step.action.sort() == sort))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = Duration::ZERO;
        for (number, Step { rest, action }) in self.0.iter().enumerate() {
            at += *rest;
            let (minutes, seconds) = (at.as_secs() / 60, at.as_secs() % 60);
            writeln!(f, "  {:>3}  {minutes:>2}:{seconds:02}  {action}", number + 1)?;
            at += action.lasts();
        }
        write!(f, "  {} actions, planned for {}", self.0.len(), Seconds(self.lasts()))
    }
}

/// Draws members and durations.
struct Dice {
    rng: StdRng,
    length: Length,
}

impl Dice {
    /// Every sort of action at least once, and a kill of every binary.
    fn round(&mut self) -> Vec<Action> {
        let kills = SERVICES.map(|service| Action::Kill(self.member_of(service)));
        let others = Sort::ALL.into_iter().filter(|&sort| sort != Sort::Kill);
        let others: Vec<Action> = others.map(|sort| self.action(sort)).collect();
        let storms: Vec<Action> = (1..self.storms()).map(|_| self.action(Sort::Storm)).collect();
        kills.into_iter().chain(others).chain(storms).collect()
    }

    fn action(&mut self, sort: Sort) -> Action {
        match sort {
            Sort::Kill => Action::Kill(self.anyone()),
            Sort::KillTogether => Action::KillTogether(self.several()),
            Sort::Storm => Action::Storm { members: self.victims(), every: self.storm_pace() },
            Sort::Lose => Action::Lose { member: self.of_a_group(), away: self.beyond_session() },
            Sort::Leave => Action::Leave { member: self.of_a_group(), away: self.seconds(3, 6) },
            Sort::Join => Action::Join { member: self.guest(), staying: self.seconds(4, 7) },
            Sort::Freeze => {
                Action::Freeze { member: self.of_a_group(), lasting: self.beyond_session() }
            }
            Sort::KafkaCrash => Action::KafkaCrash { away: self.outage() },
            Sort::FullDisk => Action::FullDisk { lasting: self.outage() },
            Sort::ClickHouseCrash => Action::ClickHouseCrash { away: self.outage() },
            Sort::ClickHouseForgets => Action::ClickHouseForgets { away: self.outage() },
            Sort::ClickHouseFreeze => {
                Action::ClickHouseFreeze { lasting: self.beyond_poll_interval() }
            }
            Sort::Blackout => Action::Blackout { away: self.seconds(1, 4) },
        }
    }

    /// Storms of a round: in a long run most kills are theirs.
    fn storms(&self) -> usize {
        match self.length {
            Length::Short => 1,
            Length::Minutes(_) => 6,
        }
    }

    /// Whom a storm kills, in this order.
    fn victims(&mut self) -> Vec<Member> {
        let many = match self.length {
            Length::Short => 10,
            Length::Minutes(_) => self.rng.random_range(30..60),
        };
        (0..many).map(|_| self.anyone()).collect()
    }

    /// From one kill of a storm to the next: a binary is up again in about a second.
    fn storm_pace(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(3..8) * 100)
    }

    fn rest(&mut self) -> Duration {
        match self.length {
            Length::Short => self.seconds(3, 5),
            Length::Minutes(_) => self.seconds(3, 9),
        }
    }

    /// How long a server is away.
    fn outage(&mut self) -> Duration {
        match self.length {
            Length::Short => self.seconds(4, 7),
            Length::Minutes(_) => self.seconds(3, 20),
        }
    }

    /// Longer than the six seconds after which the broker gives a member up; see `devstack::kafka`.
    fn beyond_session(&mut self) -> Duration {
        match self.length {
            Length::Short => self.seconds(8, 10),
            Length::Minutes(_) => self.seconds(8, 15),
        }
    }

    /// In long runs longer than `max.poll.interval.ms` is in them.
    fn beyond_poll_interval(&mut self) -> Duration {
        match self.length {
            Length::Short => self.beyond_session(),
            Length::Minutes(_) => self.seconds(46, 50),
        }
    }

    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from * 10..to * 10) * 100)
    }

    fn anyone(&mut self) -> Member {
        let service = SERVICES.choose(&mut self.rng).copied().unwrap_or(SERVICES[0]);
        self.member_of(service)
    }

    fn of_a_group(&mut self) -> Member {
        let (service, _) = GROUPS.choose(&mut self.rng).copied().unwrap_or(GROUPS[0]);
        self.member_of(service)
    }

    fn member_of(&mut self, service: &'static str) -> Member {
        Member { service, number: self.rng.random_range(1..=members_of(service)) }
    }

    fn guest(&mut self) -> Member {
        let guests = guests();
        guests.choose(&mut self.rng).copied().unwrap_or(guests[0])
    }

    /// Two to four members, none twice.
    fn several(&mut self) -> Vec<Member> {
        let count = self.rng.random_range(2..=4);
        let mut everyone: Vec<Member> = SERVICES
            .into_iter()
            .flat_map(|service| {
                (1..=members_of(service)).map(move |number| Member { service, number })
            })
            .collect();
        everyone.shuffle(&mut self.rng);
        everyone.truncate(count);
        everyone.sort();
        everyone
    }
}

/// How many members of a service run all the time.
pub(crate) fn members_of(service: &str) -> u8 {
    GROUPS.iter().find(|(name, _)| *name == service).map_or(1, |&(_, many)| many)
}

/// Those that join for a while: one more of each group.
pub(crate) fn guests() -> [Member; GROUPS.len()] {
    GROUPS.map(|(service, many)| Member { service, number: many + 1 })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_is_the_same_schedule() {
        for length in [Length::Short, Length::Minutes(30)] {
            assert_eq!(Schedule::draw(7, length), Schedule::draw(7, length));
            assert_ne!(Schedule::draw(7, length), Schedule::draw(8, length));
        }
    }

    #[test]
    fn every_run_has_every_sort_of_action_and_kills_every_binary() {
        for seed in 0..50 {
            for length in [Length::Short, Length::Minutes(1), Length::Minutes(20)] {
                let Schedule(steps) = Schedule::draw(seed, length);
                let sorts: BTreeSet<Sort> = steps.iter().map(|step| step.action.sort()).collect();
                assert_eq!(sorts.len(), Sort::ALL.len(), "seed {seed}, {length:?}");
                if length != Length::Minutes(1) {
                    let killed = steps.iter().filter_map(|step| match &step.action {
                        Action::Kill(member) => Some(member.service),
                        _ => None,
                    });
                    assert_eq!(killed.collect::<BTreeSet<_>>().len(), SERVICES.len());
                }
            }
        }
    }

    #[test]
    fn the_short_one_is_short_and_the_long_one_as_long_as_asked_for() {
        for seed in 0..50 {
            let short = Schedule::draw(seed, Length::Short).lasts().as_secs();
            assert!((60..170).contains(&short), "seed {seed}: {short} s");
            let long = Schedule::draw(seed, Length::Minutes(45)).lasts().as_secs();
            assert!((45 * 60..47 * 60).contains(&long), "seed {seed}: {long} s");
        }
    }

    #[test]
    fn members_are_those_that_run() {
        for seed in 0..50 {
            for Step { action, .. } in Schedule::draw(seed, Length::Minutes(10)).0 {
                match action {
                    Action::KillTogether(members) => {
                        let distinct: BTreeSet<&Member> = members.iter().collect();
                        assert_eq!(distinct.len(), members.len());
                        assert!((2..=4).contains(&members.len()));
                    }
                    Action::Join { member, .. } => {
                        assert_eq!(member.number, members_of(member.service) + 1);
                    }
                    Action::Freeze { member, lasting } => {
                        assert!(member.number <= members_of(member.service));
                        assert!(lasting > Duration::from_secs(6), "longer than the session");
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn it_reads_as_a_plan() {
        let text = Schedule(vec![
            Step {
                rest: Duration::from_millis(61_500),
                action: Action::Kill(Member { service: "dedupe", number: 2 }),
            },
            Step {
                rest: Duration::from_secs(4),
                action: Action::KafkaCrash { away: Duration::from_millis(6500) },
            },
            Step {
                rest: Duration::from_secs(3),
                action: Action::FullDisk { lasting: Duration::from_secs(5) },
            },
        ])
        .to_string();
        assert_eq!(
            text,
            "    1   1:01  kill -9 dedupe-2\n    2   1:05  kill -9 Kafka, down for 6.5 s\n    \
             3   1:15  kill -9 Kafka, and fill the spool's disk for 5.0 s\n  \
             3 actions, planned for 80.0 s"
        );
    }
}
