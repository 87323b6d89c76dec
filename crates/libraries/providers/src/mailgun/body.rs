use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::form::{self, Field};

/// The fields of a form that make up its signature.
const SIGNATURE_FIELDS: [&[u8]; 3] = [b"timestamp", b"token", b"signature"];

/// Mailgun's forms have about thirty fields; the others are variables of the sender.
const MAX_FIELDS: usize = 256;

/// What Mailgun posts: a JSON object since 2018, and a form for webhooks that were created before.
/// The first character distinguishes them, because the content type is not signed.
pub(super) enum Body<'a> {
    Json(&'a [u8]),
    Form(Form<'a>),
    /// A form with more fields than any that Mailgun posts. It is not read.
    TooManyFields,
}

impl<'a> Body<'a> {
    pub(super) fn read(body: &'a [u8]) -> Self {
        match body.trim_ascii_start() {
            [b'{' | b'[', ..] | [] => Self::Json(body),
            [b'-', b'-', ..] => {
                let fields = form::multipart(body.trim_ascii_start(), MAX_FIELDS);
                Self::Form(Form(fields.unwrap_or_default()))
            }
            _ => form::at_most(body, MAX_FIELDS)
                .map_or(Self::TooManyFields, |fields| Self::Form(Form(fields))),
        }
    }
}

/// The fields of a form, in order. They include the sender's own variables, so a name may occur
/// twice: Mailgun's field comes last.
pub(super) struct Form<'a>(Vec<Field<'a>>);

impl Form<'_> {
    /// Returns the value of a field if it is UTF-8.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let value = &self.0.get(self.last(name.as_bytes())?)?.1;
        std::str::from_utf8(value).ok()
    }

    fn last(&self, name: &[u8]) -> Option<usize> {
        self.0.iter().rposition(|(other, _)| **other == *name)
    }

    /// Returns all fields but those of the signature.
    pub(super) fn unsigned(&self) -> impl Iterator<Item = &Field<'_>> {
        let signature = SIGNATURE_FIELDS.map(|name| self.last(name));
        let is_signature = move |index: usize| signature.contains(&Some(index));
        self.0
            .iter()
            .enumerate()
            .filter(move |(index, _)| !is_signature(*index))
            .map(|(_, field)| field)
    }

    /// Returns the form as a JSON object of texts, because raw events are JSON. Token and signature
    /// are left out: they could be used for another event. A name that occurs more than once has
    /// an array of its values.
    pub(super) fn to_json(&self) -> serde_json::Result<Box<RawValue>> {
        let mut object: BTreeMap<Cow<'_, str>, Vec<Cow<'_, str>>> = BTreeMap::new();
        let timestamp = self.last(SIGNATURE_FIELDS[0]).and_then(|index| self.0.get(index));
        for (name, value) in self.unsigned().chain(timestamp) {
            let (name, value) = (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
            object.entry(name).or_default().push(value);
        }
        let single = |values: Vec<Cow<'_, str>>| match &values[..] {
            [value] => serde_json::Value::from(value.as_ref()),
            _ => values.into(),
        };
        let object: BTreeMap<_, _> =
            object.into_iter().map(|(name, values)| (name, single(values))).collect();
        serde_json::value::to_raw_value(&object)
    }
}
