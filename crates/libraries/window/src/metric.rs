use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Counts;
use crate::rates::{accepted_by_recipient, sent};

/// Which rate a rule watches. Its denominator is also the rule's volume.
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
    /// Messages people opened ÷ accepted.
    Open,
    /// Messages people clicked ÷ accepted.
    Click,
    /// Messages people opened or clicked ÷ accepted.
    Engagement,
}

impl Metric {
    /// Numerator and denominator, by the definitions of [`Rates`](crate::Rates).
    pub const fn parts(self, counts: &Counts) -> (u64, u64) {
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

    /// What the denominator counts, for people.
    pub(crate) const fn volume_of(self) -> &'static str {
        match self {
            Self::Bounce | Self::HardBounce => "sent",
            Self::Complaint | Self::Unsubscribe | Self::Open | Self::Click | Self::Engagement => {
                "accepted"
            }
        }
    }
}

impl fmt::Display for Metric {
    /// In words: `hard bounce rate`.
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
