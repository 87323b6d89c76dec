//! The maximum lengths of the texts in an event. A provider, or its customer, chooses these texts, and
//! one event must not become larger than Kafka accepts. The provider's bytes in [`Event::raw`] are
//! not cut; the limit of the body bounds them.

use std::borrow::Cow;

use crate::{Bounce, Delivery, Event, Geo, Text};

/// In bytes: a local part of 64, `@`, and a domain of 255 (RFC 5321 §4.5.3.1).
pub const RECIPIENT: usize = 320;
/// In bytes: the longest line of a message header (RFC 5322 §2.1.1).
pub const MESSAGE_ID: usize = 998;
/// In bytes: a campaign, a stream, a tag, the name of an event, and an id of the provider.
pub const NAME: usize = 256;
/// The number of tags.
pub const TAGS: usize = 64;
/// The number of labels that rules take from a raw event.
pub const LABELS: usize = 32;
/// In bytes: a user agent.
pub const USER_AGENT: usize = 1024;
/// In bytes: an address of a client, with room for unusual spellings.
pub const IP: usize = 64;
/// In bytes: a link, and the answer of a server.
pub const LONG_TEXT: usize = 8 * 1024;

/// Returns the longest start of `text` that has at most `bytes` bytes and ends at a character
/// boundary.
pub fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

impl<'a> Text<'a> {
    /// Shortens the text to at most `bytes` bytes, at a character boundary.
    #[must_use]
    pub fn limited(self, bytes: usize) -> Self {
        match self.0 {
            Cow::Borrowed(text) => Self(Cow::Borrowed(cut(text, bytes))),
            Cow::Owned(mut text) => {
                text.truncate(cut(&text, bytes).len());
                Self(Cow::Owned(text))
            }
        }
    }
}

fn limited(text: Option<Text<'_>>, bytes: usize) -> Option<Text<'_>> {
    text.map(|text| text.limited(bytes))
}

impl<'a> Event<'a> {
    /// Shortens every text that comes from the provider to its maximum length. All fields are named
    /// here, so a new field does not compile before its limit is decided.
    #[must_use]
    pub fn within_limits(self) -> Self {
        let Self {
            // From the settings, from Mailpulse, or of fixed size.
            event_id,
            kind,
            provider,
            source,
            occurred_at,
            received_at,
            time_fault,
            mailbox_provider,
            tenant,
            automation,
            request_id,
            client,
            conversion,
            interest,
            labels,
            raw,
            authentic,
            sent_at,
            claimed_at,
            signals,
            // From the provider.
            recipient,
            recipient_domain,
            message_id,
            campaign,
            stream,
            tags,
            bounce,
            user_agent,
            ip,
            url,
            provider_event,
            provider_event_id,
            sender_domain,
            sending_ip,
            sender,
            delivery,
            geo,
        } = self;
        Self {
            event_id,
            kind,
            provider,
            source,
            occurred_at,
            received_at,
            time_fault,
            mailbox_provider,
            tenant,
            automation,
            request_id,
            client,
            conversion,
            interest,
            labels,
            raw,
            authentic,
            sent_at,
            claimed_at,
            signals,
            recipient: limited(recipient, RECIPIENT),
            recipient_domain: limited(recipient_domain, RECIPIENT),
            message_id: limited(message_id, MESSAGE_ID),
            campaign: limited(campaign, NAME),
            stream: limited(stream, NAME),
            tags: tags.into_iter().take(TAGS).map(|tag| tag.limited(NAME)).collect(),
            bounce: bounce.map(Bounce::within_limits),
            user_agent: limited(user_agent, USER_AGENT),
            ip: limited(ip, IP),
            url: limited(url, LONG_TEXT),
            provider_event: provider_event.limited(NAME),
            provider_event_id: limited(provider_event_id, NAME),
            sender_domain: limited(sender_domain, RECIPIENT),
            sending_ip: limited(sending_ip, IP),
            sender: limited(sender, RECIPIENT),
            delivery: delivery.map(Delivery::within_limits),
            geo: geo.map(Geo::within_limits),
        }
    }

    /// Adds tags that the event does not have yet, up to [`TAGS`] in total.
    pub fn add_tags(&mut self, found: impl IntoIterator<Item = Text<'a>>) {
        for tag in found {
            if self.tags.len() >= TAGS {
                return;
            }
            let tag = tag.limited(NAME);
            if !self.tags.contains(&tag) {
                self.tags.push(tag);
            }
        }
    }

    /// Adds a label from the raw event, unless the event has one of this name or [`LABELS`] labels.
    pub fn add_label(&mut self, name: &'a str, value: Text<'a>) {
        if self.labels.len() < LABELS {
            self.labels.entry(Text::from(name)).or_insert_with(|| value.limited(NAME));
        }
    }
}

impl Delivery<'_> {
    fn within_limits(self) -> Self {
        let Self { server, response, tls, millis } = self;
        Self {
            server: limited(server, RECIPIENT),
            response: limited(response, LONG_TEXT),
            tls,
            millis,
        }
    }
}

impl Geo<'_> {
    fn within_limits(self) -> Self {
        let Self { country, region, city, asn, network, time_zone } = self;
        Self {
            country: limited(country, NAME),
            region: limited(region, NAME),
            city: limited(city, NAME),
            asn,
            network: limited(network, NAME),
            time_zone: limited(time_zone, NAME),
        }
    }
}

impl Bounce<'_> {
    fn within_limits(self) -> Self {
        let Self { permanence, class, side, status, diagnostic, late } = self;
        Self {
            permanence,
            class,
            side,
            status: limited(status, NAME),
            diagnostic: limited(diagnostic, LONG_TEXT),
            late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_at_a_character() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 99), "aé");
        assert_eq!(Text::from("aé").limited(2).as_str(), "a");
        assert_eq!(Text::from("aé".to_owned()).limited(2).as_str(), "a");
    }

    #[test]
    fn the_first_value_of_a_label_stays_and_their_number_is_bounded() {
        let json = r#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"opened","provider":"ses",
            "source":"acme","occurred_at":1,"received_at":2,"provider_event":"Open","request_id":"r","raw":1}"#;
        let names: Vec<String> = (0..LABELS + 8).map(|number| format!("l{number:02}")).collect();
        let mut event: Event<'_> = serde_json::from_str(json).unwrap();
        event.add_label(&names[0], Text::from("é".repeat(NAME)));
        event.add_label(&names[0], Text::from("another"));
        assert_eq!(event.labels[&Text::from("l00")].as_str(), "é".repeat(NAME / 2));
        names.iter().for_each(|name| event.add_label(name, Text::from("value")));
        assert_eq!(event.labels.len(), LABELS);
    }
}
