//! JSON pointers (RFC 6901), evaluated on the provider's bytes without building a tree of values.

use std::borrow::Cow;
use std::fmt;

use event::Text;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A path to a value, such as `/mail/tags/campaign/0`. It can continue into a string that itself
/// contains JSON, because some providers return their customers' metadata in that form.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pointer(Vec<String>);

/// A text that is not a JSON pointer.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAPointer(String);

impl fmt::Display for NotAPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a JSON pointer; write one such as /custom/campaign", self.0)
    }
}

impl TryFrom<String> for Pointer {
    type Error = NotAPointer;

    fn try_from(text: String) -> Result<Self, NotAPointer> {
        let Some(path) = text.strip_prefix('/') else { return Err(NotAPointer(text)) };
        Ok(Self(path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()))
    }
}

impl Pointer {
    /// The path to the whole document.
    pub(crate) const fn whole() -> Self {
        Self(Vec::new())
    }

    /// Returns the JSON of the value, as it is written. A value inside a string with escapes is a
    /// copy.
    pub(crate) fn json<'a>(&self, json: &'a str) -> Option<Cow<'a, str>> {
        find(json, &self.0)
    }

    /// Returns the text of the value: of a string, a number or a boolean the value itself, of an
    /// array those of its elements, of anything else nothing. Empty strings are omitted.
    pub fn texts<'a>(&self, json: &'a str) -> Vec<Text<'a>> {
        let Some(found) = find(json, &self.0) else { return Vec::new() };
        let one = |json: &Cow<'a, str>| match json {
            Cow::Borrowed(json) => scalar(json),
            Cow::Owned(json) => scalar(json).map(Text::into_owned),
        };
        if !found.starts_with('[') {
            return one(&found).into_iter().collect();
        }
        match found {
            Cow::Borrowed(json) => elements(json).into_iter().filter_map(scalar).collect(),
            Cow::Owned(json) => {
                elements(&json).into_iter().filter_map(scalar).map(Text::into_owned).collect()
            }
        }
    }

    /// Returns the first of [`Pointer::texts`].
    pub fn text<'a>(&self, json: &'a str) -> Option<Text<'a>> {
        self.texts(json).into_iter().next()
    }
}

/// Returns the JSON of the value at the end of the path.
fn find<'a>(json: &'a str, steps: &[String]) -> Option<Cow<'a, str>> {
    let json = json.trim_start();
    let Some((step, rest)) = steps.split_first() else { return Some(Cow::Borrowed(json)) };
    match json.as_bytes().first()? {
        b'{' => find(member(json, step)?, rest),
        b'[' => find(elements(json).get(step.parse::<usize>().ok()?)?, rest),
        b'"' => match serde_json::from_str::<Text<'a>>(json).ok()?.0 {
            Cow::Borrowed(inner) => find(inner, steps),
            Cow::Owned(inner) => find(&inner, steps).map(|found| Cow::Owned(found.into_owned())),
        },
        _ => None,
    }
}

fn elements(json: &str) -> Vec<&str> {
    let elements: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
    elements.into_iter().map(RawValue::get).collect()
}

fn scalar(json: &str) -> Option<Text<'_>> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<Text<'_>>(json).ok()?.non_empty(),
        b'{' | b'[' | b'n' => None,
        _ => Some(Text::from(json.trim_end())),
    }
}

/// Returns the JSON of a member of an object.
fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let found = Member(name).deserialize(&mut serde_json::Deserializer::from_str(json)).ok()?;
    found.map(RawValue::get)
}

struct Member<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// If several members have the same name, the last one counts, as in all our other parsers.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if key.as_str() == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const JSON: &str = r#" {"a": {"b": ["x", 2, null, {"c": "deep"}, "", true]}, "t": "caf\u00e9",
        "inner": "{\"k\":{\"n\":\"ü\"},\"l\":[\"p\",\"q\"]}", "plain": "{}", "x/y": {"m~n": 1.50}} "#;

    fn pointer(text: &str) -> Pointer {
        Pointer::try_from(text.to_owned()).unwrap()
    }

    fn texts(at: &str) -> Vec<String> {
        pointer(at).texts(JSON).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_are_found() {
        assert_eq!(texts("/a/b"), ["x", "2", "true"]);
        assert_eq!(texts("/a/b/1"), ["2"]);
        assert_eq!(texts("/a/b/3/c"), ["deep"]);
        assert_eq!(texts("/t"), ["café"]);
        assert_eq!(texts("/x~1y/m~0n"), ["1.50"], "as written");
        assert_eq!(texts("/inner/k/n"), ["ü"], "inside a string");
        assert_eq!(texts("/inner/l"), ["p", "q"]);
        assert_eq!(pointer("/a/b").text(JSON).as_deref(), Some("x"));
    }

    #[test]
    fn a_path_to_no_text_finds_nothing() {
        for at in
            ["/b", "/a", "/a/b/9", "/a/b/-1", "/a/b/2", "/a/b/4", "/t/x", "/plain/x", "/a/b/0/x"]
        {
            assert!(texts(at).is_empty(), "{at}");
        }
        assert_eq!(pointer("/a").text("not json"), None);
    }

    #[test]
    fn a_pointer_begins_with_a_slash() {
        assert_eq!(Pointer::try_from("a".to_owned()), Err(NotAPointer("a".to_owned())));
        assert!(Pointer::try_from(String::new()).is_err());
    }

    proptest! {
        #[test]
        fn pointers_find_the_same_value_as_in_serde_json(value in json(), steps in prop::collection::vec("[ab0-2~/]{1,2}", 1..4)) {
            let escape = |step: &String| step.replace('~', "~0").replace('/', "~1");
            let at = steps.iter().map(|step| format!("/{}", escape(step))).collect::<String>();
            let text = value.to_string();
            let ours = find(&text, &pointer(&at).0).map(|found| found.into_owned());
            let theirs = value.pointer(&at).map(ToString::to_string);
            // RFC 6901 forbids leading zeros in an index. We accept them, so leave those paths out.
            let has_leading_zero = |step: &String| step.len() > 1 && step.starts_with('0');
            prop_assume!(!steps.iter().any(has_leading_zero));
            prop_assert_eq!(ours, theirs);
        }
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i32>().prop_map(serde_json::Value::from),
            "[xyz\\\\\"]{0,3}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[ab0-2~/]{1,2}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
