//! The fields of an event that rates depend on.

use std::fmt;

use event::{Kind, OccurredAt, Permanence, Provider, ReceivedAt, Text};
use record::{FirstSeen, HeaderError};
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use window::{CountedEvent, Scope};

/// The fields of an event that decide its scopes, its pane and its counters.
pub(crate) struct RatedEvent<'a> {
    kind: Kind,
    pub(crate) provider: Provider,
    pub(crate) source: Text<'a>,
    occurred_at: OccurredAt,
    received_at: ReceivedAt,
    pub(crate) mailbox_provider: Option<Text<'a>>,
    pub(crate) campaign: Option<Text<'a>>,
    bounce: Option<BounceFields>,
    is_automatic: bool,
}

/// When an event happened, in UTC microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventTime {
    /// The time at which the event counts: the provider's time, but not after the receipt.
    pub(crate) counted_at: i64,
    pub(crate) received_at: i64,
    /// Whether the event counts at the provider's time: the provider sent one, and it is not in the
    /// future.
    pub(crate) is_reliable: bool,
}

#[derive(serde::Deserialize)]
struct BounceFields {
    permanence: Permanence,
    #[serde(default)]
    late: bool,
}

impl<'a> RatedEvent<'a> {
    /// Reads the fields from the value of a record of `mail.events` and stops after the last of them.
    /// [`event::Event`] guarantees that they come first. The rest, more than half of the bytes, is
    /// not parsed.
    pub(crate) fn read(value: &'a [u8]) -> Result<Self, serde_json::Error> {
        let mut event = None;
        let mut json = serde_json::Deserializer::from_slice(value);
        let end = json.deserialize_map(LeadingFields(&mut event));
        match (event, end) {
            // If the visitor stopped before the end of the object, serde_json reports an error.
            (Some(event), _) => Ok(event),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(serde_json::Error::custom("the value is not an event")),
        }
    }

    pub(crate) fn time(&self) -> EventTime {
        EventTime {
            counted_at: self.counted_at().micros(),
            received_at: self.received_at.micros(),
            is_reliable: self.occurred_at.micros() < self.received_at.micros(),
        }
    }

    /// Returns the time at which the event counts; see [`EventTime::counted_at`].
    pub(crate) fn counted_at(&self) -> OccurredAt {
        self.occurred_at.not_after(self.received_at)
    }

    /// Returns the properties that decide the counters. `first` returns the header `first`; it is
    /// only called for opens and clicks.
    pub(crate) fn counted<'h>(
        &self,
        first: impl FnOnce() -> Option<&'h [u8]>,
    ) -> Result<CountedEvent, HeaderError> {
        let first = match self.kind.is_engagement().then(first).flatten() {
            Some(header) => FirstSeen::from_header(header)?,
            None => FirstSeen::default(),
        };
        Ok(CountedEvent {
            kind: self.kind,
            permanence: self.bounce.as_ref().map(|bounce| bounce.permanence),
            late_bounce: self.bounce.as_ref().is_some_and(|bounce| bounce.late),
            machine: self.is_automatic,
            first_of_kind: first.of_kind,
            first_engagement: first.of_engagement,
        })
    }

    /// Returns the scopes of the event.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = Scope> {
        let provider = self.provider;
        let source = || self.source.to_string();
        let source_scope = Scope::Source { provider, source: source() };
        let mailbox = self.mailbox_provider.as_ref().map(|name| Scope::MailboxProvider {
            provider,
            source: source(),
            mailbox_provider: name.to_string(),
        });
        let campaign = self.campaign.as_ref().map(|name| Scope::Campaign {
            provider,
            source: source(),
            campaign: name.to_string(),
        });
        std::iter::once(source_scope).chain(mailbox).chain(campaign)
    }
}

/// A visitor that reads the fields of an event's JSON and stops at the first field after all those
/// that rates depend on.
struct LeadingFields<'r, 'a>(&'r mut Option<RatedEvent<'a>>);

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Kind,
    Provider,
    Source,
    OccurredAt,
    ReceivedAt,
    MailboxProvider,
    Campaign,
    Bounce,
    Automation,
    /// The first field after those that rates depend on. Every event has it.
    ProviderEvent,
    #[serde(other)]
    Other,
}

