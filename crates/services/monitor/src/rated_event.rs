//! The fields of an event that rates depend on.

use std::fmt;

use event::{Counter, CounterSet, Dimension, Event, OccurredAt, Provider, ReceivedAt, Text};
use record::{FirstSeen, HeaderError};
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The fields of an event that decide its scopes and its pane.
pub(crate) struct RatedEvent<'a> {
    pub(crate) provider: Provider,
    pub(crate) source: Text<'a>,
    occurred_at: OccurredAt,
    received_at: ReceivedAt,
    mailbox_provider: Option<Text<'a>>,
    campaign: Option<Text<'a>>,
    stream: Option<Text<'a>>,
    tenant: Option<Text<'a>>,
    sender_domain: Option<Text<'a>>,
    sending_ip: Option<Text<'a>>,
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

    /// Returns the value in a dimension, as [`Dimension::of`] does.
    pub(crate) fn value(&self, dimension: Dimension) -> Option<&str> {
        let value = match dimension {
            Dimension::MailboxProvider => &self.mailbox_provider,
            Dimension::Campaign => &self.campaign,
            Dimension::SenderDomain => &self.sender_domain,
            Dimension::SendingIp if self.sending_ip.is_some() => &self.sending_ip,
            Dimension::SendingIp => &self.stream,
            Dimension::Tenant => &self.tenant,
        };
        value.as_deref()
    }
}

/// Why an event of an earlier release cannot be counted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotCountable {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// Returns what an event counts for that an earlier release of `dedupe` passed on. `first` is the
/// header `first`.
///
/// That release remembered opens and clicks only, so everything else counts each time.
pub(crate) fn counts_of_earlier_release(
    value: &[u8],
    first: Option<&[u8]>,
) -> Result<CounterSet, NotCountable> {
    let event: Event<'_> = serde_json::from_slice(value)?;
    if !event.authentic {
        return Ok(CounterSet::EMPTY);
    }
    let mut counts = event.would_count(false);
    if event.kind.is_engagement() {
        let first = first.map(FirstSeen::from_header).transpose()?.unwrap_or_default();
        if !first.of_kind {
            counts = counts.without(Counter::Opened).without(Counter::Clicked);
        }
        if !first.of_engagement {
            counts = counts.without(Counter::Engaged);
        }
    }
    Ok(counts)
}

