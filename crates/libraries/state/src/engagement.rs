use event::{Kind, OccurredAt};
use record::FirstSeen;

use crate::Hour;

/// The history of one message at one recipient: its delivery, its opens and clicks, and the links
/// that were followed in the latest run of clicks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engagement {
    /// The hour of the first open or click; before the first one, the hour of the delivery. The
    /// engagement expires when this hour is beyond the horizon.
    pub(crate) since: Hour,
    /// The kinds of engagement seen so far; see [`bit`].
    pub(crate) bits: u8,
    /// The time of the delivery in microseconds, or [`NO_TIME`].
    pub(crate) delivered_at: i64,
    /// The time of the first click of the latest run in microseconds, or [`NO_TIME`].
    pub(crate) run_start: i64,
    /// The links followed in that run. Each link sets one bit, chosen by its digest.
    pub(crate) links: u32,
}

/// The value of a time field whose time is not known.
const NO_TIME: i64 = i64::MIN;

/// Returns the bit of an open (1) or click (2) by a person, or by a machine (4, 8). Returns 0 for
/// other kinds.
const fn bit(kind: Kind, machine: bool) -> u8 {
    let person = match kind {
        Kind::Opened => 1,
        Kind::Clicked => 2,
        _ => 0,
    };
    if machine { person << 2 } else { person }
}

/// Returns the bits of all opens and clicks by people, or by machines.
const fn all(machine: bool) -> u8 {
    bit(Kind::Opened, machine) | bit(Kind::Clicked, machine)
}

impl Engagement {
    /// The engagement before any event of its message and recipient.
    pub const UNKNOWN: Self =
        Self { since: Hour(0), bits: 0, delivered_at: NO_TIME, run_start: NO_TIME, links: 0 };

    pub(crate) const LENGTH: usize = 4 + 1 + 8 + 8 + 4;
    /// The length in version 1, which had only the hour and the bits. It stored opens and clicks by
    /// machines under another id.
    pub(crate) const LENGTH_V1: usize = 4 + 1;

    /// Records the delivery. Only the first one counts.
    pub fn record_delivery(&mut self, at: OccurredAt) {
        if self.delivered_at == NO_TIME {
            self.delivered_at = at.micros();
        }
        if self.bits == 0 {
            self.since = self.since.max(Hour::of(at));
        }
    }

    /// Returns the microseconds from the delivery to `at`, negative if `at` is earlier. Returns
    /// `None` if the delivery is not known.
    pub fn since_delivery(&self, at: OccurredAt) -> Option<i64> {
        (self.delivered_at != NO_TIME).then(|| at.micros().saturating_sub(self.delivered_at))
    }

    /// Returns true if a person (or a machine) has opened or clicked.
    pub const fn has(&self, kind: Kind, machine: bool) -> bool {
        self.bits & bit(kind, machine) != 0
    }

    /// Records a click on a link and returns the number of different links in this run of clicks. A
    /// run contains the clicks within `micros` of its first. The number may be too low, because 3 %
    /// of all pairs of links share a bit. It is never too high.
    pub fn record_link(&mut self, link: u32, at: OccurredAt, micros: i64) -> u32 {
        let at = at.micros();
        let continues_run =
            self.run_start != NO_TIME && at.abs_diff(self.run_start) <= micros.unsigned_abs();
        if !continues_run {
            (self.run_start, self.links) = (at, 0);
        }
        self.links |= 1 << (link % u32::BITS);
        self.links.count_ones()
    }

    /// Records an open or a click and returns what it is the first of. People and machines are
    /// counted separately, so that a machine's prefetch does not hide the reader's own open. An
    /// event of another kind is the first of nothing.
    pub fn record_engagement(&mut self, kind: Kind, machine: bool, hour: Hour) -> FirstSeen {
        let bit = bit(kind, machine);
        if bit == 0 {
            return FirstSeen::default();
        }
        let first = FirstSeen {
            of_kind: self.bits & bit == 0,
            of_engagement: self.bits & all(machine) == 0,
        };
        if self.bits == 0 {
            self.since = hour;
        }
        self.bits |= bit;
        first
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&self.since.0.to_be_bytes());
        bytes[4] = self.bits;
        bytes[5..13].copy_from_slice(&self.delivered_at.to_be_bytes());
        bytes[13..21].copy_from_slice(&self.run_start.to_be_bytes());
        bytes[21..].copy_from_slice(&self.links.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let [a, b, c, d, bits, rest @ ..] = *bytes;
        let [d0, d1, d2, d3, d4, d5, d6, d7, rest @ ..] = rest;
        let [r0, r1, r2, r3, r4, r5, r6, r7, links @ ..] = rest;
        Self {
            since: Hour(u32::from_be_bytes([a, b, c, d])),
            bits,
            delivered_at: i64::from_be_bytes([d0, d1, d2, d3, d4, d5, d6, d7]),
            run_start: i64::from_be_bytes([r0, r1, r2, r3, r4, r5, r6, r7]),
            links: u32::from_be_bytes(links),
        }
    }

