use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::str::FromStr;

use event::{
    Counter, CounterSet, DimensionDigests, DimensionSet, EventId, Kind, OccurredAt, Provider,
    ReceivedAt,
};
use serde::{Deserialize, Serialize};

use crate::ForDedupe;

/// Values of the header `content-type`: what the value of a record is, and the version of its schema. A reader that
/// knows a version can read every record with it; fields may be added within a version, and a change that a reader
/// must know about makes a new one. `schemas/` describes each. Raw records and changelogs have no such header: the
/// former are what the provider sent, the latter are private.
pub mod content_types {
    /// `mail.enriched` and `mail.events`.
    pub const EVENT: &str = "application/vnd.mailpulse.event.v1+json";
    /// `mail.rates`.
    pub const RATE: &str = "application/vnd.mailpulse.rate.v1+json";
    /// `mail.alerts`.
    pub const ALERT: &str = "application/vnd.mailpulse.alert.v1+json";
    /// `mail.incidents`.
    pub const INCIDENT: &str = "application/vnd.mailpulse.incident.v1+json";
    /// `mail.actions`.
    pub const ACTION: &str = "application/vnd.mailpulse.action.v1+json";
    /// `mail.suppressions`.
    pub const SUPPRESSION: &str = "application/vnd.mailpulse.suppression.v1+json";
    /// `mail.segments`.
    pub const SEGMENT: &str = "application/vnd.mailpulse.segment.v1+json";
}

/// Names of record headers.
pub mod names {
    /// One of [`super::content_types`]. Absent in records of earlier releases.
    pub const CONTENT_TYPE: &str = "content-type";
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
    /// A digest of message and recipient, 16 bytes. Earlier releases wrote it only on deliveries, opens
    /// and clicks.
    pub const ENGAGEMENT_ID: &str = "engagement-id";
    /// Present and empty on opens and clicks that a machine probably caused.
    pub const MACHINE: &str = "machine";
    /// A digest of the link, 4 bytes: enough to distinguish the links of one message. Only on clicks.
    pub const LINK: &str = "link";
    /// Present and empty on an event that only the shadow mode of its source admitted.
    pub const UNAUTHENTIC: &str = "unauthentic";
    /// Which recipients `enrich` has erased from events: the beginnings of their digests, combined by XOR (8 bytes). Stages
    /// that know the same recipients need not look for them. Absent if nobody was erased.
    pub const ERASED: &str = "erased";
    /// What only `dedupe` needs: [`super::ForDedupe`], 15 or 23 bytes.
    pub const FOR_DEDUPE: &str = "for-dedupe";
    /// What `dedupe` has found out about the event: `seen;sent;counts`, such as
    /// `1;1795255200000000;delivered,delivered_fbl`. See [`super::Tally`].
    pub const TALLY: &str = "tally";
    /// The send time, in records that an earlier release of `enrich` wrote; now in `for-dedupe`.
    pub const SENT_AT: &str = "sent-at";
    /// What the event would count for, as names, in records that an earlier release of `enrich` wrote; now
    /// in `for-dedupe`.
    pub const WOULD_COUNT: &str = "would-count";
    /// The digests of the dimensions, in records that an earlier release of `enrich` wrote; now in
    /// `for-dedupe`.
    pub const DIMENSION_DIGESTS: &str = "dimension-digests";
    /// [`super::Tally::seen`], in records that an earlier release of `dedupe` wrote; now in `tally`.
    pub const SEEN: &str = "seen";
    /// [`super::Tally::sent`], in records that an earlier release of `dedupe` wrote; now in `tally`.
    pub const SENT: &str = "sent";
    /// Present and empty on a bounce that happened after the delivery of its message.
    pub const LATE: &str = "late";
    /// [`super::Tally::counts`], in records that an earlier release of `dedupe` wrote; now in `tally`.
    pub const COUNTS: &str = "counts";
    /// What the event changes in the counts of earlier events; see [`super::Corrections`].
    pub const CORRECTIONS: &str = "corrections";
    /// What an open or click is the first of, for its message and recipient: `kind`, `engagement`, both
    /// as `kind,engagement`, or empty for neither.
    pub const FIRST: &str = "first";
    /// Present and empty on an event that is older than dedupe remembers, so that it may be a duplicate.
    pub const UNJUDGED: &str = "unjudged";
    /// On a [time record](super::TimeRecord): UTC microseconds in decimal.
    pub const TIME: &str = "time";
    /// On a time record of an ingress: the id of the process, which it chooses when it starts.
    pub const TIME_ID: &str = "time-id";
    /// Present and empty on the last time record of an ingress that stops, so that no stage waits for
    /// the next one.
    pub const TIME_END: &str = "time-end";
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
    /// False if the request failed verification and only the shadow mode of its source admitted it.
    #[serde(default = "authentic", skip_serializing_if = "is_true")]
    pub authentic: bool,
}

