//! The actions of a chaos run.

use std::fmt;
use std::time::Duration;

use crate::supervisor::Member;

/// A disturbance, and how long its effect lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// SIGKILL. The supervisor restarts the member at once.
    Kill(Member),
    /// SIGKILL of several members at the same moment. They are restarted at once.
    KillTogether(Vec<Member>),
    /// SIGKILL of one member after the other, so fast that a restarted member is hardly ready when the
    /// next ones are killed.
    Storm { members: Vec<Member>, every: Duration },
    /// SIGKILL. The member stays down for longer than its session, so its partitions move to another
    /// member and back.
    Lose { member: Member, away: Duration },
    /// SIGTERM. The member leaves its group, and joins again later.
    Leave { member: Member, away: Duration },
    /// An extra member joins a group and leaves it again after SIGTERM.
    Join { member: Member, staying: Duration },
    /// SIGSTOP for longer than the session, then SIGCONT. The member still believes that it owns the
    /// partitions that have moved meanwhile.
    Freeze { member: Member, lasting: Duration },
    /// SIGKILL of the broker.
    KafkaCrash { away: Duration },
    /// SIGKILL of the broker. While it is down, the disk of the spool is full for some time: requests
    /// are rejected, and accepted again when there is disk space, before the broker restarts.
    FullDisk { lasting: Duration },
    /// SIGKILL of ClickHouse.
    ClickHouseCrash { away: Duration },
    /// SIGKILL of ClickHouse and of every archive during their inserts. The tables then deduplicate
    /// only their last insert, so repeating an insert does not show whether it had succeeded.
    ClickHouseForgets { away: Duration },
    /// SIGSTOP of ClickHouse. Its connections stay open, and it does not answer.
    ClickHouseFreeze { lasting: Duration },
    /// SIGKILL of the services, Kafka and ClickHouse at the same moment.
    Blackout { away: Duration },
    /// SIGKILL of one of three brokers. The other two go on.
    BrokerCrash { broker: usize, away: Duration },
    /// SIGKILL of all brokers but this one. It acknowledges nothing, so the spool takes over.
    LoneBroker { broker: usize, away: Duration },
    /// SIGSTOP of one of three brokers. Its connections stay open, and it does not answer, as behind a broken
    /// network. The controller takes its partitions away, and it does not know that when it continues.
    BrokerFreeze { broker: usize, lasting: Duration },
    /// No packet reaches one of three brokers or leaves it. It runs on and is no leader any more. Skipped where the
    /// machine has no network namespaces.
    BrokerCutOff { broker: usize, lasting: Duration },
    /// The leaders of all partitions, and the coordinators of groups and transactions, move to other brokers.
    LeadersMove,
    /// Every broker stops and starts again, one after the other, each when all replicas are in sync. No request
    /// may be refused meanwhile.
    RollingRestart,
}

/// The kind of an action. Every run contains all kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ActionKind {
    Kill,
    KillTogether,
    Storm,
    Lose,
    Leave,
    Join,
    Freeze,
    KafkaCrash,
    FullDisk,
    ClickHouseCrash,
    ClickHouseForgets,
    ClickHouseFreeze,
    Blackout,
    BrokerCrash,
    LoneBroker,
    BrokerFreeze,
    BrokerCutOff,
    LeadersMove,
    RollingRestart,
}

impl ActionKind {
    /// Those that need three brokers.
    const OF_THREE: [Self; 6] = [
        Self::BrokerCrash,
        Self::LoneBroker,
        Self::BrokerFreeze,
        Self::BrokerCutOff,
        Self::LeadersMove,
        Self::RollingRestart,
    ];

    const OF_ONE: [Self; 13] = [
        Self::Kill,
        Self::KillTogether,
        Self::Storm,
        Self::Lose,
        Self::Leave,
        Self::Join,
        Self::Freeze,
        Self::KafkaCrash,
        Self::FullDisk,
        Self::ClickHouseCrash,
        Self::ClickHouseForgets,
        Self::ClickHouseFreeze,
        Self::Blackout,
    ];

    /// Returns the kinds of a run.
    pub(crate) fn all(brokers: Brokers) -> impl Iterator<Item = Self> {
        let more = (brokers == Brokers::Three).then_some(Self::OF_THREE).into_iter().flatten();
        Self::OF_ONE.into_iter().chain(more)
    }
}

/// What Kafka consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brokers {
    One,
    /// With TLS, SCRAM and access control.
    Three,
}

/// About as long as three brokers need.
const ROLLING_RESTART: Duration = Duration::from_secs(45);

