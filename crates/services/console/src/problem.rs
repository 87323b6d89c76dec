//! Why a request is not answered with what it asks for. Every problem has a stable code.

use http::StatusCode;

use crate::store::StoreError;

/// Why a request is refused or cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("there is no such page")]
    NotFound,
    #[error("{0}")]
    NothingFound(String),
    #[error("only {0} is allowed here")]
    WrongMethod(&'static str),
    #[error("you are not logged in; send a token in the header Authorization, or log in at /login")]
    NotLoggedIn,
    #[error("the token is wrong; use one of console.tokens")]
    WrongToken,
    #[error("too many wrong tokens came from your network; try again in a minute")]
    TooManyAttempts,
    #[error("only investigators may see this; ask for a token with the role investigator")]
    InvestigatorsOnly,
    #[error("the proxy names no role that the console knows; it must be viewer or investigator")]
    NoRole,
    #[error("the header {0} occurs more than once; the proxy must remove the one of its client")]
    RepeatedHeader(String),
    #[error(
        "an open console answers only at localhost and 127.0.0.1; set console.tokens to use another name"
    )]
    WrongHost,
    #[error(
        "an open console answers no request with the header {0}, which a proxy has added; set console.tokens instead of \
         console.open"
    )]
    ThroughProxy(String),
    #[error("the form comes from another site")]
    OtherSite,
    #[error("{0}")]
    InvalidParameter(String),
    #[error("the request is too large")]
    TooLarge,
    #[error("the request took too long")]
    TooSlow,
    #[error("too many browsers receive live numbers; close one, or raise console.max_live")]
    TooManyLive,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the console cannot show this page: {0}")]
    Internal(String),
}

impl Problem {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NothingFound(_) => "nothing_found",
            Self::WrongMethod(_) => "method_not_allowed",
            Self::NotLoggedIn => "not_logged_in",
            Self::WrongToken => "wrong_token",
            Self::TooManyAttempts => "too_many_attempts",
            Self::InvestigatorsOnly => "investigators_only",
            Self::NoRole => "no_role",
            Self::RepeatedHeader(_) => "repeated_header",
            Self::WrongHost => "wrong_host",
            Self::ThroughProxy(_) => "through_proxy",
            Self::OtherSite => "other_site",
            Self::InvalidParameter(_) => "invalid_parameter",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::TooManyLive => "too_many_live",
            Self::Store(error) => error.code(),
            Self::Internal(_) => "internal",
        }
    }

    /// Returns the HTTP status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::NothingFound(_) => StatusCode::NOT_FOUND,
            Self::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotLoggedIn | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
            Self::InvestigatorsOnly
            | Self::NoRole
            | Self::RepeatedHeader(_)
            | Self::WrongHost
            | Self::ThroughProxy(_)
            | Self::OtherSite => StatusCode::FORBIDDEN,
            Self::InvalidParameter(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooManyLive | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Returns what the page of the problem is called.
    pub const fn title(&self) -> &'static str {
        match self {
            Self::NotFound | Self::NothingFound(_) => "Not found",
            Self::NotLoggedIn | Self::WrongToken | Self::TooManyAttempts => "Not logged in",
            Self::InvestigatorsOnly
            | Self::NoRole
            | Self::RepeatedHeader(_)
            | Self::WrongHost
            | Self::ThroughProxy(_)
            | Self::OtherSite => "Not allowed",
            Self::TooManyLive | Self::Store(_) => "Not available",
            _ => "Not possible",
        }
    }
}
