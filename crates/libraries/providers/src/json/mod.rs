//! Reads JSON bodies, raw events and their fields.
//!
//! A body is cut into slices of the received text; nothing is re-serialised. Only after a body
//! could not be read does [`fault`] look for the reason.

mod lenient;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::{ParseError, SplitError};

pub(crate) use lenient::{
    LenientFlag, LenientObject, LenientObjects, LenientText, LenientTexts, OptionalObject,
};

/// JSON's white space (RFC 8259 §2).
const WHITE_SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Reads a body that is an object or an array of objects, in a single pass. Returns for each object
/// the fields of `T` and the object's bytes.
pub(crate) fn objects<'a, T: Deserialize<'a>>(
    body: &'a str,
) -> Result<Vec<(T, &'a str)>, SplitError> {
    let text = body.trim_matches(WHITE_SPACE);
    let found = match text.strip_prefix('[') {
        Some(elements) => array(elements.trim_start_matches(WHITE_SPACE)),
        None => {
            object(text).and_then(|(head, raw, rest)| rest.is_empty().then(|| vec![(head, raw)]))
        }
    };
    found.ok_or_else(|| fault(body, "an object or an array of objects"))
}

/// Checks that a body is UTF-8.
pub(crate) fn text(body: &[u8]) -> Result<&str, SplitError> {
    std::str::from_utf8(body).map_err(|_| SplitError::NotUtf8)
}

/// Checks that a text is JSON.
pub(crate) fn check(text: &str) -> Result<(), SplitError> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(_) => Err(fault(text, "JSON")),
    }
}

/// Reads a body that is one object.
pub(crate) fn body<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, SplitError> {
    single(text(body)?)
}

/// Reads a text that is one object.
pub(crate) fn single<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, SplitError> {
    // serde also reads a struct from an array of its fields. No provider sends that.
    let is_object = text.trim_start_matches(WHITE_SPACE).starts_with('{');
    match is_object.then(|| serde_json::from_str(text)) {
        Some(Ok(value)) => Ok(value),
        _ => Err(fault(text, "an object")),
    }
}

/// Reads one raw event. Returns the fields of `T` and the whole event as it was received.
pub(crate) fn event<'a, T: Deserialize<'a>>(
    raw: &'a [u8],
) -> Result<(T, &'a RawValue), ParseError> {
    const EXPECTED: &str = "an object";
    let text = std::str::from_utf8(raw).map_err(|_| ParseError::NotUtf8)?;
    let failed = |error: serde_json::Error| ParseError::from_json(&error, EXPECTED);
    let raw: &RawValue = serde_json::from_str(text).map_err(failed)?;
    if !raw.get().starts_with('{') {
        return Err(ParseError::WrongShape(EXPECTED));
    }
    Ok((serde_json::from_str(raw.get()).map_err(failed)?, raw))
}

/// Reads the elements of an array, from after its opening bracket. Returns `None` unless it is an
/// array of objects.
fn array<'a, T: Deserialize<'a>>(mut rest: &'a str) -> Option<Vec<(T, &'a str)>> {
    let mut found = Vec::new();
    if rest == "]" {
        return Some(found);
    }
    loop {
        let (head, raw, after) = object(rest)?;
        found.push((head, raw));
        rest = after.trim_start_matches(WHITE_SPACE);
        if rest == "]" {
            return Some(found);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(WHITE_SPACE);
    }
}

/// Reads the object at the start of `text`. Returns its fields, its bytes and the rest of `text`.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, &'a str, &'a str)> {
    if !text.starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let head = values.next()?.ok()?;
    let (raw, rest) = text.split_at_checked(values.byte_offset())?;
    Some((head, raw, rest))
}

/// Returns why a body could not be read: the position where it stops being JSON, if it does.
fn fault(body: &str, expected: &'static str) -> SplitError {
    match serde_json::from_str::<IgnoredAny>(body) {
        Ok(_) => SplitError::WrongShape(expected),
        Err(error) => SplitError::NotJson { line: error.line(), column: error.column() },
    }
}
