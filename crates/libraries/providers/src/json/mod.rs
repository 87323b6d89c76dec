//! Reads JSON bodies, raw events and their fields.
//!
//! A body is cut into slices of the received text; nothing is re-serialised. Only after a body
//! could not be read does [`fault`] look for the reason.

mod lenient;
mod repair;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::{ParseError, SplitError, SplitLimits};

pub(crate) use lenient::{
    LastText, LenientFlag, LenientObject, LenientObjects, LenientText, LenientTexts, OptionalObject,
};
pub(crate) use repair::repair;

/// JSON's white space (RFC 8259 §2).
const WHITE_SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Reads a body that is an object or an array of objects, in a single pass. Returns for each object
/// the fields of `T` and the object's bytes. An element of an array that cannot be read is returned
/// with the fields of `{}`, so that it takes no other element with it, unless no element can be read.
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
/// array with at least one object, or an empty array. Stops after one element more than
/// [`SplitLimits::MAX_EVENTS`]. A body with so many events is never published, and the list of its elements
/// would need many times the memory of the body.
fn array<'a, T: Deserialize<'a>>(mut rest: &'a str) -> Option<Vec<(T, &'a str)>> {
    let mut found = Vec::new();
    let mut is_any_readable = false;
    if rest == "]" {
        return Some(found);
    }
    loop {
        let readable = object(rest);
        is_any_readable |= readable.is_some();
        let (head, raw, after) = readable.or_else(|| unreadable(rest))?;
        found.push((head, raw));
        if found.len() > SplitLimits::MAX_EVENTS {
            return Some(found);
        }
        rest = after.trim_start_matches(WHITE_SPACE);
        if rest == "]" {
            return is_any_readable.then_some(found);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(WHITE_SPACE);
    }
}

/// Reads an element that is no object, or whose object cannot be read. Returns the fields of `{}`, its
/// bytes and the rest of `text`. Returns `None` if it cannot be told where the element ends, and if
/// the body must be repaired first (see [`repair`]).
fn unreadable<'a, T: Deserialize<'a>>(text: &'a str) -> Option<(T, &'a str, &'a str)> {
    let (element, rest) = text.split_at_checked(end_of_element(text)?)?;
    let raw = element.trim_end_matches(WHITE_SPACE);
    if raw.is_empty() || repair(raw.as_bytes()).is_some() {
        return None;
    }
    Some((serde_json::from_str("{}").ok()?, raw, rest))
}

/// Returns the position of the comma or bracket after an element, even if the element is not JSON, as
/// long as its quotation marks and brackets are in pairs.
fn end_of_element(text: &str) -> Option<usize> {
    let (mut depth, mut is_text, mut is_escaped) = (0_u32, false, false);
    text.bytes().position(|byte| {
        if is_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_text = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => is_text = true,
            b'{' | b'[' => depth += 1,
            b',' | b']' if depth == 0 => return true,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        false
    })
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
