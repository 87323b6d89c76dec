use std::borrow::Cow;

use event::{EventId, Kind, OccurredAt, Provider, ReceivedAt};
use serde::{Deserialize, Serialize};

/// Names of record headers.
pub mod names {
    /// The provider's name in lower case.
    pub const PROVIDER: &str = "provider";
    /// The configured source.
    pub const SOURCE: &str = "source";
    /// When the ingress received the request: UTC microseconds in decimal.
    pub const RECEIVED_AT: &str = "received-at";
    /// The id of the HTTP request that contained the event.
    pub const REQUEST_ID: &str = "request-id";
    /// Present and empty on a raw event that can be read only with the mapping of its source.
    pub const MAPPED: &str = "mapped";
    /// The event id, 16 bytes.
    pub const EVENT_ID: &str = "event-id";
    /// When the event happened, by the provider's clock: UTC microseconds in decimal.
    pub const OCCURRED_AT: &str = "occurred-at";
    /// Why the event has no time of its provider, so that `occurred-at` is the time of receipt: a name
    /// of [`event::TimeFault`]. Absent on all other events.
    pub const TIME_FAULT: &str = "time-fault";
    /// The kind's name in lower case.
    pub const KIND: &str = "kind";
    /// A digest of message and recipient, 16 bytes. Only on deliveries, opens and clicks.
    pub const ENGAGEMENT_ID: &str = "engagement-id";
    /// Present and empty on opens and clicks that a machine probably caused.
    pub const MACHINE: &str = "machine";
    /// A digest of the link, 4 bytes: enough to distinguish the links of one message. Only on clicks.
    pub const LINK: &str = "link";
    /// What an open or click is the first of, for its message and recipient: `kind`, `engagement`, both
    /// as `kind,engagement`, or empty for neither.
    pub const FIRST: &str = "first";
    /// Present and empty on an event that is older than dedupe remembers, so that it may be a duplicate.
    pub const UNJUDGED: &str = "unjudged";
    /// The reason code of a dead letter.
    pub const REASON: &str = "reason";
    /// The explanation of a dead letter for people.
    pub const DETAIL: &str = "detail";
    /// The stage that gave up on a record.
    pub const STAGE: &str = "stage";
    /// Where a dead letter came from, as `topic/partition/offset`.
    pub const ORIGIN: &str = "origin";
    /// On a redriven record: the only stage that should process it. Other readers of the topic have
    /// already processed the original record. Always the last header.
    pub const REDRIVEN: &str = "redriven";
    /// On a dead letter whose value is longer than Kafka accepts, so that it has only the beginning:
    /// the original length in bytes, in decimal.
    pub const TRUNCATED: &str = "truncated";
    /// As `truncated`, about the key of the original record.
    pub const TRUNCATED_KEY: &str = "truncated-key";
}

/// A header is missing or malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("header `{0}` is missing or malformed")]
pub struct HeaderError(pub &'static str);

/// Reads a header as UTF-8 text.
pub fn text_header<'a>(
    headers: &impl Fn(&str) -> Option<&'a [u8]>,
    name: &'static str,
) -> Result<&'a str, HeaderError> {
    headers(name).and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(HeaderError(name))
}

fn number_header<'a>(
    headers: &impl Fn(&str) -> Option<&'a [u8]>,
    name: &'static str,
) -> Result<i64, HeaderError> {
    text_header(headers, name)?.parse().map_err(|_| HeaderError(name))
}

/// The headers of `mail.raw.*`. Their JSON form is part of the format of spool entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawHeaders<'a> {
    pub provider: Provider,
    /// The configured source.
    pub source: &'a str,
    /// When the ingress received the request.
    pub received_at: ReceivedAt,
    /// The id of the HTTP request.
    pub request_id: &'a str,
}

impl<'a> RawHeaders<'a> {
    /// Reads the headers through a look-up by name.
    ///
    /// # Errors
    /// Names the header that is missing or malformed.
    pub fn read(headers: &impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, HeaderError> {
        Ok(Self {
            provider: text_header(headers, names::PROVIDER)?
                .parse()
                .map_err(|_| HeaderError(names::PROVIDER))?,
            source: text_header(headers, names::SOURCE)?,
            received_at: ReceivedAt(number_header(headers, names::RECEIVED_AT)?),
            request_id: text_header(headers, names::REQUEST_ID)?,
        })
    }

    /// Returns the headers as names and values.
    pub fn headers(&self) -> [(&'static str, Cow<'a, [u8]>); 4] {
        let received_at = self.received_at.micros().to_string();
        [
            (names::PROVIDER, Cow::Borrowed(self.provider.as_str().as_bytes())),
            (names::SOURCE, Cow::Borrowed(self.source.as_bytes())),
            (names::RECEIVED_AT, Cow::Owned(received_at.into_bytes())),
            (names::REQUEST_ID, Cow::Borrowed(self.request_id.as_bytes())),
        ]
    }
}

/// The headers of `mail.enriched`. They contain everything that dedupe needs, so that it parses no
/// value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrichedHeaders {
    pub event_id: EventId,
    pub kind: Kind,
    /// When the event happened.
    pub occurred_at: OccurredAt,
    /// True if that is the time of receipt, so that a duplicate of the event may have another.
    pub is_undated: bool,
    /// The digest of message and recipient, for deliveries, opens and clicks.
    pub engagement_id: Option<EventId>,
    /// Whether a machine probably caused the open or click.
    pub machine: bool,
    /// The digest of the link, for clicks.
    pub link: Option<u32>,
}

