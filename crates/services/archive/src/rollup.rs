//! The hourly sums, made to follow from the rows again.
//!
//! An insert goes to `events` first and then, by the view, to `events_hourly`: two parts, not one. If
//! ClickHouse dies between them, repeating the insert under its token brings the second alone. If it
//! has forgotten the token by then the rows may not be sent again, and nobody would bring their sums;
//! and it may have the token of either part without the part. So whoever repeats an insert, or finds
//! rows of a pending range that are not recognised any more, compares the sums of that partition with
//! its rows, in the hours that the range touches, and adds the difference. Nobody else writes that
//! partition's rows, so both sides stand still meanwhile.

use kafka::ranges::Range;

use crate::clickhouse_error::ClickHouseError;
use crate::server::Server;
use crate::tables::Table;

const SUMS: &str = "events_hourly";
const VIEW: &str = "events_hourly_feed";

/// Adds to the sums of a partition what they lack, or takes what they have too much, in the hours of
/// a range's rows. Doing it again changes nothing.
///
/// # Errors
/// See [`ClickHouseError`]; to be tried again.
pub(crate) async fn mend(
    server: &Server,
    partition: i32,
    range: Range,
) -> Result<(), ClickHouseError> {
    let place = [server.database(), SUMS];
    let columns = server
        .pairs(
            "SELECT name, if(is_in_sorting_key, 'key', 'sum') FROM system.columns \
             WHERE database = ? AND table = ? ORDER BY position",
            &place,
        )
        .await?;
    let view = server
        .pairs(
            "SELECT as_select, name FROM system.tables WHERE database = ? AND name = ?",
            &[server.database(), VIEW],
        )
        .await?;
    let Some((select, _)) = view.first() else { return Ok(()) }; // somebody wants no sums
    let sql = difference(server.database(), &columns, select, partition, range);
    server.execute(&sql, false).await
}

/// What has to be added to the sums. They are unsigned and wrap: adding 2⁶⁴ − n takes n away.
fn difference(
    database: &str,
    columns: &[(String, String)],
    select: &str,
    partition: i32,
    Range { first, last }: Range,
) -> String {
    let of = |role: &str, form: &dyn Fn(&str) -> String, separator: &str| {
        let columns = columns.iter().filter(|(_, its)| its == role);
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
