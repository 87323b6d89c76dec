use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Microseconds.
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Returns an address of which only the first characters and the domain are readable:
/// `ada…@gmail.com`. Of a short name, one character is left. A text that is not an address is masked as
/// a name.
pub fn mask_address(address: &str) -> String {
    let (name, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    let shown = if name.chars().count() > 3 { 3 } else { 1 };
    let name: String = name.chars().take(shown).collect();
    let at = if domain.is_empty() { "" } else { "@" };
    format!("{name}…{at}{domain}")
}

/// Returns at most `max` characters. A text that is cut ends with `…`.
pub(super) fn clip(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let cut: String = text.chars().take(max.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// Returns a text of an event as part of one line: without control characters, and at most `max`
/// characters long.
pub(super) fn clean(text: &str, max: usize) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let text: String = text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect();
    clip(text.trim(), max)
}

/// Returns a span of time with its greatest unit: `38 s`, `5 min`, `26 h`, `3 days`. Negative spans
/// are 0.
pub(super) fn span(micros: i64) -> String {
    match micros.max(0) {
        micros if micros < 2 * MINUTE => format!("{} s", micros / SECOND),
        micros if micros < 2 * HOUR => format!("{} min", micros / MINUTE),
        micros if micros < 3 * DAY => format!("{} h", micros / HOUR),
        micros => format!("{} days", micros / DAY),
    }
}

/// Returns a time in UTC and in the zone: `02:14:10 UTC (04:14 Berlin)`. The date is added if it is not
/// that of `today`.
pub(super) fn time(micros: i64, today: i64, zone: &TimeZone) -> String {
    let timestamp = |micros| Timestamp::from_microsecond(micros).unwrap_or_default();
    let (at, today) = (timestamp(micros), timestamp(today));
    let is_today = at.strftime("%F").to_string() == today.strftime("%F").to_string();
    let utc = at.strftime(if is_today { "%T UTC" } else { "%F %T UTC" });
    let name = zone.iana_name().unwrap_or("local time");
    if matches!(name, "UTC" | "Etc/UTC") {
        return utc.to_string();
    }
    let city = name.rsplit('/').next().unwrap_or(name).replace('_', " ");
    let there = at.to_zoned(zone.clone());
    let is_same_date = there.strftime("%F").to_string() == at.strftime("%F").to_string();
    let there = there.strftime(if is_same_date { "%H:%M" } else { "%F %H:%M" });
    format!("{utc} ({there} {city})")
}
