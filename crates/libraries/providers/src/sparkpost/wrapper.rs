use std::fmt;
use std::marker::PhantomData;

use event::Text;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::json::OptionalObject;

/// An element of the array: `{"msys": {"message_event": {…}}}`.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub(super) struct Element<'a, T> {
    #[serde(borrow)]
    pub(super) msys: OptionalObject<Wrapped<'a, T>>,
}

/// The object with one key, the event's class. SparkPost posts `{}` to test an endpoint.
pub(super) struct Wrapped<'a, T> {
    /// `message_event`, `track_event`, `gen_event`, `unsubscribe_event`, `relay_event`, ….
    pub(super) class: Option<Text<'a>>,
    pub(super) event: Option<T>,
}

impl<'de: 'a, 'a, T: Deserialize<'de>> Deserialize<'de> for Wrapped<'a, T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(FirstKey(PhantomData))
    }
}

struct FirstKey<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstKey<T> {
    type Value = Wrapped<'de, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some(class) = map.next_key::<Text<'de>>()? else {
            return Ok(Wrapped { class: None, event: None });
        };
        let OptionalObject(event) = map.next_value()?;
        while let Some((key, IgnoredAny)) = map.next_entry::<Text<'de>, _>()? {
            // As for any other object: the body is then read again with the last of them.
            if key == class {
                return Err(A::Error::custom("the class occurs twice"));
            }
        }
        Ok(Wrapped { class: Some(class), event })
    }
}
