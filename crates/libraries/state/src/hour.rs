use event::OccurredAt;

const MICROS: i64 = 3_600_000_000;

/// An hour of UTC: whole hours since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hour(pub u32);

impl Hour {
    /// The hour of a moment. Moments before 1970 are all in the first.
    pub fn of(occurred_at: OccurredAt) -> Self {
        let hours = occurred_at.micros().div_euclid(MICROS).max(0);
        // The greatest i64 of microseconds is hour 2,562,047,788: it fits.
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