    pub(crate) fn from_bytes_v1([a, b, c, d, bits]: &[u8; Self::LENGTH_V1]) -> Self {
        let since = Hour(u32::from_be_bytes([*a, *b, *c, *d]));
        Self { since, bits: *bits, ..Self::UNKNOWN }
    }

    /// Decodes a value of either version. Returns `None` for any other length.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let v1 = || bytes.try_into().ok().map(Self::from_bytes_v1);
        bytes.try_into().ok().map(Self::from_bytes).or_else(v1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn bytes_round_trip_and_version_1_is_decoded() {
        let full =
            Engagement { since: Hour(7), bits: 9, delivered_at: -1, run_start: 1 << 40, links: 3 };
        for engagement in [full, Engagement::UNKNOWN] {
            assert_eq!(Engagement::decode(&engagement.to_bytes()), Some(engagement));
        }
        let old = Engagement { since: Hour(7), bits: 3, ..Engagement::UNKNOWN };
        assert_eq!(Engagement::decode(&[0, 0, 0, 7, 3]), Some(old));
        for length in [0, 4, 6, 24, 26] {
            assert_eq!(Engagement::decode(&vec![0; length]), None);
        }
    }

    #[test]
    fn people_and_machines_are_counted_separately() {
        let mut engagement = Engagement::UNKNOWN;
        let mut engage = |kind, machine| {
            let first = engagement.record_engagement(kind, machine, Hour(9));
            (first.of_kind, first.of_engagement)
        };
        assert_eq!(engage(Kind::Opened, true), (true, true));
        assert_eq!(engage(Kind::Opened, false), (true, true), "the reader after the prefetch");
        assert_eq!(engage(Kind::Opened, false), (false, false));
        assert_eq!(engage(Kind::Clicked, false), (true, false));
        assert_eq!(engage(Kind::Clicked, true), (true, false));
        assert_eq!(engage(Kind::Delivered, false), (false, false));
        assert!(engagement.has(Kind::Clicked, true) && !engagement.has(Kind::Delivered, false));
    }

    #[test]
    fn it_counts_from_the_first_open_or_click_and_before_that_from_the_delivery() {
        let mut engagement = Engagement::UNKNOWN;
        let hour = |hour: i64| OccurredAt(hour * 3600 * SECOND);
        engagement.record_delivery(hour(5));
        assert_eq!(engagement.since, Hour(5));
        engagement.record_engagement(Kind::Opened, false, Hour(70));
        engagement.record_engagement(Kind::Clicked, false, Hour(90));
        engagement.record_delivery(hour(99));
        assert_eq!(engagement.since, Hour(70));
        assert_eq!(
            engagement.since_delivery(hour(6)),
            Some(3600 * SECOND),
            "the first delivery counts"
        );
        assert_eq!(Engagement::UNKNOWN.since_delivery(hour(6)), None);
    }

    #[test]
    fn different_links_of_one_run_are_counted() {
        let mut engagement = Engagement::UNKNOWN;
        let mut follow =
            |link, second| engagement.record_link(link, OccurredAt(second * SECOND), 10 * SECOND);
        assert_eq!([follow(1, 0), follow(1, 2), follow(2, 4), follow(3, 10)], [1, 1, 2, 3]);
        assert_eq!(follow(4, 11), 1, "a new run");
        assert_eq!(follow(5, 3), 2, "out of order, but within the run");
        assert_eq!(follow(5 + 32, 12), 2, "shares a bit with link 5");
    }
}
