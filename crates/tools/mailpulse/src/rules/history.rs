//! What happened in a scope, from the view `message_counts`.

use clickhouse::Row;
use event::{Counter, Dimension, OccurredAt, Provider};
use serde::Deserialize;
use window::{Counts, HourStart, PaneStart, Scope, ScopeKind};

use crate::database::{Database, literal, time_literal};

/// How far before the tested time counts are read, in microseconds: windows of a day, and cohorts of two days.
const LEAD: i64 = 3 * 24 * 3_600_000_000;

/// The greatest number of rows that are read at once.
const MAX_ROWS: usize = 2_000_000;

/// The counts of one scope in steps of ten seconds, in ascending order.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) deltas: Vec<Delta>,
}

/// What happened in ten seconds to messages of one cohort.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Delta {
    pub(super) pane: PaneStart,
    pub(super) cohort: Option<HourStart>,
    pub(super) counts: Counts,
}

#[derive(Debug, Row, Deserialize)]
struct PaneRow {
    of_provider: String,
    of_source: String,
    /// The values of the dimensions of the kind, in their order.
    of_values: Vec<String>,
    /// UTC microseconds.
    pane: i64,
    /// The start of the hour of sending, UTC microseconds; -1 if it is not known.
    hour: i64,
    nonzero: Vec<(String, i64)>,
}

/// The history would need too much memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "the time has more than {MAX_ROWS} steps of ten seconds with events in scopes of the kind {0}; choose a shorter \
     time, or one source with --source"
)]
struct TooManyRows(&'static str);

impl History {
    /// Passes every scope of a kind with its history to `each`.
    ///
    /// # Errors
    /// If ClickHouse cannot be reached, or there are too many counts.
    pub(super) fn for_each_scope(
        database: &Database,
        kind: ScopeKind,
        from: i64,
        to: i64,
        source: Option<&str>,
        mut each: impl FnMut(Scope, Self),
    ) -> anyhow::Result<()> {
        if source.is_some() && !kind.has_source() {
            return Ok(());
        }
        let rows: Vec<PaneRow> = database.rows(&query(kind, from, to, source), &[])?;
        if rows.len() > MAX_ROWS {
            return Err(TooManyRows(kind.as_str()).into());
        }
        let mut current: Option<(Scope, Self)> = None;
        for row in rows {
            let Some(scope) = scope_of(kind, &row) else { continue };
            let delta = delta_of(&row);
            match &mut current {
                Some((of, history)) if *of == scope => history.deltas.push(delta),
                _ => {
                    let next = Self { deltas: vec![delta] };
                    if let Some((scope, history)) = current.replace((scope, next)) {
                        each(scope, history);
                    }
                }
            }
        }
        if let Some((scope, history)) = current {
            each(scope, history);
        }
        Ok(())
    }
}

fn query(kind: ScopeKind, from: i64, to: i64, source: Option<&str>) -> String {
    let columns: Vec<&str> = kind.dimensions().iter().map(|it| it.as_str()).collect();
    // Without the address of the server, the stream stands for it.
    let value = |column: &&str| match *column {
        "sending_ip" => "if(sending_ip != '', toString(sending_ip), toString(stream))".to_owned(),
        other => format!("toString({other})"),
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let mut conditions: Vec<String> = values.iter().map(|value| format!("{value} != ''")).collect();
    conditions.extend(columns.iter().map(|column| format!("has(dimensions, '{column}')")));
    conditions.extend(source.map(|source| format!("source = {}", literal(source))));
    let counts: Vec<String> = Counter::ALL
        .iter()
        .map(|counter| format!("('{0}', toInt64(sum(message_counts.{0})))", counter.as_str()))
        .collect();
    let (provider, source) =
        if kind.has_source() { ("toString(provider)", "toString(source)") } else { ("''", "''") };
    let earliest = from.saturating_sub(LEAD);
    conditions.push(format!("counted_at >= {}", time_literal(earliest)));
    conditions.push(format!("counted_at < {}", time_literal(to)));
    conditions.push(format!("occurred_at >= {}", time_literal(earliest.saturating_sub(LEAD))));
    let values = if values.is_empty() {
        "emptyArrayString()".to_owned()
    } else {
        format!("[{}]", values.join(", "))
    };
    format!(
        "SELECT {provider} AS of_provider, {source} AS of_source, {values} AS of_values, \
         toInt64(intDiv(toUnixTimestamp64Micro(counted_at), 10000000) * 10000000) AS pane, \
         if(isNull(message_sent_at), toInt64(-1), \
         toInt64(toUnixTimestamp(toStartOfHour(assumeNotNull(message_sent_at)))) * 1000000) AS hour, \
         arrayFilter(it -> it.2 != 0, [{}]) AS nonzero FROM message_counts WHERE {} \
         GROUP BY of_provider, of_source, of_values, pane, hour \
         ORDER BY of_provider, of_source, of_values, pane, hour LIMIT {}",
        counts.join(", "),
        conditions.join(" AND "),
        MAX_ROWS + 1
    )
}

fn scope_of(kind: ScopeKind, row: &PaneRow) -> Option<Scope> {
    let value = |dimension: Dimension| {
        let index = kind.dimensions().iter().position(|other| *other == dimension)?;
        row.of_values.get(index).map(String::as_str)
    };
    // Scopes of tenants have no provider.
    let provider =
        if kind.has_source() { row.of_provider.parse().ok()? } else { Provider::Generic };
    Scope::new(kind, provider, &row.of_source, value)
}

fn delta_of(row: &PaneRow) -> Delta {
    let mut counts = Counts::default();
    for (name, count) in &row.nonzero {
        if let Some(counter) = Counter::from_name(name) {
            counts.increase(counter, *count);
        }
    }
    Delta {
        pane: PaneStart::of(OccurredAt(row.pane)),
        cohort: (row.hour >= 0).then(|| HourStart::of(OccurredAt(row.hour))),
        counts,
    }
}