/// A visitor that reads the fields of an event's JSON and stops at the first field after all those
/// that rates depend on.
struct LeadingFields<'r, 'a>(&'r mut Option<RatedEvent<'a>>);

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Provider,
    Source,
    OccurredAt,
    ReceivedAt,
    MailboxProvider,
    Campaign,
    Stream,
    Tenant,
    SenderDomain,
    SendingIp,
    /// The fields after those that rates depend on. Every event has at least the last of them.
    // `automation` is not among them, because dedupe may have written it as the first field.
    #[serde(alias = "authentic", alias = "tags", alias = "bounce")]
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
        let (mut provider, mut source) = (None, None);
        let (mut occurred_at, mut received_at) = (None, None);
        let (mut mailbox_provider, mut campaign, mut stream) = (None, None, None);
        let (mut tenant, mut sender_domain, mut sending_ip) = (None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Provider => provider = Some(map.next_value()?),
                Field::Source => source = Some(map.next_value()?),
                Field::OccurredAt => occurred_at = Some(map.next_value()?),
                Field::ReceivedAt => received_at = Some(map.next_value()?),
                Field::MailboxProvider => mailbox_provider = map.next_value()?,
                Field::Campaign => campaign = map.next_value()?,
                Field::Stream => stream = map.next_value()?,
                Field::Tenant => tenant = map.next_value()?,
                Field::SenderDomain => sender_domain = map.next_value()?,
                Field::SendingIp => sending_ip = map.next_value()?,
                Field::ProviderEvent => break,
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        *self.0 = Some(RatedEvent {
            provider: provider.ok_or_else(|| A::Error::missing_field("provider"))?,
            source: source.ok_or_else(|| A::Error::missing_field("source"))?,
            occurred_at: occurred_at.ok_or_else(|| A::Error::missing_field("occurred_at"))?,
            received_at: received_at.ok_or_else(|| A::Error::missing_field("received_at"))?,
            mailbox_provider,
            campaign,
            stream,
            tenant,
            sender_domain,
            sending_ip,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the JSON of an event with every field, in the order that [`event::Event`] guarantees.
    fn full() -> String {
        let json = json!({
            "event_id": "07070707070707070707070707070707", "kind": "clicked", "provider": "ses",
            "source": "acme", "occurred_at": 20, "received_at": 10,
            "recipient": "ada@example.com", "recipient_domain": "example.com",
            "mailbox_provider": "gmail", "message_id": "m1", "campaign": "spring \"sale\"",
            "stream": "broadcast", "tenant": "acme", "sender_domain": "example.org",
            "sending_ip": "192.0.2.1", "tags": ["a", "b"],
            "bounce": {
                "permanence": "soft", "class": "other", "side": "unknown", "status": "4.2.2",
                "diagnostic": "full", "late": true,
            },
            "automation": {"reason": "bot", "confidence": 0.5},
            "user_agent": "curl", "ip": "192.0.2.1", "url": "https://example.com",
            "provider_event": "Click", "provider_event_id": "1", "request_id": "r",
            "raw": {"kind": "other", "source": "no"},
        });
        let text = json.to_string();
        let event: Event<'_> = serde_json::from_str(&text).unwrap();
        serde_json::to_string(&event).unwrap()
    }

    #[test]
    fn the_leading_fields_suffice() {
        let json = full();
        let all: Event<'_> = serde_json::from_str(&json).unwrap();
        for value in [&json[..], &json[..json.len() - 1]] {
            let event = RatedEvent::read(value.as_bytes()).unwrap();
            assert_eq!(event.counted_at(), OccurredAt(10), "the time is after the receipt");
            assert_eq!((event.provider, &*event.source), (Provider::Ses, "acme"));
            for dimension in Dimension::ALL {
                assert!(event.value(dimension).is_some(), "{dimension:?}");
                assert_eq!(event.value(dimension), dimension.of(&all));
            }
        }
        let without_ip = json.replace(r#""sending_ip":"192.0.2.1","#, "");
        let event = RatedEvent::read(without_ip.as_bytes()).unwrap();
        assert_eq!(event.value(Dimension::SendingIp), Some("broadcast"));
    }

    #[test]
    fn dedupe_may_have_written_automation_as_the_first_field() {
        let json = full();
        let automation = r#""automation":{"reason":"bot","confidence":0.5},"#;
        let without = json.replace(automation, "");
        let first = format!("{{{automation}{}", without.strip_prefix('{').unwrap());
        assert_ne!(first, json);
        let event = RatedEvent::read(first.as_bytes()).unwrap();
        assert_eq!(
            (&*event.source, event.value(Dimension::SendingIp)),
            ("acme", Some("192.0.2.1"))
        );
    }

    #[test]
    fn errors_name_the_missing_or_wrong_field() {
        let problem = |json: &str| {
            let error = RatedEvent::read(json.as_bytes()).err().unwrap();
            (error.is_data(), error.to_string())
        };
        let (is_data, text) = problem(r#"{"kind":"opened","provider":"ses","raw":1}"#);
        assert!(is_data && text.contains("missing field `source`"), "{text}");
        let (is_data, text) = problem(r#"{"provider":"sess"}"#);
        assert!(is_data && text.contains("unknown variant `sess`"), "{text}");
        let (is_data, text) = problem("[1]");
        assert!(is_data && text.contains("expected an event"), "{text}");
        for json in ["", "{", "nonsense", r#"{"kind":"opened""#] {
            assert!(!problem(json).0, "{json}");
        }
    }

    #[test]
    fn what_an_earlier_release_passed_on_counts_by_its_value_and_the_header_first() {
        let counts = |json: &str, first: Option<&[u8]>| {
            counts_of_earlier_release(json.as_bytes(), first).map(|counts| counts.to_string())
        };
        let by_machine = full();
        let clicked = by_machine.replace(r#""automation":{"reason":"bot","confidence":0.5},"#, "");
        assert_ne!(clicked, by_machine);
        for (first, expected) in [
            (&b"kind,engagement"[..], "clicked,engaged"),
            (b"kind", "clicked"),
            (b"engagement", "engaged"),
            (b"", ""),
        ] {
            assert_eq!(counts(&clicked, Some(first)).unwrap(), expected);
        }
        assert_eq!(counts(&by_machine, Some(b"")).unwrap(), "machine_clicked");
        assert!(counts(&clicked, Some(b"nonsense")).is_err());
        let bounced = clicked.replace("clicked", "bounced");
        let ignored = Some(&b"nonsense"[..]);
        assert_eq!(counts(&bounced, ignored).unwrap(), "late_bounces,unclassified");
        let unauthentic = bounced.replace(r#""tags""#, r#""authentic":false,"tags""#);
        assert_eq!(counts(&unauthentic, None).unwrap(), "");
    }
}
