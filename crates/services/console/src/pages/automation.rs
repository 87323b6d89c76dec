//! `/automation`: what the rules of `automate` have done, and the segments that they fill.

use std::collections::BTreeMap;

use askama::Template;
use http::StatusCode;
use serde::Deserialize;

use super::chart::{Chart, Line};
use super::{Ask, Frame, Part, TimeCell};
use crate::format;
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::Query;

/// How many days are covered.
const DAYS: i64 = 30;

/// How many rules have a line.
const LINES: usize = 6;

const DAY: i64 = 86_400;

#[derive(Template)]
#[template(path = "automation.html")]
struct Page {
    frame: Frame,
    days: i64,
    rules: Part<Vec<RuleRow>>,
    /// The chart as JSON; empty if no rule has acted.
    chart: Part<String>,
    segments: Part<Vec<SegmentRow>>,
}

struct RuleRow {
    row: Rule,
    actions: String,
    recipients: String,
    follow_ups: String,
    /// The average time to the decision, and the least and the greatest. Empty: not known.
    seconds: String,
    range: String,
    latest: TimeCell,
}

struct SegmentRow {
    row: Segment,
    members: String,
    added: String,
    removed: String,
    latest: TimeCell,
}

#[derive(Deserialize)]
struct Rule {
    rule: String,
    r#type: String,
    actions: u64,
    recipients: u64,
    follow_ups: u64,
    seconds_avg: Option<f64>,
    seconds_min: Option<f64>,
    seconds_max: Option<f64>,
    /// UTC microseconds.
    latest: i64,
}

#[derive(Deserialize)]
struct OfDay {
    rule: String,
    /// Seconds since the Unix epoch.
    at: i64,
    actions: u64,
}

#[derive(Deserialize)]
struct Segment {
    name: String,
    members: u64,
    added: u64,
    removed: u64,
    /// UTC microseconds.
    latest: i64,
}

/// Renders the page. What ClickHouse does not answer is named in its place.
///
/// # Errors
/// If the template fails.
pub async fn render(ask: &Ask<'_>) -> Result<Response, Problem> {
    let store = &ask.pages.store;
    let today = ask.now.as_second().div_euclid(DAY) * DAY;
    let from = today - (DAYS - 1) * DAY;
    let query = |name, sql| Query::new(name, sql).with("from", from);
    let rules = query("automation", include_str!("../sql/automation.sql"));
    let by_day = query("automation_by_day", include_str!("../sql/automation_by_day.sql"));
    let segments = query("segments", include_str!("../sql/segments.sql"));
    let (rules, by_day, segments) = tokio::join!(
        store.rows::<Rule>(&rules),
        store.rows::<OfDay>(&by_day),
        store.rows::<Segment>(&segments),
    );
    let chart = by_day.map(|rows| {
        let is_empty = rows.is_empty();
        if is_empty { String::new() } else { chart(&rows, from, today + DAY).json() }
    });
    let page = Page {
        frame: ask.frame("Automation", "automation"),
        days: DAYS,
        rules: rules.map(|rows| rows.into_iter().map(rule_row).collect()).into(),
        chart: chart.into(),
        segments: segments.map(|rows| rows.into_iter().map(segment_row).collect()).into(),
    };
    response::page(StatusCode::OK, &page)
}

fn rule_row(row: Rule) -> RuleRow {
    let range = row.seconds_min.zip(row.seconds_max);
    RuleRow {
        actions: format::count(row.actions),
        recipients: format::count(row.recipients),
        follow_ups: format::count(row.follow_ups),
        seconds: row.seconds_avg.map_or_else(|| "unknown".to_owned(), seconds),
        range: range
            .map_or_else(String::new, |(min, max)| format!("{} to {}", seconds(min), seconds(max))),
        latest: TimeCell::new(row.latest),
        row,
    }
}

fn segment_row(row: Segment) -> SegmentRow {
    SegmentRow {
        members: format::count(row.members),
        added: format::count(row.added),
        removed: format::count(row.removed),
        latest: TimeCell::new(row.latest),
        row,
    }
}

/// Returns a duration, such as `0.42 s`, `95 s` or `12 min`.
fn seconds(seconds: f64) -> String {
    match seconds {
        it if it.abs() < 9.995 => format!("{it:.2} s"),
        it if it.abs() < 120.0 => format!("{it:.0} s"),
        it if it.abs() < 7_200.0 => format!("{:.0} min", it / 60.0),
        it => format!("{:.1} h", it / 3_600.0),
    }
}

/// Returns a line for each of the rules that have acted most.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn chart(rows: &[OfDay], from: i64, to: i64) -> Chart {
    let at = Chart::steps(from, to, DAY);
    let (mut sums, mut values) = (BTreeMap::new(), BTreeMap::new());
    for row in rows {
        *sums.entry(&*row.rule).or_insert(0) += row.actions;
        values.insert((&*row.rule, row.at), row.actions);
    }
    let mut rules: Vec<(&str, u64)> = sums.into_iter().collect();
    rules.sort_by_key(|(_, actions)| std::cmp::Reverse(*actions));
    let line = |rule: &str| Line {
        label: rule.to_owned(),
        values: at
            .iter()
            .map(|at| Some(values.get(&(rule, *at)).copied().unwrap_or(0) as f64))
            .collect(),
    };
    let lines = rules.iter().take(LINES).map(|(rule, _)| line(rule)).collect();
    Chart { unit: "count", lines, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        for (of, expected) in [
            (-0.02, "-0.02 s"),
            (0.423, "0.42 s"),
            (42.0, "42 s"),
            (600.0, "10 min"),
            (9e3, "2.5 h"),
        ] {
            assert_eq!(seconds(of), expected);
        }
    }
}
