//! The report as aligned tables with bars, for a terminal.

use std::fmt::{self, Display, Formatter};

use window::Metric;

use super::data::{Group, Point, Report};
use super::number::{average, count, percent, seconds, share};
use super::period::Step;
use crate::text::{escape_line, truncate_line};

/// The width of a bar, in characters.
const BAR: usize = 24;
/// The longest name in a table, in characters.
const NAME: usize = 36;

/// The whole report.
pub(super) struct Page<'a>(pub(super) &'a Report);

impl Display for Page<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let report = self.0;
        title(f, report)?;
        totals(f, report)?;
        rates(f, report)?;
        kinds(f, report)?;
        groups(f, "Providers", &report.providers)?;
        groups(f, "Mailbox providers", &report.mailbox_providers)?;
        groups(f, "Campaigns with the most messages", &report.campaigns)?;
        groups(f, &with_utc_days(report, "Domains with the most messages"), &report.domains)?;
        countries(f, report)?;
        bounce_reasons(f, report)?;
        processing(f, report)?;
        course(f, report)?;
        incidents(f, report)
    }
}

fn title(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let period = &report.period;
    let days = if period.first_day == period.last_day {
        period.first_day.clone()
    } else {
        format!("{} to {}", period.first_day, period.last_day)
    };
    let source =
        period.source.as_deref().map_or("all sources".into(), |it| format!("source {}", line(it)));
    writeln!(f, "Mailpulse report: {days} ({}), {source}", period.zone)?;
    writeln!(f, "from {} until before {}, made at {}", period.from, period.to, period.made_at)
}

fn totals(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let totals = &report.totals;
    heading(f, "Totals")?;
    let (hour, minute) = (&report.pace.per_hour, &report.pace.per_minute);
    let speed = |avg, peak, at: &Option<String>| {
        let at = at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
        format!("{} on average, {} at most{at}", average(avg), count(peak))
    };
    for (name, value) in [
        ("Events", count(totals.events)),
        ("Messages sent", count(totals.sent)),
        ("Unique recipients", count(totals.unique_recipients)),
        ("Active campaigns", count(totals.active_campaigns)),
        ("Events per hour", speed(hour.avg, hour.peak, &hour.peak_at)),
        ("Events per minute", speed(minute.avg, minute.peak, &minute.peak_at)),
    ] {
        writeln!(f, "  {name:<18} {value:>12}")?;
    }
    Ok(())
}

fn rates(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    heading(f, "Rates")?;
    for rate in &report.rates {
        writeln!(
            f,
            "  {:<24} {:>10}  {:>12} of {:>12}  {}",
            capital(&rate.metric.to_string()),
            percent(rate.rate),
            count(rate.numerator),
            count(rate.denominator),
            bar(rate.rate.unwrap_or_default())
        )?;
    }
    Ok(())
}

fn kinds(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    if report.kinds.is_empty() {
        return Ok(());
    }
    heading(f, "Events by kind")?;
    let most = report.kinds.iter().map(|kind| kind.events).max().unwrap_or_default();
    for kind in &report.kinds {
        let bar = bar(share(kind.events, most));
        writeln!(f, "  {:<24} {:>12}  {bar}", capital(&line(&kind.kind)), count(kind.events))?;
    }
    Ok(())
}

fn groups(f: &mut Formatter<'_>, name: &str, groups: &[Group]) -> fmt::Result {
    if groups.is_empty() {
        return Ok(());
    }
    heading(f, name)?;
    let width = groups.iter().map(|group| short(&group.name).chars().count()).max().unwrap_or(0);
    writeln!(
        f,
        "  {:<width$} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "", "sent", "delivered", "bounced", "complained", "opened", "clicked"
    )?;
    let most = groups.iter().map(|group| group.sent).max().unwrap_or_default();
    for group in groups {
        let rate = |metric| percent(group.rate(metric));
        writeln!(
            f,
            "  {:<width$} {:>12} {:>10} {:>10} {:>10} {:>10} {:>10}  {}",
            short(&group.name),
            count(group.sent),
            rate(Metric::Delivery),
            rate(Metric::Bounce),
            rate(Metric::Complaint),
            rate(Metric::Open),
            rate(Metric::Click),
            bar(share(group.sent, most))
        )?;
    }
    Ok(())
}

