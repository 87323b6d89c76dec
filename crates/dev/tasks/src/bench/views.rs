//! What the rollups cost the server: the same rows, inserted in three formats, with and without them.

use bytes::Bytes;
use devstack::fetch::workspace;

use super::cpu::CpuMeter;
use super::report::{Bare, Report};
use super::servers::{Namespace, Servers};
use crate::clickhouse::Database;

/// The last migration without the rollups of the present release.
const BEFORE: u32 = 11;
/// Rows of an insert, as many as in a full batch of archive.
const BLOCK_ROWS: u64 = 50_000;
/// Inserts of each format.
const BLOCKS: u64 = 10;
/// In the Native form that archive sends, and the forms of other programs: Vector and the plain client
/// (RowBinary), and Kafka Connect (JSONEachRow).
const FORMATS: [&str; 3] = ["Native", "RowBinary", "JSONEachRow"];
/// The greatest ratio of the server's CPU time per row to that of the schema before.
const BUDGET: f64 = 1.6;

/// The schema with which rows are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schema {
    /// The table `events` and its hourly sums, as in the previous release.
    Before,
    /// All tables and views.
    All,
}

/// Inserts archived rows with the schema of the previous release and with the present one, and reports the
/// CPU time of the server per row.
pub(super) fn views(namespace: &Namespace<'_>, report: &mut Report) -> anyhow::Result<()> {
    let Some(pid) = namespace.servers.clickhouse_pid() else { return Ok(()) };
    let blocks = Blocks::read(namespace)?;
    for format in FORMATS {
        let mut cost = |schema| -> anyhow::Result<f64> {
            let usage = insert(namespace, pid, schema, format, &blocks)?;
            let what = match schema {
                Schema::Before => "with the hourly sums of the previous release",
                Schema::All => "with all rollups",
            };
            let bare =
                Bare::new(format!("ClickHouse insert, {format}, {what}"), blocks.rows, usage);
            report.add_bare(&bare);
            Ok(usage.cpu_seconds / blocks.rows as f64)
        };
        // In turn, so that the load of other programs meets both.
        let (first, all) = (cost(Schema::Before)?, cost(Schema::All)?);
        let (again, before) = (cost(Schema::All)?, cost(Schema::Before)?);
        let ratio = (all + again) / (first + before);
        let verdict = if ratio <= BUDGET { "met" } else { "missed" };
        println!(
            "CPU of the server per row, {format}: {ratio:.2} of the previous release (at most {BUDGET}: {verdict})"
        );
    }
    Ok(())
}

/// Archived rows in every format.
struct Blocks {
    columns: String,
    rows: u64,
    /// By format, and then by block.
    bytes: Vec<Vec<Bytes>>,
}

impl Blocks {
    fn read(namespace: &Namespace<'_>) -> anyhow::Result<Self> {
        let (servers, database) = (namespace.servers, &namespace.database);
        // Those that archive sends. Both schemas have them.
        let sql = format!(
            "SELECT arrayStringConcat(groupArray(name), ', ') FROM (SELECT name FROM system.columns \
             WHERE database = '{database}' AND table = 'events' AND default_kind != 'MATERIALIZED' \
             AND name NOT IN ('archived_at', 'conversion', 'conversion_value', 'interest') ORDER BY position)"
        );
        let columns = String::from_utf8(servers.sql(&sql)?)?.trim().to_owned();
        let block = |format: &str, number: u64| {
            let from = number * BLOCK_ROWS;
            let select = format!(
                "SELECT {columns} FROM {database}.events ORDER BY kafka_partition, kafka_offset \
                 LIMIT {BLOCK_ROWS} OFFSET {from} FORMAT {format}"
            );
            servers.sql(&select).map(Bytes::from)
        };
        let of = |format| (0..BLOCKS).map(|number| block(format, number)).collect();
        let bytes = FORMATS.iter().map(|format| of(format)).collect::<anyhow::Result<_>>()?;
        let archived = super::archive::rows(servers, database)?;
        Ok(Self { columns, rows: archived.min(BLOCK_ROWS * BLOCKS), bytes })
    }
}

/// Inserts the blocks into an empty database, and waits for the merges.
fn insert(
    namespace: &Namespace<'_>,
    pid: u32,
    schema: Schema,
    format: &str,
    blocks: &Blocks,
) -> anyhow::Result<super::cpu::Usage> {
    let servers = namespace.servers;
    let name = format!("{}_views", namespace.database);
    create(servers, &name, schema)?;
    // Those of each release's archive.
    let settings = match schema {
        Schema::Before => "",
        Schema::All => "materialize_statistics_on_insert = 0, optimize_on_insert = 0, ",
    };
    let sql = format!(
        "INSERT INTO {name}.events ({}) SETTINGS {settings}max_insert_threads = 1, \
         materialize_skip_indexes_on_insert = 0, max_insert_block_size = 1048449 FORMAT {format}",
        blocks.columns
    );
    let number = FORMATS.iter().position(|other| *other == format).unwrap_or_default();
    let meter = CpuMeter::start(pid)?;
    for block in &blocks.bytes[number] {
        servers.insert(&sql, block.clone())?;
    }
    let usage = meter.usage()?;
    let found = super::archive::rows(servers, &name)?;
    anyhow::ensure!(found == blocks.rows, "{found} rows instead of {}", blocks.rows);
    servers.sql(&format!("DROP DATABASE {name} SYNC"))?;
    Ok(usage)
}

/// Creates a database with the files of `schemas/clickhouse`.
fn create(servers: &Servers, name: &str, schema: Schema) -> anyhow::Result<()> {
    servers.sql(&format!("CREATE DATABASE {name}"))?;
    let database = Database::new(&servers.clickhouse_url(), name);
    let mut files: Vec<_> = std::fs::read_dir(workspace().join("schemas/clickhouse"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<_>>()?;
    files.sort();
    for file in files {
        let number = file.file_name().and_then(|name| name.to_str()?.get(..4)?.parse::<u32>().ok());
        let Some(number) = number else { continue };
        if schema == Schema::Before && number > BEFORE {
            continue;
        }
        for statement in std::fs::read_to_string(&file)?.split(";\n") {
            if !statement.trim().is_empty() {
                servers.block_on(database.text(statement))?;
            }
        }
    }
    Ok(())
}
