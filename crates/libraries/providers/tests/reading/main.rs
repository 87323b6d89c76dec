//! How bodies are read that are not of a provider's usual form: rules that hold for every provider.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod addresses;
mod batches;
mod ids;
mod limits;
mod samples;
mod sending;
mod times;
mod words;

use event::{Event, Kind, Provider, ReceivedAt};
use providers::{Envelope, parse, split};
use serde_json::value::RawValue;

/// 2025-11-10 15:20:00 UTC.
const RECEIVED_AT: i64 = 1_762_788_000_000_000;

/// What one raw event of a body became.
#[derive(Debug, Clone, PartialEq)]
struct Read {
    kind: Kind,
    key: String,
    raw: Vec<u8>,
    /// The canonical event as JSON, or the code of the dead letter.
    event: Result<serde_json::Value, &'static str>,
}

impl Read {
    fn field(&self, pointer: &str) -> Option<&str> {
        self.event.as_ref().unwrap().pointer(pointer)?.as_str()
    }
}

/// Splits a body that was received at this time, and parses its events.
fn read_at(provider: Provider, body: &[u8], received_at: i64) -> Vec<Read> {
    let split = split(provider, body).unwrap_or_else(|error| panic!("{provider}: {error}"));
    let read = split.events().map(|raw| {
        let envelope = Envelope {
            source: "harbour",
            recipient: raw.recipient,
            received_at: ReceivedAt(received_at),
            request_id: "r-1",
        };
        let event = parse(provider, raw.raw, &envelope);
        if let Ok(event) = &event {
            assert_eq!(event.kind, raw.kind, "split and parse agree");
            assert_eq!(event.raw.get().as_bytes(), raw.raw.trim_ascii(), "the bytes are kept");
        }
        Read {
            kind: raw.kind,
            key: raw.recipient.to_owned(),
            raw: raw.raw.to_vec(),
            event: event.map(|event| json(&event)).map_err(|error| error.code()),
        }
    });
    read.collect()
}

fn read(provider: Provider, body: &str) -> Vec<Read> {
    read_at(provider, body.as_bytes(), RECEIVED_AT)
}

/// Returns the event as its consumers read it. `raw` is left out, because a [`serde_json::Value`] cannot
/// contain half an emoji.
fn json(event: &Event<'_>) -> serde_json::Value {
    let written = serde_json::to_string(event).unwrap();
    let read: Event<'_> = serde_json::from_str(&written).unwrap();
    let mut value = serde_json::to_value(read.with_raw(RawValue::NULL)).unwrap();
    value.as_object_mut().unwrap().remove("raw");
    value
}

/// Reads a body of one event.
fn read_one(provider: Provider, body: &str) -> Read {
    let [read]: [Read; 1] =
        read(provider, body).try_into().unwrap_or_else(|_| panic!("{provider}: {body}"));
    read
}
