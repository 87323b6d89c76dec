use serde::{Deserialize, Serialize};

use crate::Text;

/// Whether sending to the same address again can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permanence {
    /// It cannot succeed: the address does not exist or refuses all mail.
    Hard,
    /// It may succeed later.
    Soft,
    /// The provider does not distinguish hard and soft refusals here.
    Undetermined,
}

/// Why a message was refused. The set is closed; [`BounceClass::Other`] covers reasons without a
/// class. [`Bounce::diagnostic`] keeps the original text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BounceClass {
    /// The mailbox does not exist.
    InvalidRecipient,
    /// The domain does not exist or accepts no mail.
    InvalidDomain,
    /// The mailbox exists and is disabled or inactive.
    MailboxDisabled,
    MailboxFull,
    MessageTooLarge,
    /// The text or an attachment of the message was refused.
    Content,
    /// The sender has a bad reputation or is on a block list.
    Reputation,
    /// A policy of the recipient's server or of the provider.
    Policy,
    /// SPF, DKIM or DMARC failed (RFC 7372).
    Authentication,
    /// Too many messages in a short time. Includes greylisting.
    RateLimited,
    /// A DNS, connection or protocol failure between the servers.
    Technical,
    /// The address is on the provider's suppression list; the message was never sent.
    Suppressed,
    /// An automatic reply, not a bounce.
    AutoReply,
    /// Any other reason.
    Other,
}

/// Which side caused a bounce. Only a bounce on the recipient's side is evidence
/// against the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BounceSide {
    /// The address or mailbox.
    Recipient,
    /// The sender: reputation, content, authentication, rate.
    Sender,
    /// The network between the servers.
    Network,
    Unknown,
}

macro_rules! names {
    ($type:ty { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name in JSON and ClickHouse.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

names!(Permanence { Hard => "hard", Soft => "soft", Undetermined => "undetermined" });
names!(BounceClass {
    InvalidRecipient => "invalid_recipient",
    InvalidDomain => "invalid_domain",
    MailboxDisabled => "mailbox_disabled",
    MailboxFull => "mailbox_full",
    MessageTooLarge => "message_too_large",
    Content => "content",
    Reputation => "reputation",
    Policy => "policy",
    Authentication => "authentication",
    RateLimited => "rate_limited",
    Technical => "technical",
    Suppressed => "suppressed",
    AutoReply => "auto_reply",
    Other => "other",
});
names!(BounceSide {
    Recipient => "recipient", Sender => "sender", Network => "network", Unknown => "unknown",
});

impl BounceClass {
    /// Which side causes bounces of this class.
    pub const fn side(self) -> BounceSide {
        match self {
            Self::InvalidRecipient
            | Self::InvalidDomain
            | Self::MailboxDisabled
            | Self::MailboxFull
            | Self::Suppressed
            | Self::AutoReply => BounceSide::Recipient,
            Self::MessageTooLarge
            | Self::Content
            | Self::Reputation
            | Self::Policy
            | Self::Authentication
            | Self::RateLimited => BounceSide::Sender,
            Self::Technical => BounceSide::Network,
            Self::Other => BounceSide::Unknown,
        }
    }
}

/// Why a message was not delivered. Present on `bounced`, `deferred` and `dropped` events, and on
/// automatic replies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounce<'a> {
    pub permanence: Permanence,
    pub class: BounceClass,
    pub side: BounceSide,
    /// The enhanced status code (RFC 3463), such as `5.1.1`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Text<'a>>,
    /// The answer of the receiving server, or else the provider's explanation.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<Text<'a>>,
    /// True if the message had already been reported as delivered (an out-of-band bounce).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_json_values() {
        fn check<T: Serialize + Copy>(all: &[T], name: fn(T) -> &'static str) {
            for &value in all {
                assert_eq!(serde_json::to_string(&value).unwrap(), format!("\"{}\"", name(value)));
            }
        }
        check(Permanence::ALL, Permanence::as_str);
        check(BounceClass::ALL, BounceClass::as_str);
        check(BounceSide::ALL, BounceSide::as_str);
    }
}
