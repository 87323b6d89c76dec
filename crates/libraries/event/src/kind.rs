use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What happened to a message or an address. Each kind has its own Kafka topic, `mail.raw.<kind>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Kind {
    /// The provider accepted the message for sending (`processed`, `send`, `injection`).
    Accepted = 0,
    /// The recipient's server accepted it.
    Delivered = 1,
    /// The recipient's server refused it for now; the provider retries.
    Deferred = 2,
    /// The recipient's server refused it permanently, or the provider gave up.
    Bounced = 3,
    /// The provider never sent it: the address is suppressed or invalid, or a policy of the
    /// provider rejected the message.
    Dropped = 4,
    /// The tracking pixel was fetched.
    Opened = 5,
    /// A link was clicked.
    Clicked = 6,
    /// The recipient reported it as spam.
    Complained = 7,
    /// The recipient no longer wants this mail.
    Unsubscribed = 8,
    /// The recipient wants this mail (again).
    Subscribed = 9,
    /// Anything else. Such events are stored and not interpreted.
    Other = 10,
    /// The address was checked without sending a message; `provider_event` has the result.
    Verified = 11,
}

impl Kind {
    /// Every kind, in numeric order.
    pub const ALL: [Self; 12] = [
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
        Self::Verified,
    ];

    /// The stable name in topics, JSON, ClickHouse and metric labels.
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
            Self::Verified => "verified",
        }
    }

    /// True for the kinds that are counted once per message and recipient.
    pub const fn is_engagement(self) -> bool {
        matches!(self, Self::Opened | Self::Clicked)
    }

    /// True for the kinds that report an attempt to deliver a message to the recipient's server.
    pub const fn is_attempt(self) -> bool {
        matches!(self, Self::Delivered | Self::Deferred | Self::Bounced)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No kind has this name.
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
