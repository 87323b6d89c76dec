use jiff::Timestamp;

use crate::Rejection;
use crate::trace::Trace;

/// Reads a signed unix time.
pub(crate) fn seconds(text: &str) -> Result<i64, Rejection> {
    text.parse().map_err(|_| Rejection::MalformedSignature("its time is not in unix seconds"))
}

/// Rejects a signed time that is more than `tolerance` seconds before or after now.
///
/// The caller reports the result only if the signature is good. A forged request is reported as
/// forged, however old it is.
pub(crate) fn check(
    signed: i64,
    now: i64,
    tolerance: u64,
    trace: &mut Trace,
) -> Result<(), Rejection> {
    const NAME: &str = "timestamp";
    let skew_seconds = now.saturating_sub(signed);
    let detail = || {
        let direction = if skew_seconds < 0 { "ahead of" } else { "before" };
        let distance = skew_seconds.unsigned_abs();
        format!("{} is {distance} s {direction} now; tolerance {tolerance} s", date(signed))
    };
    if skew_seconds.unsigned_abs() > tolerance {
        trace.failed(NAME, detail);
        return Err(Rejection::Stale { skew_seconds });
    }
    trace.passed(NAME, detail);
    Ok(())
}

/// Returns the last unix second at which [`check`] passes.
pub(crate) fn expiry(signed: i64, tolerance: u64) -> i64 {
    signed.saturating_add_unsigned(tolerance)
}

/// Formats a unix time for people.
fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(signed: i64, now: i64) -> Result<(), Rejection> {
        check(signed, now, 300, &mut Trace::off())
    }

    #[test]
    fn both_ends_of_the_tolerance() {
        for (signed, fresh) in [(700, true), (699, false), (1_300, true), (1_301, false)] {
            assert_eq!(at(signed, 1_000).is_ok(), fresh, "{signed}");
        }
        assert_eq!(at(0, 1_000), Err(Rejection::Stale { skew_seconds: 1_000 }));
        assert!(at(i64::MIN, i64::MAX).is_err());
        assert!(seconds("timestamp").is_err());
    }

    #[test]
    fn it_expires_after_its_last_fresh_second() {
        assert!(at(1_000, expiry(1_000, 300)).is_ok());
        assert!(at(1_000, expiry(1_000, 300) + 1).is_err());
    }

    #[test]
    fn the_skew_is_recorded() {
        let mut trace = Trace::on();
        let _ = check(1_762_788_000, 1_762_788_301, 300, &mut trace);
        let checks = trace.into_checks();
        assert_eq!(checks[0].detail, "2025-11-10T15:20:00Z is 301 s before now; tolerance 300 s");
    }
}
