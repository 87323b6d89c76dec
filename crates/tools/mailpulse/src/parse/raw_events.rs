//! Splits a body into raw events with the code of the ingress. Operators may also have a single
//! event without its body.

use event::Provider;
use providers::{Content, SplitBody, SplitError, split};

use super::envelope::with_envelope;

/// The key and the value of a record of a raw topic.
pub(super) struct RawEvent {
    /// Empty if the event has no recipient.
    pub(super) recipient: String,
    /// The provider's bytes.
    pub(super) bytes: Vec<u8>,
}

pub(super) struct BodyEvents {
    pub(super) events: Vec<RawEvent>,
    /// A remark about the body for the summary.
    pub(super) note: Option<String>,
}

/// Splits a body. If it cannot be split, tries again with an envelope around it.
pub(super) fn split_body(provider: Provider, body: &[u8]) -> Result<BodyEvents, SplitError> {
    split_complete(provider, body).or_else(|error| {
        let complete = with_envelope(provider, body).ok_or(error)?;
        let BodyEvents { events, .. } = split_complete(provider, &complete).map_err(|_| error)?;
        let note = Some("the input is an event without its body".to_owned());
        Ok(BodyEvents { events, note })
    })
}

fn split_complete(provider: Provider, body: &[u8]) -> Result<BodyEvents, SplitError> {
    split_with(body, |body| split(provider, body))
}

/// Splits a body with `split`.
pub(super) fn split_with<'b>(
    body: &'b [u8],
    split: impl FnOnce(&'b [u8]) -> Result<SplitBody<'b>, SplitError>,
) -> Result<BodyEvents, SplitError> {
    let split = split(body)?;
    let events = split
        .events()
        .map(|raw| RawEvent { recipient: raw.recipient.to_owned(), bytes: raw.raw.to_owned() });
    Ok(BodyEvents { events: events.collect(), note: note(split.content()) })
}

/// Returns why a body has no events.
fn note(content: &Content) -> Option<String> {
    match content {
        Content::Events(_) => None,
        Content::Ping => Some("the body is a test without events".to_owned()),
        Content::ConfirmSubscription { topic, .. } => Some(format!(
            "SNS asks to confirm the subscription to {topic}; the ingress would confirm it"
        )),
        Content::Unsubscribed { topic } => Some(format!("SNS ended the subscription to {topic}")),
    }
}
