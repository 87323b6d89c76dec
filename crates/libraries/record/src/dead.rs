use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names;

macro_rules! reasons {
    ($($(#[$doc:meta])+ $variant:ident => $code:literal),+ $(,)?) => {
        /// Why a record went to `mail.dead-letters`. Closed; the code is the header value, the
        /// metric label and the ClickHouse value.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// An event that does not say when it happened.
    MissingTime => "missing_time",
    /// An event whose time is in no form its provider uses.
    UnreadableTime => "unreadable_time",
    /// An event whose time cannot be: before 1970 or after 9999.
    TimeOutOfRange => "time_out_of_range",
    /// A record without the headers its topic requires.
    BadHeaders => "bad_headers",
    /// Kafka refused the record for its size.
    TooLarge => "too_large",
    /// ClickHouse refuses this one row.
    RowRefused => "row_refused",
    /// Not a letter: says that the letter in its `origin` was sent back on its way.
    Redriven => "redriven",
}

/// Who writes to `mail.dead-letters`: a binary, or a half of one. Closed; the code is the value of
/// the header `stage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// A body that cannot be split into events, whole.
    Ingress,
    /// A raw event that cannot be read.
    Enrich,
    /// A record of `mail.enriched` without the headers it needs.
    Dedupe,
    /// An event that cannot be counted.
    MonitorFold,
    /// A pane delta that cannot be added.
    MonitorRate,
    /// A record that cannot become a row.
    Archive,
    /// The operator's tool: its markers, see [`Reason::Redriven`].
    Redrive,
}

impl Stage {
    /// Every stage, in the order of an event's way.
    pub const ALL: [Self; 7] = [
        Self::Ingress,
        Self::Enrich,
        Self::Dedupe,
        Self::MonitorFold,
        Self::MonitorRate,
        Self::Archive,
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
            Self::Archive => "archive",
            Self::Redrive => "redrive",
        }
    }

    /// Reads a code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.code() == code)
    }
}

/// Where a record lies, written `topic/partition/offset`; names of topics have no slash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

impl<'a> Origin<'a> {
    /// Reads the header `origin`; `None` for anything else, such as the empty one of a letter that
    /// came from an HTTP request.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (rest, offset) = text.rsplit_once('/')?;
        let (topic, partition) = rest.rsplit_once('/')?;
        let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
        let is_one = !topic.is_empty() && partition >= 0 && offset >= 0;
        is_one.then_some(Self { topic, partition, offset })
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// What was said of a record when it died: the headers that a dead letter has beyond those of the
/// original record. Text as it is there, since a later release may know more codes; empty where a
/// header is missing or is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// Why; see [`Reason::from_code`].
    pub reason: &'a str,
    /// In words.
    pub detail: &'a str,
    /// The binary that gave up on it; see [`Stage::from_code`].
    pub stage: &'a str,
    /// Where it came from, see [`Origin::parse`]; empty when it came from an HTTP request.
    pub origin: &'a str,
}

impl<'a> DeadLetter<'a> {
    const HEADERS: [&'static str; 4] = [names::REASON, names::DETAIL, names::STAGE, names::ORIGIN];

    /// Reads them off all headers of a record of `mail.dead-letters`. The original record's come
    /// first, and may bear these names too: the last of each name counts.
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

    /// The headers the record had when it died, in their order.
    pub fn original_headers(headers: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
        let added = Self::HEADERS.map(|name| last_of(headers, name));
        let numbered = headers.iter().enumerate();
        numbered.filter(|(at, _)| !added.contains(&Some(*at))).map(|(_, header)| *header).collect()
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
        let origin = Origin { topic: "t.mail.raw.delivered", partition: 2, offset: 17 };
        assert_eq!(origin.to_string(), "t.mail.raw.delivered/2/17");
        assert_eq!(Origin::parse("t.mail.raw.delivered/2/17"), Some(origin));
        for text in ["", "mail.events", "mail.events/1", "/1/2", "mail.events/-1/2", "a/1/x"] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_said_last_counts_and_the_rest_is_the_original() {
        let before: [(&str, &[u8]); 3] =
            [("provider", b"generic"), ("reason", b"a header of theirs"), ("x", b"\xff")];
        let said: [(&str, &[u8]); 4] = [
            ("reason", b"not_json"),
            ("detail", b"no"),
            ("stage", b"enrich"),
            ("origin", b"t/0/1"),
        ];
        let all = [&before[..], &said[..]].concat();
        let letter = DeadLetter::read(&all);
        let expected =
            DeadLetter { reason: "not_json", detail: "no", stage: "enrich", origin: "t/0/1" };
        assert_eq!(letter, expected);
        assert_eq!(DeadLetter::original_headers(&all), before);
        assert_eq!(DeadLetter::original_headers(&before[..1]), before[..1]);
    }
}
