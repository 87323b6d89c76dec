use event::OccurredAt;

/// A time in whole milliseconds since the Unix epoch (UTC), or unknown.
///
/// Unknown is later than every time, so that the earlier of two is their minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) i64);

impl Time {
    pub(crate) const UNKNOWN: Self = Self(i64::MAX);

    /// Returns the millisecond that contains `at`.
    pub(crate) const fn of(at: OccurredAt) -> Self {
        Self(at.micros().div_euclid(1000))
    }

    pub(crate) const fn is_known(self) -> bool {
        self.0 != i64::MAX
    }

    /// Returns the start of the millisecond; `None` if the time is unknown.
    pub(crate) fn known(self) -> Option<OccurredAt> {
        self.is_known().then(|| OccurredAt(self.0.saturating_mul(1000)))
    }
}
