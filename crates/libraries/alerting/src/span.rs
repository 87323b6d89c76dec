use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A span of event time in microseconds. The text form is a whole number with a unit: `0s`, `90s`, `30m`,
/// `24h` or `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(i64);

/// In microseconds, the greatest first.
const UNITS: [(char, i64); 4] =
    [('d', 24 * 3_600_000_000), ('h', 3_600_000_000), ('m', 60_000_000), ('s', 1_000_000)];

/// The longest span: 400 days, in microseconds.
const LONGEST: i64 = 400 * 24 * 3_600_000_000;

impl Span {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Returns a span of whole seconds.
    pub const fn seconds(seconds: u32) -> Self {
        Self(seconds as i64 * 1_000_000)
    }

    /// Returns a span of whole minutes.
    pub const fn minutes(minutes: u32) -> Self {
        Self(minutes as i64 * 60_000_000)
    }

    /// Returns a span of whole hours.
    pub const fn hours(hours: u32) -> Self {
        Self(hours as i64 * 3_600_000_000)
    }

    /// Returns the span in microseconds.
    pub const fn micros(self) -> i64 {
        self.0
    }
}

/// The text is not a span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a span of time; write a whole number with a unit, such as 90s, 30m, 24h or 7d"
)]
pub struct NotASpan(pub String);

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Self, NotASpan> {
        let micros = UNITS.iter().find_map(|(unit, micros)| {
            let number: u32 = text.strip_suffix(*unit)?.parse().ok()?;
            i64::from(number).checked_mul(*micros).filter(|span| *span <= LONGEST)
        });
        micros.map(Self).ok_or_else(|| NotASpan(text.to_owned()))
    }
}

impl TryFrom<String> for Span {
    type Error = NotASpan;

    fn try_from(text: String) -> Result<Self, NotASpan> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    /// Writes the span with the greatest unit of which it is a multiple. Two days are `48h`, as windows are
    /// written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_exact = |micros: &i64| self.0 != 0 && self.0 % micros == 0;
        let units = UNITS.iter().skip(if self.0 < 3 * UNITS[0].1 { 1 } else { 0 });
        let unit = units.clone().find(|(_, micros)| is_exact(micros)).unwrap_or(&UNITS[3]);
        write!(f, "{}{}", self.0 / unit.1, unit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_whole_number_with_a_unit() {
        for text in ["0s", "90s", "30m", "24h", "7d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("60s".parse::<Span>().unwrap(), Span::minutes(1));
        assert_eq!("2d".parse::<Span>().unwrap().to_string(), "48h");
        for wrong in ["", "5", "-5m", "1.5h", "5 m", "m", "401d", "4294967296s", "5ü"] {
            assert_eq!(wrong.parse::<Span>(), Err(NotASpan(wrong.to_owned())), "{wrong}");
        }
    }
}
