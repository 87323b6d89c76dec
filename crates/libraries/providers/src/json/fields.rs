//! Reading fields that are not always of the JSON type their documents give.
//!
//! The functions are for `deserialize_with`. They never fail on a type: what cannot be used counts
//! as absent. Texts borrow from the input where no escape stands in the way.

use std::fmt;
use std::marker::PhantomData;

use event::Text;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A non-empty text, also one written as a number (`marketing_campaign_id`).
pub(crate) fn word<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Text<'de>>, D::Error> {
    from.deserialize_any(Word)
}

/// Texts: an array of them, or a single one (SendGrid's `category`).
pub(crate) fn words<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Text<'de>>, D::Error> {
    from.deserialize_any(Words)
}

/// `true`, also written as text or 1.
pub(crate) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    maybe_flag(from).map(Option::unwrap_or_default)
}

/// A boolean, also written as text or as 0 or 1.
pub(crate) fn maybe_flag<'de, D: Deserializer<'de>>(from: D) -> Result<Option<bool>, D::Error> {
    from.deserialize_any(Flag)
}

/// An object; its default for anything else, such as `null`, or the `[]` that PHP writes for an
/// empty one.
pub(crate) fn part<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    maybe(from).map(Option::unwrap_or_default)
}

/// An object, or none.
pub(crate) fn maybe<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    from.deserialize_any(Object(PhantomData))
}

/// The objects of an array.
pub(crate) fn parts<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    from.deserialize_any(Objects(PhantomData))
}

/// The first object of an array, or its default.
pub(crate) fn first<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(parts(from)?.into_iter().next().unwrap_or_default())
}

/// The visits of JSON types that a field has no use for: its value is the default.
macro_rules! absent {
    (text) => {
        fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (number) => {
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        absent!(unusual_number);
    };
    (unusual_number) => {
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (boolean) => {
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (null) => {
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
    (array) => {
        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_seq(seq).map(|_| Self::Value::default())
        }
    };
    (object) => {
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_map(map).map(|_| Self::Value::default())
        }
    };
    ($($several:ident),+) => { $(absent!($several);)+ };
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

    absent!(boolean, null, array, object);
}

/// A [`word`] inside a collection.
struct Element<'a>(Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Element<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        word(from).map(Self)
    }
}

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

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut words = Vec::new();
        while let Some(Element(word)) = seq.next_element()? {
            words.extend(word);
        }
        Ok(words)
    }

    absent!(number, boolean, null, object);
}

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
        let is = |words: [&str; 2]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        Ok(if is(["true", "1"]) {
            Some(true)
        } else if is(["false", "0"]) {
            Some(false)
        } else {
            None
        })
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(match number {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        })
    }

    absent!(unusual_number, null, array, object);
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }

    absent!(text, number, boolean, null, array);
}

/// An object inside an array, or something else there.
struct Member<T>(Option<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Member<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        maybe(from).map(Self)
    }
}

struct Objects<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Objects<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(Member(object)) = seq.next_element()? {
            objects.extend(object);
        }
        Ok(objects)
    }

    absent!(text, number, boolean, null, object);
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Inner<'a> {
        #[serde(borrow, default, deserialize_with = "word")]
        x: Option<Text<'a>>,
    }

    #[derive(Debug, Default, Deserialize)]
    struct Outer<'a> {
        #[serde(borrow, default, deserialize_with = "word")]
        word: Option<Text<'a>>,
        #[serde(borrow, default, deserialize_with = "words")]
        words: Vec<Text<'a>>,
        #[serde(default, deserialize_with = "maybe_flag")]
        flag: Option<bool>,
        #[serde(borrow, default, deserialize_with = "part")]
        part: Inner<'a>,
        #[serde(borrow, default, deserialize_with = "parts")]
        parts: Vec<Inner<'a>>,
        #[serde(borrow, default, deserialize_with = "first")]
        first: Inner<'a>,
    }

    const EVERY_TYPE: [&str; 9] =
        ["null", "true", "1", "-1", "1.5", r#""x""#, r#""\n""#, r#"["x",[1]]"#, r#"{"x":{"y":1}}"#];

    #[test]
    fn any_type_may_stand_in_any_field() {
        for field in ["word", "words", "flag", "part", "parts", "first", "unknown"] {
            for value in EVERY_TYPE {
                let json = format!(r#"{{"{field}":{value},"word2":"after"}}"#);
                serde_json::from_str::<Outer<'_>>(&json).unwrap_or_else(|e| panic!("{json}: {e}"));
            }
        }
    }

    #[test]
    fn what_can_be_used_is_read() {
        let json = r#"{"word":23314,"words":["a",null,"",2,{}],"flag":"True",
            "part":{"x":"y"},"parts":[{"x":"p"},7,{"x":"q"}],"first":[[],{"x":"f"},{"x":"g"}]}"#;
        let outer: Outer<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(outer.word.as_deref(), Some("23314"));
        assert_eq!(outer.words, ["a", "2"].map(Text::from));
        assert_eq!(outer.flag, Some(true));
        let inner = |x| Inner { x: Some(Text::from(x)) };
        assert_eq!(outer.part, inner("y"));
        assert_eq!(outer.parts, [inner("p"), inner("q")]);
        assert_eq!(outer.first, inner("f"));
    }

    #[test]
    fn texts_borrow() {
        let outer: Outer<'_> = serde_json::from_str(r#"{"word":"w","words":"x"}"#).unwrap();
        assert!(matches!(outer.word, Some(Text(Cow::Borrowed("w")))));
        assert!(matches!(&outer.words[..], [Text(Cow::Borrowed("x"))]));
        let empty: Outer<'_> = serde_json::from_str(r#"{"word":"","words":""}"#).unwrap();
        assert!(empty.word.is_none() && empty.words.is_empty());
    }
}
