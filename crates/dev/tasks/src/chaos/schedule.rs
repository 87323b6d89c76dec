//! The actions of a run with the pauses between them, as a function of the seed.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::action::{Action, ActionKind, Brokers, Seconds};
use crate::binaries::{ACTING, SERVICES};
use crate::supervisor::Member;

/// The services with several members, and how many. The members share the partitions of their topics.
pub(crate) const GROUPS: [(&str, u8); 5] =
    [("enrich", 2), ("dedupe", 2), ("monitor", 2), ("archive", 2), ("automate", 2)];

/// Returns all services, in the order in which an event passes them.
fn services() -> impl Iterator<Item = &'static str> {
    SERVICES.into_iter().chain(ACTING)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Every kind of action once, and a kill of every service, in about three minutes.
    Short,
    /// At least the actions of a short run, and more until this time is over.
    Minutes(u64),
}

/// An action and the pause before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// The time without disturbance since the end of the previous action.
    pub(crate) pause: Duration,
    pub(crate) action: Action,
}

/// The planned actions in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schedule(pub(crate) Vec<Step>);

impl Schedule {
    /// Returns the schedule of a seed. The same arguments give the same schedule.
    pub(crate) fn of_seed(seed: u64, length: Length, brokers: Brokers) -> Self {
        let mut generator = Generator { rng: StdRng::seed_from_u64(seed), length, brokers };
        let mut schedule = Self(Vec::new());
        loop {
            let mut round: Vec<Action> = generator.round();
            round.shuffle(&mut generator.rng);
            for action in round {
                // Only the short run always completes a round. A long run ends by its time.
                if matches!(length, Length::Minutes(minutes)
                    if schedule.has_all(brokers) && schedule.duration().as_secs() >= minutes * 60)
                {
                    return schedule;
                }
                schedule.0.push(Step { pause: generator.pause(), action });
            }
            if length == Length::Short {
                return schedule;
            }
        }
    }

    /// Returns the planned length. Slow restarts of servers make a run longer.
    pub(crate) fn duration(&self) -> Duration {
        self.0.iter().map(|step| step.pause + step.action.duration()).sum()
    }

    fn has_all(&self, brokers: Brokers) -> bool {
        ActionKind::all(brokers).all(|kind| self.0.iter().any(|step| step.action.kind() == kind))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut at = Duration::ZERO;
        for (number, Step { pause, action }) in self.0.iter().enumerate() {
            at += *pause;
            let (minutes, seconds) = (at.as_secs() / 60, at.as_secs() % 60);
            writeln!(f, "  {:>3}  {minutes:>2}:{seconds:02}  {action}", number + 1)?;
            at += action.duration();
        }
        write!(f, "  {} actions, planned for {}", self.0.len(), Seconds(self.duration()))
    }
}

/// Chooses actions, members and durations at random.
struct Generator {
    rng: StdRng,
    length: Length,
    brokers: Brokers,
}

impl Generator {
    /// Returns every kind of action at least once, and a kill of every service.
    fn round(&mut self) -> Vec<Action> {
        let kills: Vec<Action> =
            services().map(|service| Action::Kill(self.member_of(service))).collect();
        let others = ActionKind::all(self.brokers).filter(|&kind| kind != ActionKind::Kill);
        let others: Vec<Action> = others.map(|kind| self.action(kind)).collect();
        let storms: Vec<Action> =
            (1..self.storms()).map(|_| self.action(ActionKind::Storm)).collect();
        kills.into_iter().chain(others).chain(storms).collect()
    }

