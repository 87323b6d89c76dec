//! Spans of time in rules, such as `48h`.

use std::ops::RangeInclusive;

use crate::error::Problem;

/// In microseconds.
pub(crate) const SECOND: i64 = 1_000_000;
/// In microseconds.
pub(crate) const DAY: i64 = 86_400 * SECOND;

/// Reads a whole number and a unit: `30s`, `15m`, `48h` or `7d`. Returns microseconds.
pub(crate) fn read(text: &str, allowed: RangeInclusive<i64>) -> Result<i64, Problem> {
    let (least, most) = (in_words(*allowed.start()), in_words(*allowed.end()));
    let problem = || {
        Problem::Span(format!(
            "`{text}` must be a whole number and a unit, such as 15m, 48h or 7d, from {least} to {most}"
        ))
    };
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(problem)?;
    let (number, unit) = text.split_at(unit_at);
    let number: i64 = number.parse().map_err(|_| problem())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(problem()),
    };
    let micros = number.checked_mul(seconds * SECOND).ok_or_else(problem)?;
    if allowed.contains(&micros) { Ok(micros) } else { Err(problem()) }
}

/// Returns a span in its largest whole unit.
pub(crate) fn in_words(micros: i64) -> String {
    let seconds = micros / SECOND;
    for (size, unit) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
        if seconds > 0 && seconds % size == 0 {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}
