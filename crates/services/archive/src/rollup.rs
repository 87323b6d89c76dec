//! Corrects the hourly sums so that they match the rows.
//!
//! ClickHouse inserts a block into `events` first. A materialized view then inserts its sums into
//! `events_hourly`. These are two parts, and each has its own token. If ClickHouse is killed during
//! an insert, there are three cases:
//!
//! - The rows are stored without their sums, and ClickHouse still has the token. Repeating the
//!   insert adds the sums.
//! - The rows are stored without their sums, and ClickHouse has forgotten the token. The rows must
//!   not be inserted again, so no insert would add their sums.
//! - ClickHouse has the token of either part without having stored the part. Repeating the insert
//!   does not add it.
//!
//! Therefore we correct the sums after repeating an insert, and after finding rows of a pending
//! range whose token ClickHouse has forgotten. We compare the sums of the partition with its rows,
//! in the hours that the range touches, and insert the difference. Only this process writes rows of
//! the partition, so neither side changes meanwhile.

use kafka::ranges::Range;

use crate::clickhouse_error::ClickHouseError;
use crate::server::Server;
use crate::tables::Table;

const SUMS: &str = "events_hourly";
const VIEW: &str = "events_hourly_feed";

/// Corrects the sums of a partition in the hours of a range's rows. Running it again changes
/// nothing.
///
/// # Errors
/// See [`ClickHouseError`]. The caller retries.
pub(crate) async fn repair(
    server: &Server,
    partition: i32,
    range: Range,
) -> Result<(), ClickHouseError> {
    let columns = server
        .pairs(
            "SELECT name, if(is_in_sorting_key, 'key', 'sum') FROM system.columns \
             WHERE database = ? AND table = ? ORDER BY position",
            &[server.database(), SUMS],
        )
        .await?;
    let view = server
        .pairs(
            "SELECT as_select, name FROM system.tables WHERE database = ? AND name = ?",
            &[server.database(), VIEW],
        )
        .await?;
    // Without the view there are no sums to correct: the operator has dropped it.
    let Some((select, _)) = view.first() else { return Ok(()) };
    let sql = difference(server.database(), &columns, select, partition, range);
    server.execute(&sql, false).await
}

/// Returns the statement that inserts the difference between rows and sums. The sums are unsigned
/// and wrap around, so adding 2⁶⁴ − n subtracts n.
fn difference(
    database: &str,
    columns: &[(String, String)],
    select: &str,
    partition: i32,
    Range { first, last }: Range,
) -> String {
    let of = |role: &str, form: &dyn Fn(&str) -> String, separator: &str| {
        let columns = columns.iter().filter(|(_, column_role)| column_role == role);
        columns.map(|(name, _)| form(name)).collect::<Vec<_>>().join(separator)
    };
    let keys = of("key", &|name| name.to_owned(), ", ");
    let sums = of("sum", &|name| name.to_owned(), ", ");
    let negated = of("sum", &|name| format!("toUInt64(-toInt64(h.{name})) AS {name}"), ", ");
    let totals = of("sum", &|name| format!("sum(d.{name})"), ", ");
    let differs = of("sum", &|name| format!("sum(d.{name}) != 0"), " OR ");
    let rows = Table::Events.name();
    format!(
        "INSERT INTO {database}.{SUMS} ({keys}, {sums}) SETTINGS insert_deduplicate = 0 \
         SELECT {keys}, {totals} FROM ( \
         SELECT {keys}, {sums} FROM ({select}) \
         UNION ALL SELECT {keys}, {negated} FROM {database}.{SUMS} AS h \
         ) AS d WHERE kafka_partition = {partition} AND hour IN ( \
         SELECT DISTINCT toStartOfHour(toDateTime(occurred_at, 'UTC')) FROM {database}.{rows} \
         WHERE kafka_partition = {partition} AND kafka_offset BETWEEN {first} AND {last} \
         ) GROUP BY {keys} HAVING {differs}"
    )
}
