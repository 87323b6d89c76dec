//! ClickHouse's own errors, as they travel over HTTP.

use http::StatusCode;
use std::io;

/// An error in ClickHouse's vocabulary: a numeric code (`system.errors`) and a message.
///
/// The codes are the engine's, an open set, so this is a struct and not an enum; the codes this
/// server raises itself are the constants in [`code`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(super) struct Exception {
    code: u32,
    message: String,
}

/// Codes this server raises itself (names as `errorCodeToName` gives them).
pub(super) mod code {
    pub const CANNOT_READ_ALL_DATA: u32 = 33;
    pub const BAD_ARGUMENTS: u32 = 36;
    pub const TOO_LARGE_SIZE_COMPRESSED: u32 = 39;
    pub const CHECKSUM_DOESNT_MATCH: u32 = 40;
    pub const NOT_IMPLEMENTED: u32 = 48;
    pub const SYNTAX_ERROR: u32 = 62;
    pub const UNKNOWN_COMPRESSION_METHOD: u32 = 89;
    pub const UNKNOWN_SETTING: u32 = 115;
    pub const INCORRECT_DATA: u32 = 117;
    pub const NETWORK_ERROR: u32 = 210;
    pub const QUERY_IS_TOO_LARGE: u32 = 229;
    pub const CANNOT_DECOMPRESS: u32 = 271;
    pub const STD_EXCEPTION: u32 = 1001;
}

impl Exception {
    /// An error raised by this server rather than by the engine.
    pub fn new(code: u32, message: impl std::fmt::Display) -> Self {
        Self { code, message: format!("Code: {code}. DB::Exception: {message}") }
    }

    /// An error text of the engine, `Code: N. DB::Exception: …`. Texts of another shape come from
    /// the C layer around the engine and carry no code of their own.
    pub fn from_engine(text: &str) -> Self {
        let code = text
            .strip_prefix("Code: ")
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(code, _)| code.parse().ok());
        match code {
            Some(code) => Self { code, message: text.to_owned() },
            None => Self::new(code::STD_EXCEPTION, text),
        }
    }

    /// The numeric code, for `X-ClickHouse-Exception-Code`.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// The text a client sees: the message and the server's version, as ClickHouse ends it.
    pub fn text(&self, version: &str) -> String {
        if self.message.contains("(version ") {
            format!("{}\n", self.message)
        } else {
            format!("{} (version {version})\n", self.message)
        }
    }

    /// The HTTP status ClickHouse gives a code (its `exceptionCodeToHTTPStatus`).
    pub fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
            // Bad arguments, syntax, and text or values that cannot be parsed.
            6 | 8 | 15 | 25 | 26 | 27 | 36 | 37 | 38 | 41 | 44 | 53 | 62 | 72 | 117 | 123 | 167
            | 168 | 223 | 321 | 376 | 427 | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
            // Unknown table, database, function, identifier, type, setting, format …
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 511 => {
                StatusCode::NOT_FOUND
            }
            48 => StatusCode::NOT_IMPLEMENTED,
            76 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            159 => StatusCode::REQUEST_TIMEOUT,
            229 => StatusCode::PAYLOAD_TOO_LARGE,
            381 => StatusCode::LENGTH_REQUIRED,
            779 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Exception> for io::Error {
    fn from(exception: Exception) -> Self {
        io::Error::other(exception)
    }
}

/// Reading a request body fails with one of our own exceptions carried through `Read`, with a
/// vanished client, or with a decompressor's complaint.
impl From<io::Error> for Exception {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Exception>());
        match inner {
            Some(exception) => exception.clone(),
            None if error.kind() == io::ErrorKind::ConnectionAborted => {
                Self::new(code::NETWORK_ERROR, error)
            }
            None => Self::new(code::CANNOT_DECOMPRESS, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_texts_keep_their_code() {
        let exception = Exception::from_engine("Code: 60. DB::Exception: Table x does not exist.");
        assert_eq!(exception.code(), 60);
        assert_eq!(exception.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            exception.text("26.7"),
            "Code: 60. DB::Exception: Table x does not exist. (version 26.7)\n"
        );
    }

    #[test]
    fn texts_without_a_code_get_one() {
        let exception = Exception::from_engine("Invalid or closed connection");
        assert_eq!(exception.code(), code::STD_EXCEPTION);
        assert_eq!(exception.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn exceptions_survive_the_way_through_read() {
        let error = io::Error::from(Exception::new(code::CHECKSUM_DOESNT_MATCH, "checksum"));
        assert_eq!(Exception::from(error).code(), code::CHECKSUM_DOESNT_MATCH);
    }
}
