//! Why a request is not answered with what it asks for. Every problem has a stable code.

use http::StatusCode;

/// Why a request is refused or cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("there is no such resource; see docs/suppression.md")]
    NotFound,
    #[error("only {0} is allowed here")]
    WrongMethod(&'static str),
    #[error("send a token of suppress.tokens in the header Authorization: Bearer …")]
    NoToken,
    #[error("the token is wrong; use one of suppress.tokens")]
    WrongToken,
    #[error("only operators may change entries; use a token with the role operator")]
    OperatorsOnly,
    #[error("`{0}` is not an address; write it as ada@example.com, percent-encoded in a path")]
    NoAddress(String),
    #[error("{0}")]
    InvalidParameter(String),
    #[error(
        "no source has the list `{0}`, and it has no entry; write provider/source, tenant/name or global"
    )]
    UnknownList(String),
    #[error("the body is not valid: {0}")]
    InvalidBody(String),
    #[error("a request checks at most {0} addresses; send several requests")]
    TooManyAddresses(usize),
    #[error("the request is too large")]
    TooLarge,
    #[error("the request took too long")]
    TooSlow,
    #[error("the cursor is not one of this feed; begin again without `since`")]
    InvalidCursor,
    #[error(
        "the cursor is so old that lifts are gone; begin again without `since`, and forget what you have"
    )]
    CursorTooOld,
    #[error("too many clients read the feed; try again in a second")]
    Busy,
    #[error("the change cannot be recorded in the table audit, so nothing was changed: {0}")]
    AuditUnavailable(String),
    #[error("Kafka does not accept the change: {0}")]
    KafkaUnavailable(String),
    #[error("mail.suppressions cannot be read: {0}")]
    FeedUnavailable(String),
    #[error("the request cannot be answered: {0}")]
    Internal(String),
}

impl Problem {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::WrongMethod(_) => "method_not_allowed",
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::OperatorsOnly => "operators_only",
            Self::NoAddress(_) => "no_address",
            Self::InvalidParameter(_) => "invalid_parameter",
            Self::UnknownList(_) => "unknown_list",
            Self::InvalidBody(_) => "invalid_body",
            Self::TooManyAddresses(_) => "too_many_addresses",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::InvalidCursor => "invalid_cursor",
            Self::CursorTooOld => "cursor_too_old",
            Self::Busy => "busy",
            Self::AuditUnavailable(_) => "audit_unavailable",
            Self::KafkaUnavailable(_) => "kafka_unavailable",
            Self::FeedUnavailable(_) => "feed_unavailable",
            Self::Internal(_) => "internal",
        }
    }

    /// Returns the HTTP status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::OperatorsOnly => StatusCode::FORBIDDEN,
            Self::NoAddress(_)
            | Self::InvalidParameter(_)
            | Self::UnknownList(_)
            | Self::InvalidBody(_)
            | Self::InvalidCursor => StatusCode::BAD_REQUEST,
            Self::TooManyAddresses(_) | Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::CursorTooOld => StatusCode::GONE,
            Self::Busy
            | Self::AuditUnavailable(_)
            | Self::KafkaUnavailable(_)
            | Self::FeedUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
