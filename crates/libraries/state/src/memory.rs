use event::{CounterSet, DimensionDigests, Kind, OccurredAt};
use record::FirstSeen;

use crate::Hour;
use crate::time::Time;

/// The number of bounces whose times are kept besides the earliest of each rank.
pub(crate) const MORE_BOUNCES: usize = 4;

/// What is remembered of one message at one recipient.
///
/// What the message counts for depends only on the fields up to `marked_late`, see
/// `contributions.rs`. All of them are minima, sets or sums, so the order of the events does not
/// matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageMemory {
    /// The hour of the latest event. The memory expires when this hour is beyond its horizon.
    pub(crate) since: Hour,
    /// What the message has counted for without regard to times: opened, complained and so on.
    pub(crate) once: CounterSet,
    /// Whether the mailbox provider reports complaints to the source.
    pub(crate) reports_complaints: bool,
    /// The earliest delivery.
    pub(crate) delivered: Time,
    /// The earliest deferral.
    pub(crate) deferred: Time,
    /// The earliest bounce of each rank, in the order of [`crate::contributions::RANKS`].
    pub(crate) bounced: [Time; 4],
    /// The earliest further times of bounces, ascending. One of them may be the earliest bounce after
    /// the delivery. If a message bounces at still more times, the latest ones are not known.
    pub(crate) more_bounces: [Time; MORE_BOUNCES],
    /// The earliest bounce that the provider marks as late.
    pub(crate) marked_late: Time,
    /// When the message was sent. Does not change once it is known.
    pub(crate) sent: Time,
    /// The digests of the deferrals, deliveries and bounces, whose counts may be corrected. A
    /// dimension in which two of them differ is [`DimensionDigests::RESERVED`]. `None` before the
    /// first of them.
    pub(crate) digests: Option<DimensionDigests>,
    /// The number of events in each [`slot`]. It stays at its maximum.
    pub(crate) ordinals: [u16; SLOTS],
    /// The first click of the latest run.
    pub(crate) run_start: Time,
    /// The links followed in that run. Each link sets one bit, chosen by its digest.
    pub(crate) links: u32,
}

/// The number of [`slot`]s.
pub(crate) const SLOTS: usize = 14;

/// Returns the place of an event's kind in [`MessageMemory::ordinals`]. Opens and clicks by machines
/// have places of their own, so that a machine's prefetch does not hide the reader's own open. The
/// format on disk contains these numbers; frequent kinds come first.
pub(crate) const fn slot(kind: Kind, machine: bool) -> usize {
    match kind {
        Kind::Delivered => 0,
        Kind::Opened if machine => 2,
        Kind::Opened => 1,
        Kind::Accepted => 3,
        Kind::Clicked if machine => 5,
        Kind::Clicked => 4,
        Kind::Bounced => 6,
        Kind::Deferred => 7,
        Kind::Dropped => 8,
        Kind::Complained => 9,
        Kind::Unsubscribed => 10,
        Kind::Subscribed => 11,
        Kind::Verified => 12,
        Kind::Other => 13,
    }
}

impl MessageMemory {
    /// The memory before any event of its message and recipient.
    pub const UNKNOWN: Self = Self {
        since: Hour(0),
        once: CounterSet::EMPTY,
        reports_complaints: false,
        delivered: Time::UNKNOWN,
        deferred: Time::UNKNOWN,
        bounced: [Time::UNKNOWN; 4],
        more_bounces: [Time::UNKNOWN; MORE_BOUNCES],
        marked_late: Time::UNKNOWN,
        sent: Time::UNKNOWN,
        digests: None,
        ordinals: [0; SLOTS],
        run_start: Time::UNKNOWN,
        links: 0,
    };

    /// Returns the microseconds from the delivery to `at`, negative if `at` is earlier. Returns
    /// `None` if the delivery is not known.
    pub fn since_delivery(&self, at: OccurredAt) -> Option<i64> {
        self.delivered.known().map(|delivered| at.micros().saturating_sub(delivered.micros()))
    }

