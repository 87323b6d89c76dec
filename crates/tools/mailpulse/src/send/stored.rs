//! Waits until an event is a row.

use std::time::{Duration, Instant};

use clickhouse::Row;
use serde::Deserialize;

use super::{CanonicalEvent, Stopped};
use crate::database::{literal, time_literal};
use crate::installation::Installation;

const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug, Row, Deserialize)]
struct Stored {
    /// The time from the receipt of the event to its row, in milliseconds, by the clocks of the servers.
    delay: i64,
}

/// Asks ClickHouse until the row is there. Returns a text about it.
///
/// # Errors
/// Never for an answer of ClickHouse: what stops the event is returned.
pub(super) fn wait(
    installation: &Installation,
    event: &CanonicalEvent,
    until: Instant,
) -> anyhow::Result<Result<String, Stopped>> {
    // The first three columns are the sorting key of the table.
    let sql = format!(
        "SELECT dateDiff('millisecond', received_at, archived_at) AS delay FROM events WHERE source = {} AND kind = {} \
         AND occurred_at = {} AND event_id = {} LIMIT 1",
        literal(&event.source),
        literal(event.kind.as_str()),
        time_literal(event.occurred_at),
        literal(&event.event_id)
    );
    loop {
        let answer: Result<Vec<Stored>, _> = installation.database.rows(&sql, &[]);
        let reason = match answer {
            Ok(rows) => match rows.first() {
                Some(Stored { delay }) => {
                    let seconds = Duration::from_millis(u64::try_from(*delay).unwrap_or_default());
                    let text = format!(
                        "table {}.events, {:.3} s after the receipt",
                        installation.database.name(),
                        seconds.as_secs_f64()
                    );
                    return Ok(Ok(text));
                }
                None => "see that archive runs and has no lag (`mailpulse top`)".to_owned(),
            },
            Err(error) => format!("{}: {error}", error.code()),
        };
        if Instant::now() >= until {
            let text = format!("the event is no row of the table events: {reason}");
            return Ok(Err(Stopped { step: "missing", text }));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
