//! `mailpulse trace`: the whole way of an event, with times.
//!
//! ClickHouse has the row and what the event caused; the topics have everything before it. What one of the two cannot
//! tell is left out, and a note says so.

mod journey;
mod log;
mod rows;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;

use crate::args;
use crate::installation::{Installation, note};
use crate::{Outcome, text};
use journey::Journey;
use log::Log;
use rows::StoredEvent;

/// The greatest number of events that are traced. A message to more recipients is cut.
const MAX_EVENTS: usize = 50;

/// Finds the events of an id, and prints what happened to each.
///
/// # Errors
/// If the settings are invalid, or the output cannot be written.
pub(crate) fn run(config: Option<&Path>, args: &args::Trace) -> anyhow::Result<Outcome> {
    let installation = Installation::open(config)?;
    // A request that was spooled has its records later, never earlier. Clocks differ by less than a minute.
    let since = request_time(&args.id).unwrap_or(args.since);
    let since = since.checked_sub(std::time::Duration::from_secs(60)).unwrap_or(since);
    let mut notes = Vec::new();
    let stored = rows::find(&installation.database, &args.id, since).unwrap_or_else(|error| {
        notes.push(format!("ClickHouse cannot be asked: {}: {error}", error.code()));
        Vec::new()
    });
    let since = stored.iter().map(|row| row.received_at).min().map_or(since, |received_at| {
        let received = Timestamp::from_microsecond(received_at).unwrap_or(since);
        received.checked_sub(std::time::Duration::from_secs(60)).unwrap_or(received)
    });
    let log = Log::read(&installation, &args.id, &stored, since, args.deadline, &mut notes);
    let mut journeys = journey::all(stored, log);
    if let Err(error) = rows::complete(&installation.database, &mut journeys) {
        notes.push(format!("ClickHouse cannot be asked: {}: {error}", error.code()));
    }
    let mut out = io::stdout().lock();
    for journey in journeys.values() {
        print(&mut out, journey, args)?;
    }
    for text in &notes {
        note(&format!("note: {text}"))?;
    }
    if journeys.is_empty() {
        note(&format!(
            "nothing is known of {} since {since:.0}; it may have been received earlier (--since), or by another \
             installation",
            text::truncate_line(args.id.as_bytes(), 64)
        ))?;
        return Ok(Outcome::Incomplete);
    }
    let is_complete = journeys.values().all(Journey::is_complete);
    Ok(if is_complete { Outcome::Done } else { Outcome::Incomplete })
}

/// Returns the time in the id of a request: 48 bits of milliseconds at the beginning of a UUID of version 7 (RFC
/// 9562).
fn request_time(id: &str) -> Option<Timestamp> {
    let is_version_7 = id.len() == 32
        && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        && id.as_bytes().get(12) == Some(&b'7')
        && id.as_bytes().get(16).is_some_and(|byte| b"89ab".contains(byte));
    let millis = i64::from_str_radix(id.get(..12)?, 16).ok().filter(|_| is_version_7)?;
    Timestamp::from_millisecond(millis).ok()
}

fn print(out: &mut impl Write, journey: &Journey, args: &args::Trace) -> io::Result<()> {
    let journey = if args.addresses { journey.clone() } else { journey.masked() };
    if args.json {
        for step in journey.json_steps() {
            serde_json::to_writer(&mut *out, &step)?;
            writeln!(out)?;
        }
        return Ok(());
    }
    writeln!(out, "{}", text::escape_line(journey.title().as_bytes()))?;
    let begin = journey.received_at();
    for step in journey.steps() {
        let (at, after) = match step.at {
            Some(at) => {
                let time = Timestamp::from_microsecond(at).unwrap_or_default();
                let after = begin.map_or_else(String::new, |begin| seconds(at - begin));
                (format!("{time:.3}"), after)
            }
            None => ("-".to_owned(), String::new()),
        };
        let text = text::escape_line(step.text.as_bytes());
        writeln!(out, "  {at:<24} {after:>10}  {:<12} {text}", step.name)?;
    }
    writeln!(out)
}

#[expect(clippy::cast_precision_loss, reason = "rounded to milliseconds")]
fn seconds(micros: i64) -> String {
    format!("{:+.3} s", micros as f64 / 1e6)
}

/// The journeys by the ids of their events; those without an event by the place of their raw record.
type Journeys = BTreeMap<String, Journey>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_request_is_in_its_id() {
        let id = uuid::Builder::from_unix_timestamp_millis(1_795_255_200_123, &[7; 10])
            .into_uuid()
            .simple()
            .to_string();
        assert_eq!(request_time(&id).unwrap().as_millisecond(), 1_795_255_200_123);
        for other in ["895b4dbac24d829aca5da856bf83ac90", "", "mailpulse-test-1", &"7".repeat(31)] {
            assert_eq!(request_time(other), None, "{other}");
        }
    }
}
