//! Tests every file in `src/<provider>/fixtures/`: a snapshot shows the events that the body is
//! split into and their canonical form.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use event::{Provider, ReceivedAt};
use providers::{Envelope, parse, split};
use serde_json::{Value, json};

/// 2025-11-10 15:20:00 UTC.
const RECEIVED_AT: ReceivedAt = ReceivedAt(1_762_788_000_000_000);

#[test]
fn fixture() {
    insta::glob!("..", "src/*/fixtures/*", |path| {
        let folder = path.parent().and_then(|fixtures| fixtures.parent()).unwrap();
        let provider: Provider = folder.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let body = std::fs::read(path).unwrap();
        insta::assert_json_snapshot!(outcome(provider, &body));
    });
}

fn outcome(provider: Provider, body: &[u8]) -> Value {
    let split = match split(provider, body) {
        Ok(split) => split,
        Err(error) => return json!({ "code": error.code(), "error": error.to_string() }),
    };
    let mut events = Vec::new();
    for raw in split.events() {
        let envelope = Envelope {
            source: "acme",
            recipient: raw.recipient,
            received_at: RECEIVED_AT,
            request_id: "r-1",
        };
        let parsed = match parse(provider, raw.raw, &envelope) {
            Ok(event) => {
                assert_eq!(event.kind, raw.kind, "split and parse agree");
                assert_eq!(
                    event.raw.get().as_bytes(),
                    raw.raw.trim_ascii(),
                    "the raw bytes are kept"
                );
                fields(&event)
            }
            Err(error) => json!({ "code": error.code(), "error": error.to_string() }),
        };
        events.push(json!({
            "kind": raw.kind,
            "recipient": raw.recipient,
            "raw_length": raw.raw.len(),
            "parsed": parsed,
        }));
    }
    json!({ "split": format!("{:?}", split.content()), "events": events })
}

/// Returns the event without the fields that are equal in all snapshots.
fn fields(event: &event::Event<'_>) -> Value {
    let json = serde_json::to_string(event).unwrap();
    let mut value: Value = serde_json::from_str(&json).unwrap();
    let object = value.as_object_mut().unwrap();
    for key in ["raw", "source", "received_at", "request_id", "provider"] {
        object.remove(key);
    }
    value
}