const fn authentic() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde requires this signature")]
const fn is_true(value: &bool) -> bool {
    *value
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
            authentic: headers(names::UNAUTHENTIC).is_none(),
        })
    }

    /// Returns the headers as names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, Cow<'a, [u8]>)> + use<'a> {
        let received_at = self.received_at.micros().to_string();
        let unauthentic = (names::UNAUTHENTIC, Cow::Borrowed(&b""[..]));
        let always = [
            (names::PROVIDER, Cow::Borrowed(self.provider.as_str().as_bytes())),
            (names::SOURCE, Cow::Borrowed(self.source.as_bytes())),
            (names::RECEIVED_AT, Cow::Owned(received_at.into_bytes())),
            (names::REQUEST_ID, Cow::Borrowed(self.request_id.as_bytes())),
        ];
        always.into_iter().chain((!self.authentic).then_some(unauthentic))
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
    /// When the ingress received it; `occurred_at` if the header is missing.
    pub received_at: ReceivedAt,
    /// True if `occurred_at` is the time of receipt, so that a duplicate of the event may have another.
    pub is_undated: bool,
    /// The digest of message and recipient.
    pub engagement_id: Option<EventId>,
    /// When the provider began to send the message.
    pub sent_at: Option<OccurredAt>,
    /// What the event counts for if it is the first of its kind. `None` if an earlier release enriched
    /// the event; then its value tells.
    pub would_count: Option<CounterSet>,
    /// Absent values if an earlier release enriched the event.
    pub digests: DimensionDigests,
    /// Whether the request passed verification.
    pub authentic: bool,
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
        let occurred_at = OccurredAt(number_header(headers, names::OCCURRED_AT)?);
        let ForDedupe { would_count, digests, sent_at } = match headers(names::FOR_DEDUPE) {
            Some(value) => ForDedupe::read(value)?,
            None => for_dedupe_of_earlier_release(headers)?,
        };
        Ok(Self {
            event_id: id(names::EVENT_ID)?.ok_or(HeaderError(names::EVENT_ID))?,
            kind: text_header(headers, names::KIND)?
                .parse()
                .map_err(|_| HeaderError(names::KIND))?,
            occurred_at,
            received_at: time(headers, names::RECEIVED_AT)?
                .map_or(ReceivedAt(occurred_at.micros()), |time| ReceivedAt(time.micros())),
            is_undated: headers(names::TIME_FAULT).is_some(),
            engagement_id: id(names::ENGAGEMENT_ID)?,
            sent_at,
            would_count,
            digests,
            authentic: headers(names::UNAUTHENTIC).is_none(),
            machine: headers(names::MACHINE).is_some(),
            link: headers(names::LINK).map(link).transpose()?,
        })
    }
}

/// Reads the headers that an earlier release of `enrich` wrote instead of `for-dedupe`.
fn for_dedupe_of_earlier_release<'a>(
    headers: &impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<ForDedupe, HeaderError> {
    let digests = match headers(names::DIMENSION_DIGESTS) {
        Some(bytes) => {
            DimensionDigests::from_bytes(bytes).ok_or(HeaderError(names::DIMENSION_DIGESTS))?
        }
        None => DimensionDigests::default(),
    };
    let would_count = counters(headers, names::WOULD_COUNT)?;
    Ok(ForDedupe { would_count, digests, sent_at: time(headers, names::SENT_AT)? })
}

/// Reads an optional header with a time.
fn time<'a>(
    headers: &impl Fn(&str) -> Option<&'a [u8]>,
    name: &'static str,
) -> Result<Option<OccurredAt>, HeaderError> {
    headers(name).map(|_| number_header(headers, name).map(OccurredAt)).transpose()
}

