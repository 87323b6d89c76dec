use clap::{Args, ValueEnum};
use jiff::civil::Date;
use jiff::tz::TimeZone;

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// The first day, such as 2026-11-01.
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub(crate) from: Date,
    /// The last day, which is included. Default: the first day.
    #[arg(long, value_name = "DATE", value_parser = date)]
    pub(crate) to: Option<Date>,
    /// Only this source, as `acme` or `sendgrid/acme`.
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
    /// The time zone of the days, such as Europe/Berlin.
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    pub(crate) zone: TimeZone,
    /// How the report is written.
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// Aligned tables with bars, for a terminal.
    Text,
    /// One JSON object.
    Json,
    /// One page with charts, which needs no other file and no network.
    Html,
}

fn date(text: &str) -> Result<Date, String> {
    text.parse().map_err(|_| "write a date such as 2026-11-01".to_owned())
}

fn zone(text: &str) -> Result<TimeZone, String> {
    TimeZone::get(text)
        .map_err(|_| "write the name of a time zone such as Europe/Berlin or UTC".to_owned())
}
