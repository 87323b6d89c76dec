//! Reads the providers' times as whole microseconds. Floating point is avoided, because it would
//! lose digits.

use event::OccurredAt;
use serde_json::value::RawValue;

use crate::ParseError;

/// The end of the year 2199. No event is later, and ClickHouse's `DateTime64` still holds it.
const LAST_SECOND: i64 = 7_258_118_399;
/// Unix times above this are in milliseconds. In seconds it would be the year 5138.
const MAX_SECONDS: i64 = 100_000_000_000;

/// Reads an RFC 3339 time with `Z` or an offset. Digits after the microsecond are cut off.
pub(crate) fn rfc3339(text: Option<&str>) -> Result<OccurredAt, ParseError> {
    let text = text.ok_or(ParseError::MissingTime)?;
    let time: jiff::Timestamp = text.parse().map_err(|_| ParseError::UnreadableTime)?;
    in_range(time.as_microsecond())
}

/// Reads a time in any form that a provider uses, as a number or a text: RFC 3339, unix seconds with
/// or without a fraction, or unix milliseconds above 10^11. Digits after the microsecond are cut off.
///
/// No field is read in one form only, because providers change the form of a field.
pub(crate) fn any(value: Option<&RawValue>) -> Result<OccurredAt, ParseError> {
    text(Some(unquoted(value)?))
}

pub(crate) use any as unix;

/// Reads a text like [`any`].
pub(crate) fn text(text: Option<&str>) -> Result<OccurredAt, ParseError> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    let text = text.ok_or(ParseError::MissingTime)?;
    if text.contains(['T', 't', ':']) { rfc3339(Some(text)) } else { decimal(text) }
}

/// Returns the first of several times that can be read, or else the fault of the first that is there.
pub(crate) fn first<'t>(
    texts: impl IntoIterator<Item = Option<&'t str>>,
) -> Result<OccurredAt, ParseError> {
    let mut fault = ParseError::MissingTime;
    for found in texts.into_iter().map(text) {
        match found {
            Ok(time) => return Ok(time),
            Err(error) if fault == ParseError::MissingTime => fault = error,
            Err(_) => {}
        }
    }
    Err(fault)
}

/// Returns the characters of a number, or of a text without escapes.
pub(crate) fn unquoted(value: Option<&RawValue>) -> Result<&str, ParseError> {
    let written = value.map(RawValue::get).ok_or(ParseError::MissingTime)?;
    let text = written.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match text.unwrap_or(written) {
        "null" | "" => Err(ParseError::MissingTime),
        text => Ok(text),
    }
}

fn decimal(text: &str) -> Result<OccurredAt, ParseError> {
    const UNREADABLE: ParseError = ParseError::UnreadableTime;
    if text.contains(['e', 'E']) {
        return exponent(text);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole.strip_prefix('-').unwrap_or(whole)) || !digits(fraction) {
        return Err(UNREADABLE);
    }
    let whole: i64 = whole.parse().map_err(|_| ParseError::TimeOutOfRange)?;
    // The number of decimals down to a microsecond: six of a second, three of a millisecond.
    let (unit, places) = if whole > MAX_SECONDS { (1_000, 3) } else { (1_000_000, 6) };
    let fraction = (0..places).fold(0, |micros, place| {
        micros * 10 + fraction.as_bytes().get(place).map_or(0, |digit| i64::from(digit - b'0'))
    });
    let micros = whole.checked_mul(unit).and_then(|micros| micros.checked_add(fraction));
    in_range(micros.ok_or(ParseError::TimeOutOfRange)?)
}

/// Reads `1.529692198641821e9`, as some JSON libraries write large numbers. A double represents
/// such a time to a quarter of a microsecond.
fn exponent(text: &str) -> Result<OccurredAt, ParseError> {
    let value: f64 = text.parse().map_err(|_| ParseError::UnreadableTime)?;
    let unit = if value > MAX_SECONDS as f64 { 1e3 } else { 1e6 };
    in_range((value * unit).round() as i64)
}

fn in_range(micros: i64) -> Result<OccurredAt, ParseError> {
    if (0..=LAST_SECOND * 1_000_000).contains(&micros) {
        Ok(OccurredAt(micros))
    } else {
        Err(ParseError::TimeOutOfRange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<i64, ParseError> {
        let value: &RawValue = serde_json::from_str(json).unwrap();
        any(Some(value)).map(OccurredAt::micros)
    }

    #[test]
    fn every_providers_time_format_is_read() {
        let cases = [
            ("SendGrid", "1513299569", 1_513_299_569_000_000),
            ("SendGrid, as text", "\"123456789\"", 123_456_789_000_000),
            ("SendGrid, Single Send", "1591726752372", 1_591_726_752_372_000),
            ("Mailgun", "1529692198.641821", 1_529_692_198_641_821),
            ("Mailgun, one digit", "1529692198.6", 1_529_692_198_600_000),
            ("Mailgun, seven digits", "1666214138.4046676", 1_666_214_138_404_667),
            ("a large number with an exponent", "1.529692198641821e9", 1_529_692_198_641_821),
            ("Postmark", "\"2025-04-05T16:33:54.9070259Z\"", 1_743_870_834_907_025),
            ("Postmark, offset", "\"2014-08-01T13:28:10.2735393-04:00\"", 1_406_914_090_273_539),
            ("SES", "\"2017-08-05T00:41:02.669Z\"", 1_501_893_662_669_000),
            ("SparkPost, as text", "\"1762787700\"", 1_762_787_700_000_000),
            ("Brevo", "1762787700250", 1_762_787_700_250_000),
            ("Brevo, seconds in a milliseconds field", "1604933654", 1_604_933_654_000_000),
            ("Mailjet", "1762787700", 1_762_787_700_000_000),
            ("Resend", "\"2025-11-10T15:15:00.123456+00:00\"", 1_762_787_700_123_456),
            ("MailerSend", "\"2025-11-10T15:15:00.123456Z\"", 1_762_787_700_123_456),
            ("Postal", "1762787700.5", 1_762_787_700_500_000),
            ("milliseconds with a fraction", "1591726752372.25", 1_591_726_752_372_250),
        ];
        for (case, json, micros) in cases {
            assert_eq!(read(json), Ok(micros), "{case}");
        }
    }

    #[test]
    fn the_first_time_that_can_be_read_counts() {
        assert_eq!(first([None, Some("soon"), Some("7"), Some("8")]), Ok(OccurredAt(7_000_000)));
        assert_eq!(first([None, Some("soon"), Some("-1")]), Err(ParseError::UnreadableTime));
        assert_eq!(first([None, Some(" ")]), Err(ParseError::MissingTime));
    }

    #[test]
    fn an_unusable_time_has_a_reason() {
        assert_eq!(any(None), Err(ParseError::MissingTime));
        assert_eq!(read("null"), Err(ParseError::MissingTime));
        assert_eq!(read("\"\""), Err(ParseError::MissingTime));
        for json in ["\"soon\"", "{}", "true", "\"1.\"", "\".5\"", "\"2025-04-05T16:33\"", "\"+5\""]
        {
            assert_eq!(read(json), Err(ParseError::UnreadableTime), "{json}");
        }
        for json in
            ["-1", "99999999999", "1e300", "99999999999999999999", "\"2200-01-01T00:00:00Z\""]
        {
            assert_eq!(read(json), Err(ParseError::TimeOutOfRange), "{json}");
        }
    }
}
