use crate::Refusal;

/// A signed unix time in seconds, as its header or field has it.
pub(crate) fn seconds(text: &str) -> Result<i64, Refusal> {
    text.parse().map_err(|_| Refusal::MalformedSignature("its time is not in unix seconds"))
}

/// Refuses a signed time further than `tolerance` seconds from now, either way.
///
/// Asked only after the signature has proved good: what a forger is told is that it is wrong.
pub(crate) fn check(signed: i64, now: i64, tolerance: u64) -> Result<(), Refusal> {
    let skew_seconds = now.saturating_sub(signed);
    if skew_seconds.unsigned_abs() > tolerance {
        return Err(Refusal::Stale { skew_seconds });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_the_tolerance() {
        for (signed, fresh) in [(700, true), (699, false), (1_300, true), (1_301, false)] {
            assert_eq!(check(signed, 1_000, 300).is_ok(), fresh, "{signed}");
        }
        assert_eq!(check(0, 1_000, 300), Err(Refusal::Stale { skew_seconds: 1_000 }));
        assert!(check(i64::MIN, i64::MAX, 300).is_err());
        assert!(seconds("timestamp").is_err());
    }
}
