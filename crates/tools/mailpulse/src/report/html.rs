//! The report as one page: style and charts are in it, and it loads nothing.

use askama::Template;
use window::Metric;

use super::data::{Group, Report};
use super::period::Step;
use super::{chart, number};

/// Returns the page.
///
/// # Errors
/// If the template cannot be filled, which only a lack of memory causes.
pub(super) fn page(report: &Report) -> askama::Result<String> {
    Page {
        report,
        events_chart: chart::events(&report.course),
        bounces_chart: chart::bounce_rate(&report.course),
        tables: [
            ("Mailbox providers", &report.mailbox_providers),
            ("Providers", &report.providers),
            ("Campaigns with the most messages", &report.campaigns),
            ("Domains with the most messages", &report.domains),
        ],
    }
    .render()
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    report: &'a Report,
    events_chart: String,
    bounces_chart: String,
    tables: [(&'static str, &'a Vec<Group>); 4],
}

impl Page<'_> {
    /// Returns the days of the report for its title.
    fn days(&self) -> String {
        let period = &self.report.period;
        if period.first_day == period.last_day {
            period.first_day.clone()
        } else {
            format!("{} to {}", period.first_day, period.last_day)
        }
    }

    /// Returns the rates for the top of the page, with their names.
    fn headlines(&self) -> Vec<(&'static str, String, String)> {
        let names = [
            (Metric::Delivery, "Delivered"),
            (Metric::Bounce, "Bounced"),
            (Metric::Complaint, "Complained"),
            (Metric::Open, "Opened"),
            (Metric::Click, "Clicked"),
        ];
        let line = |(metric, name)| {
            let line = self.report.rates.iter().find(|line| line.metric == metric)?;
            let of =
                format!("{} of {}", number::count(line.numerator), number::count(line.denominator));
            Some((name, number::percent(line.rate), of))
        };
        names.into_iter().filter_map(line).collect()
    }

    fn step(&self) -> &'static str {
        match self.report.course.step {
            Step::Hour => "hour",
            Step::Day => "day",
        }
    }

    fn utc_days(&self) -> bool {
        self.report.period.zone != "UTC"
    }
}

/// Returns the width of a bar, for a style.
fn width(sent: u64, greatest: u64) -> String {
    format!("{:.1}%", number::share(sent, greatest) * 100.0)
}

fn greatest(groups: &[Group]) -> u64 {
    groups.iter().map(|group| group.sent).max().unwrap_or_default()
}
