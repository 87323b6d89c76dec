use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What became of a message. One Kafka topic `mail.raw.<kind>` each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// The provider took the message for sending (`processed`, `send`, `injection`): it was *sent*.
    Accepted = 0,
    /// The recipient's server took it.
    Delivered = 1,
    /// A temporary refusal; the provider goes on trying.
    Deferred = 2,
    /// The recipient's server refused it for good, or the provider gave up.
    Bounced = 3,
    /// Never tried: suppressed, invalid, rejected by the provider's own policy.
    Dropped = 4,
    /// The message was opened (a tracking pixel was fetched).
    Opened = 5,
    /// A link in it was followed.
    Clicked = 6,
    /// Reported as spam.
    Complained = 7,
    /// The recipient no longer wants this mail.
    Unsubscribed = 8,
    /// The recipient wants it (again).
    Subscribed = 9,
    /// Something else: kept, never guessed at.
    Other = 10,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Self; 11] = [
        Self::Accepted,
        Self::Delivered,
        Self::Deferred,
        Self::Bounced,
        Self::Dropped,
        Self::Opened,
        Self::Clicked,
        Self::Complained,
        Self::Unsubscribed,
        Self::Subscribed,
        Self::Other,
    ];

    /// The stable lower-case name: topic suffix, JSON value, ClickHouse value, metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Delivered => "delivered",
            Self::Deferred => "deferred",
            Self::Bounced => "bounced",
            Self::Dropped => "dropped",
            Self::Opened => "opened",
            Self::Clicked => "clicked",
            Self::Complained => "complained",
            Self::Unsubscribed => "unsubscribed",
            Self::Subscribed => "subscribed",
            Self::Other => "other",
        }
    }

    /// Whether a recipient's reading is meant: the kinds counted once per message and recipient.
    pub const fn is_engagement(self) -> bool {
        matches!(self, Self::Opened | Self::Clicked)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name is none of the kinds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of event")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| UnknownKind(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_through_text_and_json() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("Delivered".parse::<Kind>().is_err());
    }
}
