//! Corrects the rollups so that they match the rows of `events`.
//!
//! ClickHouse inserts a block into `events` first. Materialized views then insert their sums into the
//! rollups. Each of these is a part of its own with its own token. If ClickHouse is killed during an
//! insert, there are three cases:
//!
//! - The rows are stored without some of their sums, and ClickHouse still has the token. Repeating
//!   the insert adds the sums.
//! - The rows are stored without some of their sums, and ClickHouse has forgotten the token. The rows
//!   must not be inserted again, so no insert would add their sums.
//! - ClickHouse has the token of a part without having stored the part. Repeating the insert does not
//!   add it.
//!
//! Therefore we correct the rollups after repeating an insert, and after finding rows of a pending
//! range whose token ClickHouse has forgotten. We compare the sums of the partition with its rows, in
//! the slots of time that the range touches, and insert the difference. Only this process writes rows
//! of the partition, so neither side changes meanwhile. Lives of messages need no comparison: feeding
//! rows again changes nothing.

mod sql;

use std::time::Duration;

use kafka::ranges::Range;

use crate::clickhouse_error::ClickHouseError;
use crate::server::{ANSWER_TIMEOUT, Server};
use crate::tables::Table;
use sql::Rows;

/// A table of sums by time, which a view fills from `events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollup {
    /// The name of the table.
    pub table: &'static str,
    /// The column with the start of the slot of time.
    time: &'static str,
    /// The view that fills the table.
    view: &'static str,
}

/// All rollups.
pub const ROLLUPS: [Rollup; 6] = [
    Rollup { table: "traffic", time: "at15", view: "traffic_feed" },
    Rollup { table: "cohorts", time: "sent_hour", view: "cohorts_feed" },
    Rollup { table: "traffic_ip", time: "hour", view: "traffic_ip_feed" },
    Rollup { table: "traffic_domain", time: "day", view: "traffic_domain_feed" },
    Rollup { table: "traffic_country", time: "day", view: "traffic_country_feed" },
    Rollup { table: "links", time: "day", view: "links_feed" },
];

/// The table that passes rows of `events` to views, and its view.
const COUNTED: (&str, &str) = ("counted", "counted_feed");

/// The table of lives of messages, and its view.
const LIVES: (&str, &str) = ("message_life", "message_life_feed");

/// The last migration that added a rollup, or a column to one. Partitions whose rollups were filled from
/// their rows for an earlier one are filled again.
const FILLED_SINCE: u32 = 16;

/// The longest time that a statement about all rows of a partition may take. ClickHouse goes on with a statement
/// whose client has given up, so a repetition would add the same sums again.
const EVERYTHING_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// Which rows of a partition may be missing in the rollups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The rows at these offsets.
    Rows(Range),
    /// Every row.
    Everything,
}

/// Corrects the rollups of a partition where its rows are doubtful. Running it again changes nothing.
/// Slots of which the retention may have removed rows stay as they are.
///
/// # Errors
/// See [`ClickHouseError`]. The caller retries.
pub(crate) async fn repair(
    server: &Server,
    partition: i32,
    extent: Extent,
) -> Result<(), ClickHouseError> {
    for rollup in &ROLLUPS {
        // Without its view there are no sums to correct: the operator has dropped it.
        let Some(select) = select_of(server, rollup.view).await? else { continue };
        let columns = columns(server, rollup.table).await?;
        let rows = Rows { server, partition, extent };
        let correction = sql::correction(rows, rollup, &columns, &select);
        execute(server, extent, &correction, rollup.table).await?;
    }
    if let Some(select) = select_of(server, LIVES.1).await? {
        let columns = columns(server, LIVES.1).await?;
        let rows = Rows { server, partition, extent };
        let repetition = sql::repetition(rows, LIVES.0, &columns, &select);
        execute(server, extent, &repetition, LIVES.0).await?;
    }
    Ok(())
}

/// Runs a statement that compares a table with the rows, on a server that has all of both.
async fn execute(
    server: &Server,
    extent: Extent,
    sql: &str,
    table: &str,
) -> Result<(), ClickHouseError> {
    let limit = match extent {
        Extent::Rows(_) => ANSWER_TIMEOUT,
        Extent::Everything => EVERYTHING_TIMEOUT,
    };
    server.execute_caught_up(sql, &[Table::Events.name(), table], limit).await
}

