use clickhouse::error::Error;

/// ClickHouse's own numbers for "this row cannot be", from its `src/Common/ErrorCodes.cpp`.
/// Everything else may pass, or needs a person: those inserts are tried again until they succeed.
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

/// Why ClickHouse did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClickHouseError {
    /// It cannot be reached, or the connection broke. Whether it did it is not known.
    #[error("ClickHouse cannot be reached: {0}")]
    Away(String),
    /// It did not answer in time. Whether it did it is not known.
    #[error("ClickHouse did not answer in time")]
    Timeout,
    /// It refuses what a row says.
    #[error("ClickHouse refuses a row: {0}")]
    Row(String),
    /// It refuses for another reason.
    #[error("ClickHouse refuses: {0}")]
    Refused(String),
}

impl ClickHouseError {
    /// The stable code, for logs, metrics and holds.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Away(_) => "clickhouse_away",
            Self::Timeout => "clickhouse_timeout",
            Self::Row(_) => "row_refused",
            Self::Refused(_) => "clickhouse_refused",
        }
    }
}

impl From<Error> for ClickHouseError {
    fn from(error: Error) -> Self {
        match error {
            Error::TimedOut => Self::Timeout,
            Error::Network(source) => Self::Away(chain(&*source)),
            Error::BadResponse(text) if is_about_a_row(&text) => Self::Row(shorten(&text)),
            Error::BadResponse(text) => Self::Refused(shorten(&text)),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// An error with what caused it: hyper's own words alone say nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether the text is `Code: N. DB::Exception: …` with one of [`ROW_CODES`].
fn is_about_a_row(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("Code: ") else { return false };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().is_ok_and(|code: u32| ROW_CODES.iter().any(|&(row, _)| row == code))
}

/// The first kilobyte: some messages quote whole rows.
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
    fn only_errors_about_a_row_cost_a_row() {
        let text =
            "Code: 469. DB::Exception: Constraint `no_poison` is violated (VIOLATED_CONSTRAINT)";
        assert_eq!(of(text), ClickHouseError::Row(text.into()));
        for (text, code) in [
            ("Code: 60. DB::Exception: Table x does not exist", "clickhouse_refused"),
            ("Code: 241. DB::Exception: Memory limit exceeded", "clickhouse_refused"),
            ("Code: 46. DB::Exception: Unknown function", "clickhouse_refused"),
            ("502 Bad Gateway", "clickhouse_refused"),
            ("Code: ", "clickhouse_refused"),
        ] {
            assert_eq!(of(text).code(), code, "{text}");
        }
        assert_eq!(ClickHouseError::from(Error::TimedOut).code(), "clickhouse_timeout");
        let away = std::io::Error::other("connection refused");
        assert_eq!(ClickHouseError::from(Error::Network(away.into())).code(), "clickhouse_away");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(shorten(&"é".repeat(5000)).chars().count(), 1000);
        assert_eq!(shorten(" a \n"), "a");
    }
}
