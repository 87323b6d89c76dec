/// Why a verified body cannot be split into events. The whole body becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    #[error("the body is not UTF-8")]
    NotUtf8,
    #[error("the body is not JSON (line {line}, column {column})")]
    NotJson {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where reading stopped, from 1; 0 before the first character of a line.
        column: usize,
    },
    /// The body is not the form that the provider posts.
    #[error("the body is not the provider's form: {0}")]
    NotForm(&'static str),
    /// The body is JSON and not what the provider sends.
    #[error("the body is not what the provider sends: expected {0}")]
    WrongShape(&'static str),
    /// Only the settings of the source say where its events are, and they are not known here.
    #[error("{}", NO_MAPPING)]
    NoMapping,
}

const NO_MAPPING: &str = "the source has no mapping in the settings; restore its [[source]] with \
                          `events`, `fields` and `kinds`, then redrive";

impl SplitError {
    /// The stable name in dead letters and metric labels.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson { .. } => "not_json",
            Self::NotForm(_) => "not_form",
            Self::WrongShape(_) => "wrong_shape",
            Self::NoMapping => "no_mapping",
        }
    }
}

/// Why a raw event has no canonical form. It becomes a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("the event is not UTF-8")]
    NotUtf8,
    #[error("the event is not JSON (line {line}, column {column})")]
    NotJson {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where reading stopped, from 1; 0 before the first character of a line.
        column: usize,
    },
    /// The event is JSON and not what the provider sends.
    #[error("the event is not what the provider sends: expected {0}")]
    WrongShape(&'static str),
    #[error("the event has no time")]
    MissingTime,
    /// The event's time is in a form that the provider does not use.
    #[error("the event's time cannot be read")]
    UnreadableTime,
    /// The event's time is outside the years 1970 to 2199.
    #[error("the event's time is out of range")]
    TimeOutOfRange,
    /// Only the settings of the source say where the fields are, and they are not known here.
    #[error("{}", NO_MAPPING)]
    NoMapping,
}

impl ParseError {
    /// The stable name in dead letters and metric labels.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson { .. } => "not_json",
            Self::WrongShape(_) => "wrong_shape",
            Self::MissingTime => "missing_time",
            Self::UnreadableTime => "unreadable_time",
            Self::TimeOutOfRange => "time_out_of_range",
            Self::NoMapping => "no_mapping",
        }
    }

    /// Keeps only the position of a serde_json error: its message may quote personal data.
    pub(crate) fn from_json(error: &serde_json::Error, expected: &'static str) -> Self {
        if error.is_data() {
            return Self::WrongShape(expected);
        }
        Self::NotJson { line: error.line(), column: error.column() }
    }
}