/// A rollup that does not match the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The name of the table.
    pub table: &'static str,
    /// The number of groups whose sums differ.
    pub groups: u64,
}

/// Compares the rollups of a partition with its rows. Sums of events that are being inserted can be
/// reported as a difference.
///
/// # Errors
/// See [`ClickHouseError`].
pub async fn differences(
    server: &Server,
    partition: i32,
) -> Result<Vec<Difference>, ClickHouseError> {
    let mut found = Vec::new();
    for rollup in &ROLLUPS {
        let Some(select) = select_of(server, rollup.view).await? else { continue };
        let columns = columns(server, rollup.table).await?;
        let rows = Rows { server, partition, extent: Extent::Everything };
        let select = sql::difference(rows, rollup, &columns, &select);
        let count = format!("SELECT count() FROM ({select})");
        let rows: Vec<u64> = server.rows_long(&count, EVERYTHING_TIMEOUT).await?;
        let groups = rows.first().copied().unwrap_or(0);
        if groups > 0 {
            found.push(Difference { table: rollup.table, groups });
        }
    }
    Ok(found)
}

/// Corrects all rollups of a partition by its rows. No archive may insert rows of the partition
/// meanwhile: sums that are on their way would be added twice.
///
/// # Errors
/// See [`ClickHouseError`]. Running it again changes nothing.
pub async fn heal(server: &Server, partition: i32) -> Result<(), ClickHouseError> {
    repair(server, partition, Extent::Everything).await
}

/// Fills the rollups from the rows that were stored before the rollups existed. Does nothing if that has
/// been done. It must run while nothing else inserts rows of the partition.
///
/// # Errors
/// See [`ClickHouseError`]. The caller retries.
pub(crate) async fn fill(server: &Server, partition: i32) -> Result<(), ClickHouseError> {
    let filled = format!(
        "SELECT count() FROM rollups_filled WHERE kafka_partition = {partition} \
         AND migration = {FILLED_SINCE}"
    );
    let filled: Vec<u64> = server.rows(&filled, &[]).await?;
    if filled.first().is_some_and(|&rows| rows > 0) {
        return Ok(());
    }
    let rows = format!(
        "SELECT count() FROM (SELECT 1 FROM events WHERE kafka_partition = {partition} LIMIT 1)"
    );
    let rows: Vec<u64> = server.rows(&rows, &[]).await?;
    if rows.first().is_some_and(|&rows| rows > 0) {
        tracing::info!(partition, "filling the rollups from the rows of earlier releases");
        repair(server, partition, Extent::Everything).await?;
        tracing::info!(partition, "the rollups contain the rows of earlier releases");
    }
    let insert = format!(
        "INSERT INTO rollups_filled (kafka_partition, migration) SETTINGS async_insert = 0 \
         VALUES ({partition}, {FILLED_SINCE})"
    );
    server.execute(&insert, true).await
}

/// Returns the SELECT of a view from `events`, if the view, and what it reads, exists.
async fn select_of(server: &Server, view: &str) -> Result<Option<String>, ClickHouseError> {
    let sql = "SELECT name, as_select FROM system.tables WHERE database = ? AND name IN (?, ?)";
    let found = server.pairs(sql, &[server.database(), view, COUNTED.1]).await?;
    let select_of = |name: &str| {
        let select = found.iter().find(|(found, _)| found == name);
        select.map(|(_, select)| select.as_str())
    };
    let Some(select) = select_of(view) else { return Ok(None) };
    Ok(match select_of(COUNTED.1) {
        Some(counted) => Some(sql::over(server, select, COUNTED.0, counted)),
        None if sql::reads(server, select, COUNTED.0) => {
            tracing::warn!(
                view,
                missing = COUNTED.1,
                "the sums of a view are neither fed nor corrected, because the view that it reads is missing; create it \
                 again as in schemas/clickhouse/0013_traffic.sql"
            );
            None
        }
        None => Some(select.to_owned()),
    })
}

/// Returns the names of the columns, each with `key` if it is part of the sorting key, and `sum` if not.
async fn columns(server: &Server, table: &str) -> Result<Vec<(String, String)>, ClickHouseError> {
    let sql = "SELECT name, if(is_in_sorting_key, 'key', 'sum') FROM system.columns \
               WHERE database = ? AND table = ? ORDER BY position";
    server.pairs(sql, &[server.database(), table]).await
}
