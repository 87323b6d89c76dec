//! How numbers, rates and times are written on the pages.

use jiff::Timestamp;

/// Returns a count with a narrow space between thousands: `1 234 567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Returns a share as a percentage with at least three digits for small ones: `12.3 %`, `0.045 %`.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        it if it < 0.000_5 => "0 %".to_owned(),
        it if it < 0.1 => format!("{it:.3} %"),
        it if it < 10.0 => format!("{it:.2} %"),
        it => format!("{it:.1} %"),
    }
}

/// Returns a time in UTC to the second: `2026-11-29 10:00:00`. `micros` are since the Unix epoch.
pub fn time(micros: i64) -> String {
    let at = Timestamp::from_microsecond(micros).unwrap_or_default();
    at.strftime("%F %T").to_string()
}

/// Returns a time for the attribute `datetime`, RFC 3339.
pub fn datetime(micros: i64) -> String {
    let at = Timestamp::from_microsecond(micros).unwrap_or_default();
    format!("{at:.0}")
}

/// Returns a time for a form field of the type `datetime-local`. `seconds` are since the Unix epoch.
pub fn form_time(seconds: i64) -> String {
    let at = Timestamp::from_second(seconds).unwrap_or_default();
    at.strftime("%FT%H:%M").to_string()
}

/// Returns how long ago a time was: `38 s ago`, `5 min ago`, `26 h ago`, `3 days ago`. Both are seconds since the
/// Unix epoch.
pub fn ago(seconds: i64, now: i64) -> String {
    match now.saturating_sub(seconds) {
        past if past < 0 => "now".to_owned(),
        past if past < 120 => format!("{past} s ago"),
        past if past < 2 * 3_600 => format!("{} min ago", past / 60),
        past if past < 3 * 86_400 => format!("{} h ago", past / 3_600),
        past => format!("{} days ago", past / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(1e-17), "0 %");
        assert_eq!(percent(0.000_45), "0.045 %");
        assert_eq!(percent(0.0123), "1.23 %");
        assert_eq!(percent(1.0), "100.0 %");
    }

    #[test]
    fn times_are_in_utc() {
        let micros = 1_795_255_200_123_456;
        assert_eq!(time(micros), "2026-11-21 10:00:00");
        assert_eq!(datetime(micros), "2026-11-21T10:00:00Z");
        assert_eq!(form_time(1_795_255_200), "2026-11-21T10:00");
        assert_eq!(ago(100, 138), "38 s ago");
        assert_eq!(ago(0, 300), "5 min ago");
        assert_eq!(ago(0, 90_000), "25 h ago");
        assert_eq!(ago(0, 300_000), "3 days ago");
        assert_eq!(ago(10, 0), "now");
    }
}
