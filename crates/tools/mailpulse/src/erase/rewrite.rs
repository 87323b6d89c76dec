//! Overwrites what the tables say about recipients.
//!
//! ClickHouse keeps the text of an `ALTER TABLE … UPDATE` beside the parts, so an address must not be in it. The new
//! values are therefore collected in a helper table in memory, and the statement refers to this table. A restart of
//! ClickHouse empties the helper table; then the update changes nothing, the proof finds the address, and the command can
//! run again.

use std::time::{Duration, Instant};

use super::tables::{Column, Table};
use super::target::Targets;
use crate::database::{Database, literal};
use crate::installation::note;

/// How often ClickHouse is asked whether it has finished.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The number of a row in its table.
pub(crate) const ROW: &str = "bitShiftLeft(toUInt64(kafka_partition), 48) + kafka_offset";

/// What the columns of `events` become in rows of an erased recipient, besides texts that name the address. It is what
/// `privacy::Eraser` removes from events that are still on their way.
const EVENTS_OF_ERASED: [(&str, &str); 8] = [
    ("raw", "'{}'"),
    ("ip", "''"),
    ("user_agent", "''"),
    ("labels", "mapFilter((k, v) -> false, labels)"),
    ("geo_region", "''"),
    ("geo_city", "''"),
    ("geo_network", "''"),
    ("geo_time_zone", "''"),
];

/// The columns of `events` that may name the recipient by the local part alone, as in `550 ada.lovelace... User unknown` and
/// `bounce+Ada=example.com@…`. They become empty then.
const MAY_NAME_RECIPIENT: [&str; 3] = ["sender", "bounce_diagnostic", "delivery_response"];

/// ClickHouse could not change a table.
#[derive(Debug, thiserror::Error)]
#[error(
    "ClickHouse could not change the table {table}: {reason}; the change was cancelled. Remove the cause, and run the command again"
)]
struct ChangeFailed {
    table: String,
    reason: String,
}

/// Erases the targets from a table. Returns the number of rows that were changed.
///
/// # Errors
/// If ClickHouse cannot be reached, or cannot change the table.
pub(super) fn erase(
    database: &Database,
    table: &Table,
    targets: &Targets<'_>,
) -> anyhow::Result<u64> {
    let helper = format!("erasure_{}_{}", std::process::id(), table.name);
    let erased = if table.has_coordinates {
        overwrite(database, table, targets, &helper)
    } else {
        replace(database, table, targets, &helper)
    };
    database.execute(&format!("DROP TABLE IF EXISTS {helper} SYNC"))?;
    erased
}

/// Ends the refresh of views that may have read a table before it was changed, and would store what they read. Their next
/// refresh comes by itself.
///
/// # Errors
/// If ClickHouse cannot be reached.
pub(super) fn cancel_refreshes(database: &Database) -> anyhow::Result<()> {
    let views: Vec<String> = database
        .rows("SELECT view FROM system.view_refreshes WHERE database = ?", &[database.name()])?;
    for view in views {
        database.execute(&format!("SYSTEM CANCEL VIEW {}.{view}", database.name()))?;
    }
    Ok(())
}

/// Returns how many rows of a table would be changed.
///
/// # Errors
/// If ClickHouse cannot be reached.
pub(super) fn count(
    database: &Database,
    table: &Table,
    targets: &Targets<'_>,
) -> anyhow::Result<u64> {
    let Some(condition) = condition(table, targets) else { return Ok(0) };
    let definitions = targets.definitions();
    let sql = format!("WITH {definitions} SELECT count() FROM {} WHERE {condition}", table.name);
    Ok(database.long_rows::<u64>(&sql)?.into_iter().sum())
}

/// Returns which rows must change. `None`: none can.
fn condition(table: &Table, targets: &Targets<'_>) -> Option<String> {
    let recipient = table.recipient();
    let own = recipient.map(|column| targets.is(column));
    let others: Vec<&Column> =
        if table.has_coordinates { table.values().collect() } else { table.keys().collect() };
    let others = others.into_iter().filter(|column| Some(&*column.name) != recipient);
    let conditions: Vec<String> =
        own.into_iter().chain(others.map(|column| column.names(targets))).collect();
    (!conditions.is_empty()).then(|| conditions.join(" OR "))
}

/// Overwrites the values of rows, which keep their place.
fn overwrite(
    database: &Database,
    table: &Table,
    targets: &Targets<'_>,
    helper: &str,
) -> anyhow::Result<u64> {
    let Some(condition) = condition(table, targets) else { return Ok(0) };
    let name = &table.name;
    let columns = new_values(table, targets);
    // Without quotes, ClickHouse takes a column with the name `index` for the definition of an index.
    let definition: Vec<String> =
        columns.iter().map(|(column, kind, _)| format!("`{column}` {kind}")).collect();
    let names: Vec<&str> = columns.iter().map(|(column, ..)| &**column).collect();
    let values: Vec<&str> = columns.iter().map(|(.., value)| &**value).collect();
    database.execute(&format!(
        "CREATE TABLE {helper} (row UInt64, {}) ENGINE = Join(ANY, LEFT, row) SETTINGS persistent = 0",
        definition.join(", ")
    ))?;
    // The names of the helper's columns must not stand for the new values in the condition.
    database.execute(&format!(
        "INSERT INTO {helper} (row, {}) WITH {} SELECT {ROW}, {} FROM {name} WHERE {condition}",
        names.join(", "),
        targets.definitions(),
        values.join(", "),
    ))?;
    let rows = database.rows::<u64>(&format!("SELECT count() FROM {helper}"), &[])?;
    let rows = rows.into_iter().sum();
    if rows == 0 {
        return Ok(0);
    }
    let full = format!("{}.{helper}", database.name());
    let updates = names.iter().map(|column| {
        format!("{column} = joinGet({}, {}, {ROW})", literal(&full), literal(column))
    });
    let updates: Vec<String> = updates.collect();
    database.execute(&format!(
        "ALTER TABLE {name} UPDATE {} WHERE {ROW} IN (SELECT row FROM {full})",
        updates.join(", ")
    ))?;
    await_change(database, name, helper)?;
    Ok(rows)
}

