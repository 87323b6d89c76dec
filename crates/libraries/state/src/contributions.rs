//! What a message counts for at one recipient, and what each of its events changes in that.
//!
//! The rules are a pure function of the memory, [`MessageMemory::contributions`]. An event changes the
//! memory, and what it counts for is the difference between the contributions before and after it. So
//! whichever of a bounce and a delivery arrives first, the sums are the same in the end.

use event::{Counter, CounterSet, Dimension, DimensionDigests, DimensionSet, Kind, OccurredAt};
use record::{Correction, Corrections, FirstSeen};

use crate::Hour;
use crate::memory::MessageMemory;
use crate::time::Time;

/// The counters of bounces, from the one that decides what a message counts for to the one that gives
/// way to all others.
pub(crate) const RANKS: [Counter; 4] = [
    Counter::BouncedHard,
    Counter::BouncedBlock,
    Counter::BouncedUndetermined,
    Counter::BouncedSoft,
];

/// The counters whose time or presence later events can change.
const CORRECTABLE: [Counter; 10] = [
    RANKS[0],
    RANKS[1],
    RANKS[2],
    RANKS[3],
    Counter::LateBounces,
    Counter::LateBouncesFbl,
    Counter::Delivered,
    Counter::DeliveredFbl,
    Counter::Deferred,
    Counter::DeferredSettled,
];

/// The counters that count once, with the first event that arrives. Nothing corrects them. The format on
/// disk contains their positions; frequent ones come first.
pub(crate) const ONCE: [Counter; 15] = [
    Counter::Opened,
    Counter::Engaged,
    Counter::MachineOpened,
    Counter::Injected,
    Counter::Clicked,
    Counter::MachineClicked,
    Counter::Complained,
    Counter::Unsubscribed,
    Counter::Dropped,
    Counter::Suppressed,
    Counter::AutoReplies,
    Counter::AuthRefused,
    Counter::Throttled,
    Counter::Listed,
    Counter::Unclassified,
];

/// The times at which a message counts, in the order of [`CORRECTABLE`]. Unknown: it does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Contributions([Time; CORRECTABLE.len()]);

/// What the memory needs to know of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    pub kind: Kind,
    /// Whether a machine opened or clicked.
    pub machine: bool,
    /// The time at which the event counts: when it occurred, or when it was received if that is
    /// earlier.
    pub counted_at: OccurredAt,
    /// The provider's send time, if the event carries it.
    pub sent_at: Option<OccurredAt>,
    /// What it counts for if it is the first of its kind.
    pub would_count: CounterSet,
    pub digests: DimensionDigests,
    /// Whether the event may have been observed before.
    pub may_be_duplicate: bool,
}

/// What an event is and counts for, given the events before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The how-manieth of its kind it is. Opens and clicks by people and machines are numbered
    /// separately.
    pub seen: u16,
    /// What an open or click is the first of.
    pub first: FirstSeen,
    /// Whether it is a bounce after the delivery.
    pub is_late: bool,
    /// When the message was sent, as far as it is known.
    pub sent: Option<OccurredAt>,
    /// What the event counts for at its own time.
    pub counts: CounterSet,
    /// What it changes in the counts of earlier events.
    pub corrections: Option<Corrections>,
}

impl MessageMemory {
    /// Returns what the message counts for, except for the counters that nothing corrects, and when.
    pub fn contributions(&self) -> impl Iterator<Item = (Counter, OccurredAt)> {
        let times = self.correctable().0.into_iter().map(Time::known);
        CORRECTABLE.into_iter().zip(times).filter_map(|(counter, at)| Some((counter, at?)))
    }

    /// Returns what the message counts for once, at the first event that arrived.
    pub const fn counted_once(&self) -> CounterSet {
        self.once
    }

    fn correctable(&self) -> Contributions {
        let fbl = |time| if self.reports_complaints { time } else { Time::UNKNOWN };
        let mut bounced = [Time::UNKNOWN; RANKS.len()];
        let (mut late, mut deferred) = (self.marked_late, self.deferred);
        let settled = if self.delivered.is_known() {
            for &time in self.bounced.iter().chain(&self.more_bounces) {
                // A bounce before the delivery only deferred it. Unknown is the latest time.
                let part = if time >= self.delivered { &mut late } else { &mut deferred };
                *part = time.min(*part);
            }
            self.delivered
        } else {
            let rank = self.bounced.iter().position(|time| time.is_known());
            rank.map_or(Time::UNKNOWN, |rank| {
                bounced[rank] = self.bounced[rank];
                bounced[rank]
            })
        };
        let settled = if deferred.is_known() { settled } else { Time::UNKNOWN };
        let [hard, block, undetermined, soft] = bounced;
        Contributions([
            hard,
            block,
            undetermined,
            soft,
            late,
            fbl(late),
            self.delivered,
            fbl(self.delivered),
            deferred,
            settled,
        ])
    }