    fn action(&mut self, kind: ActionKind) -> Action {
        match kind {
            ActionKind::Kill => Action::Kill(self.any_member()),
            ActionKind::KillTogether => Action::KillTogether(self.several()),
            ActionKind::Storm => {
                Action::Storm { members: self.storm_members(), every: self.storm_interval() }
            }
            ActionKind::Lose => {
                Action::Lose { member: self.group_member(), away: self.beyond_session() }
            }
            ActionKind::Leave => {
                Action::Leave { member: self.group_member(), away: self.seconds(3, 6) }
            }
            ActionKind::Join => {
                Action::Join { member: self.extra_member(), staying: self.seconds(4, 7) }
            }
            ActionKind::Freeze => {
                Action::Freeze { member: self.group_member(), lasting: self.beyond_session() }
            }
            ActionKind::KafkaCrash => Action::KafkaCrash { away: self.outage() },
            ActionKind::FullDisk => Action::FullDisk { lasting: self.outage() },
            ActionKind::ClickHouseCrash => Action::ClickHouseCrash { away: self.outage() },
            ActionKind::ClickHouseForgets => Action::ClickHouseForgets { away: self.outage() },
            ActionKind::ClickHouseFreeze => {
                Action::ClickHouseFreeze { lasting: self.beyond_poll_interval() }
            }
            ActionKind::Blackout => Action::Blackout { away: self.seconds(1, 4) },
            ActionKind::BrokerCrash => {
                Action::BrokerCrash { broker: self.broker(), away: self.outage() }
            }
            ActionKind::LoneBroker => {
                Action::LoneBroker { broker: self.broker(), away: self.outage() }
            }
            ActionKind::BrokerFreeze => {
                Action::BrokerFreeze { broker: self.broker(), lasting: self.seconds(8, 12) }
            }
            ActionKind::BrokerCutOff => {
                Action::BrokerCutOff { broker: self.broker(), lasting: self.seconds(8, 12) }
            }
            ActionKind::LeadersMove => Action::LeadersMove,
            ActionKind::RollingRestart => Action::RollingRestart,
        }
    }

    /// Returns the number of storms in a round. In a long run they cause most of the kills.
    fn storms(&self) -> usize {
        match self.length {
            Length::Short => 1,
            Length::Minutes(_) => 6,
        }
    }

    /// Returns the members that a storm kills, in this order.
    fn storm_members(&mut self) -> Vec<Member> {
        let count = match self.length {
            Length::Short => 10,
            Length::Minutes(_) => self.rng.random_range(30..60),
        };
        (0..count).map(|_| self.any_member()).collect()
    }

    /// Returns the time between two kills of a storm. A restarted service is ready in about a second.
    fn storm_interval(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(3..8) * 100)
    }

    fn pause(&mut self) -> Duration {
        match self.length {
            Length::Short => self.seconds(3, 5),
            Length::Minutes(_) => self.seconds(3, 9),
        }
    }

    /// Returns how long a server is down.
    fn outage(&mut self) -> Duration {
        match self.length {
            Length::Short => self.seconds(4, 7),
            Length::Minutes(_) => self.seconds(3, 20),
        }
    }

    fn broker(&mut self) -> usize {
        self.rng.random_range(0..devstack::kafka::BROKERS)
    }

    /// Returns a time longer than the session timeout. With one broker that is six seconds; see `devstack::kafka`.
    fn beyond_session(&mut self) -> Duration {
        match (self.length, self.brokers) {
            (Length::Short, _) => self.seconds(8, 10),
            (Length::Minutes(_), Brokers::One) => self.seconds(8, 15),
            (Length::Minutes(_), Brokers::Three) => self.seconds(47, 52),
        }
    }

    /// Returns a time that is longer than `max.poll.interval.ms` in a long run.
    fn beyond_poll_interval(&mut self) -> Duration {
        match self.length {
            Length::Short => self.beyond_session(),
            Length::Minutes(_) => self.seconds(46, 50),
        }
    }

    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from * 10..to * 10) * 100)
    }

    fn any_member(&mut self) -> Member {
        let all: Vec<&'static str> = services().collect();
        let service = all.choose(&mut self.rng).copied().unwrap_or(SERVICES[0]);
        self.member_of(service)
    }

    fn group_member(&mut self) -> Member {
        let (service, _) = GROUPS.choose(&mut self.rng).copied().unwrap_or(GROUPS[0]);
        self.member_of(service)
    }

    fn member_of(&mut self, service: &'static str) -> Member {
        Member { service, number: self.rng.random_range(1..=members_of(service)) }
    }

    fn extra_member(&mut self) -> Member {
        let members = extra_members();
        members.choose(&mut self.rng).copied().unwrap_or(members[0])
    }

    /// Returns two to four different members.
    fn several(&mut self) -> Vec<Member> {
        let count = self.rng.random_range(2..=4);
        let mut members: Vec<Member> = services()
            .flat_map(|service| {
                (1..=members_of(service)).map(move |number| Member { service, number })
            })
            .collect();
        members.shuffle(&mut self.rng);
        members.truncate(count);
        members.sort();
        members
    }
}

