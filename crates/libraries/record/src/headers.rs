use event::{EventId, Kind, OccurredAt, Provider, ReceivedAt};

/// Names of record headers.
pub mod names {
    /// The provider's lower-case name.
    pub const PROVIDER: &str = "provider";
    /// The configured source.
    pub const SOURCE: &str = "source";
    /// When the ingress had read the request: decimal UTC microseconds.
    pub const RECEIVED_AT: &str = "received-at";
    /// The HTTP request an event came in.
    pub const REQUEST_ID: &str = "request-id";
    /// 16 bytes: the event's identity.
    pub const EVENT_ID: &str = "event-id";
    /// The provider's time: decimal UTC microseconds.
    pub const OCCURRED_AT: &str = "occurred-at";
    /// The kind's lower-case name.
    pub const KIND: &str = "kind";
    /// 16 bytes: the identity of "this message at this recipient"; deliveries, opens and clicks only.
    pub const ENGAGEMENT_ID: &str = "engagement-id";
    /// There, and empty, on opens and clicks that are held to be a machine's.
    pub const MACHINE: &str = "machine";
    /// 4 bytes: which link was followed, as a digest that tells a message's links apart; clicks only.
    pub const LINK: &str = "link";
    /// What is the first of its sort for its message and recipient: `kind`, `engagement`, or both
    /// as `kind,engagement`; empty for neither. Opens and clicks only.
    pub const FIRST: &str = "first";
    /// A dead letter's coded reason.
    pub const REASON: &str = "reason";
    /// A dead letter's reason in words.
    pub const DETAIL: &str = "detail";
    /// The binary that gave up on it.
    pub const STAGE: &str = "stage";
    /// The topic, partition and offset a dead letter came from, as `topic/partition/offset`.
    pub const ORIGIN: &str = "origin";
    /// On a record that was sent back: the stage whose dead letter it was. All other readers of its
    /// topic took it when it first came by, and pass over it. The last of the record's headers.
    pub const REDRIVEN: &str = "redriven";
}

/// A header is missing or not in its form.
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

/// The headers of `mail.raw.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawHeaders<'a> {
    /// Who posted it.
    pub provider: Provider,
    /// Under which configured source.
    pub source: &'a str,
    /// When.
    pub received_at: ReceivedAt,
    /// In which request.
    pub request_id: &'a str,
}

impl<'a> RawHeaders<'a> {
    /// Reads them through a look-up by name.
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
}

/// The headers of `mail.enriched`: all that `dedupe` needs, so it never parses a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrichedHeaders {
    /// Which event.
    pub event_id: EventId,
    /// What kind.
    pub kind: Kind,
    /// When it happened.
    pub occurred_at: OccurredAt,
    /// Which message at which recipient, for deliveries, opens and clicks.
    pub engagement_id: Option<EventId>,
    /// Whether an open or click is held to be a machine's.
    pub machine: bool,
    /// Which link a click followed.
    pub link: Option<u32>,
}

impl EnrichedHeaders {
    /// Reads them through a look-up by name.
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
pub struct FirstSight {
    /// The first of this kind.
    pub of_kind: bool,
    /// The first engagement of any kind.
    pub of_engagement: bool,
}

impl FirstSight {
    /// The header's value.
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

/// The headers of `mail.events`: those of `mail.enriched` and what `dedupe` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventHeaders {
    /// As in `mail.enriched`.
    pub enriched: EnrichedHeaders,
    /// Opens and clicks only; nothing for the other kinds.
    pub first: FirstSight,
}

impl EventHeaders {
    /// Reads them through a look-up by name.
    pub fn read<'a>(headers: &impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, HeaderError> {
        Ok(Self {
            enriched: EnrichedHeaders::read(headers)?,
            first: headers(names::FIRST)
                .map_or(Ok(FirstSight::default()), FirstSight::from_header)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_sight_round_trips() {
        for of_kind in [false, true] {
            for of_engagement in [false, true] {
                let first = FirstSight { of_kind, of_engagement };
                assert_eq!(FirstSight::from_header(first.as_header().as_bytes()), Ok(first));
            }
        }
        assert!(FirstSight::from_header(b"yes").is_err());
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
    fn what_a_click_says_of_itself_is_read() {
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