/// Reads an optional header with names of counters.
fn counters<'a>(
    headers: &impl Fn(&str) -> Option<&'a [u8]>,
    name: &'static str,
) -> Result<Option<CounterSet>, HeaderError> {
    let read = |_| CounterSet::from_names(text_header(headers, name)?).ok_or(HeaderError(name));
    headers(name).map(read).transpose()
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

/// What `dedupe` has found out about an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// The number of the event among those of its kind, message and recipient; 1 is the first. Opens and
    /// clicks by people and by machines are numbered separately. `None` if the event names no message,
    /// or if nothing is remembered about it.
    pub seen: Option<u16>,
    /// When the message was sent, as far as `dedupe` knows. The same on all events of a message and
    /// recipient.
    pub sent: Option<OccurredAt>,
    /// What the event counts for. `None` if a release of `dedupe` that did not decide this passed the event
    /// on.
    pub counts: Option<CounterSet>,
    /// What it changes in the counts of earlier events.
    pub corrections: Option<Corrections>,
}

impl Tally {
    /// Reads the headers through a look-up by name.
    ///
    /// # Errors
    /// Names the header that is malformed.
    pub fn read<'a>(headers: &impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, HeaderError> {
        let corrections = match headers(names::CORRECTIONS) {
            Some(_) => Some(text_header(headers, names::CORRECTIONS)?.parse()?),
            None => None,
        };
        if let Some(value) = headers(names::TALLY) {
            let parsed = std::str::from_utf8(value).ok().and_then(Self::parse);
            return parsed
                .map(|tally| Self { corrections, ..tally })
                .ok_or(HeaderError(names::TALLY));
        }
        let seen = match headers(names::SEEN) {
            Some(_) => Some(
                text_header(headers, names::SEEN)?.parse().map_err(|_| HeaderError(names::SEEN))?,
            ),
            None => None,
        };
        let sent = time(headers, names::SENT)?;
        Ok(Self { seen, sent, counts: counters(headers, names::COUNTS)?, corrections })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(';');
        let (seen, sent, counts) = (fields.next()?, fields.next()?, fields.next()?);
        let is_complete = fields.next().is_none();
        let seen = if seen.is_empty() { None } else { Some(seen.parse().ok()?) };
        let sent = if sent.is_empty() { None } else { Some(OccurredAt(sent.parse().ok()?)) };
        let counts = Some(CounterSet::from_names(counts)?);
        is_complete.then_some(Self { seen, sent, counts, corrections: None })
    }

    /// Writes the value of the header `tally` to `out`: everything but the corrections.
    pub fn write(
        seen: Option<u16>,
        sent: Option<OccurredAt>,
        counts: CounterSet,
        out: &mut Vec<u8>,
    ) {
        let mut digits = itoa::Buffer::new();
        if let Some(seen) = seen {
            out.extend_from_slice(digits.format(seen).as_bytes());
        }
        out.push(b';');
        if let Some(sent) = sent {
            out.extend_from_slice(digits.format(sent.micros()).as_bytes());
        }
        out.push(b';');
        // Writing to memory does not fail.
        let _ = write!(out, "{counts}");
    }
}

/// What an event changes in the counts of earlier events of the same message and recipient. For
/// example, a delivery after a soft bounce makes the bounce a deferral.
///
/// The header's value is `dimensions:changes`, such as
/// `mailbox_provider,campaign:-bounced_soft@1795255200000000,+deferred@1795255200000000`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrections {
    /// The dimensions in which all earlier events of the message had the same value as this event. The
    /// changes apply to scopes of these dimensions only, and to the source.
    pub dimensions: DimensionSet,
    pub changes: Vec<Correction>,
}

/// One change of an earlier count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Correction {
    pub counter: Counter,
    /// The time at which the earlier event counts, UTC microseconds.
    pub at: OccurredAt,
    /// True if the message counts there from now on, false if it no longer does.
    pub adds: bool,
}

impl fmt::Display for Corrections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.dimensions)?;
        for (number, Correction { counter, at, adds }) in self.changes.iter().enumerate() {
            let (comma, sign) = (if number > 0 { "," } else { "" }, if *adds { '+' } else { '-' });
            write!(f, "{comma}{sign}{}@{}", counter.as_str(), at.micros())?;
        }
        Ok(())
    }
}

