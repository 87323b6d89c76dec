//! `/mailbox-providers`: deliverability by the operator of the mailboxes.

use std::collections::BTreeMap;

use askama::Template;
use http::StatusCode;
use window::{Counts, Metric};

use super::chart::{Chart, Line};
use super::overview::{MailboxProviderRow, mailbox_provider_rows, sources};
use super::{Ask, Frame};
use crate::format;
use crate::parameters::Period;
use crate::problem::Problem;
use crate::response::{self, Response};
use crate::traffic::{self, By, Rate, Traffic};

/// How many mailbox providers have a line.
const LINES: usize = 6;

/// The charts: the metric, and what it is called.
const CHARTS: [(Metric, &str); 5] = [
    (Metric::Bounce, "Bounce rate"),
    (Metric::Deferral, "Deferral rate"),
    (Metric::Complaint, "Complaint rate"),
    (Metric::Open, "Open rate"),
    (Metric::Click, "Click rate"),
];

#[derive(Template)]
#[template(path = "mailbox_providers.html")]
struct Page {
    frame: Frame,
    source: String,
    sources: Vec<String>,
    from: String,
    to: String,
    rows: Vec<MailboxProviderRow>,
    charts: Vec<(&'static str, String)>,
}

/// Renders the page.
///
/// # Errors
/// [`Problem::InvalidParameter`] or [`Problem::Store`].
pub async fn render(ask: &Ask<'_>) -> Result<Response, Problem> {
    let (store, now) = (&ask.pages.store, ask.now);
    let source = ask.parameters.source()?;
    let period = ask.parameters.period(24, now)?;
    let (all, by_step, sources) = tokio::join!(
        traffic::ask(store, By::MailboxProvider, 0, period, &source),
        traffic::ask(store, By::MailboxProvider, period.step(), period, &source),
        sources(store, now.as_second()),
    );
    let all = all?;
    let mut by_sent: Vec<&Traffic> = all.iter().collect();
    by_sent.sort_by_key(|row| std::cmp::Reverse(window::sent(&row.counts)));
    let names: Vec<String> = by_sent.iter().take(LINES).map(|row| row.name.clone()).collect();
    let by_step = by_step?;
    let mut charts = vec![("Messages sent", sent_chart(&names, &by_step, period).json())];
    charts.extend(
        CHARTS.map(|(metric, title)| (title, rate_chart(metric, &names, &by_step, period).json())),
    );
    let page = Page {
        frame: ask.frame("Mailbox providers", "mailbox-providers"),
        source: source.text(),
        sources: sources?.into_iter().map(|row| row.source).collect(),
        from: format::form_time(period.from),
        to: format::form_time(period.to),
        rows: mailbox_provider_rows(all),
        charts,
    };
    response::page(StatusCode::OK, &page)
}

fn rate_chart(metric: Metric, names: &[String], rows: &[Traffic], period: Period) -> Chart {
    chart("percent", names, rows, period, |counts| {
        counts.and_then(|counts| Rate::of(metric, counts).share())
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn sent_chart(names: &[String], rows: &[Traffic], period: Period) -> Chart {
    chart("count", names, rows, period, |counts| {
        Some(counts.map_or(0.0, |counts| window::sent(counts) as f64))
    })
}

/// Returns a chart with a line for each name. `value` is asked for every step; `None`: nothing happened in it.
fn chart(
    unit: &'static str,
    names: &[String],
    rows: &[Traffic],
    period: Period,
    value: impl Fn(Option<&Counts>) -> Option<f64>,
) -> Chart {
    let counts: BTreeMap<(&str, i64), &Counts> =
        rows.iter().map(|row| ((&*row.name, row.at), &row.counts)).collect();
    let at = Chart::steps(period.from, period.to, period.step());
    let lines = names.iter().map(|name| Line {
        label: if name.is_empty() { "(unknown)".to_owned() } else { name.clone() },
        values: at.iter().map(|at| value(counts.get(&(&**name, *at)).copied())).collect(),
    });
    Chart { unit, lines: lines.collect(), at }
}
