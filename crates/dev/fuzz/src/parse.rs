//! Bodies of every provider, cut into events and each event read. The first byte chooses the
//! provider.

use event::{Event, EventId, Provider, ReceivedAt};
use providers::{Envelope, ParseError};

use crate::split::{Piece, pieces};
use crate::{NOW, provider_and_rest};

/// How long providers try to deliver an event, in seconds; some longer.
const DAY: i64 = 24 * 3600;

/// Checks that what [`providers::split`] handed over [`providers::parse`] understands in the same
/// way, that a retry is the same event, and that every event can be written and read again.
pub fn check(data: &[u8]) {
    let Some((provider, body)) = provider_and_rest(data) else { return };
    for Piece { kind, recipient, raw } in pieces(provider, body).1 {
        let first = Attempt { received_at: ReceivedAt(NOW * 1_000_000), request_id: "r-1" };
        let retry = Attempt { received_at: ReceivedAt((NOW + DAY) * 1_000_000), request_id: "r-2" };
        let Ok(id) = first.read(provider, &recipient, &raw, |event| {
            assert_eq!(event.kind, kind, "split and parse agree");
            assert_eq!(event.raw.get().as_bytes(), raw.trim_ascii(), "the bytes are kept");
            assert_reads_again(event);
            event.event_id
        }) else {
            continue;
        };
        assert_eq!(retry.read(provider, &recipient, &raw, |event| event.event_id), Ok(id));
    }
    // Records of the raw topics are read, too, if somebody else wrote them.
    let stray = Attempt { received_at: ReceivedAt(0), request_id: "" };
    let _ = stray.read(provider, "ada@example.com", body, assert_reads_again);
}

/// What differs between a provider's attempts to deliver one event.
struct Attempt {
    received_at: ReceivedAt,
    request_id: &'static str,
}

impl Attempt {
    fn read<T>(
        &self,
        provider: Provider,
        recipient: &str,
        raw: &[u8],
        then: impl FnOnce(&Event<'_>) -> T,
    ) -> Result<T, ParseError> {
        let Self { received_at, request_id } = *self;
        let envelope = Envelope { source: "acme", recipient, received_at, request_id };
        providers::parse(provider, raw, &envelope).map(|event| then(&event))
    }
}

/// As `enrich` writes it and `archive` reads it.
fn assert_reads_again(event: &Event<'_>) {
    let json = serde_json::to_string(event).expect("an event can be written");
    let again: Event<'_> = serde_json::from_str(&json).expect("what was written can be read");
    let same = |event: &Event<'_>| -> (EventId, String) {
        (event.event_id, serde_json::to_string(event).unwrap_or_default())
    };
    assert_eq!(same(&again), (event.event_id, json.clone()));
}
