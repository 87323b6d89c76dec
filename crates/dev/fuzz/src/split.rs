//! Bodies of every provider, cut into events. The first byte chooses the provider.

use event::{Kind, Provider};
use providers::{RawEvent, Split, SplitError};

use crate::provider_and_rest;

/// Checks that splitting is a function of the bytes, that a body that is refused has handed nothing
/// over, and that the pieces are the provider's own bytes.
pub fn check(data: &[u8]) {
    let Some((provider, body)) = provider_and_rest(data) else { return };
    let (outcome, pieces) = pieces(provider, body);
    match &outcome {
        Ok(Split::Events(count)) => assert_eq!(*count, pieces.len()),
        _ => assert!(pieces.is_empty(), "nothing is handed over of {outcome:?}"),
    }
    for piece in &pieces {
        assert!(!piece.recipient.bytes().any(|byte| byte.is_ascii_uppercase()), "{piece:?}");
    }
    assert_eq!(self::pieces(provider, body), (outcome, pieces));
}

/// A [`RawEvent`] of one's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) kind: Kind,
    pub(crate) recipient: String,
    pub(crate) raw: Vec<u8>,
}

/// What is handed over of a body.
pub(crate) fn pieces(provider: Provider, body: &[u8]) -> (Result<Split, SplitError>, Vec<Piece>) {
    let mut pieces = Vec::new();
    let outcome = providers::split(provider, body, &mut |event: RawEvent<'_>| {
        let RawEvent { kind, recipient, raw } = event;
        // Fields of a form are decoded; everything else is cut out.
        assert!(body.as_ptr_range().contains(&raw.as_ptr()) || !is_json(body));
        pieces.push(Piece { kind, recipient: recipient.to_owned(), raw: raw.to_vec() });
    });
    (outcome, pieces)
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}
