use serde::{Deserialize, Serialize};

use crate::Text;

/// Whether trying the same address again can ever succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permanence {
    /// Never: the address does not exist.
    Hard,
    /// Perhaps later.
    Soft,
    /// The provider does not say, or cannot know.
    Undetermined,
}

/// Why a message was refused. Closed, with [`BounceClass::Other`] for words we have no class for;
/// the provider's own words stay in [`Bounce::diagnostic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BounceClass {
    /// The mailbox does not exist.
    InvalidRecipient,
    /// The domain does not exist or takes no mail.
    InvalidDomain,
    /// The mailbox exists and is disabled or inactive.
    MailboxDisabled,
    /// The mailbox is full.
    MailboxFull,
    /// The message is too large.
    MessageTooLarge,
    /// Refused for what the message says or carries.
    Content,
    /// Refused for the sender's reputation or a block list.
    Reputation,
    /// Refused by the recipient's or provider's policy.
    Policy,
    /// SPF, DKIM or DMARC failed (RFC 7372).
    Authentication,
    /// Too many messages at once; includes greylisting.
    RateLimited,
    /// DNS, connection or protocol trouble between the servers.
    Technical,
    /// On the provider's suppression list; it was never tried.
    Suppressed,
    /// An automatic reply, not a bounce.
    AutoReply,
    /// None of these.
    Other,
}

/// Whose doing a bounce is: only a recipient-side one says anything about the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BounceSide {
    /// The address or mailbox.
    Recipient,
    /// The sender: reputation, content, authentication, rate.
    Sender,
    /// The network between.
    Network,
    /// Not known.
    Unknown,
}

macro_rules! names {
    ($type:ty { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable snake-case name: JSON value and ClickHouse value.
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
    /// Whose doing a bounce of this class is.
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

/// What is known of a refusal; on `bounced`, `deferred` and `dropped` events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounce<'a> {
    /// Whether it is final.
    pub permanence: Permanence,
    /// Why.
    pub class: BounceClass,
    /// Whose doing it is.
    pub side: BounceSide,
    /// Enhanced status code such as `5.1.1` (RFC 3463).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Text<'a>>,
    /// The provider's or the receiving server's own words.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<Text<'a>>,
    /// Came after the message had been reported as delivered (out of band).
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
