//! What is done to the pipeline.

use std::fmt;
use std::time::Duration;

use crate::supervisor::Member;

/// One act of violence, and how long its effect is left to last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// SIGKILL; the supervisor starts it again at once.
    Kill(Member),
    /// SIGKILL of several members at the same moment; they are started again at once.
    KillTogether(Vec<Member>),
    /// SIGKILL of one member after the other, so fast that whoever was killed is hardly back when
    /// its neighbours die.
    Storm { members: Vec<Member>, every: Duration },
    /// SIGKILL, and it stays down for longer than its session: its partitions move, and back.
    Lose { member: Member, away: Duration },
    /// SIGTERM: it leaves its group, stays away, and joins again.
    Leave { member: Member, away: Duration },
    /// One more member of a group joins and, with SIGTERM, leaves again.
    Join { member: Member, staying: Duration },
    /// SIGSTOP for longer than the session, then SIGCONT: it comes back believing that it still
    /// owns the partitions that have long moved.
    Freeze { member: Member, lasting: Duration },
    /// SIGKILL of the broker.
    KafkaCrash { away: Duration },
    /// SIGKILL of the broker, and while it is away the spool's disk is full for a while: requests are
    /// refused, and taken again when there is room, before the broker is back.
    FullDisk { lasting: Duration },
    /// SIGKILL of ClickHouse.
    ClickHouseCrash { away: Duration },
    /// SIGKILL of ClickHouse and of every archive in the middle of their inserts; the tables then
    /// recognise nothing but their last insert, so that repeating one does not tell whether it had
    /// happened.
    ClickHouseForgets { away: Duration },
    /// SIGSTOP of ClickHouse: connections stand, and nothing is answered.
    ClickHouseFreeze { lasting: Duration },
    /// SIGKILL of every process at the same moment: services, Kafka, ClickHouse.
    Blackout { away: Duration },
}

/// The sort of an action; every run has each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sort {
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
}

impl Sort {
    pub(crate) const ALL: [Self; 13] = [
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
}

impl Action {
    /// Which sort it is of.
    pub(crate) fn sort(&self) -> Sort {
        match self {
            Self::Kill(_) => Sort::Kill,
            Self::KillTogether(_) => Sort::KillTogether,
            Self::Storm { .. } => Sort::Storm,
            Self::Lose { .. } => Sort::Lose,
            Self::Leave { .. } => Sort::Leave,
            Self::Join { .. } => Sort::Join,
            Self::Freeze { .. } => Sort::Freeze,
            Self::KafkaCrash { .. } => Sort::KafkaCrash,
            Self::FullDisk { .. } => Sort::FullDisk,
            Self::ClickHouseCrash { .. } => Sort::ClickHouseCrash,
            Self::ClickHouseForgets { .. } => Sort::ClickHouseForgets,
            Self::ClickHouseFreeze { .. } => Sort::ClickHouseFreeze,
            Self::Blackout { .. } => Sort::Blackout,
        }
    }

    /// From its beginning to its undoing; what then takes time to start comes on top.
    pub(crate) fn lasts(&self) -> Duration {
        match *self {
            Self::Kill(_) | Self::KillTogether(_) => Duration::ZERO,
            Self::Storm { ref members, every } => every.mul_f64(members.len() as f64),
            Self::Lose { away, .. }
            | Self::Leave { away, .. }
            | Self::KafkaCrash { away }
            | Self::ClickHouseCrash { away }
            | Self::ClickHouseForgets { away }
            | Self::Blackout { away } => away,
            Self::Join { staying, .. } => staying,
            Self::Freeze { lasting, .. }
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
                write!(f, "{member} leaves, and joins again after {}", Seconds(*away))
            }
            Self::Join { member, staying } => {
                write!(f, "{member} joins, and leaves after {}", Seconds(*staying))
            }
            Self::Freeze { member, lasting } => {
                write!(f, "freeze {member} for {}", Seconds(*lasting))
            }
            Self::KafkaCrash { away } => write!(f, "kill -9 Kafka, down for {}", Seconds(*away)),
            Self::FullDisk { lasting } => {
                write!(f, "kill -9 Kafka, and fill the spool's disk for {}", Seconds(*lasting))
            }
            Self::ClickHouseCrash { away } => {
                write!(f, "kill -9 ClickHouse, down for {}", Seconds(*away))
            }
            Self::ClickHouseForgets { away } => write!(
                f,
                "kill -9 ClickHouse and every archive, down for {}, back with its deduplication \
                 window outrun",
                Seconds(*away)
            ),
            Self::ClickHouseFreeze { lasting } => {
                write!(f, "freeze ClickHouse for {}", Seconds(*lasting))
            }
            Self::Blackout { away } => {
                write!(f, "kill -9 everything at once, down for {}", Seconds(*away))
            }
        }
    }
}

/// A duration as people read it: `4.5 s`.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s", self.0.as_secs_f64())
    }
}
