//! Looks for what is left of erased recipients in everything that ClickHouse has decompressed from its parts.

use std::time::{Duration, Instant};

use super::tables::Table;
use super::target::Targets;
use crate::database::{Database, literal};
use crate::installation::note;

const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Where an address is still named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    /// `table.column`, or `table/projection`.
    pub(super) place: String,
    pub(super) rows: u64,
}

/// Returns every column of every table, and every projection, that still names one of the targets.
///
/// # Errors
/// If ClickHouse cannot be reached.
pub(super) fn search(
    database: &Database,
    tables: &[Table],
    targets: &Targets<'_>,
) -> anyhow::Result<Vec<Left>> {
    let mut left = Vec::new();
    for table in tables {
        left.extend(columns(database, table, targets)?);
        left.extend(projections(database, table, targets)?);
    }
    Ok(left)
}

fn columns(database: &Database, table: &Table, targets: &Targets<'_>) -> anyhow::Result<Vec<Left>> {
    if table.texts.is_empty() {
        return Ok(Vec::new());
    }
    let name = &table.name;
    let counts = table.texts.iter().map(|column| {
        let place = literal(&format!("{name}.{}", column.name));
        format!("({place}, countIf({}))", column.names(targets))
    });
    let counts: Vec<String> = counts.collect();
    search_in(database, targets, name, &counts)
}

/// A projection is a part within a part. A deletion may leave it as it was.
fn projections(
    database: &Database,
    table: &Table,
    targets: &Targets<'_>,
) -> anyhow::Result<Vec<Left>> {
    let names: Vec<String> = database.rows(
        "SELECT DISTINCT name FROM system.projection_parts WHERE active AND database = ? AND table = ?",
        &[database.name(), &table.name],
    )?;
    let mut left = Vec::new();
    for projection in names {
        let place = literal(&format!("{}/{projection}", table.name));
        let count = format!("({place}, countIf({}))", targets.is_named_in("toString(tuple(*))"));
        let from = format!(
            "mergeTreeProjection({}, {}, {})",
            literal(database.name()),
            literal(&table.name),
            literal(&projection)
        );
        left.extend(search_in(database, targets, &from, &[count])?);
    }
    Ok(left)
}

fn search_in(
    database: &Database,
    targets: &Targets<'_>,
    from: &str,
    counts: &[String],
) -> anyhow::Result<Vec<Left>> {
    let sql = format!(
        "WITH {} SELECT tupleElement(found, 1), toUInt64(tupleElement(found, 2)) FROM \
         (SELECT arrayJoin([{}]) AS found FROM {from}) WHERE tupleElement(found, 2) > 0",
        targets.definitions(),
        counts.join(", ")
    );
    let rows: Vec<(String, u64)> = database.long_rows(&sql)?;
    Ok(rows.into_iter().map(|(place, rows)| Left { place, rows }).collect())
}

/// Waits until ClickHouse has removed the parts that were rewritten, and returns how many are left after `wait`.
///
/// # Errors
/// If ClickHouse cannot be reached.
pub(super) fn await_old_parts(
    database: &Database,
    tables: &[&Table],
    wait: Duration,
) -> anyhow::Result<u64> {
    let names: Vec<String> = tables.iter().map(|table| literal(&table.name)).collect();
    if names.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "SELECT count() FROM system.parts WHERE NOT active AND database = {} AND table IN ({})",
        literal(database.name()),
        names.join(", ")
    );
    let until = Instant::now() + wait;
    let mut is_noted = false;
    loop {
        let left = database.long_rows::<u64>(&sql)?.into_iter().sum();
        if left == 0 || Instant::now() >= until {
            return Ok(left);
        }
        if !std::mem::replace(&mut is_noted, true) {
            note("waiting until ClickHouse removes the old parts, by default after 8 minutes")?;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
