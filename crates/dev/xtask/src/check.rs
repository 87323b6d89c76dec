//! What ClickHouse says, beside the truth.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Context;
use event::Kind;
use serde::{Deserialize, de::DeserializeOwned};
use testkit::{ExpectedAlert, SourceTruth, Traffic};

use crate::pipeline::Pipeline;

/// What the requests were answered with.
#[derive(Debug, Default)]
pub(crate) struct Posted {
    taken: u64,
    pub(crate) accepted: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) refused: u64,
    /// Answers that made us post again.
    pub(crate) repeated: u64,
}

/// The answer to a webhook.
#[derive(Deserialize)]
pub(crate) struct Receipt {
    accepted: u64,
    dead_lettered: u64,
}

impl Posted {
    pub(crate) fn take(&mut self, receipt: &Receipt) {
        self.taken += 1;
        self.accepted += receipt.accepted;
        self.dead_lettered += receipt.dead_lettered;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.taken += other.taken;
        self.accepted += other.accepted;
        self.dead_lettered += other.dead_lettered;
        self.refused += other.refused;
        self.repeated += other.repeated;
    }

    pub(crate) fn requests(&self) -> u64 {
        self.taken + self.refused
    }
}

/// How it ended.
pub(crate) struct Verdict {
    /// For people.
    pub(crate) report: String,
    /// Whether every figure equals the truth.
    pub(crate) is_equal: bool,
}

/// Figures beside what they should be.
struct Sheet {
    text: String,
    is_equal: bool,
}

impl Sheet {
    fn heading(&mut self, title: &str) {
        let _ = writeln!(self.text, "\n{title:<44}{:>10}{:>10}", "found", "truth");
    }

    fn row(&mut self, what: &str, found: u64, truth: u64) {
        let mark = if found == truth { "" } else { "  ← differs" };
        self.is_equal &= found == truth;
        let _ = writeln!(self.text, "  {what:<42}{found:>10}{truth:>10}{mark}");
    }

    /// The heading of a table with a row per source, for [`Sheet::cells`].
    fn columns(&mut self, title: &str) {
        let names = Figure::ALL.map(|figure| figure.name).join(" ");
        let _ = writeln!(self.text, "\n{title}\n{:SOURCE_WIDTH$} {names}", "");
    }

    /// A row of that table: what was found, and the truth where that is something else.
    fn cells(&mut self, source: &str, found: Figures, truth: Figures) {
        let _ = write!(self.text, "{:<SOURCE_WIDTH$}", format!("  {source}"));
        let mut mark = "";
        for ((Figure { name, .. }, found), truth) in Figure::ALL.into_iter().zip(found).zip(truth) {
            let cell = if found == truth {
                found.to_string()
            } else {
                (self.is_equal, mark) = (false, "  ← differs");
                format!("{found}≠{truth}")
            };
            let _ = write!(self.text, " {cell:>0$}", name.len());
        }
        let _ = writeln!(self.text, "{mark}");
    }
}

/// Fits the longest name of a provider with that of its source.
const SOURCE_WIDTH: usize = 24;

/// Asks ClickHouse for everything that has a truth.
pub(crate) async fn compare(
    pipeline: &Pipeline,
    traffic: &Traffic,
    posted: &Posted,
) -> anyhow::Result<Verdict> {
    let url = pipeline.clickhouse.url();
    let truth = traffic.truth();
    let mut sheet = Sheet { text: String::new(), is_equal: true };

    let rows = count(url, "SELECT count() FROM mailpulse.events").await?;
    let ids = count(url, "SELECT uniqExact(event_id) FROM mailpulse.events").await?;
    let dead = count(url, "SELECT count() FROM mailpulse.dead_letters").await?;
    sheet.heading("every event, once");
    sheet.row("requests taken or refused", posted.requests(), truth.requests);
    sheet.row("refused for their signature", posted.refused, truth.refused);
    sheet.row("events accepted", posted.accepted, truth.accepted_total());
    sheet.row("rows in ClickHouse", rows, truth.distinct_total());
    sheet.row("distinct event ids", ids, truth.distinct_total());
    sheet.row("duplicates removed", posted.accepted.saturating_sub(rows), truth.duplicates);
    sheet.row("dead letters", dead, truth.malformed);

    kinds(&mut sheet, url, traffic).await?;
    sources(&mut sheet, url, traffic).await?;
    alerts(&mut sheet, url, &truth.alerts).await?;
    let restarts = pipeline.supervisor.restarts();
    let _ = writeln!(
        sheet.text,
        "\nservices started again: {restarts}; requests posted again: {}",
        posted.repeated
    );
    Ok(Verdict { report: sheet.text, is_equal: sheet.is_equal })
}