impl<'a> Visitor<'a> for LeadingFields<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut kind, mut provider, mut source) = (None, None, None);
        let (mut occurred_at, mut received_at) = (None, None);
        let (mut mailbox_provider, mut campaign, mut bounce) = (None, None, None);
        let mut automation: Option<IgnoredAny> = None;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Kind => kind = Some(map.next_value()?),
                Field::Provider => provider = Some(map.next_value()?),
                Field::Source => source = Some(map.next_value()?),
                Field::OccurredAt => occurred_at = Some(map.next_value()?),
                Field::ReceivedAt => received_at = Some(map.next_value()?),
                Field::MailboxProvider => mailbox_provider = map.next_value()?,
                Field::Campaign => campaign = map.next_value()?,
                Field::Bounce => bounce = map.next_value()?,
                Field::Automation => automation = map.next_value()?,
                Field::ProviderEvent => break,
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        *self.0 = Some(RatedEvent {
            kind: kind.ok_or_else(|| A::Error::missing_field("kind"))?,
            provider: provider.ok_or_else(|| A::Error::missing_field("provider"))?,
            source: source.ok_or_else(|| A::Error::missing_field("source"))?,
            occurred_at: occurred_at.ok_or_else(|| A::Error::missing_field("occurred_at"))?,
            received_at: received_at.ok_or_else(|| A::Error::missing_field("received_at"))?,
            mailbox_provider,
            campaign,
            bounce,
            is_automatic: automation.is_some(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use event::{
        Automation, AutomationReason, Bounce, BounceClass, BounceSide, Client, Event, EventId, Geo,
    };
    use serde_json::value::RawValue;

    use super::*;

    fn event(raw: &RawValue) -> Event<'_> {
        Event {
            event_id: EventId([7; 16]),
            kind: Kind::Clicked,
            provider: Provider::Ses,
            source: "acme".into(),
            occurred_at: OccurredAt(20),
            received_at: ReceivedAt(10),
            time_fault: None,
            recipient: Some("ada@example.com".into()),
            recipient_domain: Some("example.com".into()),
            mailbox_provider: Some("gmail".into()),
            message_id: Some("m1".into()),
            campaign: Some("spring \"sale\"".into()),
            stream: Some("broadcast".into()),
            tenant: Some("acme".into()),
            tags: vec!["a".into(), "b".into()],
            bounce: Some(Bounce {
                permanence: Permanence::Soft,
                class: BounceClass::Other,
                side: BounceSide::Unknown,
                status: Some("4.2.2".into()),
                diagnostic: Some("full".into()),
                late: true,
            }),
            automation: Some(Automation { reason: AutomationReason::Bot, confidence: 0.5 }),
            user_agent: Some("curl".into()),
            ip: Some("192.0.2.1".into()),
            url: Some("https://example.com".into()),
            provider_event: "Click".into(),
            provider_event_id: Some("1".into()),
            request_id: "r".into(),
            client: Some(Client { name: Some("Chrome".into()), ..Client::default() }),
            geo: Some(Geo { asn: Some(64_496), ..Geo::default() }),
            labels: [("team".into(), "growth".into())].into(),
            raw,
        }
    }

    /// Checks the order of the fields that [`event::Event`] guarantees.
    #[test]
    fn the_leading_fields_suffice() {
        let raw = RawValue::from_string(r#"{"kind":"other"}"#.into()).unwrap();
        let json = serde_json::to_vec(&event(&raw)).unwrap();
        let end = json.len() - 1;
        for value in [&json[..], &json[..end]] {
            let event = RatedEvent::read(value).unwrap();
            assert_eq!(event.counted_at(), OccurredAt(10), "the time is after the receipt");
            assert_eq!(event.mailbox_provider.as_deref(), Some("gmail"));
            let keys: Vec<_> = event.scopes().map(|scope| scope.key()).collect();
            assert_eq!(
                keys,
                [
                    "source/ses/acme",
                    "mailbox/ses/acme/gmail",
                    "campaign/ses/acme/spring%20%22sale%22",
                ]
            );
            let expected = CountedEvent {
                kind: Kind::Clicked,
                permanence: Some(Permanence::Soft),
                late_bounce: true,
                machine: true,
                first_of_kind: true,
                first_engagement: false,
            };
            assert_eq!(event.counted(|| Some(b"kind")), Ok(expected));
        }
    }

    #[test]
    fn errors_name_the_missing_or_wrong_field() {
        let problem = |json: &str| {
            let error = RatedEvent::read(json.as_bytes()).err().unwrap();
            (error.is_data(), error.to_string())
        };
        let (is_data, text) = problem(r#"{"kind":"opened","provider":"ses","raw":1}"#);
        assert!(is_data && text.contains("missing field `source`"), "{text}");
        let (is_data, text) = problem(r#"{"kind":"open"}"#);
        assert!(is_data && text.contains("unknown variant `open`"), "{text}");
        let (is_data, text) = problem("[1]");
        assert!(is_data && text.contains("expected an event"), "{text}");
        for json in ["", "{", "nonsense", r#"{"kind":"opened""#] {
            assert!(!problem(json).0, "{json}");
        }
    }

    #[test]
    fn only_opens_and_clicks_read_the_header() {
        let read = |kind: &str| {
            let json = format!(
                r#"{{"kind":"{kind}","provider":"ses","source":"s","occurred_at":1,"received_at":1}}"#
            );
            let event = RatedEvent::read(json.as_bytes()).unwrap();
            event.counted(|| Some(b"nonsense")).is_ok()
        };
        assert_eq!(["delivered", "opened", "clicked"].map(read), [true, false, false]);
    }
}