impl Action {
    pub(crate) fn kind(&self) -> ActionKind {
        match self {
            Self::Kill(_) => ActionKind::Kill,
            Self::KillTogether(_) => ActionKind::KillTogether,
            Self::Storm { .. } => ActionKind::Storm,
            Self::Lose { .. } => ActionKind::Lose,
            Self::Leave { .. } => ActionKind::Leave,
            Self::Join { .. } => ActionKind::Join,
            Self::Freeze { .. } => ActionKind::Freeze,
            Self::KafkaCrash { .. } => ActionKind::KafkaCrash,
            Self::FullDisk { .. } => ActionKind::FullDisk,
            Self::ClickHouseCrash { .. } => ActionKind::ClickHouseCrash,
            Self::ClickHouseForgets { .. } => ActionKind::ClickHouseForgets,
            Self::ClickHouseFreeze { .. } => ActionKind::ClickHouseFreeze,
            Self::Blackout { .. } => ActionKind::Blackout,
            Self::BrokerCrash { .. } => ActionKind::BrokerCrash,
            Self::LoneBroker { .. } => ActionKind::LoneBroker,
            Self::BrokerFreeze { .. } => ActionKind::BrokerFreeze,
            Self::BrokerCutOff { .. } => ActionKind::BrokerCutOff,
            Self::LeadersMove => ActionKind::LeadersMove,
            Self::RollingRestart => ActionKind::RollingRestart,
        }
    }

    /// Returns the time from the beginning of the action to its end, without restarts that follow.
    pub(crate) fn duration(&self) -> Duration {
        match *self {
            Self::Kill(_) | Self::KillTogether(_) | Self::LeadersMove => Duration::ZERO,
            Self::RollingRestart => ROLLING_RESTART,
            Self::Storm { ref members, every } => every.mul_f64(members.len() as f64),
            Self::Lose { away, .. }
            | Self::Leave { away, .. }
            | Self::KafkaCrash { away }
            | Self::ClickHouseCrash { away }
            | Self::ClickHouseForgets { away }
            | Self::Blackout { away }
            | Self::BrokerCrash { away, .. }
            | Self::LoneBroker { away, .. } => away,
            Self::Join { staying, .. } => staying,
            Self::Freeze { lasting, .. }
            | Self::BrokerFreeze { lasting, .. }
            | Self::BrokerCutOff { lasting, .. }
            | Self::FullDisk { lasting }
            | Self::ClickHouseFreeze { lasting } => lasting,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(member) => write!(f, "kill -9 {member}"),
            Self::KillTogether(members) => {
                write!(f, "kill -9")?;
                members.iter().try_for_each(|member| write!(f, " {member}"))
            }
            Self::Storm { members, every } => {
                let (count, every) = (members.len(), Seconds(*every));
                write!(f, "kill -9 one after the other, {count} times, every {every}")
            }
            Self::Lose { member, away } => {
                write!(f, "kill -9 {member}, down for {}", Seconds(*away))
            }
            Self::Leave { member, away } => {
                write!(f, "{member} leaves and joins again after {}", Seconds(*away))
            }
            Self::Join { member, staying } => {
                write!(f, "{member} joins and leaves after {}", Seconds(*staying))
            }
            Self::Freeze { member, lasting } => {
                write!(f, "freeze {member} for {}", Seconds(*lasting))
            }
            Self::KafkaCrash { away } => write!(f, "kill -9 Kafka, down for {}", Seconds(*away)),
            Self::FullDisk { lasting } => {
                write!(f, "kill -9 Kafka and fill the disk of the spool for {}", Seconds(*lasting))
            }
            Self::ClickHouseCrash { away } => {
                write!(f, "kill -9 ClickHouse, down for {}", Seconds(*away))
            }
            Self::ClickHouseForgets { away } => write!(
                f,
                "kill -9 ClickHouse and every archive, down for {}, with a deduplication window of one \
                 insert",
                Seconds(*away)
            ),
            Self::ClickHouseFreeze { lasting } => {
                write!(f, "freeze ClickHouse for {}", Seconds(*lasting))
            }
            Self::Blackout { away } => {
                write!(f, "kill -9 everything at once, down for {}", Seconds(*away))
            }
            Self::BrokerCrash { broker, away } => {
                write!(f, "kill -9 broker {}, down for {}", broker + 1, Seconds(*away))
            }
            Self::LoneBroker { broker, away } => {
                write!(f, "kill -9 all brokers but {}, down for {}", broker + 1, Seconds(*away))
            }
            Self::BrokerFreeze { broker, lasting } => {
                write!(f, "freeze broker {} for {}", broker + 1, Seconds(*lasting))
            }
            Self::BrokerCutOff { broker, lasting } => {
                let lasting = Seconds(*lasting);
                write!(f, "cut broker {} off from the network for {lasting}", broker + 1)
            }
            Self::LeadersMove => write!(f, "move the leaders of all partitions"),
            Self::RollingRestart => write!(f, "restart every broker, one after the other"),
        }
    }
}

/// Formats a duration as `4.5 s`.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}
