use event::{Kind, OccurredAt};
use record::FirstSight;

use crate::Hour;

/// What is known of a message at a recipient: its delivery, who opened and clicked, and the links
/// that were followed of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Engagement {
    /// The hour of the first open or click, and until then of the delivery; what is known expires
    /// by it.
    pub(crate) first: Hour,
    /// Who did what: see [`bit`].
    pub(crate) bits: u8,
    /// When it was delivered, microseconds; [`NEVER`] when that is not known.
    pub(crate) delivered: i64,
    /// When the latest run of clicks began, microseconds.
    pub(crate) run: i64,
    /// The links followed in it: a bit for each, by the link's digest.
    pub(crate) links: u32,
}

/// No moment, where the others are microseconds.
const NEVER: i64 = i64::MIN;

/// The bit of an open (1) or click (2) by a person, or by a machine (4, 8); 0 for other kinds.
const fn bit(kind: Kind, machine: bool) -> u8 {
    let person = match kind {
        Kind::Opened => 1,
        Kind::Clicked => 2,
        _ => 0,
    };
    if machine { person << 2 } else { person }
}

/// All bits of people, or of machines.
const fn all(machine: bool) -> u8 {
    bit(Kind::Opened, machine) | bit(Kind::Clicked, machine)
}

impl Engagement {
    /// Of which nothing is known.
    pub const UNKNOWN: Self =
        Self { first: Hour(0), bits: 0, delivered: NEVER, run: NEVER, links: 0 };

    pub(crate) const LENGTH: usize = 4 + 1 + 8 + 8 + 4;
    /// As of version 1, which knew of hour and bits only, and of machines by another id.
    pub(crate) const LENGTH_1: usize = 4 + 1;

    /// Notes the delivery. Of several the first holds.
    pub fn delivered(&mut self, at: OccurredAt) {
        if self.delivered == NEVER {
            self.delivered = at.micros();
        }
        if self.bits == 0 {
            self.first = self.first.max(Hour::of(at));
        }
    }

    /// How long after the delivery a moment is, microseconds; negative before it.
    pub fn since_delivery(&self, at: OccurredAt) -> Option<i64> {
        (self.delivered != NEVER).then(|| at.micros().saturating_sub(self.delivered))
    }

    /// Whether a person or a machine has opened or clicked.
    pub const fn has(&self, kind: Kind, machine: bool) -> bool {
        self.bits & bit(kind, machine) != 0
    }

    /// Notes that a link was followed, and says how many different ones were in this run of clicks:
    /// those within `micros` of the run's first. Three in a hundred pairs of links count as one: it
    /// may be too few and is never too many.
    pub fn followed(&mut self, link: u32, at: OccurredAt, micros: i64) -> u32 {
        let at = at.micros();
        let is_of_run = self.run != NEVER && at.abs_diff(self.run) <= micros.unsigned_abs();
        if !is_of_run {
            (self.run, self.links) = (at, 0);
        }
        self.links |= 1 << (link % u32::BITS);
        self.links.count_ones()
    }

    /// Notes an open or a click, and says what it is the first of, people and machines apart: a
    /// prefetch does not hide the reader behind it. Other kinds are the first of nothing.
    pub fn engaged(&mut self, kind: Kind, machine: bool, hour: Hour) -> FirstSight {
        let bit = bit(kind, machine);
        if bit == 0 {
            return FirstSight::default();
        }
        let first = FirstSight {
            of_kind: self.bits & bit == 0,
            of_engagement: self.bits & all(machine) == 0,
        };
        if self.bits == 0 {
            self.first = hour;
        }
        self.bits |= bit;
        first
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&self.first.0.to_be_bytes());
        bytes[4] = self.bits;
        bytes[5..13].copy_from_slice(&self.delivered.to_be_bytes());
        bytes[13..21].copy_from_slice(&self.run.to_be_bytes());
        bytes[21..].copy_from_slice(&self.links.to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let [a, b, c, d, bits, rest @ ..] = *bytes;
        let [d0, d1, d2, d3, d4, d5, d6, d7, rest @ ..] = rest;
        let [r0, r1, r2, r3, r4, r5, r6, r7, links @ ..] = rest;
        Self {
            first: Hour(u32::from_be_bytes([a, b, c, d])),
            bits,
            delivered: i64::from_be_bytes([d0, d1, d2, d3, d4, d5, d6, d7]),
            run: i64::from_be_bytes([r0, r1, r2, r3, r4, r5, r6, r7]),
            links: u32::from_be_bytes(links),
        }
    }

