//! Writes the new values into `events`, and feeds what depends on them again.

use std::collections::BTreeSet;
use std::time::Duration;

use archive::rollup;
use archive::server::Server;

use super::recount::NewValues;
use crate::database::{Database, literal};
use crate::erase::rewrite::{ROW, await_change};

/// The number of rows of one statement, whose text stays below ClickHouse's limit (256 KiB).
const ROWS_AT_ONCE: usize = 500;

/// The columns that change, and their types.
const COLUMNS: [(&str, &str); 14] = [
    ("bounce_permanence", "LowCardinality(String)"),
    ("bounce_class", "LowCardinality(String)"),
    ("bounce_side", "LowCardinality(String)"),
    ("bounce_status", "LowCardinality(String)"),
    ("bounce_late", "Bool"),
    ("automation_reason", "LowCardinality(String)"),
    ("automation_confidence", "Float32"),
    ("signals", "Array(LowCardinality(String))"),
    ("counts", "Array(LowCardinality(String))"),
    ("corrections", "String"),
    ("seen", "UInt32"),
    ("late", "Bool"),
    ("first_of_kind", "Bool"),
    ("first_engagement", "Bool"),
];

/// Overwrites the rows, computes the lives of their messages again, and corrects the rollups of their partitions.
///
/// # Errors
/// If ClickHouse cannot be reached, or cannot change a table. The command can run again.
pub(super) fn write(
    database: &Database,
    rows_and_sums_kept: Option<Duration>,
    values: &[NewValues],
) -> anyhow::Result<()> {
    let helper = format!("reclassified_{}", std::process::id());
    let lives = format!("{helper}_lives");
    let written = overwrite(database, values, &helper).and_then(|()| {
        forget_lives(database, &helper, &lives)?;
        let partitions: BTreeSet<u64> = values.iter().map(|value| value.row >> 48).collect();
        for partition in partitions {
            let partition = i32::try_from(partition)?;
            let heal = async |server: &Server| rollup::heal(server, partition).await;
            database.run_with(rows_and_sums_kept, heal)?;
        }
        Ok(())
    });
    for table in [&helper, &lives] {
        database.execute(&format!("DROP TABLE IF EXISTS {table} SYNC"))?;
    }
    written
}

fn overwrite(database: &Database, values: &[NewValues], helper: &str) -> anyhow::Result<()> {
    let definition: Vec<String> =
        COLUMNS.iter().map(|(column, kind)| format!("{column} {kind}")).collect();
    database.execute(&format!(
        "CREATE TABLE {helper} (row UInt64, {}) ENGINE = Join(ANY, LEFT, row) SETTINGS persistent = 0",
        definition.join(", ")
    ))?;
    for chunk in values.chunks(ROWS_AT_ONCE) {
        let rows: Vec<String> = chunk.iter().map(row).collect();
        database.execute(&format!("INSERT INTO {helper} VALUES {}", rows.join(", ")))?;
    }
    let full = format!("{}.{helper}", database.name());
    let updates = COLUMNS.iter().map(|(column, _)| {
        format!("{column} = joinGet({}, {}, {ROW})", literal(&full), literal(column))
    });
    let updates: Vec<String> = updates.collect();
    database.execute(&format!(
        "ALTER TABLE events UPDATE {} WHERE {ROW} IN (SELECT row FROM {full})",
        updates.join(", ")
    ))?;
    await_change(database, "events", helper)
}

/// Returns the values of a row as SQL.
fn row(values: &NewValues) -> String {
    let list = |names: Vec<&str>| {
        let names: Vec<String> = names.into_iter().map(literal).collect();
        format!("[{}]", names.join(", "))
    };
    let bounce = values.classification.bounce.as_ref();
    let automation = values.classification.automation;
    let columns = [
        values.row.to_string(),
        literal(bounce.map_or("", |bounce| bounce.permanence.as_str())),
        literal(bounce.map_or("", |bounce| bounce.class.as_str())),
        literal(bounce.map_or("", |bounce| bounce.side.as_str())),
        literal(bounce.and_then(|bounce| bounce.status.as_deref()).unwrap_or_default()),
        bounce.is_some_and(|bounce| bounce.late).to_string(),
        literal(automation.map_or("", |automation| automation.reason.as_str())),
        automation.map_or(0.0, |automation| automation.confidence).to_string(),
        list(values.classification.signals.iter().map(String::as_str).collect()),
        list(values.counts.iter().map(event::Counter::as_str).collect()),
        literal(&values.corrections),
        values.seen.to_string(),
        values.late.to_string(),
        values.first_of_kind.to_string(),
        values.first_engagement.to_string(),
    ];
    format!("({})", columns.join(", "))
}

/// Deletes the lives of the messages. Feeding a life again only adds to it, so a bounce that is now something else would
/// stay. The repair of the rollups creates the lives again.
fn forget_lives(database: &Database, helper: &str, lives: &str) -> anyhow::Result<()> {
    let key = "source, recipient, message_id, provider";
    database.execute(&format!(
        "CREATE TABLE {lives} ENGINE = Memory AS SELECT DISTINCT {key} FROM events \
         WHERE {ROW} IN (SELECT row FROM {helper})"
    ))?;
    database.execute(&format!(
        "ALTER TABLE message_life DELETE WHERE ({key}) IN (SELECT {key} FROM {}.{lives})",
        database.name()
    ))?;
    await_change(database, "message_life", lives)
}
