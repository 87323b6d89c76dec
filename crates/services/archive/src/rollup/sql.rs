//! The statements that compare rollups with rows.

use std::fmt::Write as _;

use kafka::ranges::Range;

use super::{Extent, Rollup};
use crate::server::Server;
use crate::tables::Table;

/// The rows of `events` to which a statement is limited.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) server: &'a Server,
    pub(super) partition: i32,
    pub(super) extent: Extent,
}

/// What an event from before the migration `0010_message_counts.sql` counts for, by the columns that
/// counted at the time.
const COUNTS_OF_OLD_ROWS: &str = "\
    arrayFilter(name -> name != '', [\
    multiIf(kind = 'accepted', 'injected', kind = 'delivered', 'delivered', kind = 'deferred', 'deferrals', \
    kind = 'bounced' AND bounce_late, 'late_bounces', \
    kind = 'bounced' AND bounce_permanence = 'hard', 'bounced_hard', \
    kind = 'bounced' AND bounce_side = 'sender', 'bounced_block', \
    kind = 'bounced' AND bounce_permanence = 'soft', 'bounced_soft', kind = 'bounced', 'bounced_undetermined', \
    kind = 'dropped', 'dropped', kind = 'complained', 'complained', kind = 'unsubscribed', 'unsubscribed', \
    kind = 'opened' AND automation_reason != '', 'machine_opened', \
    kind = 'clicked' AND automation_reason != '', 'machine_clicked', \
    kind = 'opened' AND first_of_kind, 'opened', kind = 'clicked' AND first_of_kind, 'clicked', ''), \
    if(first_engagement AND automation_reason = '', 'engaged', '')])";

/// Returns the statement that adds the difference between rows and sums to a rollup.
pub(super) fn correction(
    rows: Rows<'_>,
    rollup: &Rollup,
    columns: &[(String, String)],
    view: &str,
) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    format!(
        "INSERT INTO {} ({}) SETTINGS insert_deduplicate = 0 {}",
        rollup.table,
        names.join(", "),
        difference(rows, rollup, columns, view)
    )
}

/// Returns the SELECT with the groups whose sums differ from the rows, and by how much. Only slots of time
/// are compared in which one of `rows` counts, and of which neither a row nor a sum has expired.
pub(super) fn difference(
    rows: Rows<'_>,
    rollup: &Rollup,
    columns: &[(String, String)],
    view: &str,
) -> String {
    let of = |role: &str, form: &dyn Fn(&str) -> String, separator: &str| {
        let columns = columns.iter().filter(|(_, column_role)| column_role == role);
        columns.map(|(name, _)| form(name)).collect::<Vec<_>>().join(separator)
    };
    let keys = of("key", &str::to_owned, ", ");
    // A view counts without sign.
    let sums = of("sum", &|name| format!("toInt64({name}) AS {name}"), ", ");
    let negated = of("sum", &|name| format!("-s.{name} AS {name}"), ", ");
    let totals = of("sum", &|name| format!("sum(d.{name}) AS {name}"), ", ");
    let differs = of("sum", &|name| format!("{name} != 0"), " OR ");
    let Rollup { table, time, .. } = rollup;
    let Rows { server, partition, extent } = rows;
    let events = Table::Events.name();
    let mut slots = format!("{time} >= {}", server.comparison_horizon());
    let mut all = Rows { extent: Extent::Everything, ..rows }.select();
    if let Extent::Rows(_) = extent {
        let touched = over(server, view, events, &rows.select());
        let _ = write!(slots, " AND {time} IN (SELECT {time} FROM ({touched}))");
        // Nothing counts in a slot before it has begun. The day allows for clocks that differ.
        let _ = write!(
            all,
            " AND received_at >= (SELECT min({time}) FROM ({touched})) - INTERVAL 1 DAY"
        );
    }
    let from_rows = over(server, view, events, &all);
    format!(
        "SELECT {keys}, {totals} FROM ( SELECT {keys}, {sums} FROM ({from_rows}) WHERE {slots} \
         UNION ALL SELECT {keys}, {negated} FROM {table} AS s \
         WHERE kafka_partition = {partition} AND {slots} ) AS d GROUP BY {keys} HAVING {differs}"
    )
}

/// Returns the statement that feeds rows again to a table for which repetition changes nothing.
pub(super) fn repetition(
    rows: Rows<'_>,
    table: &str,
    columns: &[(String, String)],
    view: &str,
) -> String {
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let (names, select) =
        (names.join(", "), over(rows.server, view, Table::Events.name(), &rows.select()));
    format!(
        "INSERT INTO {table} ({names}) SETTINGS insert_deduplicate = 0 SELECT {names} FROM ({select})"
    )
}

/// Returns the SELECT of a view over the rows of another SELECT instead of a table. ClickHouse writes the
/// name of the table with its database into the definition of a view.
pub(super) fn over(server: &Server, view: &str, table: &str, rows: &str) -> String {
    view.replace(&from(server, table), &format!("FROM ({rows})"))
}

/// Whether the SELECT of a view reads a table.
pub(super) fn reads(server: &Server, view: &str, table: &str) -> bool {
    view.contains(&from(server, table))
}

fn from(server: &Server, table: &str) -> String {
    format!("FROM {}.{table}", server.database())
}

impl Rows<'_> {
    fn select(&self) -> String {
        let Self { server, partition, extent } = self;
        let (database, events) = (server.database(), Table::Events.name());
        let offsets = match extent {
            Extent::Rows(Range { first, last }) => {
                format!(" AND kafka_offset BETWEEN {first} AND {last}")
            }
            Extent::Everything => String::new(),
        };
        format!(
            "SELECT * REPLACE (if(empty(counts) AND archived_at < (SELECT min(applied_at) \
             FROM {database}.schema_migrations WHERE version = 10), {COUNTS_OF_OLD_ROWS}, counts) AS counts) \
             FROM {database}.{events} WHERE kafka_partition = {partition}{offsets}"
        )
    }
}
