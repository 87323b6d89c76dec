//! How numbers are written for people.

/// Returns a count with separators between thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a rate in per cent, with enough digits for rates of a thousandth; `–` if it is not known.
pub(super) fn percent(rate: Option<f64>) -> String {
    let Some(rate) = rate else { return "–".to_owned() };
    let percent = rate * 100.0;
    let digits = match percent {
        percent if percent >= 10.0 => 1,
        percent if percent >= 1.0 => 2,
        percent if percent > 0.0 => 3,
        _ => 0,
    };
    format!("{percent:.digits$} %")
}

/// Returns a rate at the axis of a chart: with as many digits as it has, but at most three.
pub(super) fn tick_percent(rate: f64) -> String {
    let text = format!("{:.3}", rate * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Returns a time in seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else if seconds < 600.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}

/// Returns an average count.
pub(super) fn average(number: f64) -> String {
    let is_small = number < 10.0;
    if is_small { format!("{number:.1}") } else { count(rounded(number)) }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

/// Returns the share of a count in the greatest one, from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "the shares are for bars")]
pub(super) fn share(number: u64, greatest: u64) -> f64 {
    if greatest == 0 { 0.0 } else { (number as f64 / greatest as f64).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let rates = [None, Some(0.0), Some(0.00123), Some(0.0241), Some(0.99875), Some(1.0)];
        assert_eq!(rates.map(percent), ["–", "0 %", "0.123 %", "2.41 %", "99.9 %", "100.0 %"]);
        assert_eq!([0.0, 0.025, 0.1].map(tick_percent), ["0 %", "2.5 %", "10 %"]);
        assert_eq!([0.05, 12.4, 7200.0].map(seconds), ["0.05 s", "12 s", "2.0 h"]);
        assert_eq!([0.25, 12_345.6].map(average), ["0.2", "12,346"]);
        assert!((share(1, 4) - 0.25).abs() < 1e-12 && share(1, 0).abs() < 1e-12);
    }
}
