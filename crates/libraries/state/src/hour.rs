use event::OccurredAt;

const MICROS: i64 = 3_600_000_000;

/// A number of whole hours since the Unix epoch, in UTC.
///
/// The state expires by the hour. An hour fits into four bytes, which prefix every stored id, so
/// that ids of the same age are next to each other on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hour(pub u32);

impl Hour {
    /// Returns the hour that contains `occurred_at`. Times before 1970 belong to hour 0.
    pub fn of(occurred_at: OccurredAt) -> Self {
        let hours = occurred_at.micros().div_euclid(MICROS).max(0);
        // The greatest i64 of microseconds is in hour 2,562,047,788, which fits into a u32.
        Self(u32::try_from(hours).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_begin_on_the_hour_and_never_overflow() {
        assert_eq!(Hour::of(OccurredAt(0)), Hour(0));
        assert_eq!(Hour::of(OccurredAt(MICROS - 1)), Hour(0));
        assert_eq!(Hour::of(OccurredAt(MICROS)), Hour(1));
        assert_eq!(Hour::of(OccurredAt(-1)), Hour(0));
        assert_eq!(Hour::of(OccurredAt(i64::MIN)), Hour(0));
        assert_eq!(Hour::of(OccurredAt(i64::MAX)), Hour(2_562_047_788));
    }
}