    pub(crate) fn from_bytes_1([a, b, c, d, bits]: &[u8; Self::LENGTH_1]) -> Self {
        let first = Hour(u32::from_be_bytes([*a, *b, *c, *d]));
        Self { first, bits: *bits, ..Self::UNKNOWN }
    }

    /// Reads a value of the files; `None` for anything that is none.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let of_1 = || bytes.try_into().ok().map(Self::from_bytes_1);
        bytes.try_into().ok().map(Self::from_bytes).or_else(of_1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn bytes_round_trip_and_those_of_version_1_are_read() {
        let full = Engagement { first: Hour(7), bits: 9, delivered: -1, run: 1 << 40, links: 3 };
        for engagement in [full, Engagement::UNKNOWN] {
            assert_eq!(Engagement::read(&engagement.to_bytes()), Some(engagement));
        }
        let old = Engagement { first: Hour(7), bits: 3, ..Engagement::UNKNOWN };
        assert_eq!(Engagement::read(&[0, 0, 0, 7, 3]), Some(old));
        for length in [0, 4, 6, 24, 26] {
            assert_eq!(Engagement::read(&vec![0; length]), None);
        }
    }

    #[test]
    fn people_and_machines_are_first_apart() {
        let mut engagement = Engagement::UNKNOWN;
        let mut engage = |kind, machine| {
            let first = engagement.engaged(kind, machine, Hour(9));
            (first.of_kind, first.of_engagement)
        };
        assert_eq!(engage(Kind::Opened, true), (true, true));
        assert_eq!(engage(Kind::Opened, false), (true, true), "the reader behind the prefetch");
        assert_eq!(engage(Kind::Opened, false), (false, false));
        assert_eq!(engage(Kind::Clicked, false), (true, false));
        assert_eq!(engage(Kind::Clicked, true), (true, false));
        assert_eq!(engage(Kind::Delivered, false), (false, false));
        assert!(engagement.has(Kind::Clicked, true) && !engagement.has(Kind::Delivered, false));
    }

    #[test]
    fn it_expires_by_the_first_engagement_and_until_then_by_the_delivery() {
        let mut engagement = Engagement::UNKNOWN;
        let hour = |hour: i64| OccurredAt(hour * 3600 * SECOND);
        engagement.delivered(hour(5));
        assert_eq!(engagement.first, Hour(5));
        engagement.engaged(Kind::Opened, false, Hour(70));
        engagement.engaged(Kind::Clicked, false, Hour(90));
        engagement.delivered(hour(99));
        assert_eq!(engagement.first, Hour(70));
        assert_eq!(engagement.since_delivery(hour(6)), Some(3600 * SECOND), "of the first");
        assert_eq!(Engagement::UNKNOWN.since_delivery(hour(6)), None);
    }

    #[test]
    fn different_links_of_one_run_are_counted() {
        let mut engagement = Engagement::UNKNOWN;
        let mut follow =
            |link, second| engagement.followed(link, OccurredAt(second * SECOND), 10 * SECOND);
        assert_eq!([follow(1, 0), follow(1, 2), follow(2, 4), follow(3, 10)], [1, 1, 2, 3]);
        assert_eq!(follow(4, 11), 1, "a new run");
        assert_eq!(follow(5, 3), 2, "late, and near enough");
        assert_eq!(follow(5 + 32, 12), 2, "may be too few");
    }
}
