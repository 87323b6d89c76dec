//! Compares the rows in ClickHouse with the truth.

use std::collections::BTreeMap;
use std::fmt::Write;

use event::Kind;
use serde::Deserialize;
use testkit::{ExpectedAlert, ExpectedSource, Traffic};

use crate::clickhouse::Database;
use crate::pipeline::Pipeline;

/// Counts the answers of the ingress.
#[derive(Debug, Default)]
pub(crate) struct Posted {
    accepted_requests: u64,
    pub(crate) accepted: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) rejected: u64,
    /// Requests that were posted again, because there was no answer or not a final one.
    pub(crate) repeated: u64,
}

/// The answer to a webhook.
#[derive(Deserialize)]
pub(crate) struct Receipt {
    accepted: u64,
    dead_lettered: u64,
}

impl Posted {
    pub(crate) fn accept(&mut self, receipt: &Receipt) {
        self.accepted_requests += 1;
        self.accepted += receipt.accepted;
        self.dead_lettered += receipt.dead_lettered;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.accepted_requests += other.accepted_requests;
        self.accepted += other.accepted;
        self.dead_lettered += other.dead_lettered;
        self.rejected += other.rejected;
        self.repeated += other.repeated;
    }

    pub(crate) fn requests(&self) -> u64 {
        self.accepted_requests + self.rejected
    }
}

/// The result of a comparison.
pub(crate) struct Comparison {
    /// A text for a terminal.
    pub(crate) report: String,
    /// Whether every number equals the truth.
    pub(crate) is_equal: bool,
}

/// A table of found and expected numbers.
pub(crate) struct Table {
    text: String,
    is_equal: bool,
}

impl Table {
    pub(crate) fn heading(&mut self, title: &str) {
        let _ = writeln!(self.text, "\n{title:<44}{:>10}{:>10}", "found", "truth");
    }

    pub(crate) fn row(&mut self, what: &str, found: u64, truth: u64) {
        let mark = if found == truth { "" } else { "  ← differs" };
        self.is_equal &= found == truth;
        let _ = writeln!(self.text, "  {what:<42}{found:>10}{truth:>10}{mark}");
    }

    /// Writes the heading of a part with one row per source, for [`Table::cells`].
    fn columns(&mut self, title: &str) {
        let names = Column::ALL.map(|column| column.name).join(" ");
        let _ = writeln!(self.text, "\n{title}\n{:SOURCE_WIDTH$} {names}", "");
    }

