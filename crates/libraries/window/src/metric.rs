use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Counts;
use crate::rates::{accepted_by_recipient, sent};

/// The rate that a rule compares with its thresholds. The denominator of the rate is the volume that
/// a rule requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// All bounces ÷ sent.
    Bounce,
    /// Hard bounces ÷ sent.
    HardBounce,
    /// Complaints ÷ accepted.
    Complaint,
    /// Unsubscribes ÷ accepted.
    Unsubscribe,
    /// Messages opened by people ÷ accepted.
    Open,
    /// Messages clicked by people ÷ accepted.
    Click,
    /// Messages opened or clicked by people ÷ accepted.
    Engagement,
}

impl Metric {
    /// Returns the stable name, as in JSON and TOML.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::HardBounce => "hard_bounce",
            Self::Complaint => "complaint",
            Self::Unsubscribe => "unsubscribe",
            Self::Open => "open",
            Self::Click => "click",
            Self::Engagement => "engagement",
        }
    }

    /// Returns the numerator and the denominator, as defined by [`Rates`](crate::Rates).
    pub const fn fraction(self, counts: &Counts) -> (u64, u64) {
        match self {
            Self::Bounce => (counts.bounced(), sent(counts)),
            Self::HardBounce => (counts.bounced_hard, sent(counts)),
            Self::Complaint => (counts.complained, accepted_by_recipient(counts)),
            Self::Unsubscribe => (counts.unsubscribed, accepted_by_recipient(counts)),
            Self::Open => (counts.opened, accepted_by_recipient(counts)),
            Self::Click => (counts.clicked, accepted_by_recipient(counts)),
            Self::Engagement => (counts.engaged, accepted_by_recipient(counts)),
        }
    }

    /// Returns the word for the messages in the denominator, as used in summaries.
    pub(crate) const fn denominator_name(self) -> &'static str {
        match self {
            Self::Bounce | Self::HardBounce => "sent",
            Self::Complaint | Self::Unsubscribe | Self::Open | Self::Click | Self::Engagement => {
                "accepted"
            }
        }
    }
}

impl fmt::Display for Metric {
    /// Writes the name as used in summaries, such as `hard bounce rate`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bounce => "bounce rate",
            Self::HardBounce => "hard bounce rate",
            Self::Complaint => "complaint rate",
            Self::Unsubscribe => "unsubscribe rate",
            Self::Open => "open rate",
            Self::Click => "click rate",
            Self::Engagement => "engagement",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_json_values() {
        for metric in [
            Metric::Bounce,
            Metric::HardBounce,
            Metric::Complaint,
            Metric::Unsubscribe,
            Metric::Open,
            Metric::Click,
            Metric::Engagement,
        ] {
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(json, format!("\"{}\"", metric.as_str()));
        }
    }
}
