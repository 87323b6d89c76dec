use serde::{Deserialize, Serialize};

/// When the event happened according to the provider, in microseconds since the Unix epoch (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OccurredAt(pub i64);

/// When the ingress had read the request, in microseconds since the Unix epoch (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReceivedAt(pub i64);

/// Why an event has no usable time of its provider. Such an event counts as having happened when the
/// ingress received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFault {
    /// The provider sent no time.
    Missing,
    /// The time has a form that is not known.
    Unreadable,
    /// The time is outside the years 1970 to 2199.
    OutOfRange,
    /// The time is more than an hour after the receipt or more than 400 days before it.
    Implausible,
}

impl TimeFault {
    /// All faults.
    pub const ALL: &'static [Self] =
        &[Self::Missing, Self::Unreadable, Self::OutOfRange, Self::Implausible];

    /// The stable name in JSON and record headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::OutOfRange => "out_of_range",
            Self::Implausible => "implausible",
        }
    }
}

impl OccurredAt {
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns whether an event that was received then can have happened at this time. A clock may be
    /// wrong by an hour, and a provider may post old events again. Any other time would move the clocks
    /// of everybody, and spread rows over hundreds of partitions.
    pub fn is_plausible(self, received_at: ReceivedAt) -> bool {
        const HOUR: i64 = 3_600_000_000;
        const MAX_AGE: i64 = 400 * 24 * HOUR;
        let age = received_at.0.saturating_sub(self.0);
        (-HOUR..=MAX_AGE).contains(&age)
    }

    /// Returns this time, or the time of receipt if that is earlier. Watermarks advance by it, so
    /// that one event dated in the future cannot make all others late.
    pub fn not_after(self, received_at: ReceivedAt) -> Self {
        Self(self.0.min(received_at.0))
    }
}

impl ReceivedAt {
    pub const fn micros(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_faults_are_the_json_values() {
        for &fault in TimeFault::ALL {
            assert_eq!(serde_json::to_string(&fault).unwrap(), format!("\"{}\"", fault.as_str()));
        }
    }

    #[test]
    fn a_time_is_plausible_from_400_days_before_the_receipt_to_an_hour_after_it() {
        const SECOND: i64 = 1_000_000;
        let received_at = ReceivedAt(1_795_255_200 * SECOND);
        let is_plausible = |seconds_after: i64| {
            OccurredAt(received_at.0 + seconds_after * SECOND).is_plausible(received_at)
        };
        assert!(is_plausible(3_600) && !is_plausible(3_601));
        assert!(is_plausible(-400 * 86_400) && !is_plausible(-400 * 86_400 - 1));
        assert!(!OccurredAt(i64::MIN).is_plausible(ReceivedAt(i64::MAX)));
    }

    #[test]
    fn the_future_cannot_move_the_watermark() {
        assert_eq!(OccurredAt(9).not_after(ReceivedAt(5)), OccurredAt(5));
        assert_eq!(OccurredAt(3).not_after(ReceivedAt(5)), OccurredAt(3));
    }
}