/// Returns how many members of a service run all the time.
pub(crate) fn members_of(service: &str) -> u8 {
    GROUPS.iter().find(|(name, _)| *name == service).map_or(1, |&(_, count)| count)
}

/// Returns the members that join for some time: one more of each group.
pub(crate) fn extra_members() -> [Member; GROUPS.len()] {
    GROUPS.map(|(service, count)| Member { service, number: count + 1 })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        for length in [Length::Short, Length::Minutes(30)] {
            assert_eq!(
                Schedule::of_seed(7, length, Brokers::One),
                Schedule::of_seed(7, length, Brokers::One)
            );
            assert_ne!(
                Schedule::of_seed(7, length, Brokers::One),
                Schedule::of_seed(8, length, Brokers::One)
            );
        }
    }

    #[test]
    fn every_run_has_every_kind_of_action_and_kills_every_service() {
        for seed in 0..50 {
            let lengths = [Length::Short, Length::Minutes(1), Length::Minutes(20)];
            for (length, brokers) in
                lengths.into_iter().flat_map(|it| [(it, Brokers::One), (it, Brokers::Three)])
            {
                let Schedule(steps) = Schedule::of_seed(seed, length, brokers);
                let kinds: BTreeSet<ActionKind> =
                    steps.iter().map(|step| step.action.kind()).collect();
                let all: BTreeSet<ActionKind> = ActionKind::all(brokers).collect();
                assert_eq!(kinds, all, "seed {seed}, {length:?}, {brokers:?}");
                if length != Length::Minutes(1) {
                    let killed = steps.iter().filter_map(|step| match &step.action {
                        Action::Kill(member) => Some(member.service),
                        _ => None,
                    });
                    assert_eq!(killed.collect::<BTreeSet<_>>().len(), services().count());
                }
            }
        }
    }

    #[test]
    fn a_run_has_the_requested_length() {
        for seed in 0..50 {
            let short = Schedule::of_seed(seed, Length::Short, Brokers::One).duration().as_secs();
            assert!((60..190).contains(&short), "seed {seed}: {short} s");
            let long =
                Schedule::of_seed(seed, Length::Minutes(45), Brokers::One).duration().as_secs();
            assert!((45 * 60..47 * 60).contains(&long), "seed {seed}: {long} s");
        }
    }

    #[test]
    fn actions_name_existing_members() {
        for seed in 0..50 {
            for Step { action, .. } in Schedule::of_seed(seed, Length::Minutes(10), Brokers::One).0
            {
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
    fn the_schedule_is_printed_with_times() {
        let text = Schedule(vec![
            Step {
                pause: Duration::from_millis(61_500),
                action: Action::Kill(Member { service: "dedupe", number: 2 }),
            },
            Step {
                pause: Duration::from_secs(4),
                action: Action::KafkaCrash { away: Duration::from_millis(6500) },
            },
            Step {
                pause: Duration::from_secs(3),
                action: Action::FullDisk { lasting: Duration::from_secs(5) },
            },
        ])
        .to_string();
        assert_eq!(
            text,
            "    1   1:01  kill -9 dedupe-2\n    2   1:05  kill -9 Kafka, down for 6.5 s\n    \
             3   1:15  kill -9 Kafka and fill the disk of the spool for 5.0 s\n  \
             3 actions, planned for 80.0 s"
        );
    }
}
