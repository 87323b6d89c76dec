use std::borrow::Cow;
use std::collections::BTreeMap;

use event::{Kind, Text, recipient_key};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;

/// The fields of all event types together: `type` says which of them are there.
#[derive(Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "json::word")]
    pub(super) event: Option<Text<'a>>,
    /// When it happened; `data.created_at` is when the message was made.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) created_at: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) data: Data<'a>,
}

#[derive(Default, Deserialize)]
pub(super) struct Data<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) email_id: Option<Text<'a>>,
    /// Of a contact or a domain.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::words")]
    to: Vec<Text<'a>>,
    /// Of a contact.
    #[serde(borrow, default, deserialize_with = "json::word")]
    email: Option<Text<'a>>,
    #[serde(default, deserialize_with = "json::flag")]
    unsubscribed: bool,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) broadcast_id: Option<Text<'a>>,
    /// An object, and in older documents an array of `{name, value}`.
    #[serde(borrow, default)]
    pub(super) tags: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) bounce: Bounce<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) failed: Failed<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) suppressed: Bounce<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) open: Engagement<'a>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) click: Engagement<'a>,
}

/// The words of Amazon SES, which does the sending.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bounce<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "json::word")]
    pub(super) bounce_type: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) sub_type: Option<Text<'a>>,
    /// Resend's explanation of the two.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) message: Option<Text<'a>>,
    /// What the receiving servers wrote.
    #[serde(borrow, default, deserialize_with = "json::words")]
    pub(super) diagnostic_code: Vec<Text<'a>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Failed<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) reason: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Engagement<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) timestamp: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) ip_address: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) user_agent: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) link: Option<Text<'a>>,
}

impl Record<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self.event.as_deref().unwrap_or_default() {
            "email.sent" => Kind::Accepted,
            "email.delivered" => Kind::Delivered,
            "email.delivery_delayed" => Kind::Deferred,
            "email.bounced" => Kind::Bounced,
            "email.failed" | "email.suppressed" => Kind::Dropped,
            "email.opened" => Kind::Opened,
            "email.clicked" => Kind::Clicked,
            "email.complained" => Kind::Complained,
            // A change of anything else in a contact that is subscribed is no subscription.
            "contact.updated" if self.data.unsubscribed => Kind::Unsubscribed,
            _ => Kind::Other,
        }
    }

    /// Whom it is about, each once. Of a message to several it is not said which of them it was.
    pub(super) fn recipients(&self) -> Vec<Cow<'_, str>> {
        let named = self.data.to.iter().chain(&self.data.email);
        let mut keys: Vec<_> = named.map(|address| recipient_key(bare(address))).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The message's tags. An array of `{name, value}` reads as well as an object.
    pub(super) fn tags(&self) -> BTreeMap<Text<'_>, Text<'_>> {
        let Some(written) = self.data.tags.map(RawValue::get) else { return BTreeMap::new() };
        let listed = serde_json::from_str::<Vec<Tag<'_>>>(written).unwrap_or_default();
        let pairs = listed.into_iter().filter_map(|tag| Some((tag.name?, tag.value?)));
        let object = serde_json::from_str::<BTreeMap<Text<'_>, Word<'_>>>(written);
        let object = object.unwrap_or_default().into_iter();
        pairs.chain(object.filter_map(|(name, value)| Some((name, value.0?)))).collect()
    }
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    value: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Word<'a>(#[serde(borrow, deserialize_with = "json::word")] Option<Text<'a>>);

/// The address in `Ada <ada@example.com>` (RFC 5322 §3.4).
fn bare(address: &str) -> &str {
    let inside = address.trim_end().strip_suffix('>').and_then(|start| start.rsplit_once('<'));
    inside.map_or(address, |(_, address)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_part_of_an_address() {
        assert_eq!(bare("Ada <ada@example.com>"), "ada@example.com");
        assert_eq!(bare("\"<Ada>\" <ada@example.com> "), "ada@example.com");
        assert_eq!(bare("ada@example.com"), "ada@example.com");
    }

    #[test]
    fn tags_in_either_form() {
        let tags = |json: &str| {
            let body = format!(r#"{{"data":{{"tags":{json}}}}}"#);
            let record: Record<'_> = serde_json::from_str(&body).unwrap();
            record.tags().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(tags(r#"{"a":"1","b":2,"c":null}"#), ["a=1", "b=2"]);
        assert_eq!(tags(r#"[{"name":"a","value":"1"},{"name":"b"}]"#), ["a=1"]);
        assert!(tags("null").is_empty() && tags(r#"["a"]"#).is_empty());
    }
}
