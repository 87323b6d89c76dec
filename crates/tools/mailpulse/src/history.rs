//! What happened in a scope, from the table `events`, with what each event changes in earlier counts.

use clickhouse::Row;
use event::{Counter, Dimension, OccurredAt, Provider};
use recount::{CORRECTED_AT, COUNTED_AT, SENT_AT};
use serde::Deserialize;
use window::{Counts, HourStart, PaneStart, Scope, ScopeKind};

use crate::database::{Database, literal, time_literal};

/// How far before the tested time counts are read, in microseconds: windows of a day, and cohorts of two days.
pub(crate) const LEAD: i64 = 3 * 24 * 3_600_000_000;

/// The greatest number of rows that are read at once.
const MAX_ROWS: usize = 2_000_000;

/// The counts of one scope in steps of ten seconds, in ascending order.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) deltas: Vec<Delta>,
}

/// What happened in ten seconds to messages of one cohort.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Delta {
    pub(crate) pane: PaneStart,
    /// The first window end, in UTC microseconds, at which the events were received within the bound. Without a bound,
    /// the end of the pane.
    pub(crate) known: i64,
    pub(crate) cohort: Option<HourStart>,
    pub(crate) counts: Counts,
}

#[derive(Debug, Row, Deserialize)]
struct PaneRow {
    of_provider: String,
    of_source: String,
    /// The values of the dimensions of the kind, in their order.
    of_values: Vec<String>,
    /// UTC microseconds.
    pane: i64,
    /// UTC microseconds.
    known: i64,
    /// The start of the hour of sending, UTC microseconds; -1 if it is not known.
    hour: i64,
    nonzero: Vec<(String, i64)>,
}

/// Which history is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// UTC microseconds. Counts before are read as far as windows need them.
    pub(crate) from: i64,
    pub(crate) to: i64,
    pub(crate) source: Option<&'a str>,
    /// An event is known to a window if it was received before the window's end and this much later, in
    /// microseconds. `None`: all events are.
    pub(crate) bound: Option<i64>,
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
    pub(crate) fn for_each_scope(
        database: &Database,
        kind: ScopeKind,
        wanted: &Wanted<'_>,
        mut each: impl FnMut(Scope, Self),
    ) -> anyhow::Result<()> {
        if wanted.source.is_some() && !kind.has_source() {
            return Ok(());
        }
        let rows: Vec<PaneRow> = database.rows(&query(kind, wanted), &[])?;
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

/// Returns the kinds of scopes that monitor counts: sources always.
pub(crate) fn kinds_with_source(kinds: &[ScopeKind]) -> Vec<ScopeKind> {
    let others = kinds.iter().copied().filter(|kind| *kind != ScopeKind::Source);
    std::iter::once(ScopeKind::Source).chain(others).collect()
}

/// Returns a subquery: a row for everything that an event counts for, with `counted_at`, `received_at`, `sent_at`,
/// `counter`, `number` and the `dimensions` in which it counts.
fn counted(condition: &str) -> String {
    let columns = "provider, source, tenant, mailbox_provider, campaign, sender_domain, sending_ip, stream, received_at";
    format!(
        "SELECT {columns}, {COUNTED_AT} AS counted_at, {SENT_AT} AS sent_at, \
         ['mailbox_provider', 'campaign', 'sender_domain', 'sending_ip', 'tenant'] AS dimensions, \
         arrayJoin(CAST(counts AS Array(String))) AS counter, toInt64(1) AS number \
         FROM events WHERE notEmpty(counts) AND {condition} \
         UNION ALL \
         SELECT {columns}, {CORRECTED_AT} AS counted_at, {SENT_AT} AS sent_at, \
         splitByChar(',', splitByChar(':', corrections)[1]) AS dimensions, \
         substring(splitByChar('@', change)[1], 2) AS counter, \
         if(startsWith(change, '-'), toInt64(-1), toInt64(1)) AS number \
         FROM (SELECT *, arrayJoin(splitByChar(',', splitByChar(':', corrections)[2])) AS change FROM events \
         WHERE corrections != '' AND {condition})"
    )
}

fn query(kind: ScopeKind, wanted: &Wanted<'_>) -> String {
    let Wanted { from, to, source, bound } = *wanted;
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
    let (provider, source) =
        if kind.has_source() { ("toString(provider)", "toString(source)") } else { ("''", "''") };
    let earliest = from.saturating_sub(LEAD);
    conditions.push(format!("counted_at >= {}", time_literal(earliest)));
    conditions.push(format!("counted_at < {}", time_literal(to)));
    let counted =
        counted(&format!("occurred_at >= {}", time_literal(earliest.saturating_sub(LEAD))));
    // Window ends are full ten seconds; an event that is received exactly `bound` after one is too late for it.
    let known = bound.map_or_else(
        || "pane + 10000000".to_owned(),
        |bound| {
            let received = "toUnixTimestamp64Micro(received_at)";
            format!(
                "greatest(pane + 10000000, (intDiv({received} - {bound}, 10000000) + 1) * 10000000)"
            )
        },
    );
    let values = if values.is_empty() {
        "emptyArrayString()".to_owned()
    } else {
        format!("[{}]", values.join(", "))
    };
    format!(
        "SELECT {provider} AS of_provider, {source} AS of_source, {values} AS of_values, \
         toInt64(intDiv(toUnixTimestamp64Micro(counted_at), 10000000) * 10000000) AS pane, \
         toInt64({known}) AS known, \
         if(isNull(sent_at), toInt64(-1), \
         toInt64(toUnixTimestamp(toStartOfHour(assumeNotNull(sent_at)))) * 1000000) AS hour, \
         CAST(sumMap(map(counter, number)) AS Array(Tuple(String, Int64))) AS nonzero \
         FROM ({counted}) WHERE {} \
         GROUP BY of_provider, of_source, of_values, pane, known, hour \
         ORDER BY of_provider, of_source, of_values, pane, known, hour LIMIT {}",
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
        known: row.known,
        cohort: (row.hour >= 0).then(|| HourStart::of(OccurredAt(row.hour))),
        counts,
    }
}
