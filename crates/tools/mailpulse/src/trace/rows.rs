//! What ClickHouse knows.

use archive::ClickHouseError;
use clickhouse::Row;
use jiff::Timestamp;
use serde::Deserialize;

use super::journey::Step;
use super::{Journeys, MAX_EVENTS};
use crate::database::{Database, literal, time_literal};

/// A row of `events`.
#[derive(Debug, Clone, Row, Deserialize)]
pub(super) struct StoredEvent {
    pub(super) event_id: String,
    pub(super) kind: String,
    pub(super) provider: String,
    pub(super) source: String,
    pub(super) recipient: String,
    pub(super) message_id: String,
    pub(super) request_id: String,
    /// UTC microseconds.
    pub(super) occurred_at: i64,
    /// UTC microseconds.
    pub(super) received_at: i64,
    /// UTC microseconds.
    pub(super) archived_at: i64,
    pub(super) kafka_partition: u16,
    pub(super) kafka_offset: u64,
}

const COLUMNS: &str = "event_id, toString(kind) AS kind, toString(provider) AS provider, toString(source) AS source, \
     recipient, message_id, request_id, toUnixTimestamp64Micro(occurred_at) AS occurred_at, \
     toUnixTimestamp64Micro(received_at) AS received_at, toUnixTimestamp64Milli(archived_at) * 1000 AS archived_at, \
     kafka_partition, kafka_offset";

/// Returns the rows whose event, request or message has the id, the earliest first.
///
/// # Errors
/// See [`ClickHouseError`].
pub(super) fn find(
    database: &Database,
    id: &str,
    since: Timestamp,
) -> Result<Vec<StoredEvent>, ClickHouseError> {
    let (id, since) = (literal(id), time_literal(since.as_microsecond()));
    let sql = |condition: String| {
        format!(
            "SELECT {COLUMNS} FROM events AS e WHERE {condition} ORDER BY e.received_at, event_id LIMIT {MAX_EVENTS}"
        )
    };
    // There is an index of messages, so they are found however old they are.
    let of_message = database.rows(&sql(format!("message_id = {id}")), &[])?;
    if !of_message.is_empty() {
        return Ok(of_message);
    }
    let condition = format!("(event_id = {id} OR request_id = {id}) AND e.received_at >= {since}");
    database.rows(&sql(condition), &[])
}

#[derive(Debug, Row, Deserialize)]
struct Effect {
    event_id: String,
    name: String,
    /// UTC microseconds; 0 if it is not known.
    at: i64,
    text: String,
}

/// Adds rows that only the log had led to, and what events have caused: suppressions and actions of rules.
///
/// # Errors
/// See [`ClickHouseError`].
pub(super) fn complete(
    database: &Database,
    journeys: &mut Journeys,
) -> Result<(), ClickHouseError> {
    let list = |journeys: &Journeys, needs_row: bool| {
        let ids = journeys.values().filter(|it| !needs_row || it.row.is_none());
        let ids = ids.filter_map(|it| it.event_id.as_deref()).take(MAX_EVENTS);
        ids.map(literal).collect::<Vec<_>>().join(", ")
    };
    let missing = list(journeys, true);
    if !missing.is_empty() {
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE event_id IN ({missing}) LIMIT {MAX_EVENTS}"
        );
        let rows: Vec<StoredEvent> = database.rows(&sql, &[])?;
        for row in rows {
            if let Some(journey) = journeys.get_mut(&row.event_id) {
                journey.adopt(row);
            }
        }
    }
    let ids = list(journeys, false);
    if ids.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "SELECT event_id, 'suppression' AS name, ifNull(toUnixTimestamp64Micro(written_at), 0) AS at, \
         concat(state, ' on the list ', list, ': ', reason) AS text FROM suppressions WHERE event_id IN ({ids}) \
         UNION ALL \
         SELECT event_id, 'action' AS name, ifNull(toUnixTimestamp64Micro(decided_at), 0) AS at, \
         concat('rule ', rule, ': ', type) AS text FROM actions WHERE event_id IN ({ids}) ORDER BY at LIMIT 200"
    );
    let effects: Vec<Effect> = database.rows(&sql, &[])?;
    for Effect { event_id, name, at, text } in effects {
        let name = if name == "action" { "action" } else { "suppression" };
        if let Some(journey) = journeys.get_mut(&event_id) {
            journey.effects.push(Step { at: (at > 0).then_some(at), name, text });
        }
    }
    Ok(())
}
