//! Writes values as ClickHouse does in tab-separated rows.

use std::fmt::Display;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::questions::mail::HOUR;

/// A row of an answer.
pub(crate) type Row = Vec<String>;

pub(crate) const NULL: &str = "\\N";

/// A value that is not compared.
pub(crate) const ANY: &str = "*";

/// Returns a row of values.
pub(crate) fn row(values: &[&dyn Display]) -> Row {
    values.iter().map(ToString::to_string).collect()
}

/// Returns a time such as `2026-10-04 10:00:00`. `seconds` are unix seconds.
pub(crate) fn time(seconds: i64) -> String {
    zoned(seconds, &TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns the day in UTC.
pub(crate) fn day(seconds: i64) -> String {
    time(seconds)[..10].to_owned()
}

/// Returns a moment in a time zone.
pub(crate) fn zoned(seconds: i64, zone: &TimeZone) -> jiff::Zoned {
    Timestamp::from_second(seconds).unwrap_or_default().to_zoned(zone.clone())
}

/// Returns the start of the hour.
pub(crate) const fn hour(seconds: i64) -> i64 {
    seconds.div_euclid(HOUR) * HOUR
}

/// Returns the start of the quarter of an hour.
pub(crate) const fn quarter(seconds: i64) -> i64 {
    seconds.div_euclid(HOUR / 4) * (HOUR / 4)
}

/// Rounds to decimal digits.
pub(crate) fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

/// Returns a rate from 0 to 1 with some digits, or `None` while the denominator is 0.
pub(crate) fn ratio(part: i64, whole: i64, digits: i32) -> Option<f64> {
    (whole > 0).then(|| round((part as f64 / whole as f64).clamp(0.0, 1.0), digits))
}

/// Returns the text of a value that may be unknown.
pub(crate) fn or_null(value: Option<f64>) -> String {
    value.map_or_else(|| NULL.to_owned(), |value| value.to_string())
}

/// Returns the text of a rate with four digits.
pub(crate) fn rate(part: i64, whole: i64) -> String {
    or_null(ratio(part, whole, 4))
}

/// Returns the text of an array of texts.
pub(crate) fn array(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| format!("'{value}'")).collect();
    format!("[{}]", values.join(","))
}

/// Returns the value below which a part of the values lies, as `quantileExact` does.
pub(crate) fn quantile(values: &mut [i64], part: f64) -> i64 {
    values.sort_unstable();
    let index = (part * values.len() as f64) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Returns the interval of Wilson at 95 %, or `None` while the denominator is 0.
pub(crate) fn wilson(part: i64, whole: i64) -> Option<(f64, f64)> {
    const Z: f64 = 1.96;
    let (k, n) = (part.clamp(0, whole.max(0)) as f64, whole as f64);
    let p = k / n;
    let centre = p + Z * Z / (2.0 * n);
    let margin = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    let ends = (((centre - margin) / scale).max(0.0), ((centre + margin) / scale).min(1.0));
    (whole > 0).then_some(ends)
}