    /// Writes a row: the found numbers, and the truth where it differs.
    fn cells(&mut self, source: &str, found: Numbers, truth: Numbers) {
        let _ = write!(self.text, "{:<SOURCE_WIDTH$}", format!("  {source}"));
        let mut mark = "";
        for ((Column { name, .. }, found), truth) in Column::ALL.into_iter().zip(found).zip(truth) {
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

/// The length of the longest `provider/source`.
const SOURCE_WIDTH: usize = 24;

/// Compares everything of which the truth is known.
pub(crate) async fn compare(
    pipeline: &Pipeline,
    traffic: &Traffic,
    posted: &Posted,
) -> anyhow::Result<Comparison> {
    let database = &pipeline.database;
    let truth = traffic.expected();
    let mut table = Table { text: String::new(), is_equal: true };

    let rows = database.count("SELECT count() FROM events").await?;
    let ids = database.count("SELECT uniqExact(event_id) FROM events").await?;
    let dead = database.count("SELECT count() FROM dead_letters").await?;
    table.heading("every event, once");
    table.row("requests with a final answer", posted.requests(), truth.requests);
    table.row("rejected for a wrong signature", posted.rejected, truth.rejected);
    table.row("events accepted", posted.accepted, truth.accepted_total());
    table.row("rows in ClickHouse", rows, truth.distinct_total());
    table.row("distinct event ids", ids, truth.distinct_total());
    table.row("duplicates dropped", posted.accepted.saturating_sub(rows), truth.duplicates);
    table.row("dead letters", dead, truth.malformed);

    kinds(&mut table, database, traffic).await?;
    sources(&mut table, database, traffic).await?;
    incidents(&mut table, pipeline, &truth.alerts).await?;
    if let Some(acting) = &pipeline.acting {
        acting.compare(&mut table, database).await?;
    }
    let restarts = pipeline.supervisor.restarts();
    let _ = writeln!(
        table.text,
        "\nrestarted services: {restarts}; repeated requests: {}",
        posted.repeated
    );
    Ok(Comparison { report: table.text, is_equal: table.is_equal })
}

#[derive(Deserialize)]
struct KindRow {
    kind: String,
    n: u64,
}

async fn kinds(table: &mut Table, database: &Database, traffic: &Traffic) -> anyhow::Result<()> {
    let sql = "SELECT toString(kind) AS kind, count() AS n FROM events GROUP BY kind";
    let found: Vec<KindRow> = database.rows(sql).await?;
    table.heading("SELECT kind, count() FROM events GROUP BY kind");
    for kind in Kind::ALL {
        let truth = traffic.expected().distinct.iter().filter(|((_, k), _)| *k == kind);
        let truth: u64 = truth.map(|(_, n)| n).sum();
        let found = found.iter().filter(|row| row.kind == kind.as_str()).map(|row| row.n).sum();
        if truth > 0 || found > 0 {
            table.row(kind.as_str(), found, truth);
        }
    }
    Ok(())
}

/// A column of the part with one row per source: the condition of its events, and the truth.
struct Column {
    name: &'static str,
    events: &'static str,
    truth: fn(&ExpectedSource) -> u64,
}

impl Column {
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

    const fn new(
        name: &'static str,
        events: &'static str,
        truth: fn(&ExpectedSource) -> u64,
    ) -> Self {
        Self { name, events, truth }
    }
}

/// In the order of [`Column::ALL`].
type Numbers = [u64; Column::ALL.len()];

#[derive(Deserialize)]
struct SourceRow {
    source: String,
    numbers: Numbers,
}

async fn sources(table: &mut Table, database: &Database, traffic: &Traffic) -> anyhow::Result<()> {
    let counts = Column::ALL.map(|column| format!("countIf({})", column.events)).join(", ");
    let sql = format!(
        "SELECT concat(provider, '/', source) AS source, [{counts}] AS numbers \
         FROM events GROUP BY provider, source"
    );
    let rows: Vec<SourceRow> = database.rows(&sql).await?;
    let rows: BTreeMap<String, Numbers> =
        rows.into_iter().map(|row| (row.source, row.numbers)).collect();
    table.columns("each source; opens and clicks by people, once per message");
    for ((provider, source), truth) in &traffic.expected().sources {
        let source = format!("{provider}/{source}");
        let found = rows.get(&source).copied().unwrap_or_default();
        table.cells(&source, found, Column::ALL.map(|column| (column.truth)(truth)));
    }
    Ok(())
}

#[derive(Deserialize)]
struct IncidentRow {
    id: String,
    family: String,
    /// The provider and the source, if it is about one source.
    of: String,
    severity: String,
    state: String,
    summary: String,
}

/// The incidents of which people were notified, as last published.
const INCIDENTS: &str = "
    SELECT id, argMax(toString(family), seq) AS family, argMax(toString(group_of), seq) AS of,
        argMax(toString(severity), seq) AS severity, argMax(toString(state), seq) AS state,
        argMax(summary, seq) AS summary
    FROM incidents GROUP BY id HAVING max(page) > 0 ORDER BY min(opened_at)";

/// Compares the incidents with the sources that mailed a bad list: there is one about each of them, and notify has
/// delivered it.
async fn incidents(
    table: &mut Table,
    pipeline: &Pipeline,
    expected: &[ExpectedAlert],
) -> anyhow::Result<()> {
    let found: Vec<IncidentRow> = pipeline.database.rows(INCIDENTS).await?;
    table.heading("incidents");
    table.row("incidents", found.len() as u64, expected.len() as u64);
    for ExpectedAlert { provider, source, .. } in expected {
        let of = format!("{provider}/{source}");
        let same = found.iter().filter(|row| row.of == of && row.family == "bounces");
        table.row(&format!("about the bounces of {of}"), same.count() as u64, 1);
    }
    let log = pipeline.log("notify")?;
    let delivered = found.iter().filter(|row| log.contains(&row.id)).count() as u64;
    table.row("delivered by notify to its log", delivered, expected.len() as u64);
    for IncidentRow { id, severity, state, summary, .. } in found {
        let _ = writeln!(table.text, "  {severity}, {state}: {summary}\n    incident {id}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: Numbers = [1_120, 158, 5, 1, 4, 470, 141, 90];

    fn row(found: Numbers) -> Table {
        let mut table = Table { text: String::new(), is_equal: true };
        table.cells("standardwebhooks/forum", found, TRUTH);
        table
    }

    #[test]
    fn a_row_fits_a_terminal_and_is_aligned_with_its_columns() {
        let table = row(TRUTH);
        assert!(table.is_equal && !table.text.contains('≠'));
        let mut heading = Table { text: String::new(), is_equal: true };
        heading.columns("by source");
        let heading = heading.text.lines().last().unwrap_or_default().len();
        assert_eq!(table.text.trim_end().len(), heading);
        assert!(heading <= 80, "{heading}");
    }

    #[test]
    fn a_cell_that_differs_contains_both_numbers_and_makes_the_table_unequal() {
        let table = row([1_120, 158, 5, 1, 4, 468, 141, 90]);
        assert!(!table.is_equal);
        assert!(table.text.contains(" 468≠470 ") && table.text.ends_with("← differs\n"));
        assert_eq!(table.text.matches('≠').count(), 1);
    }
}
