//! Field types that accept any JSON value. A value that cannot be used counts as absent: providers
//! do not always send the JSON type that they document. A field that is missing counts as absent
//! too, so no `#[serde(default)]` is needed; one `#[serde(borrow)]` per struct lets all texts of
//! the struct borrow from the input.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use event::Text;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A non-empty text, or a number as text (SendGrid's `marketing_campaign_id`).
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LenientText<'a>(pub(crate) Option<Text<'a>>);

/// A text like [`LenientText`], or the last element of an array of texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct LastText<'a>(pub(crate) Option<Text<'a>>);

/// An array of texts, or a single text (SendGrid's `category`). Other elements are left out.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LenientTexts<'a>(pub(crate) Vec<Text<'a>>);

/// A boolean, also as a text or as 0 or 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct LenientFlag(pub(crate) Option<bool>);

/// An object. Anything else, such as `null` or the `[]` that PHP writes for an empty object, is
/// read as `T::default()`.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LenientObject<T>(pub(crate) T);

/// An object, or nothing.
#[derive(Debug, PartialEq)]
pub(crate) struct OptionalObject<T>(pub(crate) Option<T>);

/// The objects of an array. Other elements are left out.
#[derive(Debug, PartialEq)]
pub(crate) struct LenientObjects<T>(pub(crate) Vec<T>);

impl LenientFlag {
    /// True if the field is there and true.
    pub(crate) fn is_set(self) -> bool {
        self.0.unwrap_or_default()
    }
}

impl<T> Default for OptionalObject<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Default for LenientObjects<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// Gives a field type access to the value inside, and reads it by a visitor.
macro_rules! field {
    ([$($generic:tt)*] $type:ty, $inner:ty, [$($bound:tt)*], $visitor:expr) => {
        impl<$($generic)*> Deref for $type {
            type Target = $inner;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl<$($generic)*> DerefMut for $type {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.0
            }
        }

        impl<'de $($bound)*> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                // For an absent field serde deserializes an option, which is then `None`.
                Ok(Self(from.deserialize_option(Present($visitor))?.unwrap_or_default()))
            }
        }
    };
}

