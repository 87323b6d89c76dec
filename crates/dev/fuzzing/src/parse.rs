//! Bodies of every provider, split and parsed. The first byte chooses the provider.

use event::{Event, EventId, Provider, ReceivedAt, TimeFault};
use providers::{Envelope, ParseError};

use crate::split::{OwnedRawEvent, raw_events};
use crate::{NOW, provider_and_rest};

/// In seconds. Providers retry for at least this long.
const DAY: i64 = 24 * 3600;

/// Checks that [`providers::split`] and [`providers::parse`] agree, that a retry has the same event
/// id, and that every event is unchanged after it is written and read again.
pub fn check(data: &[u8]) {
    if let Some((provider, body)) = provider_and_rest(data) {
        check_of(provider, body);
    }
}

/// The providers that were added last, so that their parsers have run for the shortest time.
const NEWER: [Provider; 7] = [
    Provider::SparkPost,
    Provider::Resend,
    Provider::StandardWebhooks,
    Provider::Brevo,
    Provider::Mailjet,
    Provider::MailerSend,
    Provider::Postal,
];

/// As [`check`], for the newer providers only.
pub fn check_newer(data: &[u8]) {
    let Some((provider, body)) = provider_and_rest(data) else { return };
    if NEWER.contains(&provider) {
        check_of(provider, body);
    }
}

fn check_of(provider: Provider, body: &[u8]) {
    for OwnedRawEvent { kind, recipient, raw } in raw_events(provider, body).1 {
        let first = Attempt { received_at: ReceivedAt(NOW * 1_000_000), request_id: "r-1" };
        let retry = Attempt { received_at: ReceivedAt((NOW + DAY) * 1_000_000), request_id: "r-2" };
        let Ok(id) = first.parse(provider, &recipient, &raw, |event| {
            assert_eq!(event.kind, kind, "split and parse disagree");
            assert_eq!(event.raw.get().as_bytes(), raw.trim_ascii(), "the bytes changed");
            check_round_trip(event);
            check_sending(event);
            event.event_id
        }) else {
            continue;
        };
        assert_eq!(retry.parse(provider, &recipient, &raw, |event| event.event_id), Ok(id));
    }
    // Another program may write records to the raw topics.
    let stray = Attempt { received_at: ReceivedAt(0), request_id: "" };
    let _ = stray.parse(provider, "ada@example.com", body, check_round_trip);
}

/// One of the provider's attempts to post an event.
struct Attempt {
    received_at: ReceivedAt,
    request_id: &'static str,
}

impl Attempt {
    fn parse<T>(
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

/// No time that counts is implausible, and a sender is an address that can be compared.
fn check_sending(event: &Event<'_>) {
    let received_at = event.received_at;
    assert!(event.sent_at.is_none_or(|time| time.is_plausible(received_at)));
    assert_eq!(event.claimed_at.is_some(), event.time_fault == Some(TimeFault::Implausible));
    assert!(event.claimed_at.is_none_or(|time| !time.is_plausible(received_at)));
    let is_lower = |sender: &str| !sender.bytes().any(|byte| byte.is_ascii_uppercase());
    let is_address = |sender: &str| !event::domain_of(sender).is_empty() && is_lower(sender);
    assert!(event.sender.as_deref().is_none_or(is_address), "{:?}", event.sender);
    assert!(event.delivery.as_ref().is_none_or(|delivery| !delivery.is_empty()));
    assert!(event.kind.is_attempt() || event.delivery.is_none());
    assert!(event.kind.is_engagement() || event.geo.is_none());
}

/// `enrich` writes an event, and `archive` reads it.
fn check_round_trip(event: &Event<'_>) {
    let json = serde_json::to_string(event).expect("an event can be written");
    let reread: Event<'_> =
        serde_json::from_str(&json).expect("an event that was written can be read");
    let id_and_json = |event: &Event<'_>| -> (EventId, String) {
        (event.event_id, serde_json::to_string(event).unwrap_or_default())
    };
    assert_eq!(id_and_json(&reread), (event.event_id, json.clone()));
}
