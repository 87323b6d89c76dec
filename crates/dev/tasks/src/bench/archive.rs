//! The leg of archive: `mail.events` to rows in ClickHouse.

use anyhow::ensure;

use super::cpu::{CpuMeter, Usage, memory};
use super::report::{Bare, Figure, Report};
use super::servers::{Namespace, Servers};
use super::stages::figure;

/// The budgets of `docs/benchmarks.md` in rows per CPU-second.
const ARCHIVE_BUDGET: f64 = 300_000.0;
const CLICKHOUSE_BUDGET: f64 = 1_000_000.0;
/// Rows of a bare insert, as many as in a batch of archive.
const BLOCK_ROWS: u64 = 50_000;
/// Bare inserts of each format.
const BLOCKS: u64 = 10;

/// Runs archive until all rows are in ClickHouse.
pub(crate) fn archive(
    namespace: &Namespace<'_>,
    rows: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let servers = namespace.servers;
    let meter = servers.clickhouse_pid().map(CpuMeter::start).transpose()?;
    let service = namespace.start("archive")?;
    let count = format!("SELECT count() FROM {}.events", namespace.database);
    let progress =
        namespace.wait_for("archive, rows in ClickHouse", rows, || servers.number(&count))?;
    let archive = figure("archive", "archive", rows, &service, &progress)?.budget(ARCHIVE_BUDGET);
    let seconds = archive.seconds;
    let usage = meter.map(|meter| meter.usage()).transpose()?;
    let distinct = servers
        .number(&format!("SELECT uniqExact(event_id) FROM {}.events", namespace.database))?;
    ensure!(distinct == rows, "{distinct} distinct events instead of {rows}");
    namespace.stop(service)?;
    report.add(archive);

    let native = insert(namespace, "Native", report)?;
    insert(namespace, "RowBinary", report)?;
    if let (Some(Usage { cpu_seconds, .. }), Some(pid)) = (usage, servers.clickhouse_pid()) {
        let usage = Usage { seconds, cpu_seconds };
        let figure = Figure::new("archive", "clickhouse", rows, usage)
            .budget(CLICKHOUSE_BUDGET)
            .memory(memory(pid)?);
        let figure = native.iter().fold(figure, |figure, bare| figure.beside(bare));
        let note = "includes indexes, all rollups, merges until the last row, and polling";
        report.add(figure.note(note));
    }
    super::views::views(namespace, report)
}

/// Inserts archived rows into an empty table with the same columns, codecs and indexes. ClickHouse
/// itself has serialised them, so this is the lowest cost of the server.
fn insert(
    namespace: &Namespace<'_>,
    format: &str,
    report: &mut Report,
) -> anyhow::Result<Option<Bare>> {
    let (servers, database) = (namespace.servers, &namespace.database);
    let Some(pid) = servers.clickhouse_pid() else { return Ok(None) };
    let table = format!("{database}.bare_{}", format.to_lowercase());
    servers.sql(&format!("CREATE TABLE {table} AS {database}.events"))?;
    // The blocks are equal, and ClickHouse must not deduplicate them.
    let window = "non_replicated_deduplication_window = 0";
    servers.sql(&format!("ALTER TABLE {table} MODIFY SETTING {window}"))?;
    let select = format!("SELECT * FROM {database}.events LIMIT {BLOCK_ROWS} FORMAT {format}");
    let block = bytes::Bytes::from(servers.sql(&select)?);
    let archived = rows(servers, database)?;
    let inserted = archived.min(BLOCK_ROWS) * BLOCKS;

    let sql = format!("INSERT INTO {table} FORMAT {format}");
    let meter = CpuMeter::start(pid)?;
    for _ in 0..BLOCKS {
        servers.insert(&sql, block.clone())?;
    }
    let usage = meter.usage()?;
    let found = servers.number(&format!("SELECT count() FROM {table}"))?;
    ensure!(found == inserted, "{found} rows instead of {inserted} in {table}");
    servers.sql(&format!("DROP TABLE {table}"))?;
    let bare = Bare::new(format!("ClickHouse insert, {format} (server)"), inserted, usage);
    report.add_bare(&bare);
    Ok(Some(bare))
}

/// Returns the number of archived events.
pub(crate) fn rows(servers: &Servers, database: &str) -> anyhow::Result<u64> {
    servers.number(&format!("SELECT count() FROM {database}.events"))
}
