use serde::{Deserialize, Serialize};

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
}

/// A dead letter as `archive` and the operator's tool read it: the original record and why it
/// could not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// Why.
    pub reason: Reason,
    /// In words.
    pub detail: &'a str,
    /// The binary that gave up on it.
    pub stage: &'a str,
    /// `topic/partition/offset` it came from; empty when it came from an HTTP request.
    pub origin: &'a str,
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
}
