//! The canonical event: the form of every email event, independent of its provider.
//!
//! This crate does no I/O and reads no clock. The JSON form of [`Event`] is the value of the Kafka
//! topics `mail.enriched` and `mail.events`; its JSON Schema is `schemas/event.schema.json`.

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

/// Returns the key of a recipient's events: the address with ASCII letters in lower case, without
/// surrounding white space and angle brackets. Borrows if nothing changes.
///
/// RFC 5321 §2.4 makes local parts case-sensitive; in practice no server treats them so.
pub fn recipient_key(address: &str) -> std::borrow::Cow<'_, str> {
    let trimmed = address.trim().trim_start_matches('<').trim_end_matches('>');
    if trimmed.bytes().any(|b| b.is_ascii_uppercase()) {
        std::borrow::Cow::Owned(trimmed.to_ascii_lowercase())
    } else {
        std::borrow::Cow::Borrowed(trimmed)
    }
}

/// Returns the part of an address after the last `@`, or `""` if there is no `@`.
pub fn domain_of(address: &str) -> &str {
    address.rsplit_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised_to_keys() {
        assert_eq!(recipient_key(" <Ada@Example.COM> "), "ada@example.com");
        assert!(matches!(recipient_key("ada@example.com"), std::borrow::Cow::Borrowed(_)));
        assert_eq!(domain_of("\"a@b\"@example.org"), "example.org");
        assert_eq!(domain_of("no-domain"), "");
    }
}
