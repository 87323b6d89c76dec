//! Why a client cannot be created, and why a query has no answer. No error contains the password or the URL.

use std::time::Duration;

use crate::endpoints;

/// A setting of `[clickhouse]` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct SettingError {
    /// The dotted key.
    pub key: &'static str,
    /// The problem and the fix.
    pub problem: String,
}

impl SettingError {
    pub(crate) fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self { key, problem: problem.into() }
    }
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The whole answer did not arrive in this time.
    #[error("ClickHouse did not answer within {0:?}")]
    Timeout(Duration),
    /// There is no connection, or it broke.
    #[error("ClickHouse cannot be reached: {0}")]
    Unreachable(String),
    /// The answer has more bytes than the caller accepts.
    #[error("the answer of ClickHouse has more than {0} bytes")]
    TooLarge(usize),
    /// ClickHouse, or a proxy in front of it, reported an error.
    #[error("ClickHouse answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// ClickHouse's own code, such as 60 for `Code: 60. DB::Exception: …`. A proxy gives none.
        exception: Option<u32>,
        /// The beginning of the body, at most 1 KiB, up to a part of the statement.
        message: String,
    },
}

impl Error {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "clickhouse_timeout",
            Self::Unreachable(_) => "clickhouse_away",
            Self::TooLarge(_) => "answer_too_large",
            Self::Refused { .. } => "clickhouse_refused",
        }
    }

    /// Returns true if another server may answer the same query.
    pub(crate) fn is_of_the_server(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Unreachable(_) => true,
            Self::TooLarge(_) => false,
            Self::Refused { exception: Some(exception), .. } => {
                endpoints::is_of_the_server(*exception)
            }
            // A proxy in front of ClickHouse.
            Self::Refused { status, exception: None, .. } => (502..=504).contains(status),
        }
    }

    /// Returns the error of an HTTP exchange: the innermost cause, which tells what has happened. The outer
    /// ones repeat that a request failed, and contain the URL, and that the parameters.
    pub(crate) fn unreachable(error: reqwest::Error) -> Self {
        Self::Unreachable(innermost(&error.without_url()))
    }

    /// Returns the error of a response whose status is not a success. It never contains the password, even if a proxy
    /// repeats the headers of the request in its body.
    pub(crate) fn refused(status: u16, body: &[u8], password: &str) -> Self {
        let text = String::from_utf8_lossy(body);
        let exception = exception(&text);
        let mut message = match password {
            "" => text.into_owned(),
            password => text.replace(password, "…"),
        };
        message.truncate(statement(&message).unwrap_or(message.len()));
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.truncate(message.trim_end().len());
        if message.is_empty() {
            "it gave no reason".clone_into(&mut message);
        }
        Self::Refused { status, exception, message }
    }
}

/// The greatest size of the message of an error, in bytes.
const MAX_MESSAGE: usize = 1024;

/// What ClickHouse writes before a part of the statement. The statement contains the values of parameters, such as
/// addresses of recipients.
const BEFORE_STATEMENT: [&str; 5] =
    [" in scope ", " (in query: ", ": while processing ", ": while executing ", ": in statement "];

/// Returns where the message of an exception begins to repeat the statement.
fn statement(message: &str) -> Option<usize> {
    let lower = message.to_ascii_lowercase();
    BEFORE_STATEMENT.iter().filter_map(|text| lower.find(text)).min()
}

/// Returns the code in a text such as `Code: 60. DB::Exception: …`.
fn exception(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Returns the innermost cause of an error.
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str, password: &str) -> (Option<u32>, String) {
        match Error::refused(500, body.as_bytes(), password) {
            Error::Refused { exception, message, .. } => (exception, message),
            other => unreachable!("{other}"),
        }
    }

    #[test]
    fn an_error_of_clickhouse_has_its_code_and_its_text() {
        let text = "Code: 60. DB::Exception: Table default.x does not exist. (UNKNOWN_TABLE)\n";
        assert_eq!(refused(text, ""), (Some(60), text.trim_end().to_owned()));
        let page = "<html>502 Bad Gateway</html>";
        assert_eq!(refused(page, ""), (None, page.to_owned()));
        let gone = "it gave no reason".to_owned();
        assert_eq!(refused("\n", ""), (None, gone));
        for text in ["Code: ", "Code: x", "Code: 99999999999"] {
            assert_eq!(refused(text, "").0, None, "{text}");
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let (_, message) = refused(&format!("x{}", "é".repeat(1000)), "");
        assert_eq!(message.len(), 1023);
    }

    #[test]
    fn the_statement_with_the_values_of_parameters_is_not_part_of_the_message() {
        for rest in [
            " in scope SELECT x FROM events WHERE recipient = 'ada@example.com'. (UNKNOWN_IDENTIFIER)",
            " In scope SELECT x FROM events WHERE recipient = 'ada@example.com'. (ILLEGAL_COLUMN)",
            " (in query: SELECT x WHERE recipient = 'ada@example.com')",
            ": While processing recipient = 'ada@example.com'. (TYPE_MISMATCH)",
            ": while executing 'FUNCTION equals(recipient :: 0, 'ada@example.com' :: 1)'",
        ] {
            let text = format!("Code: 47. DB::Exception: Unknown identifier `x`{rest}\n");
            let (exception, message) = refused(&text, "");
            let expected = "Code: 47. DB::Exception: Unknown identifier `x`";
            assert_eq!((exception, message.as_str()), (Some(47), expected), "{rest}");
        }
    }

    #[test]
    fn the_password_is_removed_before_the_message_is_cut() {
        let (exception, message) = refused("Code: 516. key=516, again 516", "516");
        assert_eq!((exception, message.as_str()), (Some(516), "Code: …. key=…, again …"));
        let (_, message) = refused(&format!("{}hunter2", "x".repeat(1020)), "hunter2");
        assert!(!message.contains("hun"), "{message}");
    }
}
