//! The delta feed: what has changed since a client asked last.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kafka::changes::{Changes, Polled};
use kafka::{Connection, Error};
use serde::Serialize;
use serde_json::value::RawValue;
use suppression::cursor::Cursor;

/// The greatest number of changes of one answer.
pub const MAX_CHANGES: usize = 10_000;
/// The greatest size of the changes of one answer, in bytes.
const MAX_BYTES: usize = 8 << 20;
/// How long Kafka has for one answer. What was read until then is the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
const POLL_TIMEOUT: Duration = Duration::from_millis(50);

/// An answer.
#[derive(Debug, Serialize)]
pub struct Delta {
    /// The values of records of `mail.suppressions`, in the order of their partitions, without what operators wrote.
    pub changes: Vec<Box<RawValue>>,
    /// From where the client asks next.
    pub cursor: String,
    /// Whether there may be more already.
    pub more: bool,
}

/// Reads changes from Kafka, for one client at a time.
pub struct Feed {
    connection: Connection,
    topic: String,
    partitions: usize,
    /// Opened by the first client, and again after an error.
    reader: Mutex<Option<Changes>>,
}

impl Feed {
    pub const fn new(connection: Connection, topic: String, partitions: usize) -> Self {
        Self { connection, topic, partitions, reader: Mutex::new(None) }
    }

    /// Returns the number of partitions that a cursor must have.
    pub const fn partitions(&self) -> usize {
        self.partitions
    }

    /// Returns what has changed since the cursor, at most `limit` changes. Blocks.
    ///
    /// # Errors
    /// If Kafka cannot be read.
    pub fn since(&self, cursor: &Cursor, limit: usize, now: i64) -> Result<Delta, Error> {
        let mut reader = self.reader.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut changes = match reader.take() {
            Some(changes) => changes,
            None => Changes::open(&self.connection, "suppress-feed", &self.topic)?,
        };
        let delta = read(&mut changes, cursor, limit, now)?;
        // A reader that failed is not used again.
        *reader = Some(changes);
        Ok(delta)
    }
}

/// Returns a value without the operator and the note. Readers need neither.
fn without_people(value: &str) -> serde_json::Result<Box<RawValue>> {
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(value)?;
    fields.retain(|name, _| !["who", "note"].contains(&name.as_str()));
    serde_json::value::to_raw_value(&fields)
}

fn read(changes: &mut Changes, cursor: &Cursor, limit: usize, now: i64) -> Result<Delta, Error> {
    changes.seek(&cursor.offsets)?;
    let (mut found, mut bytes, deadline) = (Vec::new(), 0, Instant::now() + TIMEOUT);
    let mut is_away = None;
    while found.len() < limit && bytes < MAX_BYTES && !changes.has_caught_up() {
        if Instant::now() >= deadline {
            break;
        }
        let polled = changes.poll(POLL_TIMEOUT, &mut |record| {
            // A tombstone only forgets a lift that every client has seen.
            let Some(value) = record.value().and_then(|it| std::str::from_utf8(it).ok()) else {
                return;
            };
            if let Ok(value) = without_people(value) {
                bytes += value.get().len();
                found.push(value);
            }
        })?;
        if let Polled::Away(error) = polled {
            is_away = Some(error);
        }
    }
    let more = !changes.has_caught_up();
    if found.is_empty()
        && more
        && let Some(error) = is_away
    {
        return Err(Error::state(format!("mail.suppressions cannot be read: {error}")));
    }
    // While a client catches up, the age of its knowledge is that of its first question.
    let at = if more { cursor.at } else { now };
    let offsets = changes.next_offsets().to_vec();
    Ok(Delta { changes: found, cursor: Cursor { at, offsets }.to_string(), more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_do_not_learn_who_wrote_an_entry_and_why() {
        let value = r#"{"list":"a","since":1780000000000001,"note":"she \"asked\"","who":"token desk@::1","later":[{"who":1}]}"#;
        let expected = r#"{"later":[{"who":1}],"list":"a","since":1780000000000001}"#;
        assert_eq!(without_people(value).unwrap().get(), expected);
        assert!(without_people("[]").is_err());
    }
}
