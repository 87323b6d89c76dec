use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Offset, names};

macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident => $code:literal),+ $(,)?) => {
        /// Why a record became a dead letter. The code is the header value, the metric label and the
        /// ClickHouse value; `docs/reason-codes/` has a page for each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason { $($(#[$doc])+ #[serde(rename = $code)] $variant),+ }

        impl Reason {
            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// Reads a code.
            pub fn from_code(code: &str) -> Option<Self> {
                DEAD_LETTER_REASONS.iter().copied().find(|reason| reason.code() == code)
            }
        }

        /// Every reason.
        pub const DEAD_LETTER_REASONS: &[Reason] = &[$(Reason::$variant),+];
    };
}

reasons! {
    /// A verified body or event that is not UTF-8.
    NotUtf8 => "not_utf8",
    /// A verified body or event that is not JSON.
    NotJson => "not_json",
    /// A verified body that is not the form its provider posts.
    NotForm => "not_form",
    /// JSON, but not of the provider's shape.
    WrongShape => "wrong_shape",
    /// An event without a time.
    MissingTime => "missing_time",
    /// An event whose time is in no format that its provider uses.
    UnreadableTime => "unreadable_time",
    /// An event whose time is before 1970 or after 2199.
    TimeOutOfRange => "time_out_of_range",
    /// A body or event that only the settings of its source can explain, and they are not known.
    NoMapping => "no_mapping",
    /// A record without the headers that its topic requires.
    BadHeaders => "bad_headers",
    /// What the record becomes is larger than Kafka accepts.
    TooLarge => "too_large",
    /// ClickHouse rejects this one row.
    RowRefused => "row_refused",
    /// Kafka rejected the record for a reason other than its size.
    KafkaRefused => "kafka_refused",
    /// No attempt to deliver can succeed any more: the receiver rejected the message for good, or the
    /// time for attempts is over.
    Undeliverable => "undeliverable",
    /// Not a dead letter but a marker: the dead letter in its `origin` was redriven.
    Redriven => "redriven",
}

impl Reason {
    /// Returns why a value cannot be read as JSON of its type.
    pub fn of_json(error: &serde_json::Error) -> Self {
        if error.is_data() { Self::WrongShape } else { Self::NotJson }
    }
}

/// Every consumer that can give up on a record. The code is the value of the header `stage`, the
/// metric label `component`, and the stem of the consumer group and the transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Publishes raw events. Its dead letters are whole bodies that cannot be split.
    Ingress,
    /// Turns raw events into canonical events.
    Enrich,
    /// Drops duplicates.
    Dedupe,
    /// Adds events up by scope and pane.
    MonitorFold,
    /// Computes rates and judges rules.
    MonitorRate,
    /// Joins episodes into incidents.
    Incidents,
    /// Writes rows to ClickHouse.
    Archive,
    /// Delivers alerts.
    Notify,
    /// Decides who must not be mailed.
    Suppress,
    /// Sends events to other systems.
    Forward,
    /// Decides which rules want to act on an event.
    AutomateMatch,
    /// Decides whether the limits of rules allow it.
    AutomateLimit,
    /// Delivers the actions of rules.
    AutomateDeliver,
    /// The operator's tool, which writes the markers of [`Reason::Redriven`].
    Redrive,
}

impl Stage {
    /// Every stage, in the order in which an event passes them.
    pub const ALL: [Self; 14] = [
        Self::Ingress,
        Self::Enrich,
        Self::Dedupe,
        Self::MonitorFold,
        Self::MonitorRate,
        Self::Incidents,
        Self::Archive,
        Self::Notify,
        Self::Suppress,
        Self::Forward,
        Self::AutomateMatch,
        Self::AutomateLimit,
        Self::AutomateDeliver,
        Self::Redrive,
    ];

    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Enrich => "enrich",
            Self::Dedupe => "dedupe",
            Self::MonitorFold => "monitor-fold",
            Self::MonitorRate => "monitor-rate",
            Self::Incidents => "monitor-incidents",
            Self::Archive => "archive",
            Self::Notify => "notify",
            Self::Suppress => "suppress",
            Self::Forward => "forward",
            Self::AutomateMatch => "automate-match",
            Self::AutomateLimit => "automate-limit",
            Self::AutomateDeliver => "automate-deliver",
            Self::Redrive => "redrive",
        }
    }

    /// Reads a code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.code() == code)
    }
}

/// The position of a record in the cluster, written `topic/partition/offset`. Topic names contain no
/// slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: Offset,
}

impl<'a> Origin<'a> {
    /// Reads the header `origin`. Returns `None` for any other text, such as the empty origin of a
    /// dead letter that came from an HTTP request.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (rest, offset) = text.rsplit_once('/')?;
        let (topic, partition) = rest.rsplit_once('/')?;
        let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
        let is_valid = !topic.is_empty() && partition >= 0 && offset >= 0;
        is_valid.then_some(Self { topic, partition, offset: Offset(offset) })
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// What a stage adds to a record when it gives up on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// The stage that gives up.
    pub stage: Stage,
    /// Why.
    pub reason: Reason,
    /// An explanation for people.
    pub detail: &'a str,
    /// Where the record was read; `None` if it came from an HTTP request.
    pub origin: Option<Origin<'a>>,
}

impl<'a> DeadLetter<'a> {
    /// Returns the four headers, which follow those of the original record.
    pub fn headers(self) -> [(&'static str, Cow<'a, [u8]>); 4] {
        let origin = self.origin.map(|origin| origin.to_string()).unwrap_or_default();
        [
            (names::REASON, Cow::Borrowed(self.reason.code().as_bytes())),
            (names::DETAIL, Cow::Borrowed(self.detail.as_bytes())),
            (names::STAGE, Cow::Borrowed(self.stage.code().as_bytes())),
            (names::ORIGIN, Cow::Owned(origin.into_bytes())),
        ]
    }
}

