//! ClickHouse's errors in HTTP answers.

use http::StatusCode;
use std::io;

/// An error of ClickHouse: a numeric code (`system.errors`) and a message.
///
/// The engine can return any code, so this is a struct and not an enum. The module [`code`] has the
/// codes that this server returns itself.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Exception {
    code: u32,
    message: String,
}

/// The codes that this server returns itself, with the names of `errorCodeToName`.
pub(crate) mod code {
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
    pub const AUTHENTICATION_FAILED: u32 = 516;
    pub const STD_EXCEPTION: u32 = 1001;
}

impl Exception {
    /// Creates an error of this server, not of the engine.
    pub fn new(code: u32, message: impl std::fmt::Display) -> Self {
        Self { code, message: format!("Code: {code}. DB::Exception: {message}") }
    }

    /// Creates an error from a text of the engine, `Code: N. DB::Exception: …`. Other texts come from
    /// the C layer around the engine and have no code.
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

    /// Returns the value of `X-ClickHouse-Exception-Code`.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// Returns the text for the client: the message and, as in ClickHouse, the server's version.
    pub fn text(&self, version: &str) -> String {
        if self.message.contains("(version ") {
            format!("{}\n", self.message)
        } else {
            format!("{} (version {version})\n", self.message)
        }
    }

    /// Returns the HTTP status of the code, as ClickHouse's `exceptionCodeToHTTPStatus`.
    pub fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
            // Bad arguments, syntax errors, and values that cannot be parsed.
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

/// Reading a request body fails with an [`Exception`] inside the I/O error, because the client has
/// disconnected, or with the error of a decompressor.
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
    fn an_exception_inside_an_io_error_is_found() {
        let error = io::Error::from(Exception::new(code::CHECKSUM_DOESNT_MATCH, "checksum"));
        assert_eq!(Exception::from(error).code(), code::CHECKSUM_DOESNT_MATCH);
    }
}
