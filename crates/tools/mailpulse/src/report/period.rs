//! Which time a report is about.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::InputError;
use crate::args::ReportArgs;
use crate::database::and_source;

/// The greatest number of days of a report.
const MAX_DAYS: i32 = 400;
/// Up to this number of days, the course of the report has hours; above, days.
const MAX_DAYS_BY_HOUR: i32 = 8;

/// Whole days in a time zone, and the source that the report is about.
#[derive(Debug)]
pub(super) struct Period {
    pub(super) from: Timestamp,
    /// The first moment after it.
    pub(super) to: Timestamp,
    pub(super) first_day: Date,
    pub(super) last_day: Date,
    pub(super) zone: TimeZone,
    pub(super) source: Option<String>,
    /// When the report is made. A period that is not over has no averages of the time to come.
    pub(super) now: Timestamp,
}

/// The grain of the course of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    Hour,
    Day,
}

impl Period {
    pub(super) fn new(args: &ReportArgs, now: Timestamp) -> Result<Self, InputError> {
        let (first_day, last_day) = (args.from, args.to.unwrap_or(args.from));
        if last_day < first_day {
            return Err(InputError(format!("--to {last_day} is before --from {first_day}")));
        }
        let days = (last_day - first_day).get_days();
        if days >= MAX_DAYS {
            return Err(InputError(format!(
                "the period has {} days; a report has at most {MAX_DAYS}",
                days + 1
            )));
        }
        let start = |day: Date| {
            let start = day.to_zoned(args.zone.clone()).and_then(|day| day.start_of_day());
            start
                .map(|start| start.timestamp())
                .map_err(|error| InputError(format!("{day} cannot be used: {error}")))
        };
        let after = last_day
            .checked_add(1.day())
            .map_err(|error| InputError(format!("{last_day} cannot be used: {error}")))?;
        Ok(Self {
            from: start(first_day)?,
            to: start(after)?,
            first_day,
            last_day,
            zone: args.zone.clone(),
            source: args.source.clone(),
            now,
        })
    }

    pub(super) fn step(&self) -> Step {
        let days = (self.last_day - self.first_day).get_days();
        if days < MAX_DAYS_BY_HOUR { Step::Hour } else { Step::Day }
    }

    /// Returns the seconds of the period that have passed; at least 1.
    pub(super) fn passed_seconds(&self) -> i64 {
        let end = self.to.min(self.now);
        (end.as_second() - self.from.as_second()).max(1)
    }

    pub(super) fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// Returns the condition for the quarters of an hour of `traffic`.
    pub(super) fn of_quarters(&self) -> String {
        let (from, to) = (self.from.as_second(), self.to.as_second());
        format!(
            "at15 >= toDateTime({from}, 'UTC') AND at15 < toDateTime({to}, 'UTC'){}",
            self.and_source()
        )
    }

    /// Returns the condition for the rows of tables with days. Their days are UTC.
    pub(super) fn of_days(&self) -> String {
        let (from, to) = (self.first_day, self.last_day);
        format!("day >= toDate('{from}') AND day <= toDate('{to}'){}", self.and_source())
    }

    /// Returns the condition for events.
    pub(super) fn of_events(&self) -> String {
        let time =
            |time: Timestamp| format!("fromUnixTimestamp64Micro({}, 'UTC')", time.as_microsecond());
        let (from, to) = (time(self.from), time(self.to));
        // `at` is the lesser of both times. The table is partitioned by occurred_at.
        format!(
            "at >= {from} AND at < {to} AND occurred_at >= {from} AND received_at >= {from}{}",
            self.and_source()
        )
    }

    fn and_source(&self) -> String {
        self.source.as_deref().map_or_else(String::new, and_source)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::args::ReportFormat;

    /// Returns a period at 2026-11-21T10:00:00Z.
    pub(in crate::report) fn period(
        from: &str,
        to: &str,
        zone: &str,
    ) -> Result<Period, InputError> {
        let args = ReportArgs {
            from: from.parse().unwrap(),
            to: Some(to.parse().unwrap()),
            source: Some("send'grid/acme".to_owned()),
            zone: TimeZone::get(zone).unwrap(),
            format: ReportFormat::Text,
        };
        Period::new(&args, "2026-11-21T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn days_are_those_of_the_zone_also_when_clocks_change() {
        let of = |zone| {
            let period = period("2026-10-24", "2026-10-25", zone).unwrap();
            (period.from.to_string(), period.to.to_string())
        };
        let times = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(of("UTC"), times("2026-10-24T00:00:00Z", "2026-10-26T00:00:00Z"));
        assert_eq!(of("Europe/Berlin"), times("2026-10-23T22:00:00Z", "2026-10-25T23:00:00Z"));
        assert_eq!(of("Asia/Kolkata"), times("2026-10-23T18:30:00Z", "2026-10-25T18:30:00Z"));
    }

    #[test]
    fn a_period_without_days_or_with_too_many_is_refused() {
        let error = |from, to| period(from, to, "UTC").unwrap_err().to_string();
        assert!(error("2026-11-02", "2026-11-01").contains("--to 2026-11-01 is before"));
        assert!(error("2025-01-01", "2026-11-01").contains("at most 400"));
        assert!(error("9999-12-31", "9999-12-31").contains("9999-12-31 cannot be used"));
    }

    #[test]
    fn the_time_to_come_is_left_out_of_averages() {
        let today = period("2026-11-21", "2026-11-21", "UTC").unwrap();
        assert_eq!(today.passed_seconds(), 10 * 3600);
        let past = period("2026-11-01", "2026-11-02", "UTC").unwrap();
        assert_eq!(past.passed_seconds(), 2 * 86_400);
        let future = period("2027-01-01", "2027-01-01", "UTC").unwrap();
        assert_eq!(future.passed_seconds(), 1);
    }

    #[test]
    fn the_source_is_a_literal_and_the_step_follows_the_length() {
        let day = period("2026-11-01", "2026-11-08", "UTC").unwrap();
        assert!(day.of_days().ends_with(r" AND source = 'acme' AND provider = 'send\'grid'"));
        assert_eq!(day.step(), Step::Hour);
        assert_eq!(period("2026-11-01", "2026-11-09", "UTC").unwrap().step(), Step::Day);
    }
}
