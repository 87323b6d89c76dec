//! Writes times in the providers' formats, from UTC microseconds since the Unix epoch.

use jiff::Timestamp;

/// In microseconds, like all times of this crate.
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;

pub(crate) const fn seconds(micros: i64) -> i64 {
    micros.div_euclid(SECOND)
}

/// Unix seconds with three decimal places.
pub(crate) fn float_seconds(micros: i64) -> f64 {
    micros.div_euclid(1_000) as f64 / 1_000.0
}

/// `2026-11-21T10:00:00.123Z`
pub(crate) fn iso_millis(micros: i64) -> String {
    timestamp(micros).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// `2026-11-21T10:00:00.1230000Z`, as Postmark writes times.
pub(crate) fn iso_seven_digits(micros: i64) -> String {
    timestamp(micros).strftime("%Y-%m-%dT%H:%M:%S%.7fZ").to_string()
}

/// `2026-11-21 10:00:00`
pub(crate) fn sql(micros: i64) -> String {
    timestamp(micros).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let micros = 1_795_255_200_123_000;
        assert_eq!(seconds(micros), 1_795_255_200);
        assert_eq!(float_seconds(micros).to_string(), "1795255200.123");
        assert_eq!(iso_millis(micros), "2026-11-21T10:00:00.123Z");
        assert_eq!(iso_seven_digits(micros), "2026-11-21T10:00:00.1230000Z");
        assert_eq!(sql(micros), "2026-11-21 10:00:00");
    }
}
