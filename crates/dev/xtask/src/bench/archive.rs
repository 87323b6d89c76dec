//! The leg of the archive: `mail.events` to rows in ClickHouse.

use anyhow::{Context, ensure};
use clickhouse::{Client, Compression};

use super::report::{Bare, Figure, Report};
use super::site::{Line, Site};
use super::steps::figure;
use super::usage::{Spent, Watch, memory};

/// Budgets of `docs/benchmarks.md`, rows per CPU-second.
const BUDGET_OURS: f64 = 300_000.0;
const BUDGET_SERVER: f64 = 1_000_000.0;
/// Rows of one bare insert, as many as the archive's batches have.
const BLOCK_ROWS: u64 = 50_000;
/// Bare inserts of each format.
const BLOCKS: u64 = 10;

/// Until all rows are there.
pub(crate) fn archive(line: &Line<'_>, rows: u64, report: &mut Report) -> anyhow::Result<()> {
    let site = line.site;
    let server = site.clickhouse_pid().map(Watch::start).transpose()?;
    let service = line.start("archive")?;
    let count = format!("SELECT count() FROM {}.events", line.database);
    let progress = line.watch("archive, rows in ClickHouse", rows, || site.number(&count))?;
    let ours = figure("archive", "archive", rows, &service, &progress)?.budget(BUDGET_OURS);
    let seconds = ours.seconds;
    let theirs = server.map(|server| server.spent()).transpose()?;
    let distinct =
        site.number(&format!("SELECT uniqExact(event_id) FROM {}.events", line.database))?;
    ensure!(distinct == rows, "{distinct} distinct events of {rows}");
    line.stop(service)?;
    report.add(ours);

    let native = insert(line, "Native", report)?;
    insert(line, "RowBinary", report)?;
    if let (Some(Spent { cpu_seconds, .. }), Some(pid)) = (theirs, site.clickhouse_pid()) {
        let spent = Spent { seconds, cpu_seconds };
        let figure = Figure::new("archive", "clickhouse", rows, spent)
            .budget(BUDGET_SERVER)
            .memory(memory(pid)?);
        let figure = native.iter().fold(figure, |figure, bare| figure.beside(bare));
        report.add(
            figure.note("with indexes, the hourly view, merges until the last row, and the polls"),
        );
    }
    Ok(())
}

/// Inserts rows that are archived already into an empty table of the same columns, codecs and
/// indexes, their bytes made by ClickHouse itself: what the server's part costs at least.
fn insert(line: &Line<'_>, format: &str, report: &mut Report) -> anyhow::Result<Option<Bare>> {
    let (site, database) = (line.site, &line.database);
    let Some(pid) = site.clickhouse_pid() else { return Ok(None) };
    let table = format!("{database}.bare_{}", format.to_lowercase());
    site.sql(&format!("CREATE TABLE {table} AS {database}.events"))?;
    // The blocks are all the same, and are to be kept all the same.
    let window = "non_replicated_deduplication_window = 0";
    site.sql(&format!("ALTER TABLE {table} MODIFY SETTING {window}"))?;
    let from = format!("SELECT * FROM {database}.events LIMIT {BLOCK_ROWS} FORMAT {format}");
    let block = bytes::Bytes::from(site.sql(&from)?);
    let rows_before = site.number(&format!("SELECT count() FROM {database}.events"))?;
    let rows = rows_before.min(BLOCK_ROWS) * BLOCKS;

    let client = Client::default().with_url(site.clickhouse_url());
    let client = client.with_compression(Compression::None);
    let sql = format!("INSERT INTO {table} FORMAT {format}");
    let watch = Watch::start(pid)?;
    site.block_on(async {
        for _ in 0..BLOCKS {
            let insert = client.insert_formatted_with(sql.clone());
            let mut insert = insert.with_setting("async_insert", "0");
            insert.send(block.clone()).await?;
            insert.end().await?;
        }
        anyhow::Ok(())
    })
    .with_context(|| sql.clone())?;
    let spent = watch.spent()?;
    let found = site.number(&format!("SELECT count() FROM {table}"))?;
    ensure!(found == rows, "{found} rows of {rows} in {table}");
    site.sql(&format!("DROP TABLE {table}"))?;
    let bare = Bare::new(format!("ClickHouse insert, {format} (server)"), rows, spent);
    report.add_bare(&bare);
    Ok(Some(bare))
}

/// The number of rows a line has archived.
pub(crate) fn rows(site: &Site, database: &str) -> anyhow::Result<u64> {
    site.number(&format!("SELECT count() FROM {database}.events"))
}
