//! Reading what providers write, which is not always of the JSON type their documents give.
//!
//! The `deserialize_with` functions here never fail on a type: what cannot be used is absent.
//! Everything borrows from the input where no escape stands in the way.

use std::fmt;
use std::marker::PhantomData;

use event::Text;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::{ParseError, SplitError};

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
        None => object(text).and_then(|(head, raw, rest)| rest.is_empty().then(|| vec![(head, raw)])),
    };
    found.ok_or_else(|| fault(body, "an object or an array of objects"))
}

/// The body as text.
pub(crate) fn text(body: &[u8]) -> Result<&str, SplitError> {
    std::str::from_utf8(body).map_err(|_| SplitError::NotUtf8)
}

/// Reads a body that is one object.
pub(crate) fn body<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, SplitError> {
    let text = text(body)?;
    let read = text.trim_start_matches(WHITE).starts_with('{').then(|| serde_json::from_str(text));
    match read {
        Some(Ok(value)) => Ok(value),
        _ => Err(fault(text, "an object")),
    }
}

/// Reads one raw event: its wanted fields, and all of it as it stands.
pub(crate) fn event<'a, T: Deserialize<'a>>(raw: &'a [u8]) -> Result<(T, &'a RawValue), ParseError> {
    const EXPECTED: &str = "an object";
    let text = std::str::from_utf8(raw).map_err(|_| ParseError::NotUtf8)?;
    let failed = |error: serde_json::Error| ParseError::from_json(&error, EXPECTED);
    let raw: &RawValue = serde_json::from_str(text).map_err(failed)?;
    // A struct can also be read from an array of its fields: no provider means that.
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

/// A non-empty text, also one written as a number (`marketing_campaign_id`).
pub(crate) fn word<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Text<'de>>, D::Error> {
    from.deserialize_any(Word)
}

struct Word;

impl<'de> Visitor<'de> for Word {
    type Value = Option<Text<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text::from(text).non_empty())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text::from(text.to_owned()).non_empty())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Text::from(number.to_string())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Text::from(number.to_string())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(Text::from(number.to_string())))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| None)
    }
}

/// [`word`] as a type, for the elements of collections.
#[derive(Debug)]
pub(crate) struct Lenient<'a>(pub(crate) Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Lenient<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        word(from).map(Self)
    }
}

/// Texts: an array of them, or a single one (SendGrid's `category`).
pub(crate) fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Text<'de>>, D::Error> {
    struct Words;

    impl<'de> Visitor<'de> for Words {
        type Value = Vec<Text<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or an array of texts")
        }

        fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Text::from(text).non_empty().into_iter().collect())
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Text::from(text.to_owned()).non_empty().into_iter().collect())
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            Ok(vec![Text::from(number.to_string())])
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
            Ok(vec![Text::from(number.to_string())])
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
            Ok(vec![Text::from(number.to_string())])
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut words = Vec::new();
            while let Some(Lenient(word)) = seq.next_element()? {
                words.extend(word);
            }
            Ok(words)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_map(map).map(|_| Vec::new())
        }
    }

    from.deserialize_any(Words)
}

/// `true`, also written as `"true"`, `1` or `"1"`; anything else is false.
pub(crate) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    maybe_flag(from).map(Option::unwrap_or_default)
}

/// A boolean, also written as text or as 0 or 1.
pub(crate) fn maybe_flag<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    struct Flag;

    impl<'de> Visitor<'de> for Flag {
        type Value = Option<bool>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a boolean")
        }

        fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
            Ok(Some(value))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(match text {
                "true" | "True" | "1" => Some(true),
                "false" | "False" | "0" => Some(false),
                _ => None,
            })
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
            Ok(match number {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            })
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_seq(seq).map(|_| None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_map(map).map(|_| None)
        }
    }

    from.deserialize_any(Flag)
}

/// An object; its default for anything else, such as `null`, or the `[]` that PHP writes for an
/// empty one.
pub(crate) fn part<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(from.deserialize_any(Part { first: false, of: PhantomData })?.unwrap_or_default())
}

/// An object, or none.
pub(crate) fn maybe<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_any(Part { first: false, of: PhantomData })
}

/// The first object of an array, or its default.
pub(crate) fn first<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(from.deserialize_any(Part { first: true, of: PhantomData })?.unwrap_or_default())
}

/// The objects of an array.
pub(crate) fn parts<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_any(Parts(PhantomData))
}

/// An object where one is expected, the first of an array where that is; otherwise nothing.
struct Part<T> {
    first: bool,
    of: PhantomData<T>,
}

/// An element that may be an object.
struct Element<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Element<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        maybe(from).map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Part<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let found = if self.first { seq.next_element::<Element<T>>()? } else { None };
        IgnoredAny.visit_seq(seq)?;
        Ok(found.and_then(|Element(value)| value))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}
