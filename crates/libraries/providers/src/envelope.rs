use event::{Event, EventId, IdBuilder, Kind, OccurredAt, Provider, ReceivedAt, Text, domain_of};
use serde_json::value::RawValue;

use crate::ParseError;

/// The key and the headers of a raw event's record.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The name of the configured source.
    pub source: &'a str,
    /// The record's key: the recipient that [`crate::split`] found, empty if the event names none.
    /// It selects one of the recipients of an SES message.
    pub recipient: &'a str,
    /// When the ingress had read the request.
    pub received_at: ReceivedAt,
    pub request_id: &'a str,
}

impl<'a> Envelope<'a> {
    /// Returns the event's id: a digest of provider, source, the provider's key and the recipient.
    pub(crate) fn event_id<'k>(
        &self,
        provider: Provider,
        key: impl IntoIterator<Item = &'k [u8]>,
    ) -> EventId {
        let start =
            IdBuilder::new("event").part(provider.as_str().as_bytes()).part(self.source.as_bytes());
        key.into_iter().fold(start, IdBuilder::part).part(self.recipient.as_bytes()).finish()
    }

    /// Returns when the event happened. If an event of an unknown kind has no readable time, returns
    /// the time of receipt.
    pub(crate) fn time(
        &self,
        kind: Kind,
        time: Result<OccurredAt, ParseError>,
    ) -> Result<OccurredAt, ParseError> {
        match (kind, time) {
            (Kind::Other, Err(_)) => Ok(OccurredAt(self.received_at.micros())),
            (_, time) => time,
        }
    }

    /// Returns the event with the fields that all providers have in common. Each provider's `parse`
    /// adds the others.
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

/// Returns a field as a part of an event's key.
pub(crate) fn bytes<'t>(text: &'t Option<Text<'_>>) -> &'t [u8] {
    text.as_deref().unwrap_or_default().as_bytes()
}
