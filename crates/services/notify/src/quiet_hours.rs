//! The hours in which a channel does not deliver warnings.

use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};
use serde::Deserialize;

/// `quiet_hours` of a channel: from `from` to `to` in the time zone `zone`, every day. If `to` is not
/// after `from`, the hours end on the next day.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct QuietHours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    from: String,
    to: String,
    zone: String,
}

impl TryFrom<Written> for QuietHours {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let time = |name: &str, text: &str| {
            Time::strptime("%H:%M", text)
                .map_err(|_| format!("{name} = \"{text}\" is not a time; write it as \"22:00\""))
        };
        let (from, to) = (time("from", &written.from)?, time("to", &written.to)?);
        if from == to {
            return Err("from and to are the same time; write two times".to_owned());
        }
        let zone = TimeZone::get(&written.zone).map_err(|_| {
            format!("zone = \"{}\" is not known; write it as \"Europe/Berlin\"", written.zone)
        })?;
        Ok(Self { from, to, zone })
    }
}

/// One night, or whichever hours are quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuietPeriod {
    /// The first quiet moment.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
}

impl QuietPeriod {
    /// Returns whether the period contains a moment.
    pub fn contains(&self, moment: Timestamp) -> bool {
        self.start <= moment && moment < self.end
    }
}

impl QuietHours {
    /// Returns the quiet period that contains a moment.
    pub fn at(&self, moment: Timestamp) -> Option<QuietPeriod> {
        self.latest_before(moment).filter(|period| period.contains(moment))
    }

    /// Returns the quiet period that contains a moment or has ended at most `within` before it.
    pub fn at_or_ended_within(&self, moment: Timestamp, within: Duration) -> Option<QuietPeriod> {
        let within = SignedDuration::try_from(within).unwrap_or(SignedDuration::MAX);
        let period = self.latest_before(moment)?;
        (moment.duration_since(period.end) <= within).then_some(period)
    }

    /// Returns the latest period that has begun.
    fn latest_before(&self, moment: Timestamp) -> Option<QuietPeriod> {
        let today = moment.to_zoned(self.zone.clone()).date();
        let on = |date: jiff::civil::Date| {
            let at = |date: jiff::civil::Date, time: Time| -> Option<Timestamp> {
                let zoned: Zoned = date.to_datetime(time).to_zoned(self.zone.clone()).ok()?;
                Some(zoned.timestamp())
            };
            let end = if self.to > self.from { date } else { date.checked_add(1.day()).ok()? };
            Some(QuietPeriod { start: at(date, self.from)?, end: at(end, self.to)? })
        };
        let yesterday = today.checked_sub(1.day()).ok();
        let candidates = [Some(today), yesterday].into_iter().flatten().filter_map(on);
        candidates.into_iter().find(|period| period.start <= moment)
    }
}

impl std::fmt::Display for QuietHours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let zone = self.zone.iana_name().unwrap_or("local time");
        write!(f, "{} to {} {zone}", self.from.strftime("%H:%M"), self.to.strftime("%H:%M"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(from: &str, to: &str) -> QuietHours {
        let zone = "Europe/Berlin".to_owned();
        Written { from: from.to_owned(), to: to.to_owned(), zone }.try_into().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_night_spans_midnight() {
        let night = hours("22:00", "07:00");
        assert_eq!(night.to_string(), "22:00 to 07:00 Europe/Berlin");
        // Berlin is one hour ahead of UTC in January and two in July.
        assert_eq!(night.at(at("2026-01-15T20:59:59Z")), None);
        let period = night.at(at("2026-01-15T21:00:00Z")).unwrap();
        assert_eq!(period.end, at("2026-01-16T06:00:00Z"));
        assert_eq!(night.at(at("2026-01-16T05:59:59Z")), Some(period));
        assert_eq!(night.at(at("2026-01-16T06:00:00Z")), None);
        assert_eq!(night.at(at("2026-07-15T20:00:00Z")).unwrap().end, at("2026-07-16T05:00:00Z"));
    }

    #[test]
    fn hours_of_one_day_end_on_it() {
        let noon = hours("12:00", "13:30");
        assert_eq!(noon.at(at("2026-01-15T10:59:00Z")), None);
        assert_eq!(noon.at(at("2026-01-15T11:00:00Z")).unwrap().end, at("2026-01-15T12:30:00Z"));
        assert_eq!(noon.at(at("2026-01-15T12:30:00Z")), None);
    }

    /// On 29 March 2026 the clocks in Berlin go from 02:00 to 03:00.
    #[test]
    fn a_change_of_the_clocks_shortens_the_night() {
        let period = hours("22:00", "07:00").at(at("2026-03-28T22:00:00Z")).unwrap();
        assert_eq!(period.end.duration_since(period.start).as_hours(), 8);
    }

    #[test]
    fn a_period_that_has_just_ended_is_found() {
        let night = hours("22:00", "07:00");
        let hour = Duration::from_secs(3600);
        let of = |text| night.at_or_ended_within(at(text), hour).map(|period| period.end);
        assert_eq!(of("2026-01-16T06:30:00Z"), Some(at("2026-01-16T06:00:00Z")));
        assert_eq!(of("2026-01-16T07:00:01Z"), None);
        assert_eq!(of("2026-01-15T23:00:00Z"), Some(at("2026-01-16T06:00:00Z")));
    }

    #[test]
    fn errors_name_the_fix() {
        let error = |from: &str, to: &str, zone: &str| {
            let written =
                Written { from: from.to_owned(), to: to.to_owned(), zone: zone.to_owned() };
            QuietHours::try_from(written).unwrap_err()
        };
        assert!(error("10 pm", "07:00", "UTC").contains("\"22:00\""));
        assert!(error("22:00", "25:00", "UTC").contains("\"22:00\""));
        assert!(error("22:00", "22:00", "UTC").contains("two times"));
        assert!(error("22:00", "07:00", "Mars/Olympus").contains("Europe/Berlin"));
    }
}
