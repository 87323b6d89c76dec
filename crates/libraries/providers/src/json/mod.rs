//! Bodies, their events, and the fields of these.
//!
//! Bodies are read straight from the received text and cut into slices of it; nothing is written
//! anew. What is wrong with a body is only looked for once it has failed.

mod fields;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::{ParseError, SplitError};

pub(crate) use fields::{first, flag, maybe, maybe_flag, part, parts, word, words};

/// JSON's white space (RFC 8259 §2).
const WHITE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Reads a body that is an object, or an array of objects, in a single pass: the few wanted
/// fields of each object together with the object's own bytes.
pub(crate) fn objects<'a, T: Deserialize<'a>>(
    body: &'a str,
) -> Result<Vec<(T, &'a str)>, SplitError> {
    let text = body.trim_matches(WHITE);
    let found = match text.strip_prefix('[') {
        Some(elements) => array(elements.trim_start_matches(WHITE)),
        None => {
            object(text).and_then(|(head, raw, rest)| rest.is_empty().then(|| vec![(head, raw)]))
        }
    };
    found.ok_or_else(|| fault(body, "an object or an array of objects"))
}

/// The body as text.
pub(crate) fn text(body: &[u8]) -> Result<&str, SplitError> {
    std::str::from_utf8(body).map_err(|_| SplitError::NotUtf8)
}

/// Reads a body that is one object.
pub(crate) fn body<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, SplitError> {
    whole(text(body)?)
}

/// Reads a text that is one object.
pub(crate) fn whole<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, SplitError> {
    // A struct can also be read from an array of its fields: no provider means that.
    let read = text.trim_start_matches(WHITE).starts_with('{').then(|| serde_json::from_str(text));
    match read {
        Some(Ok(value)) => Ok(value),
        _ => Err(fault(text, "an object")),
    }
}

/// Reads one raw event: its wanted fields, and all of it as it stands.
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

/// The elements of an array after its opening bracket; `None` where it is not one of objects.
fn array<'a, T: Deserialize<'a>>(mut rest: &'a str) -> Option<Vec<(T, &'a str)>> {
    let mut found = Vec::new();
    if rest == "]" {
        return Some(found);
    }
    loop {
        let (head, raw, after) = object(rest)?;
        found.push((head, raw));
        rest = after.trim_start_matches(WHITE);
        if rest == "]" {
            return Some(found);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(WHITE);
    }
}

/// The object that `text` starts with: its wanted fields, its bytes, and what follows.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, &'a str, &'a str)> {
    if !text.starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let head = values.next()?.ok()?;
    let (raw, rest) = text.split_at_checked(values.byte_offset())?;
    Some((head, raw, rest))
}

/// What is wrong with a body that was not as expected: where it stops being JSON, if it does.
fn fault(body: &str, expected: &'static str) -> SplitError {
    match serde_json::from_str::<IgnoredAny>(body) {
        Ok(_) => SplitError::WrongShape(expected),
        Err(error) => SplitError::NotJson { line: error.line(), column: error.column() },
    }
}
