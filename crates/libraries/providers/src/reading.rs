//! The two steps that read a provider's bytes.

use event::{Event, Provider};
use serde_json::value::RawValue;

use crate::{Envelope, ParseError, SplitBody, SplitError, bounce, json, parse_usual, split_usual};

/// Splits a verified body into its events without changing a byte of them. An event of several
/// recipients is returned once for each recipient.
///
/// An element of a batch that cannot be read becomes a raw event of [`event::Kind::Other`] without a
/// recipient, and [`parse`] says what is wrong with it. Only if it cannot be told where the events of
/// the body begin and end is the whole body an error.
pub fn split(provider: Provider, body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    split_usual(provider, body).or_else(|error| {
        let repaired = json::repair(body).ok_or(error)?;
        let split = split_usual(provider, &repaired).map_err(|_| error)?;
        // A raw event that is not UTF-8 has no canonical form. If it is the only one, the body is the
        // dead letter.
        if error == SplitError::NotUtf8 && split.len() <= 1 {
            return Err(error);
        }
        Ok(split.moved_to(body))
    })
}

/// Converts the bytes of one [`RawEvent`] to the canonical event. The same bytes and envelope always
/// give the same event, with the kind that [`split`] returned.
///
/// An unknown event name gives [`event::Kind::Other`], unknown keys are ignored, and a field of an
/// unexpected JSON type counts as absent. An event without a readable time gets the time of receipt
/// and a [`event::TimeFault`]. Texts have at most the lengths of [`event::limits`]. Only a raw event
/// that is no JSON object in UTF-8 is an error.
pub fn parse<'a>(
    provider: Provider,
    raw: &'a [u8],
    envelope: &Envelope<'a>,
) -> Result<Event<'a>, ParseError> {
    let parsed = parse_usual(provider, raw, envelope);
    let event = parsed.or_else(|error| parse_repaired(provider, raw, envelope).ok_or(error))?;
    Ok(bounce::corrected(event).within_limits())
}

/// Parses a raw event that had to be repaired. The event keeps the received bytes.
fn parse_repaired<'a>(
    provider: Provider,
    raw: &'a [u8],
    envelope: &Envelope<'a>,
) -> Option<Event<'a>> {
    let received: &RawValue = serde_json::from_slice(raw).ok()?;
    let repaired = json::repair(raw)?;
    let event = parse_usual(provider, &repaired, envelope).ok()?;
    Some(event.with_raw(received))
}
