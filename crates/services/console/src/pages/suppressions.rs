//! `/suppressions`: who must not be mailed, and how that has changed.

use std::collections::BTreeSet;

use askama::Template;
use http::StatusCode;
use serde::Deserialize;

use super::chart::{Chart, Line};
use super::{Ask, Frame, Part, TimeCell};
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::store::Query;
use crate::{format, mask};

/// How many days the chart and the changes cover.
const DAYS: i64 = 30;

/// How many rows the table of what suppresses now has.
const ROWS: usize = 200;

const DAY: i64 = 86_400;

#[derive(Template)]
#[template(path = "suppressions.html")]
struct Page {
    frame: Frame,
    days: i64,
    now: Part<Standing>,
    provisional: Part<Vec<ProvisionalRow>>,
    /// The chart as JSON; empty if nothing has changed.
    chart: Part<String>,
    changes: Part<Vec<ChangeRow>>,
}

/// What suppresses now.
struct Standing {
    /// The largest ones.
    rows: Vec<StandingRow>,
    /// Whether there are more rows.
    is_cut: bool,
    entries: String,
    provisional: u64,
    provisional_text: String,
    /// The entries of each reason, the most frequent first.
    reasons: Vec<(String, u64, String)>,
}

struct StandingRow {
    row: OfReason,
    entries: String,
    recipients: String,
    provisional: String,
    /// The width of the bar, from 0 to 100.
    bar: String,
}

struct ProvisionalRow {
    row: Provisional,
    entries: String,
    earliest: TimeCell,
}

struct ChangeRow {
    row: Change,
    changed: TimeCell,
}

#[derive(Deserialize)]
struct OfReason {
    /// Whether it is the total of a reason, of all lists.
    is_total: bool,
    list: String,
    reason: String,
    entries: u64,
    recipients: u64,
    provisional: u64,
}

#[derive(Deserialize)]
struct Provisional {
    incident: String,
    mailbox_provider: String,
    entries: u64,
    /// UTC microseconds.
    earliest: i64,
}

#[derive(Deserialize)]
struct OfDay {
    /// Seconds since the Unix epoch.
    day: i64,
    reason: String,
    suppressed: u64,
    lifted: u64,
}

#[derive(Deserialize)]
struct Change {
    list: String,
    /// The keyed digest of the address.
    recipient: String,
    reason: String,
    scope: String,
    author: String,
    state: String,
    purpose: String,
    provisional: bool,
    mailbox_provider: String,
    status: String,
    wording: String,
    /// UTC microseconds.
    changed: i64,
}

/// Renders the page. What ClickHouse does not answer is named in its place.
///
/// # Errors
/// If the template fails.
pub async fn render(ask: &Ask<'_>) -> Result<Response, Problem> {
    let (store, role) = (&ask.pages.store, ask.role());
    let today = ask.now.as_second().div_euclid(DAY) * DAY;
    let from = today - (DAYS - 1) * DAY;
    let query = |name, sql| Query::new(name, sql).with("from", from);
    let now = Query::new("suppressed_now", include_str!("../sql/suppressed_now.sql"));
    let provisional = Query::new("provisional", include_str!("../sql/provisional.sql"));
    let by_day = query("suppressions_by_day", include_str!("../sql/suppressions_by_day.sql"));
    let changes = query("suppression_changes", include_str!("../sql/suppression_changes.sql"));
    let (now, provisional, by_day, changes) = tokio::join!(
        store.rows::<OfReason>(&now),
        store.rows::<Provisional>(&provisional),
        store.rows::<OfDay>(&by_day),
        store.rows::<Change>(&changes),
    );
    let provisional = provisional.map(|rows| {
        let rows = rows.into_iter().map(|row| ProvisionalRow {
            entries: format::count(row.entries),
            earliest: TimeCell::new(row.earliest),
            row,
        });
        rows.collect()
    });
    let changes = changes.map(|rows| {
        let rows = rows.into_iter().map(|row| ChangeRow {
            changed: TimeCell::new(row.changed),
            row: Change { wording: mask::text(role, &row.wording), ..row },
        });
        rows.collect()
    });
    let chart = by_day.map(|rows| {
        let is_empty = rows.is_empty();
        if is_empty { String::new() } else { chart(&rows, from, today + DAY).json() }
    });
    let page = Page {
        frame: ask.frame("Suppressions", "suppressions"),
        days: DAYS,
        now: now.map(standing).into(),
        provisional: provisional.into(),
        chart: chart.into(),
        changes: changes.into(),
    };
    response::page(StatusCode::OK, &page)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn standing(rows: Vec<OfReason>) -> Standing {
    let (totals, mut rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.is_total);
    let is_cut = rows.len() > ROWS;
    rows.truncate(ROWS);
    let most = rows.iter().map(|row| row.entries).max().unwrap_or(0).max(1);
    let provisional = totals.iter().map(|row| row.provisional).sum();
    Standing {
        entries: format::count(totals.iter().map(|row| row.entries).sum()),
        provisional,
        provisional_text: format::count(provisional),
        reasons: totals
            .into_iter()
            .map(|row| (row.reason, row.entries, format::count(row.entries)))
            .collect(),
        is_cut,
        rows: rows
            .into_iter()
            .map(|row| StandingRow {
                entries: format::count(row.entries),
                recipients: format::count(row.recipients),
                provisional: format::count(row.provisional),
                bar: format!("{:.1}", 100.0 * row.entries as f64 / most as f64),
                row,
            })
            .collect(),
    }
}

/// Returns a line for each reason, and one for what ended.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn chart(rows: &[OfDay], from: i64, to: i64) -> Chart {
    let at = Chart::steps(from, to, DAY);
    let reasons: BTreeSet<&str> =
        rows.iter().filter(|row| row.suppressed > 0).map(|row| &*row.reason).collect();
    let values = |count: &dyn Fn(&OfDay) -> u64| {
        let on = |day: i64| rows.iter().filter(move |row| row.day == day).map(count).sum::<u64>();
        at.iter().map(|day| Some(on(*day) as f64)).collect::<Vec<_>>()
    };
    let mut lines: Vec<Line> = reasons
        .into_iter()
        .map(|reason| Line {
            label: reason.to_owned(),
            values: values(&|row| if row.reason == reason { row.suppressed } else { 0 }),
        })
        .collect();
    if rows.iter().any(|row| row.lifted > 0) {
        lines.push(Line { label: "ended".to_owned(), values: values(&|row| row.lifted) });
    }
    Chart { unit: "count", lines, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_those_of_all_lists_even_if_the_table_is_cut() {
        let row = |is_total, list: String, reason: &str, entries| OfReason {
            is_total,
            list,
            reason: reason.to_owned(),
            entries,
            recipients: entries,
            provisional: 1,
        };
        let lists = (0..250).map(|list| row(false, list.to_string(), "hard_bounce", 2));
        let totals = [("hard_bounce", 900), ("manual", 7)]
            .map(|(reason, entries)| row(true, String::new(), reason, entries));
        let standing = standing(totals.into_iter().chain(lists).collect());
        assert_eq!((standing.rows.len(), standing.is_cut), (ROWS, true));
        assert_eq!((&*standing.entries, standing.provisional), ("907", 2));
        let reasons: Vec<_> = standing.reasons.iter().map(|it| (&*it.0, it.1)).collect();
        assert_eq!(reasons, [("hard_bounce", 900), ("manual", 7)]);
    }
}
