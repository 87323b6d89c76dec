//! Bodies of every provider, split into raw events. The first byte chooses the provider.

use event::{Kind, Provider};
use providers::{Content, SplitError};

use crate::provider_and_rest;

/// Checks that splitting is deterministic, that a body that cannot be split gives no events, and
/// that raw events have the provider's bytes.
pub fn check(data: &[u8]) {
    let Some((provider, body)) = provider_and_rest(data) else { return };
    let (content, events) = raw_events(provider, body);
    match &content {
        Ok(Content::Events(count)) => assert_eq!(*count, events.len()),
        _ => assert!(events.is_empty(), "events of {content:?}"),
    }
    for event in &events {
        assert!(!event.recipient.bytes().any(|byte| byte.is_ascii_uppercase()), "{event:?}");
    }
    assert_eq!(raw_events(provider, body), (content, events));
}

/// An owned [`providers::RawEvent`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OwnedRawEvent {
    pub(crate) kind: Kind,
    pub(crate) recipient: String,
    pub(crate) raw: Vec<u8>,
}

pub(crate) fn raw_events(
    provider: Provider,
    body: &[u8],
) -> (Result<Content, SplitError>, Vec<OwnedRawEvent>) {
    let split = match providers::split(provider, body) {
        Ok(split) => split,
        Err(error) => return (Err(error), Vec::new()),
    };
    let events = split.events().map(|event| {
        // Only forms are decoded. All other events are slices of the body.
        assert!(body.as_ptr_range().contains(&event.raw.as_ptr()) || !is_json(body));
        OwnedRawEvent {
            kind: event.kind,
            recipient: event.recipient.to_owned(),
            raw: event.raw.to_vec(),
        }
    });
    (Ok(split.content().clone()), events.collect())
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}