#[derive(Deserialize)]
struct KindRow {
    kind: String,
    n: u64,
}

async fn kinds(sheet: &mut Sheet, url: &str, traffic: &Traffic) -> anyhow::Result<()> {
    let found: Vec<KindRow> = query(
        url,
        "SELECT toString(kind) AS kind, count() AS n FROM mailpulse.events GROUP BY kind",
    )
    .await?;
    sheet.heading("SELECT kind, count() FROM events GROUP BY kind");
    for kind in Kind::ALL {
        let truth = traffic.truth().distinct.iter().filter(|((_, k), _)| *k == kind);
        let truth: u64 = truth.map(|(_, n)| n).sum();
        let found = found.iter().filter(|row| row.kind == kind.as_str()).map(|row| row.n).sum();
        if truth > 0 || found > 0 {
            sheet.row(kind.as_str(), found, truth);
        }
    }
    Ok(())
}

/// A column of the table of sources: its name, which events count, and how many there must be.
struct Figure {
    name: &'static str,
    events: &'static str,
    truth: fn(&SourceTruth) -> u64,
}

impl Figure {
    const ALL: [Self; 8] = [
        Self::new("delivered", "kind = 'delivered'", |truth| truth.delivered),
        Self::new("hard", "kind = 'bounced' AND bounce_permanence = 'hard'", |truth| {
            truth.hard_bounces
        }),
        Self::new("soft", "kind = 'bounced' AND bounce_permanence = 'soft'", |truth| {
            truth.soft_bounces
        }),
        Self::new("spam", "kind = 'complained'", |truth| truth.complaints),
        Self::new("unsub", "kind = 'unsubscribed'", |truth| truth.unsubscribes),
        Self::new(
            "opens",
            "kind = 'opened' AND first_of_kind AND automation_reason = ''",
            |truth| truth.unique_opens,
        ),
        Self::new(
            "clicks",
            "kind = 'clicked' AND first_of_kind AND automation_reason = ''",
            |truth| truth.unique_clicks,
        ),
        Self::new(
            "machine",
            "kind IN ('opened', 'clicked') AND automation_reason != ''",
            |truth| truth.machine_engagements,
        ),
    ];

    const fn new(name: &'static str, events: &'static str, truth: fn(&SourceTruth) -> u64) -> Self {
        Self { name, events, truth }
    }
}

/// In the order of [`Figure::ALL`].
type Figures = [u64; Figure::ALL.len()];

#[derive(Deserialize)]
struct SourceRow {
    source: String,
    figures: Figures,
}

async fn sources(sheet: &mut Sheet, url: &str, traffic: &Traffic) -> anyhow::Result<()> {
    let figures = Figure::ALL.map(|figure| format!("countIf({})", figure.events)).join(", ");
    let rows: Vec<SourceRow> = query(
        url,
        &format!(
            "SELECT concat(provider, '/', source) AS source, [{figures}] AS figures \
             FROM mailpulse.events GROUP BY provider, source"
        ),
    )
    .await?;
    let rows: BTreeMap<String, Figures> =
        rows.into_iter().map(|row| (row.source, row.figures)).collect();
    sheet.columns("each source; opens and clicks by people, once per message");
    for ((provider, source), truth) in &traffic.truth().sources {
        let source = format!("{provider}/{source}");
        let found = rows.get(&source).copied().unwrap_or_default();
        sheet.cells(&source, found, Figure::ALL.map(|figure| (figure.truth)(truth)));
    }
    Ok(())
}

