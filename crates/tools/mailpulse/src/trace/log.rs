//! What the topics know.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use event::{EventId, Kind};
use jiff::Timestamp;
use kafka::Record;
use kafka::inspect::{Scan, scan};
use record::{Reason, names};
use serde::Deserialize;

use super::{MAX_EVENTS, StoredEvent};
use crate::installation::Installation;

/// The greatest number of records of one topic that belong to the id. Providers repeat events a few times.
const MAX_FOUND: usize = 500;

/// A record that belongs to the id.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// UTC microseconds, by the clock of who wrote it.
    pub(super) written_at: Option<i64>,
    pub(super) key: String,
    pub(super) request_id: String,
    /// Empty for raw records and dead letters.
    pub(super) event_id: String,
    /// UTC microseconds; 0 if the record does not say.
    pub(super) received_at: i64,
    /// UTC microseconds; 0 if the record does not say.
    pub(super) occurred_at: i64,
    /// `provider/source`.
    pub(super) source: String,
    pub(super) kind: Option<Kind>,
    /// The message, if the record says it.
    pub(super) message_id: String,
    /// About a dead letter: stage, reason, detail.
    pub(super) failure: String,
    /// About a dead letter: the record of which it was made.
    pub(super) origin: String,
}

/// The records of all topics that belong to the id, in the order of their partitions.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) raw: Vec<Found>,
    pub(super) enriched: Vec<Found>,
    pub(super) events: Vec<Found>,
    pub(super) dead_letters: Vec<Found>,
}

/// The fields of a canonical event that an id can be.
#[derive(Deserialize)]
struct CanonicalEvent<'a> {
    #[serde(borrow)]
    event_id: std::borrow::Cow<'a, str>,
    kind: Kind,
    #[serde(borrow)]
    provider: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    source: std::borrow::Cow<'a, str>,
    occurred_at: i64,
    received_at: i64,
    #[serde(borrow, default)]
    message_id: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    request_id: std::borrow::Cow<'a, str>,
}

impl Log {
    /// Reads the topics from a time on. Adds a note for each that could not be read to its end.
    pub(super) fn read(
        installation: &Installation,
        id: &str,
        stored: &[StoredEvent],
        since: Timestamp,
        deadline: Duration,
        notes: &mut Vec<String>,
    ) -> Self {
        let topics = &installation.topics;
        let mut read = |topic: &str,
                        partitions: &[Option<i32>],
                        take: &dyn Fn(&Record<'_>) -> Option<Found>| {
            let mut found = Vec::new();
            for &partition in partitions {
                let wanted = Scan { topic, partition, since: since.as_millisecond(), deadline };
                let result = scan(&installation.connection, wanted, |record| {
                    found.extend(take(record));
                    if found.len() < MAX_FOUND {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
                if let Err(error) = result {
                    notes.push(format!("{error} (--deadline gives it more time)"));
                    // The next partition would not answer either.
                    break;
                }
            }
            found.sort_by_key(|it: &Found| (it.partition, it.offset));
            found
        };
        // All events of a recipient are in the same partition of every topic.
        let mut partitions: Vec<Option<i32>> =
            stored.iter().map(|row| Some(i32::from(row.kafka_partition))).collect();
        partitions.sort_unstable();
        partitions.dedup();
        if partitions.is_empty() {
            partitions = vec![None];
        }

        let stored_ids = stored.iter().map(|row| row.event_id.as_str());
        let ids: HashSet<String> = stored_ids.chain([id]).map(str::to_owned).collect();
        let enriched = read(&topics.enriched, &partitions, &|record| of_event(record, id, &ids));
        let ids: HashSet<String> =
            ids.into_iter().chain(enriched.iter().map(|it| it.event_id.clone())).collect();
        let events = read(&topics.events, &partitions, &|record| of_event(record, id, &ids));

        let of_rows = stored.iter().map(|row| row.request_id.clone());
        let of_records = enriched.iter().map(|it| it.request_id.clone());
        let requests: HashSet<String> = of_rows.chain(of_records).chain([id.to_owned()]).collect();
        let mut kinds: Vec<Kind> = stored.iter().filter_map(|row| row.kind.parse().ok()).collect();
        kinds.extend(enriched.iter().filter_map(|it| it.kind));
        // Without an event nothing is known of the kind: its request may be spooled, or enrich has not read it.
        if kinds.is_empty() {
            kinds = Kind::ALL.to_vec();
        }
        kinds.sort_unstable();
        kinds.dedup();
        let mut raw = Vec::new();
        for kind in kinds {
            raw.extend(read(topics.raw(kind), &partitions, &|record| {
                of_request(record, &requests, Some(kind))
            }));
        }
        let mut dead_letters = read(&topics.dead_letters, &[None], &|record| {
            // The marker of a dead letter that was redriven.
            let is_marker =
                record.header(names::REASON) == Some(Reason::Redriven.code().as_bytes());
            of_request(record, &requests, None).filter(|_| !is_marker)
        });
        dead_letters.truncate(MAX_EVENTS);
        Self { raw, enriched, events, dead_letters }
    }
}

fn text(record: &Record<'_>, name: &str) -> String {
    String::from_utf8_lossy(record.header(name).unwrap_or_default()).into_owned()
}

fn found(record: &Record<'_>) -> Found {
    let failure = [names::STAGE, names::REASON, names::DETAIL].map(|name| text(record, name));
    Found {
        topic: record.topic().to_owned(),
        partition: record.partition(),
        offset: record.offset().0,
        written_at: record.written_at(),
        key: String::from_utf8_lossy(record.key()).into_owned(),
        request_id: text(record, names::REQUEST_ID),
        event_id: String::new(),
        received_at: text(record, names::RECEIVED_AT).parse().unwrap_or_default(),
        occurred_at: 0,
        source: format!("{}/{}", text(record, names::PROVIDER), text(record, names::SOURCE)),
        kind: None,
        message_id: String::new(),
        failure: failure.join(", "),
        origin: text(record, names::ORIGIN),
    }
}

/// Returns a record of a raw topic or a dead letter that belongs to one of the requests.
fn of_request(
    record: &Record<'_>,
    requests: &HashSet<String>,
    kind: Option<Kind>,
) -> Option<Found> {
    let request = std::str::from_utf8(record.header(names::REQUEST_ID)?).ok()?;
    requests.contains(request).then(|| Found { kind, ..found(record) })
}

/// Returns a canonical event that has one of the ids, or belongs to the request or the message `id`.
fn of_event(record: &Record<'_>, id: &str, ids: &HashSet<String>) -> Option<Found> {
    let value = record.value().filter(|value| !value.is_empty())?;
    let event_id = record.header(names::EVENT_ID).and_then(EventId::from_bytes)?.to_string();
    // Reading JSON is far slower than looking for the bytes of the id.
    if !ids.contains(&event_id) && !contains(value, id.as_bytes()) {
        return None;
    }
    let event: CanonicalEvent<'_> = serde_json::from_slice(value).ok()?;
    let is_wanted = ids.contains(&*event.event_id)
        || event.request_id == id
        || event.message_id.as_deref() == Some(id);
    is_wanted.then(|| Found {
        event_id,
        request_id: event.request_id.into_owned(),
        received_at: event.received_at,
        occurred_at: event.occurred_at,
        source: format!("{}/{}", event.provider, event.source),
        kind: Some(event.kind),
        message_id: event.message_id.unwrap_or_default().into_owned(),
        ..found(record)
    })
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    // An id with characters that JSON escapes is found by its other forms only.
    !wanted.is_empty() && bytes.windows(wanted.len()).any(|window| window == wanted)
}