impl EnrichedHeaders {
    /// Reads the headers through a look-up by name.
    ///
    /// # Errors
    /// Names the header that is missing or malformed.
    pub fn read<'a>(headers: &impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, HeaderError> {
        let id = |name| {
            headers(name)
                .map(|bytes| EventId::from_bytes(bytes).ok_or(HeaderError(name)))
                .transpose()
        };
        Ok(Self {
            event_id: id(names::EVENT_ID)?.ok_or(HeaderError(names::EVENT_ID))?,
            kind: text_header(headers, names::KIND)?
                .parse()
                .map_err(|_| HeaderError(names::KIND))?,
            occurred_at: OccurredAt(number_header(headers, names::OCCURRED_AT)?),
            is_undated: headers(names::TIME_FAULT).is_some(),
            engagement_id: id(names::ENGAGEMENT_ID)?,
            machine: headers(names::MACHINE).is_some(),
            link: headers(names::LINK).map(link).transpose()?,
        })
    }
}

fn link(bytes: &[u8]) -> Result<u32, HeaderError> {
    bytes.try_into().map(u32::from_be_bytes).map_err(|_| HeaderError(names::LINK))
}

/// What an open or click is the first of, for its message and recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FirstSeen {
    /// It is the first of its kind.
    pub of_kind: bool,
    /// It is the first engagement of any kind.
    pub of_engagement: bool,
}

impl FirstSeen {
    /// Returns the header's value.
    pub const fn as_header(self) -> &'static str {
        match (self.of_kind, self.of_engagement) {
            (true, true) => "kind,engagement",
            (true, false) => "kind",
            (false, true) => "engagement",
            (false, false) => "",
        }
    }

    /// Reads the header's value.
    pub fn from_header(value: &[u8]) -> Result<Self, HeaderError> {
        let (of_kind, of_engagement) = match value {
            b"kind,engagement" => (true, true),
            b"kind" => (true, false),
            b"engagement" => (false, true),
            b"" => (false, false),
            _ => return Err(HeaderError(names::FIRST)),
        };
        Ok(Self { of_kind, of_engagement })
    }
}

/// The headers of `mail.events`: those of `mail.enriched`, and the one that dedupe adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHeaders {
    /// The headers of `mail.enriched`.
    pub enriched: EnrichedHeaders,
    /// What an open or click is the first of. For other kinds both fields are false.
    pub first: FirstSeen,
}

impl EventHeaders {
    /// Reads the headers through a look-up by name.
    ///
    /// # Errors
    /// Names the header that is missing or malformed.
    pub fn read<'a>(headers: &impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, HeaderError> {
        Ok(Self {
            enriched: EnrichedHeaders::read(headers)?,
            first: headers(names::FIRST)
                .map_or(Ok(FirstSeen::default()), FirstSeen::from_header)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_seen_round_trips() {
        for of_kind in [false, true] {
            for of_engagement in [false, true] {
                let first = FirstSeen { of_kind, of_engagement };
                assert_eq!(FirstSeen::from_header(first.as_header().as_bytes()), Ok(first));
            }
        }
        assert!(FirstSeen::from_header(b"yes").is_err());
    }

    #[test]
    fn raw_headers_are_read_as_they_were_written() {
        let headers = RawHeaders {
            provider: Provider::Mailgun,
            source: "shop",
            received_at: ReceivedAt(1_795_255_200_123_456),
            request_id: "r1",
        };
        let written = headers.headers();
        let lookup =
            |name: &str| written.iter().find(|(key, _)| *key == name).map(|(_, value)| &value[..]);
        assert_eq!(RawHeaders::read(&lookup), Ok(headers));
    }

    #[test]
    fn a_missing_header_is_named() {
        let lookup = |name: &str| match name {
            names::PROVIDER => Some(&b"sendgrid"[..]),
            names::SOURCE => Some(&b"acme"[..]),
            names::RECEIVED_AT => Some(&b"1700000000000000"[..]),
            _ => None,
        };
        assert_eq!(RawHeaders::read(&lookup), Err(HeaderError(names::REQUEST_ID)));
    }

    #[test]
    fn the_headers_of_a_click_are_read() {
        let read = |link: &'static [u8], machine: bool| {
            EnrichedHeaders::read(&|name: &str| match name {
                names::EVENT_ID => Some(&[7; 16][..]),
                names::KIND => Some(b"clicked"),
                names::OCCURRED_AT => Some(b"5"),
                names::LINK => Some(link),
                names::MACHINE => machine.then_some(&b""[..]),
                _ => None,
            })
        };
        let click = read(&[0, 0, 1, 2], true).unwrap();
        assert_eq!((click.link, click.machine, click.engagement_id), (Some(0x102), true, None));
        assert!(!read(&[0; 4], false).unwrap().machine);
        assert_eq!(read(&[0; 3], false), Err(HeaderError(names::LINK)));
    }
}