fn countries(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    if report.countries.is_empty() {
        return Ok(());
    }
    heading(f, &with_utc_days(report, "Countries of readers"))?;
    let of = |opened: u64, clicked: u64| opened.saturating_add(clicked);
    let most =
        report.countries.iter().map(|it| of(it.opened, it.clicked)).max().unwrap_or_default();
    writeln!(f, "  {:<10} {:>12} {:>12}", "", "opened", "clicked")?;
    for country in &report.countries {
        writeln!(
            f,
            "  {:<10} {:>12} {:>12}  {}",
            line(&country.country),
            count(country.opened),
            count(country.clicked),
            bar(share(of(country.opened, country.clicked), most))
        )?;
    }
    Ok(())
}

fn bounce_reasons(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    if report.bounce_reasons.is_empty() {
        return Ok(());
    }
    heading(f, "Reasons of bounces")?;
    for reason in &report.bounce_reasons {
        writeln!(
            f,
            "  {:>10}  {:<12} {:<18} {:<7} {}",
            count(reason.messages),
            line(&reason.permanence),
            line(&reason.class),
            line(&reason.status),
            truncate_line(reason.example.as_bytes(), 80)
        )?;
    }
    Ok(())
}

fn processing(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    let Some(processing) = &report.processing else { return Ok(()) };
    heading(f, "Processing, from the receipt of an event to its row")?;
    writeln!(
        f,
        "  average {}, median {}, 95 % within {}, at most {}",
        seconds(processing.avg),
        seconds(processing.p50),
        seconds(processing.p95),
        seconds(processing.max)
    )
}

fn course(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    /// More lines than this do not fit on a screen; the page and the JSON have all.
    const MOST: usize = 48;
    let points = &report.course.points;
    let is_empty = points.iter().all(|point| point.events == 0);
    if is_empty {
        return Ok(());
    }
    let every = match report.course.step {
        Step::Hour => "hour",
        Step::Day => "day",
    };
    heading(f, &format!("Events by {every}"))?;
    let most = points.iter().map(|point| point.events).max().unwrap_or_default();
    let left_out = points.len().saturating_sub(MOST);
    for Point { at, events, bounce_rate, .. } in points.iter().skip(left_out) {
        writeln!(
            f,
            "  {at} {:>12}  {:<BAR$}  {:>9} bounced",
            count(*events),
            bar(share(*events, most)),
            percent(*bounce_rate)
        )?;
    }
    if left_out > 0 {
        writeln!(
            f,
            "  The first {left_out} are left out; --format json and html have all of them."
        )?;
    }
    Ok(())
}

fn incidents(f: &mut Formatter<'_>, report: &Report) -> fmt::Result {
    heading(f, "Incidents")?;
    if report.incidents.is_empty() {
        return writeln!(f, "  none");
    }
    for incident in &report.incidents {
        writeln!(
            f,
            "  {}  {:<8} {:<8} {}  {}",
            incident.id.get(..16).unwrap_or(&incident.id),
            incident.severity,
            incident.state,
            incident.opened_at,
            truncate_line(incident.summary.as_bytes(), 160)
        )?;
    }
    Ok(())
}

fn heading(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    writeln!(f, "\n{text}")
}

/// Adds that the days of the table are UTC, if those of the report are not.
fn with_utc_days(report: &Report, name: &str) -> String {
    if report.period.zone == "UTC" { name.to_owned() } else { format!("{name} (days in UTC)") }
}

/// Draws a share from 0 to 1 in eighths of characters. Any share above 0 can be seen.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 8 × BAR")]
#[expect(clippy::cast_precision_loss, reason = "BAR is small")]
fn bar(share: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn line(text: &str) -> String {
    escape_line(text.as_bytes())
}

fn short(text: &str) -> String {
    truncate_line(text.as_bytes(), NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_eighths_and_shows_the_smallest_share() {
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1e-9), "▏");
        assert_eq!(bar(0.5), "█".repeat(12));
        assert_eq!(bar(7.0), "█".repeat(24));
        assert_eq!(bar(1.0 / 24.0 + 1.0 / 48.0), "█▌");
    }
}