/// Returns the columns to overwrite, their types, and their new values.
fn new_values(table: &Table, targets: &Targets<'_>) -> Vec<(String, String, String)> {
    let recipient = table.recipient();
    let own = recipient.map(|column| targets.is(column));
    let mut columns: Vec<(String, String, String)> = table
        .values()
        .map(|column| {
            let removed = column.removed(targets);
            let value = match &own {
                Some(own) => of_erased(table, column, targets, &removed).map_or_else(
                    || removed.clone(),
                    |value| format!("if({own}, {value}, {removed})"),
                ),
                None => removed,
            };
            (column.name.clone(), column.kind.clone(), value)
        })
        .collect();
    if let Some(own) = own.filter(|_| table.name == "events") {
        let asn = ("geo_asn".to_owned(), "UInt32".to_owned(), format!("if({own}, 0, geo_asn)"));
        columns.push(asn);
    }
    columns
}

/// Returns what a column becomes in a row about an erased recipient, if that differs from other rows.
fn of_erased(
    table: &Table,
    column: &Column,
    targets: &Targets<'_>,
    removed: &str,
) -> Option<String> {
    let name = &*column.name;
    if Some(name) == table.recipient() {
        return Some(targets.pseudonym_of(name));
    }
    match (&*table.name, name) {
        ("dead_letters", "value") => Some("''".to_owned()),
        ("events", "url") => Some(format!("cutQueryStringAndFragment({removed})")),
        ("events", _) if MAY_NAME_RECIPIENT.contains(&name) => Some(format!(
            "if(positionCaseInsensitiveUTF8({name}, splitByChar('@', recipient)[1]) > 0, '', {removed})"
        )),
        ("events", _) => {
            let of_erased = EVENTS_OF_ERASED.iter().find(|(column, _)| *column == name);
            of_erased.map(|(_, value)| (*value).to_owned())
        }
        _ => None,
    }
}

/// Replaces rows whose sorting key names the addresses: adds them with other keys, and deletes the old ones.
fn replace(
    database: &Database,
    table: &Table,
    targets: &Targets<'_>,
    helper: &str,
) -> anyhow::Result<u64> {
    let Some(condition) = condition(table, targets) else { return Ok(0) };
    let rows = count(database, table, targets)?;
    if rows == 0 {
        return Ok(0);
    }
    let (name, definitions) = (&table.name, targets.definitions());
    let keys = table.key.join(", ");
    database.execute(&format!(
        "CREATE TABLE {helper} ENGINE = Memory AS \
         WITH {definitions} SELECT DISTINCT {keys} FROM {name} WHERE {condition}"
    ))?;
    let stored = table.stored.join(", ");
    let values: Vec<String> = table
        .stored
        .iter()
        .map(|stored| match table.texts.iter().find(|column| column.name == *stored) {
            Some(_) if Some(&**stored) == table.recipient() => targets.pseudonym_of(stored),
            Some(column) => column.removed(targets),
            None => stored.clone(),
        })
        .collect();
    database.execute(&format!(
        "INSERT INTO {name} ({stored}) SETTINGS insert_deduplicate = 0 \
         WITH {definitions} SELECT {} FROM {name} WHERE {condition}",
        values.join(", ")
    ))?;
    let full = format!("{}.{helper}", database.name());
    database.execute(&format!(
        "ALTER TABLE {name} DELETE WHERE ({keys}) IN (SELECT {keys} FROM {full})"
    ))?;
    await_change(database, name, helper)?;
    Ok(rows)
}

/// Waits until ClickHouse has rewritten the parts of a table.
pub(crate) fn await_change(database: &Database, table: &str, helper: &str) -> anyhow::Result<()> {
    let mine = format!(
        "database = {} AND table = {} AND position(command, {}) > 0 AND NOT is_done",
        literal(database.name()),
        literal(table),
        literal(helper)
    );
    let open = format!(
        "SELECT toUInt64(parts_to_do), latest_fail_reason FROM system.mutations WHERE {mine}"
    );
    let mut noted_at = Instant::now();
    loop {
        let rows: Vec<(u64, String)> = database.long_rows(&open)?;
        let Some((parts, reason)) = rows.into_iter().next() else { return Ok(()) };
        if !reason.is_empty() {
            database.execute(&format!(
                "KILL MUTATION WHERE {}",
                mine.replace(" AND NOT is_done", "")
            ))?;
            return Err(ChangeFailed { table: table.to_owned(), reason }.into());
        }
        if noted_at.elapsed() >= Duration::from_secs(10) {
            noted_at = Instant::now();
            note(&format!("{table}: {parts} parts are left to rewrite"))?;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