    /// Adds an event to the memory and returns what it is and counts for.
    pub fn observe(&mut self, event: &Observation) -> Effect {
        let Observation { kind, machine, would_count, .. } = *event;
        let at = Time::of(event.counted_at);
        self.since = self.since.max(Hour::of(event.counted_at));
        self.note_sent(event, at);
        let first = self.first_of(kind, machine);
        let seen = self.next_ordinal(kind, machine);
        let mut counts = self.count_once(would_count);
        // A deferral counts each time, so one that may be a duplicate does not.
        counts = counts.with_if(
            would_count.contains(Counter::Deferrals) && !event.may_be_duplicate,
            Counter::Deferrals,
        );
        let mut corrections = None;
        if CORRECTABLE.into_iter().any(|counter| would_count.contains(counter)) {
            let (before, bounced_then) = (self.correctable(), self.has_bounced(at));
            self.note_times(would_count, at);
            let dimensions = self.note_digests(event.digests);
            let mut changes = Vec::new();
            self.correctable().differences(&before, |counter, time, adds| {
                // If two events have the same time, only a deferral's count can return to a time at
                // which it counted before, because all other times only become earlier. As a
                // correction it cannot count twice in dimensions in which the events differ.
                let may_return = matches!(counter, Counter::Deferred | Counter::DeferredSettled);
                if adds && time == at && !(may_return && bounced_then) {
                    counts = counts.with(counter);
                } else if let Some(at) = time.known() {
                    changes.push(Correction { counter, at, adds });
                }
            });
            corrections = (!changes.is_empty()).then_some(Corrections { dimensions, changes });
        }
        let sent = self.sent.known().or(event.sent_at);
        Effect { seen, first, is_late: self.is_late(would_count, at), sent, counts, corrections }
    }

    /// Takes the send time from the first event about sending. Events of the kind `accepted` never
    /// change it, because some providers do not send them.
    fn note_sent(&mut self, event: &Observation, at: Time) {
        use Kind::{Bounced, Deferred, Delivered, Dropped};
        if !self.sent.is_known() && matches!(event.kind, Deferred | Delivered | Bounced | Dropped) {
            self.sent = event.sent_at.map_or(at, Time::of);
        }
    }

    /// Marks what counts once, and returns what was not marked before.
    fn count_once(&mut self, would_count: CounterSet) -> CounterSet {
        let is_new =
            |counter: &Counter| would_count.contains(*counter) && !self.once.contains(*counter);
        let new: CounterSet = ONCE.into_iter().filter(is_new).collect();
        self.once = new.iter().fold(self.once, CounterSet::with);
        new
    }

    fn note_times(&mut self, would_count: CounterSet, at: Time) {
        let fbl = [Counter::DeliveredFbl, Counter::LateBouncesFbl];
        self.reports_complaints |= fbl.into_iter().any(|counter| would_count.contains(counter));
        let times = [
            (Counter::Delivered, &mut self.delivered),
            (Counter::Deferred, &mut self.deferred),
            (Counter::LateBounces, &mut self.marked_late),
        ];
        for (_, time) in times.into_iter().filter(|(counter, _)| would_count.contains(*counter)) {
            *time = at.min(*time);
        }
        for (rank, earliest) in RANKS.into_iter().zip(&mut self.bounced) {
            if would_count.contains(rank) && *earliest != at {
                let later = at.max(*earliest);
                *earliest = at.min(*earliest);
                keep_earliest(&mut self.more_bounces, later);
            }
        }
    }

    /// Returns the dimensions in which all earlier events whose counts may be corrected had the same
    /// value as this one.
    fn note_digests(&mut self, digests: DimensionDigests) -> DimensionSet {
        const MIXED: u16 = DimensionDigests::RESERVED;
        let known = self.digests.get_or_insert(digests);
        let mut agreed = DimensionSet::default();
        let values = known.0.iter_mut().zip(digests.0);
        for (dimension, (known, digest)) in Dimension::ALL.into_iter().zip(values) {
            if *known == digest && digest != MIXED {
                agreed = agreed.with(dimension);
            } else {
                *known = MIXED;
            }
        }
        agreed
    }

    fn has_bounced(&self, at: Time) -> bool {
        self.bounced.contains(&at) || self.more_bounces.contains(&at)
    }

    fn is_late(&self, would_count: CounterSet, at: Time) -> bool {
        let is_bounce = RANKS.into_iter().any(|rank| would_count.contains(rank));
        would_count.contains(Counter::LateBounces) || is_bounce && self.delivered <= at
    }
}

impl Contributions {
    /// Calls `change` with each counter and time that is no longer there (false) or new (true).
    fn differences(&self, before: &Self, mut change: impl FnMut(Counter, Time, bool)) {
        for ((counter, before), now) in CORRECTABLE.into_iter().zip(before.0).zip(self.0) {
            if before != now && before.is_known() {
                change(counter, before, false);
            }
            if before != now && now.is_known() {
                change(counter, now, true);
            }
        }
    }
}

/// Adds a time to the earliest ones if it is one of them. They are different, in ascending order.
fn keep_earliest(kept: &mut [Time], mut time: Time) {
    for slot in kept {
        if *slot == time {
            return;
        }
        if time < *slot {
            std::mem::swap(slot, &mut time);
        }
    }
}
