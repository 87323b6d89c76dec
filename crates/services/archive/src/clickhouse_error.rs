use clickhouse::error::Error;
use clickhouse_http::endpoints;
use hyper_util::client::legacy::Error as LegacyError;
use rustls::AlertDescription;

/// The error codes of ClickHouse whose cause is the content of a row, from its
/// `src/Common/ErrorCodes.cpp`. After any other error the insert is retried until it succeeds,
/// because the cause is temporary or an operator must remove it.
const ROW_CODES: [(u32, &str); 22] = [
    (6, "CANNOT_PARSE_TEXT"),
    (26, "CANNOT_PARSE_QUOTED_STRING"),
    (27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED"),
    (38, "CANNOT_PARSE_DATE"),
    (41, "CANNOT_PARSE_DATETIME"),
    (53, "TYPE_MISMATCH"),
    (69, "ARGUMENT_OUT_OF_BOUND"),
    (70, "CANNOT_CONVERT_TYPE"),
    (72, "CANNOT_PARSE_NUMBER"),
    (117, "INCORRECT_DATA"),
    (128, "TOO_LARGE_ARRAY_SIZE"),
    (131, "TOO_LARGE_STRING_SIZE"),
    (321, "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE"),
    (349, "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN"),
    (376, "CANNOT_PARSE_UUID"),
    (395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    (407, "DECIMAL_OVERFLOW"),
    (467, "CANNOT_PARSE_BOOL"),
    (469, "VIOLATED_CONSTRAINT"),
    (675, "CANNOT_PARSE_IPV4"),
    (676, "CANNOT_PARSE_IPV6"),
    (691, "UNKNOWN_ELEMENT_OF_ENUM"),
];

/// The error codes of ClickHouse for a wrong user or password.
const LOGIN_CODES: [(u32, &str); 4] = [
    (192, "UNKNOWN_USER"),
    (193, "WRONG_PASSWORD"),
    (194, "REQUIRED_PASSWORD"),
    (516, "AUTHENTICATION_FAILED"),
];

/// A failed insert or query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClickHouseError {
    /// ClickHouse cannot be reached, or the connection broke. The insert may or may not have
    /// happened.
    #[error("ClickHouse cannot be reached: {0}")]
    Unreachable(String),
    /// There is no connection, so the server cannot have run the statement.
    #[error("ClickHouse cannot be reached: {0}")]
    NoConnection(String),
    /// The server's certificate is not accepted.
    #[error(
        "ClickHouse's certificate is not accepted: {0}; set clickhouse.ca_file to the certificate of \
         the authority that signed it, and use a host name of the certificate in clickhouse.url"
    )]
    Certificate(String),
    /// The server does not speak the protocol of the URL's scheme, or rejects the client's TLS.
    #[error(
        "ClickHouse does not speak the protocol of clickhouse.url: {0}; https:// needs ClickHouse's \
         https_port (8443), http:// its http_port (8123)"
    )]
    Protocol(String),
    /// The server requires a certificate of the client, or does not trust the one that it gets.
    #[error(
        "ClickHouse does not accept the certificate of the client: {0}; set clickhouse.certificate_file and \
         clickhouse.key_file to a certificate of an authority that ClickHouse trusts, and to its private key"
    )]
    ClientCertificate(String),
    /// ClickHouse rejected user or password.
    #[error("ClickHouse rejected the login: {0}; check clickhouse.user and clickhouse.password")]
    Login(String),
    /// ClickHouse did not answer in time. The insert may or may not have happened.
    #[error("ClickHouse did not answer in time")]
    Timeout,
    /// ClickHouse rejected the content of a row.
    #[error("ClickHouse rejected a row: {0}")]
    Row(String),
    /// ClickHouse reported another error.
    #[error("ClickHouse reported an error: {0}")]
    Other(String),
}

impl ClickHouseError {
    /// Returns the stable code for logs, metrics and the reason of a hold.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) | Self::NoConnection(_) => "clickhouse_away",
            Self::Certificate(_) => "clickhouse_certificate",
            Self::ClientCertificate(_) => "clickhouse_client_certificate",
            Self::Protocol(_) => "clickhouse_protocol",
            Self::Login(_) => "clickhouse_login",
            Self::Timeout => "clickhouse_timeout",
            Self::Row(_) => "row_refused",
            Self::Other(_) => "clickhouse_refused",
        }
    }
}

impl ClickHouseError {
    /// Returns true if another server may do what this one has not done.
    pub fn is_of_the_server(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::NoConnection(_)
            | Self::Certificate(_)
            | Self::ClientCertificate(_)
            | Self::Protocol(_)
            | Self::Timeout => true,
            Self::Login(_) | Self::Row(_) => false,
            // A text without a code is that of a proxy in front of ClickHouse.
            Self::Other(text) => code_of(text).is_none_or(endpoints::is_of_the_server),
        }
    }
}

