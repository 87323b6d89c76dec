//! The vocabulary of Mailpulse: what an email event is, once the provider's own words are gone.
//!
//! No I/O and no clocks. The JSON form of [`Event`] is the value of the Kafka topics
//! `mail.enriched` and `mail.events`; its JSON Schema is `schemas/event.schema.json`.

mod automation;
mod bounce;
mod canonical;
mod client;
mod id;
mod kind;
mod provider;
mod text;
mod time;

pub use automation::{Automation, AutomationReason};
pub use bounce::{Bounce, BounceClass, BounceSide, Permanence};
pub use canonical::Event;
pub use client::{Client, Device, Geo};
pub use id::{EventId, IdBuilder, ParseIdError};
pub use kind::Kind;
pub use provider::Provider;
pub use text::Text;
pub use time::{OccurredAt, ReceivedAt};

/// Lower-cases a mailbox address as the key of its events: ASCII letters only, surrounding
/// white space and angle brackets removed. Borrows when nothing has to change.
///
/// Local parts are case-sensitive on paper (RFC 5321 §2.4) and nowhere in practice.
pub fn recipient_key(address: &str) -> std::borrow::Cow<'_, str> {
    let trimmed = address.trim().trim_start_matches('<').trim_end_matches('>');
    if trimmed.bytes().any(|b| b.is_ascii_uppercase()) {
        std::borrow::Cow::Owned(trimmed.to_ascii_lowercase())
    } else {
        std::borrow::Cow::Borrowed(trimmed)
    }
}

/// The part after the last `@` of an address, or `""` where there is none.
pub fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_become_keys() {
        assert_eq!(recipient_key(" <Ada@Example.COM> "), "ada@example.com");
        assert!(matches!(recipient_key("ada@example.com"), std::borrow::Cow::Borrowed(_)));
        assert_eq!(domain_of("\"a@b\"@example.org"), "example.org");
        assert_eq!(domain_of("nobody"), "");
    }
}
