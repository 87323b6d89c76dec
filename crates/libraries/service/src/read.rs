//! Deserializes a section and tracks the key being read, so that every error can name it.

use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, Unexpected, Visitor,
};
use toml::{Table, Value};

use crate::SettingsError;
use crate::error::nearest;
use crate::merge::Origins;

/// Deserializes `value`, which the settings have under `key`.
pub(crate) fn read<T: DeserializeOwned>(
    value: Value,
    key: &str,
    origins: &Origins,
) -> Result<T, SettingsError> {
    T::deserialize(Reader { value, key: key.to_owned() }).map_err(|error| {
        let at = error.key.unwrap_or_else(|| key.to_owned());
        let origin = origins.of(&at).to_owned();
        match error.problem {
            Problem::Unknown { field, nearest } => SettingsError::UnknownKey {
                key: format!("{at}.{field}"),
                origin,
                nearest: nearest.map(|name| format!("{at}.{name}")),
            },
            Problem::Missing { field } => SettingsError::Missing { key: format!("{at}.{field}") },
            Problem::Other(problem) => SettingsError::Invalid { key: at, origin, problem },
        }
    })
}

#[derive(Debug)]
struct ReadError {
    /// The key of the innermost value being read. `None` until the error leaves that value's reader.
    key: Option<String>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Unknown { field: String, nearest: Option<&'static str> },
    Missing { field: &'static str },
    Other(String),
}

impl ReadError {
    fn at(mut self, key: &str) -> Self {
        self.key.get_or_insert_with(|| key.to_owned());
        self
    }
}

impl From<Problem> for ReadError {
    fn from(problem: Problem) -> Self {
        Self { key: None, problem }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Problem::Other(message.to_string()).into()
    }

    /// The value may be a secret in the wrong place, so the message has its type only.
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("invalid type: {}, expected {expected}", type_of(unexpected)))
    }

    /// As [`Self::invalid_type`].
    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("invalid value: {}, expected {expected}", type_of(unexpected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let nearest = nearest(field, expected.iter().copied());
        Problem::Unknown { field: field.to_owned(), nearest }.into()
    }

    fn missing_field(field: &'static str) -> Self {
        Problem::Missing { field }.into()
    }
}

fn type_of(unexpected: Unexpected<'_>) -> &'static str {
    match unexpected {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "a text",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        _ => "another type",
    }
}

/// A value and its dotted key.
struct Reader {
    value: Value,
    key: String,
}

impl<'de> de::Deserializer<'de> for Reader {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            Value::String(text) => visitor.visit_string(text),
            Value::Integer(number) => visitor.visit_i64(number),
            Value::Float(number) => visitor.visit_f64(number),
            Value::Boolean(flag) => visitor.visit_bool(flag),
            Value::Datetime(date) => visitor.visit_string(date.to_string()),
            Value::Array(items) => {
                visitor.visit_seq(Items { rest: items.into_iter().enumerate(), key: &self.key })
            }
            Value::Table(table) => visitor.visit_map(Entries::new(table, &self.key)),
        }
        .map_err(|error: ReadError| error.at(&self.key))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            Value::String(text) => {
                let text: StringDeserializer<ReadError> = text.into_deserializer();
                text.deserialize_enum(name, variants, visitor)
            }
            _ => Err(de::Error::custom(format!("must be one of {}", variants.join(", ")))),
        }
        .map_err(|error| error.at(&self.key))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a> {
    rest: std::iter::Enumerate<std::vec::IntoIter<Value>>,
    key: &'a str,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, ReadError> {
        let Some((index, value)) = self.rest.next() else { return Ok(None) };
        // The reader alone cannot set the key for all errors: serde reads a tagged enum into a
        // buffer first, and its errors occur after the reader has returned.
        let key = format!("{}[{index}]", self.key);
        let element = seed.deserialize(Reader { value, key: key.clone() });
        element.map(Some).map_err(|error| error.at(&key))
    }
}

struct Entries<'a> {
    rest: <Table as IntoIterator>::IntoIter,
    next: Option<Reader>,
    key: &'a str,
}

impl<'a> Entries<'a> {
    fn new(table: Table, key: &'a str) -> Self {
        Self { rest: table.into_iter(), next: None, key }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, ReadError> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.next = Some(Reader { value, key: format!("{}.{name}", self.key) });
        let name: StringDeserializer<ReadError> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        let before_key =
            || -> ReadError { de::Error::custom("serde asked for a value before its key") };
        let reader = self.next.take().ok_or_else(before_key)?;
        let key = reader.key.clone();
        seed.deserialize(reader).map_err(|error| error.at(&key))
    }
}
