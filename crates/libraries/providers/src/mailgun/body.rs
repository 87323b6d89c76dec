use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::form::{self, Field};

/// The fields that a form is signed with.
const SIGNED: [&[u8]; 3] = [b"timestamp", b"token", b"signature"];

/// What Mailgun posts: since 2018 a JSON object, and for webhooks made before that a form. It is
/// told by how it starts, since the content type is not signed either.
pub(super) enum Body<'a> {
    Json(&'a [u8]),
    Form(Form<'a>),
}

impl<'a> Body<'a> {
    pub(super) fn read(body: &'a [u8]) -> Self {
        match body.trim_ascii_start() {
            [b'{' | b'[', ..] | [] => Self::Json(body),
            [b'-', b'-', ..] => {
                Self::Form(Form(form::multipart(body.trim_ascii_start()).unwrap_or_default()))
            }
            _ => Self::Form(Form(form::fields(body).collect())),
        }
    }
}

/// The fields of a form in its order. The sender's own variables are among them, so a name may
/// come twice: what Mailgun means by it comes last.
pub(super) struct Form<'a>(Vec<Field<'a>>);

impl Form<'_> {
    /// A field as text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let value = &self.0.get(self.last(name.as_bytes())?)?.1;
        std::str::from_utf8(value).ok()
    }

    fn last(&self, name: &[u8]) -> Option<usize> {
        self.0.iter().rposition(|(other, _)| **other == *name)
    }

    /// What is not signed: all but the three fields of the signature.
    pub(super) fn unsigned(&self) -> impl Iterator<Item = &Field<'_>> {
        let signed = SIGNED.map(|name| self.last(name));
        let is_signed = move |place: usize| signed.contains(&Some(place));
        self.0.iter().enumerate().filter(move |(place, _)| !is_signed(*place)).map(|(_, f)| f)
    }

    /// The form as a JSON object of texts, which is what the rest of the pipeline takes: without
    /// token and signature, which would be good for another event. A name that comes more than
    /// once has the array of its values.
    pub(super) fn to_json(&self) -> serde_json::Result<Box<RawValue>> {
        let mut object: BTreeMap<Cow<'_, str>, Vec<Cow<'_, str>>> = BTreeMap::new();
        let timestamp = self.last(SIGNED[0]).and_then(|place| self.0.get(place));
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