impl From<Error> for ClickHouseError {
    fn from(error: Error) -> Self {
        match error {
            Error::TimedOut => Self::Timeout,
            Error::Network(source) => {
                let text = with_causes(&*source);
                match tls_error(&*source) {
                    Some(rustls::Error::InvalidCertificate(_)) => Self::Certificate(text),
                    Some(rustls::Error::AlertReceived(alert)) if is_of_the_client(*alert) => {
                        Self::ClientCertificate(text)
                    }
                    Some(_) => Self::Protocol(text),
                    None if is_not_http(&*source) => Self::Protocol(text),
                    None if has_no_connection(&*source) => Self::NoConnection(text),
                    None => Self::Unreachable(text),
                }
            }
            Error::BadResponse(text) if has_code(&text, &ROW_CODES) => Self::Row(shorten(&text)),
            Error::BadResponse(text) if has_code(&text, &LOGIN_CODES) => {
                Self::Login(shorten(&text))
            }
            Error::BadResponse(text) => Self::Other(shorten(&text)),
            other => Self::Other(other.to_string()),
        }
    }
}

/// Returns the text of an error and of all its causes. The text of a hyper error does not contain
/// its cause.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    texts.join(": ")
}

/// Returns the error of TLS among the causes of an error.
fn tls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    causes(error).find_map(inside_io)
}

/// Returns the TLS error that an IO error contains, also if it contains it in another IO error. Their
/// `source` is that of the contained error, so a chain of causes does not show it.
fn inside_io<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    error.downcast_ref().or_else(|| {
        let io: &std::io::Error = error.downcast_ref()?;
        inside_io(io.get_ref()?)
    })
}

/// Returns true if the server's answer was not HTTP. A server that expects TLS answers a plain request
/// with a TLS alert.
fn is_not_http(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|cause| cause.downcast_ref().is_some_and(hyper::Error::is_parse))
}

fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// Returns true if a server reports with this alert that it does not accept the certificate of its client.
const fn is_of_the_client(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            // The certificate names an authority that the server trusts, whose key did not sign it.
            | AlertDescription::DecryptError
    )
}

/// Returns true if there was no connection to the server.
fn has_no_connection(error: &(dyn std::error::Error + 'static)) -> bool {
    causes(error).any(|cause| cause.downcast_ref().is_some_and(LegacyError::is_connect))
}

/// Returns true if the text contains `Code: N` with one of these codes.
fn has_code(text: &str, codes: &[(u32, &str)]) -> bool {
    code_of(text).is_some_and(|code| codes.iter().any(|&(known, _)| known == code))
}

/// Returns the `N` of `Code: N` in a text.
pub(crate) fn code_of(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("Code: ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

/// Returns the first thousand characters. Some messages quote whole rows.
fn shorten(text: &str) -> String {
    let text = text.trim();
    let end = text.char_indices().map(|(at, _)| at).nth(1000).unwrap_or(text.len());
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> ClickHouseError {
        Error::BadResponse(text.to_owned()).into()
    }

    #[test]
    fn only_errors_about_row_content_blame_a_row() {
        let text =
            "Code: 469. DB::Exception: Constraint `no_poison` is violated (VIOLATED_CONSTRAINT)";
        assert_eq!(of(text), ClickHouseError::Row(text.into()));
        for (text, code) in [
            ("Code: 60. DB::Exception: Table x does not exist", "clickhouse_refused"),
            ("Code: 241. DB::Exception: Memory limit exceeded", "clickhouse_refused"),
            ("Code: 46. DB::Exception: Unknown function", "clickhouse_refused"),
            ("Code: 516. DB::Exception: default: Authentication failed", "clickhouse_login"),
            ("502 Bad Gateway", "clickhouse_refused"),
            ("Code: ", "clickhouse_refused"),
        ] {
            assert_eq!(of(text).code(), code, "{text}");
        }
        for (text, expected) in [
            ("Code: 242. DB::Exception: Table is in readonly mode", true),
            ("Code: 999. Coordination::Exception: Session expired", true),
            ("502 Bad Gateway", true),
            ("Code: 60. DB::Exception: Table x does not exist", false),
            ("Code: 469. DB::Exception: Constraint is violated", false),
            ("Code: 516. DB::Exception: default: Authentication failed", false),
        ] {
            assert_eq!(of(text).is_of_the_server(), expected, "{text}");
        }
        assert_eq!(ClickHouseError::from(Error::TimedOut).code(), "clickhouse_timeout");
        let away = std::io::Error::other("connection refused");
        assert_eq!(ClickHouseError::from(Error::Network(away.into())).code(), "clickhouse_away");
    }

    #[test]
    fn long_messages_are_cut_at_a_character_boundary() {
        assert_eq!(shorten(&"é".repeat(5000)).chars().count(), 1000);
        assert_eq!(shorten(" a \n"), "a");
    }
}
