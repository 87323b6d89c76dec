use event::{Event, EventId, IdBuilder, Kind, OccurredAt, Provider, ReceivedAt, Text, domain_of};
use serde_json::value::RawValue;

use crate::ParseError;

/// What the ingress knows of a raw event beyond its bytes: the record's key and headers.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The configured source.
    pub source: &'a str,
    /// The recipient that [`crate::split`] gave: the record's key, empty where nobody is named.
    /// It is the event's recipient, and tells which of an SES message's recipients is meant.
    pub recipient: &'a str,
    /// When the request had been read.
    pub received_at: ReceivedAt,
    /// The HTTP request it came in.
    pub request_id: &'a str,
}

impl<'a> Envelope<'a> {
    /// The event's identity: a digest of provider, source, the provider's own key, and recipient.
    pub(crate) fn event_id<'k>(
        &self,
        provider: Provider,
        key: impl IntoIterator<Item = &'k [u8]>,
    ) -> EventId {
        let start =
            IdBuilder::new("event").part(provider.as_str().as_bytes()).part(self.source.as_bytes());
        key.into_iter().fold(start, IdBuilder::part).part(self.recipient.as_bytes()).finish()
    }

    /// When the event happened. One of a kind we do not know may keep its time where we do not
    /// know of it: it is kept all the same, at the moment of receipt.
    pub(crate) fn time(
        &self,
        kind: Kind,
        read: Result<OccurredAt, ParseError>,
    ) -> Result<OccurredAt, ParseError> {
        match (kind, read) {
            (Kind::Other, Err(_)) => Ok(OccurredAt(self.received_at.micros())),
            (_, read) => read,
        }
    }

    /// The event with what every provider's has; the rest is for the provider to fill in.
    pub(crate) fn event(
        &self,
        provider: Provider,
        kind: Kind,
        event_id: EventId,
        occurred_at: OccurredAt,
        raw: &'a RawValue,
    ) -> Event<'a> {
        let known = |text: &'a str| (!text.is_empty()).then(|| Text::from(text));
        Event {
            event_id,
            kind,
            provider,
            source: Text::from(self.source),
            occurred_at,
            received_at: self.received_at,
            recipient: known(self.recipient),
            recipient_domain: known(domain_of(self.recipient)),
            mailbox_provider: None,
            message_id: None,
            campaign: None,
            stream: None,
            tenant: None,
            tags: Vec::new(),
            bounce: None,
            automation: None,
            user_agent: None,
            ip: None,
            url: None,
            provider_event: Text::from(""),
            provider_event_id: None,
            request_id: Text::from(self.request_id),
            client: None,
            geo: None,
            labels: Default::default(),
            raw,
        }
    }
}

/// A field as part of an event's key.
pub(crate) fn bytes<'t>(text: &'t Option<Text<'_>>) -> &'t [u8] {
    text.as_deref().unwrap_or_default().as_bytes()
}