/// The four headers of a dead letter as they are in the topic. They stay text, because a later
/// release may know more codes. A missing header, or one that is not UTF-8, reads as empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterHeaders<'a> {
    /// A code of [`Reason`].
    pub reason: &'a str,
    /// The explanation for people.
    pub detail: &'a str,
    /// A code of [`Stage`].
    pub stage: &'a str,
    /// An [`Origin`]; empty if the dead letter came from an HTTP request.
    pub origin: &'a str,
}

impl<'a> DeadLetterHeaders<'a> {
    const NAMES: [&'static str; 4] = [names::REASON, names::DETAIL, names::STAGE, names::ORIGIN];

    /// Returns the bytes that the value of the original record had, if the dead letter was cut to fit.
    pub fn original_length(headers: &[(&str, &[u8])]) -> Option<u64> {
        let at = Self::original_length_at(headers)?;
        std::str::from_utf8(headers[at].1).ok()?.parse().ok()
    }

    /// Returns whether the dead letter has only the beginning of the record's value or key.
    pub fn is_truncated(headers: &[(&str, &[u8])]) -> bool {
        let own = last_of(headers, names::ORIGIN).map_or(&headers[..0], |at| &headers[at..]);
        own.iter().any(|(name, _)| [names::TRUNCATED, names::TRUNCATED_KEY].contains(name))
    }

    /// The header follows those of the dead letter. A header of the same name before them is one of
    /// the original record.
    fn original_length_at(headers: &[(&str, &[u8])]) -> Option<usize> {
        let (at, last) = (last_of(headers, names::TRUNCATED)?, last_of(headers, names::ORIGIN)?);
        (at > last).then_some(at)
    }

    /// Reads them from all headers of a record of `mail.dead-letters`. The headers of the original
    /// record come first and may have the same names, so the last header of each name counts.
    pub fn read(headers: &[(&'a str, &'a [u8])]) -> Self {
        let text = |name| {
            let value = last_of(headers, name).map_or(&b""[..], |at| headers[at].1);
            std::str::from_utf8(value).unwrap_or_default()
        };
        Self {
            reason: text(names::REASON),
            detail: text(names::DETAIL),
            stage: text(names::STAGE),
            origin: text(names::ORIGIN),
        }
    }

    /// Returns the headers of the original record, in their order.
    pub fn original<'h>(headers: &[(&'h str, &'h [u8])]) -> Vec<(&'h str, &'h [u8])> {
        let added = Self::NAMES.map(|name| last_of(headers, name));
        let length = Self::original_length_at(headers);
        let is_added = |at| added.contains(&Some(at)) || length == Some(at);
        let numbered = headers.iter().enumerate();
        numbered.filter(|(at, _)| !is_added(*at)).map(|(_, header)| *header).collect()
    }
}

fn last_of(headers: &[(&str, &[u8])], name: &str) -> Option<usize> {
    headers.iter().rposition(|(key, _)| *key == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_are_the_json_values() {
        for &reason in DEAD_LETTER_REASONS {
            assert_eq!(Reason::from_code(reason.code()), Some(reason));
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.code()));
        }
        assert_eq!(Reason::from_code("bored"), None);
    }

    #[test]
    fn stages_round_trip() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_code(stage.code()), Some(stage));
        }
        assert_eq!(Stage::from_code("monitor"), None);
    }

    #[test]
    fn origins_round_trip() {
        let origin = Origin { topic: "t.mail.raw.delivered", partition: 2, offset: Offset(17) };
        assert_eq!(origin.to_string(), "t.mail.raw.delivered/2/17");
        assert_eq!(Origin::parse("t.mail.raw.delivered/2/17"), Some(origin));
        for text in ["", "mail.events", "mail.events/1", "/1/2", "mail.events/-1/2", "a/1/x"] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn written_headers_are_read_back() {
        let origin = Origin { topic: "t", partition: 0, offset: Offset(1) };
        let written = DeadLetter {
            stage: Stage::Enrich,
            reason: Reason::NotJson,
            detail: "no",
            origin: Some(origin),
        };
        let expected = DeadLetterHeaders {
            reason: "not_json",
            detail: "no",
            stage: "enrich",
            origin: "t/0/1",
        };
        let headers = written.headers();
        let headers = headers.each_ref().map(|(name, value)| (*name, &value[..]));
        assert_eq!(DeadLetterHeaders::read(&headers), expected);
        assert!(DeadLetterHeaders::original(&headers).is_empty());
    }

    #[test]
    fn the_last_header_of_each_name_counts_and_the_rest_is_the_original() {
        let before: [(&str, &[u8]); 3] =
            [("provider", b"generic"), ("reason", b"a header of theirs"), ("x", b"\xff")];
        let added: [(&str, &[u8]); 4] = [
            ("reason", b"not_json"),
            ("detail", b"no"),
            ("stage", b"enrich"),
            ("origin", b"t/0/1"),
        ];
        let all = [&before[..], &added[..]].concat();
        let read = DeadLetterHeaders::read(&all);
        let expected = DeadLetterHeaders {
            reason: "not_json",
            detail: "no",
            stage: "enrich",
            origin: "t/0/1",
        };
        assert_eq!(read, expected);
        assert_eq!(DeadLetterHeaders::original(&all), before);
        assert_eq!(DeadLetterHeaders::original(&before[..1]), before[..1]);
    }
}