#[derive(Deserialize)]
struct AlertRow {
    episode: String,
    rule: String,
    provider: String,
    source: String,
    scope: String,
    fired: u64,
    resolved: u64,
    peak: f64,
}

const ALERTS: &str = "
    SELECT toString(episode_id) AS episode, any(toString(rule)) AS rule,
        any(toString(provider)) AS provider, any(toString(source)) AS source,
        any(toString(scope)) AS scope,
        countIf(state = 'firing' AND at = started_at) AS fired,
        countIf(state = 'resolved') AS resolved,
        toFloat64(maxIf(value, state = 'firing')) AS peak
    FROM mailpulse.alerts GROUP BY episode_id ORDER BY min(started_at)";

async fn alerts(sheet: &mut Sheet, url: &str, expected: &[ExpectedAlert]) -> anyhow::Result<()> {
    let found: Vec<AlertRow> = query(url, ALERTS).await?;
    sheet.heading("alerts");
    let total = |figure: fn(&AlertRow) -> u64| found.iter().map(figure).sum::<u64>();
    sheet.row("episodes", found.len() as u64, expected.len() as u64);
    sheet.row("fired", total(|row| row.fired), expected.len() as u64);
    sheet.row("resolved", total(|row| row.resolved), expected.len() as u64);
    for alert in expected {
        let same = found.iter().filter(|row| {
            row.scope == "source"
                && row.provider == alert.provider.as_str()
                && row.source == alert.source
                && row.rule == "bounce_rate"
        });
        let what = format!("bounce_rate of {}/{}", alert.provider, alert.source);
        sheet.row(&what, same.count() as u64, 1);
    }
    for row in found {
        let _ = writeln!(
            sheet.text,
            "  {} · {}/{} · {} · worst {:.1} % · episode {}",
            row.rule,
            row.provider,
            row.source,
            if row.resolved > 0 { "fired and resolved" } else { "firing" },
            row.peak * 100.0,
            row.episode
        );
    }
    Ok(())
}

/// The one number a query gives.
pub(crate) async fn count(url: &str, sql: &str) -> anyhow::Result<u64> {
    text(url, sql).await?.trim().parse().with_context(|| sql.to_owned())
}

/// The rows a query gives.
pub(crate) async fn query<T: DeserializeOwned>(url: &str, sql: &str) -> anyhow::Result<Vec<T>> {
    let sql =
        format!("{sql} SETTINGS output_format_json_quote_64bit_integers = 0 FORMAT JSONEachRow");
    let rows = text(url, &sql).await?;
    rows.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// What ClickHouse answers to a statement.
pub(crate) async fn text(url: &str, sql: &str) -> anyhow::Result<String> {
    let response = reqwest::Client::new().post(url).body(sql.to_owned()).send().await?;
    let status = response.status();
    let text = response.text().await?;
    anyhow::ensure!(status.is_success(), "ClickHouse: {text}");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: Figures = [1_120, 158, 5, 1, 4, 470, 141, 90];

    fn row(found: Figures) -> Sheet {
        let mut sheet = Sheet { text: String::new(), is_equal: true };
        sheet.cells("standardwebhooks/forum", found, TRUTH);
        sheet
    }

    #[test]
    fn a_row_of_figures_fits_a_terminal_and_stands_under_its_columns() {
        let sheet = row(TRUTH);
        assert!(sheet.is_equal && !sheet.text.contains('≠'));
        let mut heading = Sheet { text: String::new(), is_equal: true };
        heading.columns("by source");
        let heading = heading.text.lines().last().unwrap_or_default().len();
        assert_eq!(sheet.text.trim_end().len(), heading);
        assert!(heading <= 80, "{heading}");
    }

    #[test]
    fn a_cell_that_differs_says_both_figures_and_fails_the_whole() {
        let sheet = row([1_120, 158, 5, 1, 4, 468, 141, 90]);
        assert!(!sheet.is_equal);
        assert!(sheet.text.contains(" 468≠470 ") && sheet.text.ends_with("← differs\n"));
        assert_eq!(sheet.text.matches('≠').count(), 1);
    }
}
