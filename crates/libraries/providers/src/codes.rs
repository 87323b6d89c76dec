/// A verified body that cannot be cut into events. It goes to the dead letters whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// The body is not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The body is not JSON.
    #[error("the body is not JSON (line {line}, column {column})")]
    NotJson {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where reading stopped, from 1; 0 before the first character of a line.
        column: usize,
    },
    /// The body is not the form the provider posts.
    #[error("the body is not the provider's form: {0}")]
    NotForm(&'static str),
    /// JSON, and not what the provider sends.
    #[error("the body is not what the provider sends: expected {0}")]
    WrongShape(&'static str),
}

impl SplitError {
    /// The stable name: dead-letter reason and metric label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson { .. } => "not_json",
            Self::NotForm(_) => "not_form",
            Self::WrongShape(_) => "wrong_shape",
        }
    }
}

/// A raw event that has no canonical form. It goes to the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The bytes are not UTF-8.
    #[error("the event is not UTF-8")]
    NotUtf8,
    /// The bytes are not JSON.
    #[error("the event is not JSON (line {line}, column {column})")]
    NotJson {
        /// Where reading stopped, from 1.
        line: usize,
        /// Where reading stopped, from 1; 0 before the first character of a line.
        column: usize,
    },
    /// JSON, and not an event of the provider.
    #[error("the event is not what the provider sends: expected {0}")]
    WrongShape(&'static str),
    /// The event does not say when it happened.
    #[error("the event has no time")]
    MissingTime,
    /// The event's time is not in a form that the provider uses.
    #[error("the event's time cannot be read")]
    UnreadableTime,
    /// The event's time is outside the years 1970 to 2199.
    #[error("the event's time is out of range")]
    TimeOutOfRange,
}

impl ParseError {
    /// The stable name: dead-letter reason and metric label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson { .. } => "not_json",
            Self::WrongShape(_) => "wrong_shape",
            Self::MissingTime => "missing_time",
            Self::UnreadableTime => "unreadable_time",
            Self::TimeOutOfRange => "time_out_of_range",
        }
    }

    /// From serde_json, whose own message may quote what a recipient wrote: only the place is kept.
    pub(crate) fn from_json(error: &serde_json::Error, expected: &'static str) -> Self {
        if error.is_data() {
            return Self::WrongShape(expected);
        }
        Self::NotJson { line: error.line(), column: error.column() }
    }
}