field!(['a] LenientText<'a>, Option<Text<'a>>, [: 'a, 'a], TextVisitor);
field!(['a] LastText<'a>, Option<Text<'a>>, [: 'a, 'a], LastTextVisitor);
field!(['a] LenientTexts<'a>, Vec<Text<'a>>, [: 'a, 'a], TextsVisitor);
field!([] LenientFlag, Option<bool>, [], FlagVisitor);
field!([T] OptionalObject<T>, Option<T>, [, T: Deserialize<'de>], ObjectVisitor(PhantomData));
field!([T] LenientObjects<T>, Vec<T>, [, T: Deserialize<'de>], ObjectsVisitor(PhantomData));

impl<T> Deref for LenientObject<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<'de, T: Deserialize<'de> + Default> Deserialize<'de> for LenientObject<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        OptionalObject::deserialize(from).map(|object| Self(object.0.unwrap_or_default()))
    }
}

/// Passes a value that is there, and not `null`, on to the visitor of its type.
struct Present<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Present<V> {
    type Value = Option<V::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self.0).map(Some)
    }
}

/// Implements the visits of JSON types that a field cannot use: the value is the default.
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

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
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

    absent!(boolean, array, object);
}

struct LastTextVisitor;

impl<'de> Visitor<'de> for LastTextVisitor {
    type Value = Option<Text<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, or an array of them")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        TextVisitor.visit_borrowed_str(text)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        TextVisitor.visit_str(text)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        TextVisitor.visit_u64(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        TextVisitor.visit_i64(number)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        TextVisitor.visit_f64(number)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut last = None;
        while let Some(LenientText(text)) = seq.next_element()? {
            last = text;
        }
        Ok(last)
    }

    absent!(boolean, object);
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
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
        let mut texts = Vec::new();
        while let Some(LenientText(text)) = seq.next_element()? {
            texts.extend(text);
        }
        Ok(texts)
    }

    absent!(number, boolean, object);
}

struct FlagVisitor;

impl<'de> Visitor<'de> for FlagVisitor {
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

    absent!(unusual_number, array, object);
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }

    absent!(text, number, boolean, array);
}

struct ObjectsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectsVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(OptionalObject(object)) = seq.next_element()? {
            objects.extend(object);
        }
        Ok(objects)
    }

    absent!(text, number, boolean, object);
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Inner<'a> {
        #[serde(borrow)]
        x: LenientText<'a>,
    }

    #[derive(Debug, Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        text: LenientText<'a>,
        last: LastText<'a>,
        texts: LenientTexts<'a>,
        flag: LenientFlag,
        object: LenientObject<Inner<'a>>,
        optional: OptionalObject<Inner<'a>>,
        objects: LenientObjects<Inner<'a>>,
    }

    const FIELDS: [&str; 8] =
        ["text", "last", "texts", "flag", "object", "optional", "objects", "unknown"];
    const EVERY_TYPE: [&str; 9] =
        ["null", "true", "1", "-1", "1.5", r#""x""#, r#""\n""#, r#"["x",[1]]"#, r#"{"x":{"y":1}}"#];

    #[test]
    fn any_type_may_stand_in_any_field() {
        for field in FIELDS {
            for value in EVERY_TYPE {
                let json = format!(r#"{{"{field}":{value},"after":"after"}}"#);
                serde_json::from_str::<Outer<'_>>(&json).unwrap_or_else(|e| panic!("{json}: {e}"));
            }
        }
    }

    #[test]
    fn what_can_be_used_is_read() {
        let json = r#"{"text":23314,"last":["a",7],"texts":["a",null,"",2,{}],"flag":"True",
            "object":{"x":"y"},"optional":{"x":"z"},"objects":[{"x":"p"},7,null,{"x":"q"}]}"#;
        let outer: Outer<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(outer.text.as_deref(), Some("23314"));
        assert_eq!(outer.last.as_deref(), Some("7"));
        assert_eq!(*outer.texts, ["a", "2"].map(Text::from));
        assert_eq!(outer.flag, LenientFlag(Some(true)));
        let inner = |x| Inner { x: LenientText(Some(Text::from(x))) };
        assert_eq!(*outer.object, inner("y"));
        assert_eq!(*outer.optional, Some(inner("z")));
        assert_eq!(*outer.objects, [inner("p"), inner("q")]);
    }

    #[test]
    fn missing_fields_are_absent() {
        let outer: Outer<'_> = serde_json::from_str("{}").unwrap();
        assert!(outer.text.is_none() && outer.texts.is_empty() && !outer.flag.is_set());
        assert!(outer.optional.is_none() && outer.objects.is_empty());
        assert_eq!(*outer.object, Inner::default());
    }

    #[test]
    fn texts_borrow() {
        let outer: Outer<'_> =
            serde_json::from_str(r#"{"text":"plain","texts":["a\nb"],"object":{"x":"y"}}"#)
                .unwrap();
        let is_borrowed = |text: &Text<'_>| matches!(text.0, Cow::Borrowed(_));
        assert!(outer.text.as_ref().is_some_and(is_borrowed));
        assert!(!is_borrowed(&outer.texts[0]));
        assert!(outer.object.x.as_ref().is_some_and(is_borrowed));
        let single: Outer<'_> = serde_json::from_str(r#"{"text":"","texts":"x"}"#).unwrap();
        assert!(single.text.is_none());
        assert!(matches!(&single.texts[..], [Text(Cow::Borrowed("x"))]));
        let empty: Outer<'_> = serde_json::from_str(r#"{"texts":""}"#).unwrap();
        assert!(empty.texts.is_empty());
    }
}