impl FromStr for Corrections {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let read = || {
            let (dimensions, changes) = text.split_once(':')?;
            let changes = changes.split(',').filter(|change| !change.is_empty());
            Some(Self {
                dimensions: DimensionSet::from_names(dimensions)?,
                changes: changes.map(Correction::from_text).collect::<Option<_>>()?,
            })
        };
        read().ok_or(HeaderError(names::CORRECTIONS))
    }
}

impl Correction {
    fn from_text(text: &str) -> Option<Self> {
        let adds = text.starts_with('+');
        let (counter, at) = text.strip_prefix(['+', '-'])?.split_once('@')?;
        let at = OccurredAt(at.parse().ok()?);
        Some(Self { counter: Counter::from_name(counter)?, at, adds })
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
    fn a_tally_is_read_as_it_was_written() {
        let counts = CounterSet::from_names("delivered,delivered_fbl").unwrap_or_default();
        for seen in [None, Some(1), Some(u16::MAX)] {
            for sent in [None, Some(OccurredAt(-5)), Some(OccurredAt(1_795_255_200_000_000))] {
                for counts in [counts, CounterSet::EMPTY] {
                    let mut value = Vec::new();
                    Tally::write(seen, sent, counts, &mut value);
                    let lookup = |name: &str| (name == names::TALLY).then_some(value.as_slice());
                    let tally = Tally { seen, sent, counts: Some(counts), corrections: None };
                    assert_eq!(Tally::read(&lookup), Ok(tally));
                }
            }
        }
        for wrong in [&b""[..], b";", b";;;", b"x;;", b";x;", b";;x", b"70000;;", b";;\xff"] {
            let lookup = |name: &str| (name == names::TALLY).then_some(wrong);
            assert_eq!(Tally::read(&lookup), Err(HeaderError(names::TALLY)), "{wrong:?}");
        }
    }

    #[test]
    fn the_headers_of_earlier_releases_are_read() {
        let lookup = |name: &str| -> Option<&'static [u8]> {
            match name {
                names::SEEN => Some(b"3".as_slice()),
                names::SENT => Some(b"-5"),
                names::COUNTS => Some(b"opened,engaged"),
                names::EVENT_ID => Some(&[7; 16]),
                names::KIND => Some(b"opened"),
                names::OCCURRED_AT => Some(b"5"),
                names::SENT_AT => Some(b"4"),
                names::WOULD_COUNT => Some(b"opened"),
                names::DIMENSION_DIGESTS => Some(b"0123456789"),
                _ => None,
            }
        };
        let tally = Tally::read(&lookup).unwrap();
        assert_eq!((tally.seen, tally.sent), (Some(3), Some(OccurredAt(-5))));
        assert_eq!(tally.counts, CounterSet::from_names("opened,engaged"));
        let enriched = EnrichedHeaders::read(&lookup).unwrap();
        assert_eq!(enriched.sent_at, Some(OccurredAt(4)));
        assert_eq!(enriched.would_count, CounterSet::from_names("opened"));
        assert_eq!(enriched.digests.to_bytes(), *b"0123456789");
    }

    #[test]
    fn corrections_round_trip() {
        let text = "mailbox_provider,campaign:-bounced_soft@1795255200000000,+deferred@-5";
        let corrections: Corrections = text.parse().unwrap();
        assert_eq!(corrections.to_string(), text);
        let expected = [
            Correction {
                counter: Counter::BouncedSoft,
                at: OccurredAt(1_795_255_200_000_000),
                adds: false,
            },
            Correction { counter: Counter::Deferred, at: OccurredAt(-5), adds: true },
        ];
        assert_eq!(corrections.changes, expected);
        assert!(corrections.dimensions.contains(event::Dimension::Campaign));
        assert!(":".parse::<Corrections>().unwrap().changes.is_empty());
        for wrong in ["", "x:", ":bounced_soft@1", ":-bounce@1", ":-bounced_soft", ":+dropped@x"] {
            assert_eq!(
                wrong.parse::<Corrections>(),
                Err(HeaderError(names::CORRECTIONS)),
                "{wrong}"
            );
        }
    }

    #[test]
    fn raw_headers_are_read_as_they_were_written() {
        let headers = RawHeaders {
            provider: Provider::Mailgun,
            source: "shop",
            received_at: ReceivedAt(1_795_255_200_123_456),
            request_id: "r1",
            authentic: false,
        };
        let written: Vec<_> = headers.headers().collect();
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
