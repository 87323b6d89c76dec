use event::{
    Event, EventId, IdBuilder, Kind, OccurredAt, Provider, ReceivedAt, Text, TimeFault, domain_of,
};
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

    /// Returns when the event happened. Without a usable time of the provider that is the time of
    /// receipt, whatever the kind, because a bounce without a time is still a bounce.
    pub(crate) fn time(
        &self,
        _kind: Kind,
        time: Result<OccurredAt, ParseError>,
    ) -> Result<EventTime, ParseError> {
        let received = |fault| EventTime {
            occurred_at: OccurredAt(self.received_at.micros()),
            fault: Some(fault),
            claimed_at: None,
        };
        Ok(match time {
            Ok(occurred_at) if occurred_at.is_plausible(self.received_at) => {
                EventTime { occurred_at, fault: None, claimed_at: None }
            }
            Ok(claimed_at) => {
                EventTime { claimed_at: Some(claimed_at), ..received(TimeFault::Implausible) }
            }
            Err(ParseError::MissingTime) => received(TimeFault::Missing),
            Err(ParseError::TimeOutOfRange) => received(TimeFault::OutOfRange),
            Err(_) => received(TimeFault::Unreadable),
        })
    }

    /// Returns when the provider began to send the message. A time that cannot be right counts as
    /// absent, because cohorts and clocks would follow it.
    pub(crate) fn sent_at(&self, time: Result<OccurredAt, ParseError>) -> Option<OccurredAt> {
        time.ok().filter(|time| time.is_plausible(self.received_at))
    }

    /// Returns the event with the fields that all providers have in common. Each provider's `parse`
    /// adds the others.
    pub(crate) fn event(
        &self,
        provider: Provider,
        kind: Kind,
        event_id: EventId,
        time: EventTime,
        raw: &'a RawValue,
    ) -> Event<'a> {
        let known = |text: &'a str| (!text.is_empty()).then(|| Text::from(text));
        Event {
            event_id,
            kind,
            provider,
            source: Text::from(self.source),
            occurred_at: time.occurred_at,
            received_at: self.received_at,
            time_fault: time.fault,
            recipient: known(self.recipient),
            recipient_domain: known(domain_of(self.recipient)),
            mailbox_provider: None,
            message_id: None,
            campaign: None,
            stream: None,
            tenant: None,
            sender_domain: None,
            sending_ip: None,
            authentic: true,
            tags: Vec::new(),
            bounce: None,
            automation: None,
            user_agent: None,
            ip: None,
            url: None,
            conversion: None,
            interest: None,
            provider_event: Text::from(""),
            provider_event_id: None,
            request_id: Text::from(self.request_id),
            client: None,
            sent_at: None,
            claimed_at: time.claimed_at,
            sender: None,
            delivery: None,
            signals: Vec::new(),
            geo: None,
            labels: Default::default(),
            raw,
        }
    }
}

/// When an event happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventTime {
    occurred_at: OccurredAt,
    /// Why it is the time of receipt.
    fault: Option<TimeFault>,
    /// The provider's time, if it is implausible.
    claimed_at: Option<OccurredAt>,
}

/// Returns a field as a part of an event's key.
pub(crate) fn bytes<'t>(text: &'t Option<Text<'_>>) -> &'t [u8] {
    text.as_deref().unwrap_or_default().as_bytes()
}
