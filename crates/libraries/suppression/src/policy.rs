//! When an entry begins and ends, as a function of the events of one recipient.
//!
//! Times are whole seconds since 1970. Of events with the same time, the one that arrives later counts.

use event::{BounceClass, BounceSide, Event, Kind, Permanence};

use crate::entry::{KEEP_LIFTS, Reason};

/// What an event says about its recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Mail to the address cannot succeed.
    HardBounce,
    /// A message to the address failed, and a later one may succeed.
    SoftBounce,
    /// The recipient reported mail as spam.
    Complaint,
    Unsubscribe,
    Subscribe,
    /// The address works: a delivery, or an open by a person.
    Works,
}

impl Signal {
    /// Returns what an event says. `seen` is its number among the events of its kind and message, as dedupe counts.
    ///
    /// A bounce counts only if the recipient's side caused it: not the sender's, not the network's, not an unknown one.
    /// Automatic replies, machines and events that failed verification say nothing. Several soft bounces of one message
    /// count once.
    pub fn of(event: &Event<'_>, seen: Option<u16>) -> Option<Self> {
        if !event.authentic || event.automation.is_some() {
            return None;
        }
        match event.kind {
            Kind::Complained => Some(Self::Complaint),
            Kind::Unsubscribed => Some(Self::Unsubscribe),
            Kind::Subscribed => Some(Self::Subscribe),
            Kind::Delivered | Kind::Opened => Some(Self::Works),
            Kind::Bounced => {
                let bounce = event.bounce.as_ref()?;
                let is_theirs =
                    bounce.side == BounceSide::Recipient && bounce.class != BounceClass::AutoReply;
                match bounce.permanence {
                    Permanence::Hard if is_theirs => Some(Self::HardBounce),
                    Permanence::Soft if is_theirs && seen.is_none_or(|seen| seen == 1) => {
                        Some(Self::SoftBounce)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Returns the reason of the entry that the signal is about.
    pub const fn reason(self) -> Reason {
        match self {
            Self::HardBounce => Reason::HardBounce,
            Self::Complaint => Reason::Complaint,
            Self::Unsubscribe | Self::Subscribe => Reason::Unsubscribe,
            Self::SoftBounce | Self::Works => Reason::SoftBounces,
        }
    }
}

/// The state of an entry: what its latest record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Seconds.
    pub at: i64,
    pub is_lifted: bool,
}

impl Mark {
    const fn suppressed(at: i64) -> Self {
        Self { at, is_lifted: false }
    }

    const fn lifted(at: i64) -> Self {
        Self { at, is_lifted: true }
    }
}

/// The soft bounces of a recipient since the last sign that the address works: their times in seconds, ascending, at
/// most as many as the policy needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streak(pub Vec<i64>);

impl Streak {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the time of the newest soft bounce.
    pub fn newest(&self) -> Option<i64> {
        self.0.last().copied()
    }
}

/// What happens to an entry by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It expires, and is lifted.
    Expire,
    /// Its lift was kept long enough, and is forgotten.
    Forget,
}

/// The numbers of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many soft bounces suppress.
    pub soft_bounces: usize,
    /// Within how many seconds they must happen.
    pub soft_within: i64,
    /// How many seconds after the last soft bounce the entry expires.
    pub soft_for: i64,
}

impl Policy {
    /// Applies a signal to the entry that it is about, and to the recipient's soft bounces. Returns the new state of the
    /// entry, or `None` if it does not change. `mark` is its present state, `None` if there is no record.
    pub fn decide(
        &self,
        signal: Signal,
        at: i64,
        mark: Option<Mark>,
        streak: &mut Streak,
    ) -> Option<Mark> {
        let is_newer = |than: Option<Mark>| than.is_none_or(|mark| at > mark.at);
        match signal {
            Signal::HardBounce | Signal::Complaint => {
                is_newer(mark).then_some(Mark::suppressed(at))
            }
            Signal::Unsubscribe => self.switch(mark, Mark::suppressed(at)),
            Signal::Subscribe => self.switch(mark, Mark::lifted(at)),
            Signal::SoftBounce => self.add_soft_bounce(at, mark, streak),
            Signal::Works => self.end_streak(at, mark, streak),
        }
    }

    /// The latest statement of the recipient counts.
    fn switch(&self, mark: Option<Mark>, new: Mark) -> Option<Mark> {
        let counts = mark.is_none_or(|mark| {
            new.at > mark.at || (new.at == mark.at && new.is_lifted != mark.is_lifted)
        });
        counts.then_some(new)
    }

    fn add_soft_bounce(&self, at: i64, mark: Option<Mark>, streak: &mut Streak) -> Option<Mark> {
        let times = &mut streak.0;
        let position = times.partition_point(|&time| time <= at);
        times.insert(position, at);
        let newest = times.last().copied().unwrap_or(at);
        times.retain(|&time| time > newest - self.soft_within);
        // The newest ones tell whether there are enough after any time.
        let surplus = times.len().saturating_sub(self.soft_bounces);
        times.drain(..surplus);
        let is_enough = times.len() >= self.soft_bounces;
        let is_newer = mark.is_none_or(|mark| newest > mark.at);
        (is_enough && is_newer).then_some(Mark::suppressed(newest))
    }

    fn end_streak(&self, at: i64, mark: Option<Mark>, streak: &mut Streak) -> Option<Mark> {
        let before = streak.0.len();
        streak.0.retain(|&time| time > at);
        let has_ended_some = streak.0.len() < before;
        let mark = mark.filter(|mark| !mark.is_lifted)?;
        let ends = streak.0.len() < self.soft_bounces && (has_ended_some || at >= mark.at);
        ends.then_some(Mark::lifted(at.max(mark.at)))
    }

    /// Returns when an entry expires, in seconds. `None`: never.
    pub fn expires_at(&self, reason: Reason, mark: Mark) -> Option<i64> {
        let expires = reason == Reason::SoftBounces && !mark.is_lifted;
        expires.then(|| mark.at.saturating_add(self.soft_for))
    }

    /// Returns what happens to an entry of an event by itself, and when, in seconds.
    pub fn due(&self, reason: Reason, mark: Mark) -> Option<(i64, Due)> {
        if mark.is_lifted {
            return Some((mark.at.saturating_add(KEEP_LIFTS), Due::Forget));
        }
        self.expires_at(reason, mark).map(|at| (at, Due::Expire))
    }

    /// Returns when the soft bounces can no longer be part of an entry, in seconds.
    pub fn streak_ends(&self, streak: &Streak) -> Option<i64> {
        streak.newest().map(|newest| newest.saturating_add(self.soft_within))
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
