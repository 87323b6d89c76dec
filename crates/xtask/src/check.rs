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

/// A table of figures beside what they should be.
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
}

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

#[derive(Deserialize, Default)]
struct SourceRow {
    provider: String,
    source: String,
    delivered: u64,
    hard: u64,
    soft: u64,
    complained: u64,
    unsubscribed: u64,
    opens: u64,
    clicks: u64,
    machine: u64,
}

const SOURCES: &str = "
    SELECT toString(provider) AS provider, toString(source) AS source,
        countIf(kind = 'delivered') AS delivered,
        countIf(kind = 'bounced' AND bounce_permanence = 'hard') AS hard,
        countIf(kind = 'bounced' AND bounce_permanence = 'soft') AS soft,
        countIf(kind = 'complained') AS complained,
        countIf(kind = 'unsubscribed') AS unsubscribed,
        countIf(kind = 'opened' AND first_of_kind AND automation_reason = '') AS opens,
        countIf(kind = 'clicked' AND first_of_kind AND automation_reason = '') AS clicks,
        countIf(kind IN ('opened', 'clicked') AND automation_reason != '') AS machine
    FROM mailpulse.events GROUP BY provider, source";

async fn sources(sheet: &mut Sheet, url: &str, traffic: &Traffic) -> anyhow::Result<()> {
    let rows: Vec<SourceRow> = query(url, SOURCES).await?;
    let rows: BTreeMap<_, _> =
        rows.into_iter().map(|row| ((row.provider.clone(), row.source.clone()), row)).collect();
    for ((provider, source), truth) in &traffic.truth().sources {
        let none = SourceRow::default();
        let key = (provider.to_string(), source.clone());
        let found = rows.get(&key).unwrap_or(&none);
        let SourceTruth { delivered, hard_bounces, soft_bounces, complaints, .. } = *truth;
        sheet.heading(&format!("{provider}/{source}"));
        sheet.row("delivered", found.delivered, delivered);
        sheet.row("hard bounces", found.hard, hard_bounces);
        sheet.row("soft bounces", found.soft, soft_bounces);
        sheet.row("complaints", found.complained, complaints);
        sheet.row("unsubscribes", found.unsubscribed, truth.unsubscribes);
        sheet.row("unique opens by people", found.opens, truth.unique_opens);
        sheet.row("unique clicks by people", found.clicks, truth.unique_clicks);
        sheet.row("opens and clicks by machines", found.machine, truth.machine_engagements);
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
