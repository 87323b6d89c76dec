//! The parameters of requests, checked.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::problem::Problem;

/// The longest parameter, in bytes. Ids of messages and names of campaigns have up to 1,000.
const MAX_BYTES: usize = 2_000;

/// The longest time that a page shows, in seconds.
const LONGEST: i64 = 92 * 86_400;

const DAY: i64 = 86_400;

/// The characters of a segment of a path that need no escape.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'@');

/// The query of a URL. A repeated parameter has its last value.
#[derive(Debug, Default)]
pub struct Parameters(BTreeMap<String, String>);

/// A time from `from` up to and without `to`, seconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub from: i64,
    pub to: i64,
}

/// A source; both empty: all sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceFilter {
    pub provider: String,
    pub source: String,
}

impl Parameters {
    /// Reads a query.
    ///
    /// # Errors
    /// [`Problem::InvalidParameter`] if a parameter is too long.
    pub fn read(query: &str) -> Result<Self, Problem> {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).take(32) {
            checked(&name, &value)?;
            parameters.insert(name.into_owned(), value.trim().to_owned());
        }
        Ok(Self(parameters))
    }

    /// Returns a parameter. Empty if it is absent.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Reads `source`, such as `sendgrid/acme`.
    ///
    /// # Errors
    /// [`Problem::InvalidParameter`].
    pub fn source(&self) -> Result<SourceFilter, Problem> {
        let text = self.get("source");
        if text.is_empty() {
            return Ok(SourceFilter::default());
        }
        match text.split_once('/') {
            Some((provider, source)) if !provider.is_empty() && !source.is_empty() => {
                Ok(SourceFilter { provider: provider.to_owned(), source: source.to_owned() })
            }
            _ => Err(invalid("`source` must be a provider and a source, such as sendgrid/acme")),
        }
    }

    /// Reads `from` and `to`. The default is the last `hours`.
    ///
    /// # Errors
    /// [`Problem::InvalidParameter`].
    pub fn period(&self, hours: i64, now: Timestamp) -> Result<Period, Problem> {
        // To the next minute, so that the newest events are part of it.
        let to = self.time("to")?.unwrap_or(now.as_second() / 60 * 60 + 60);
        let from = self.time("from")?.unwrap_or(to - hours * 3_600);
        if from >= to {
            return Err(invalid("`from` must be before `to`"));
        }
        if to - from > LONGEST {
            return Err(invalid("`from` must be at most 92 days before `to`"));
        }
        Ok(Period { from, to })
    }

    fn time(&self, name: &str) -> Result<Option<i64>, Problem> {
        let text = self.get(name);
        if text.is_empty() {
            return Ok(None);
        }
        let time = text.parse::<Timestamp>().ok().or_else(|| {
            let local: DateTime = text.parse().ok()?;
            local.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
        });
        let seconds = time.map(Timestamp::as_second).filter(|it| (0..=4_102_444_800).contains(it));
        seconds.map(Some).ok_or_else(|| {
            invalid(format!(
                "`{name}` is not a time; write 2026-11-29, 2026-11-29T10:00 (UTC) or 2026-11-29T10:00:00Z"
            ))
        })
    }
}

impl Period {
    /// Returns the steps of a chart, in seconds: at most some hundreds in the period.
    pub const fn step(self) -> i64 {
        match self.to - self.from {
            span if span <= 2 * DAY => 900,
            span if span <= 14 * DAY => 3_600,
            _ => DAY,
        }
    }
}

impl SourceFilter {
    /// Returns the text form, such as `sendgrid/acme`; empty for all sources.
    pub fn text(&self) -> String {
        if self.provider.is_empty() {
            String::new()
        } else {
            format!("{}/{}", self.provider, self.source)
        }
    }
}

/// Returns the segments of a path without their escapes.
///
/// # Errors
/// [`Problem::InvalidParameter`] if one is no UTF-8 or too long.
pub fn segments(path: &str) -> Result<Vec<String>, Problem> {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments
        .map(|segment| {
            let text = percent_decode_str(segment).decode_utf8();
            let text = text.map_err(|_| invalid("the path is not UTF-8"))?;
            checked("path", &text)?;
            Ok(text.into_owned())
        })
        .collect()
}

/// Returns a path of these segments.
pub fn path(segments: &[&str]) -> String {
    segments.iter().fold(String::new(), |path, segment| {
        path + "/" + &utf8_percent_encode(segment, SEGMENT).to_string()
    })
}

fn checked(name: &str, value: &str) -> Result<(), Problem> {
    if value.len() > MAX_BYTES {
        return Err(invalid(format!("`{name}` has more than {MAX_BYTES} bytes")));
    }
    if value.contains('\0') {
        return Err(invalid(format!("`{name}` contains a NUL")));
    }
    Ok(())
}

fn invalid(text: impl Into<String>) -> Problem {
    Problem::InvalidParameter(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-29T10:00:30Z".parse().unwrap()
    }

    fn period(query: &str) -> Result<(String, String), String> {
        let period = Parameters::read(query).and_then(|it| it.period(24, now()));
        let text = |seconds| Timestamp::from_second(seconds).unwrap().to_string();
        period.map(|it| (text(it.from), text(it.to))).map_err(|problem| problem.to_string())
    }

    #[test]
    fn times_are_read_in_three_forms() {
        let day = ("2026-11-28T10:01:00Z".to_owned(), "2026-11-29T10:01:00Z".to_owned());
        assert_eq!(period(""), Ok(day));
        let expected = ("2026-11-01T00:00:00Z".to_owned(), "2026-11-02T10:30:00Z".to_owned());
        for query in [
            "from=2026-11-01&to=2026-11-02T10:30",
            "from=2026-11-01T00:00:00Z&to=2026-11-02T12:30:00%2B02:00",
        ] {
            assert_eq!(period(query), Ok(expected.clone()), "{query}");
        }
    }

    #[test]
    fn invalid_times_are_named() {
        for (query, part) in [
            ("from=yesterday", "`from` is not a time"),
            ("to=9999-01-01", "`to` is not a time"),
            ("from=2026-11-30", "`from` must be before `to`"),
            ("from=2026-01-01", "at most 92 days"),
        ] {
            assert!(period(query).unwrap_err().contains(part), "{query}");
        }
        let long = format!("x={}", "a".repeat(2_001));
        assert!(Parameters::read(&long).unwrap_err().to_string().contains("2000 bytes"));
    }

    #[test]
    fn a_source_has_a_provider() {
        let source = |query| Parameters::read(query).unwrap().source();
        let acme = SourceFilter { provider: "ses".into(), source: "acme".into() };
        assert_eq!(source("source=ses%2Facme").unwrap(), acme);
        assert_eq!(source("").unwrap(), SourceFilter::default());
        assert_eq!(source("source=acme").unwrap_err().code(), "invalid_parameter");
    }

    #[test]
    fn segments_round_trip() {
        for text in ["<a/b@c>", "ä ö", "50%", "?x#y", "a+b", "\"'"] {
            let path = path(&["message", text]);
            assert!(!path.contains(['?', '#', ' ', '<', '"']), "{path}");
            assert_eq!(segments(&path).unwrap(), ["message", text]);
        }
        assert!(segments("/%ff").is_err());
    }
}
