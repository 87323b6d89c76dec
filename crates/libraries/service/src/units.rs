//! Durations in the settings: a whole number and a unit, such as `250ms`, `10s`, `15m`, `72h` or `7d`.

use std::time::Duration;

/// The error of a text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write a whole number and a unit: 250ms, 10s, 15m, 72h or 7d")]
pub struct ParseDurationError(String);

/// Parses a duration.
///
/// ```
/// # use std::time::Duration;
/// assert_eq!(service::units::parse_duration("15m"), Ok(Duration::from_secs(900)));
/// assert!(service::units::parse_duration("15").is_err());
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, ParseDurationError> {
    let error = || ParseDurationError(text.to_owned());
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| error())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(error()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(error)
}

/// For `#[serde(with = "service::units::duration")]` on a [`Duration`] field.
pub mod duration {
    use serde::{Deserialize, Deserializer};

    use super::Duration;

    /// Deserializes a text such as `"10s"`.
    ///
    /// # Errors
    /// Fails if the text is not a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit() {
        let seconds = |text| parse_duration(text).unwrap().as_secs_f64();
        assert_eq!(seconds("250ms"), 0.25);
        assert_eq!(seconds("10s"), 10.0);
        assert_eq!(seconds("15m"), 900.0);
        assert_eq!(seconds("72h"), 259_200.0);
        assert_eq!(seconds("7d"), 604_800.0);
    }

    #[test]
    fn anything_else_is_an_error_with_an_example() {
        for text in ["", "10", "s", "1.5s", "-1s", "10 s", "10S", "1h30m", "99999999999999999999s"]
        {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains("10s, 15m"), "{text}: {error}");
        }
        assert!(parse_duration("18446744073709551615d").is_err(), "overflow");
    }
}