    /// Returns true if a person (or a machine) has opened or clicked, or if there was an event of
    /// another kind.
    pub const fn has(&self, kind: Kind, machine: bool) -> bool {
        self.ordinals[slot(kind, machine)] > 0
    }

    /// Returns what an open or click is the first of, before it is counted. An event of another kind
    /// is the first of nothing.
    pub(crate) fn first_of(&self, kind: Kind, machine: bool) -> FirstSeen {
        if !kind.is_engagement() {
            return FirstSeen::default();
        }
        let is_engaged = self.has(Kind::Opened, machine) || self.has(Kind::Clicked, machine);
        FirstSeen { of_kind: !self.has(kind, machine), of_engagement: !is_engaged }
    }

    /// Counts the event and returns the how-manieth of its kind it is.
    pub(crate) fn next_ordinal(&mut self, kind: Kind, machine: bool) -> u16 {
        let ordinal = &mut self.ordinals[slot(kind, machine)];
        *ordinal = ordinal.saturating_add(1);
        *ordinal
    }

    /// Records a click on a link and returns the number of different links in this run of clicks. A
    /// run contains the clicks within `micros` of its first. The number may be too low, because 3 %
    /// of all pairs of links share a bit. It is never too high.
    pub fn record_link(&mut self, link: u32, at: OccurredAt, micros: i64) -> u32 {
        let at = Time::of(at);
        let continues_run = self.run_start.is_known()
            && at.0.abs_diff(self.run_start.0) <= micros.unsigned_abs() / 1000;
        if !continues_run {
            (self.run_start, self.links) = (at, 0);
        }
        self.links |= 1 << (link % u32::BITS);
        self.links.count_ones()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn every_kind_has_a_slot_of_its_own() {
        let mut slots: Vec<_> = Kind::ALL.iter().map(|&kind| slot(kind, false)).collect();
        slots.extend([slot(Kind::Opened, true), slot(Kind::Clicked, true)]);
        slots.sort_unstable();
        assert_eq!(slots, (0..SLOTS).collect::<Vec<_>>());
        assert_eq!(slot(Kind::Delivered, true), slot(Kind::Delivered, false));
    }

    #[test]
    fn people_and_machines_are_numbered_separately() {
        let mut memory = MessageMemory::UNKNOWN;
        let mut engage = |kind, machine| {
            let first = memory.first_of(kind, machine);
            (first.of_kind, first.of_engagement, memory.next_ordinal(kind, machine))
        };
        assert_eq!(engage(Kind::Opened, true), (true, true, 1));
        assert_eq!(engage(Kind::Opened, false), (true, true, 1), "the reader after the prefetch");
        assert_eq!(engage(Kind::Opened, false), (false, false, 2));
        assert_eq!(engage(Kind::Clicked, false), (true, false, 1));
        assert_eq!(engage(Kind::Clicked, true), (true, false, 1));
        assert_eq!(engage(Kind::Delivered, false), (false, false, 1));
        assert!(memory.has(Kind::Clicked, true) && !memory.has(Kind::Bounced, false));
        memory.ordinals = [u16::MAX; SLOTS];
        assert_eq!(memory.next_ordinal(Kind::Opened, false), u16::MAX);
    }

    #[test]
    fn different_links_of_one_run_are_counted() {
        let mut memory = MessageMemory::UNKNOWN;
        let mut follow =
            |link, second| memory.record_link(link, OccurredAt(second * SECOND), 10 * SECOND);
        assert_eq!([follow(1, 0), follow(1, 2), follow(2, 4), follow(3, 10)], [1, 1, 2, 3]);
        assert_eq!(follow(4, 11), 1, "a new run");
        assert_eq!(follow(5, 3), 2, "out of order, but within the run");
        assert_eq!(follow(5 + 32, 12), 2, "shares a bit with link 5");
    }
}
