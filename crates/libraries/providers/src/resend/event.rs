use std::borrow::Cow;
use std::collections::BTreeMap;

use event::{Kind, Text, recipient_key};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{LenientFlag, LenientObject, LenientText, LenientTexts};
use crate::ses::bounces;

/// The fields of all event types. `type` decides which of them are present.
#[derive(Deserialize)]
pub(super) struct ResendEvent<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) event: LenientText<'a>,
    /// The time of the event. `data.created_at` is the time when the message was created.
    pub(super) created_at: LenientText<'a>,
    pub(super) data: LenientObject<Data<'a>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Data<'a> {
    #[serde(borrow)]
    pub(super) email_id: LenientText<'a>,
    /// When the message was created.
    pub(super) created_at: LenientText<'a>,
    pub(super) from: LenientText<'a>,
    /// The id of a contact or a domain.
    pub(super) id: LenientText<'a>,
    to: LenientTexts<'a>,
    /// The address of a contact.
    email: LenientText<'a>,
    unsubscribed: LenientFlag,
    pub(super) broadcast_id: LenientText<'a>,
    /// An object, or according to older documentation an array of `{name, value}`.
    pub(super) tags: Option<&'a RawValue>,
    pub(super) bounce: LenientObject<Bounce<'a>>,
    pub(super) failed: LenientObject<Failed<'a>>,
    pub(super) suppressed: LenientObject<Bounce<'a>>,
    pub(super) open: LenientObject<Engagement<'a>>,
    pub(super) click: LenientObject<Engagement<'a>>,
}

/// The terms of Amazon SES, through which Resend sends.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bounce<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) bounce_type: LenientText<'a>,
    pub(super) sub_type: LenientText<'a>,
    /// Resend's explanation of type and subtype.
    pub(super) message: LenientText<'a>,
    /// The answers of the receiving servers.
    pub(super) diagnostic_code: LenientTexts<'a>,
}

#[derive(Default, Deserialize)]
pub(super) struct Failed<'a> {
    #[serde(borrow)]
    pub(super) reason: LenientText<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Engagement<'a> {
    #[serde(borrow)]
    pub(super) timestamp: LenientText<'a>,
    pub(super) ip_address: LenientText<'a>,
    pub(super) user_agent: LenientText<'a>,
    pub(super) link: LenientText<'a>,
}

impl ResendEvent<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self.event.as_deref().unwrap_or_default() {
            "email.sent" => Kind::Accepted,
            "email.delivered" => Kind::Delivered,
            "email.delivery_delayed" => Kind::Deferred,
            // As with SES itself: the address is on a suppression list, and nothing was sent.
            "email.bounced" if bounces::is_suppressed(self.data.bounce.sub_type.as_deref()) => {
                Kind::Dropped
            }
            "email.bounced" => Kind::Bounced,
            "email.failed" | "email.suppressed" => Kind::Dropped,
            "email.opened" => Kind::Opened,
            "email.clicked" => Kind::Clicked,
            "email.complained" => Kind::Complained,
            // Other changes of a subscribed contact do not mean that it subscribed now.
            "contact.updated" if self.data.unsubscribed.is_set() => Kind::Unsubscribed,
            _ => Kind::Other,
        }
    }

    /// Returns the keys of the recipients, without duplicates. For a message to several recipients
    /// Resend does not report which of them caused the event.
    pub(super) fn recipients(&self) -> Vec<Cow<'_, str>> {
        let addresses = self.data.to.iter().chain(self.data.email.as_ref());
        let mut keys: Vec<_> = addresses.map(|address| recipient_key(address)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Returns the message's tags from an object or from an array of `{name, value}`.
    pub(super) fn tags(&self) -> BTreeMap<Text<'_>, Text<'_>> {
        let Some(json) = self.data.tags.map(RawValue::get) else { return BTreeMap::new() };
        let listed = serde_json::from_str::<Vec<Tag<'_>>>(json).unwrap_or_default();
        let pairs = listed.into_iter().filter_map(|tag| Some((tag.name.0?, tag.value.0?)));
        let object = serde_json::from_str::<BTreeMap<Text<'_>, LenientText<'_>>>(json);
        let object = object.unwrap_or_default().into_iter();
        pairs.chain(object.filter_map(|(name, value)| Some((name, value.0?)))).collect()
    }
}

#[derive(Deserialize)]
struct Tag<'a> {
    #[serde(borrow)]
    name: LenientText<'a>,
    value: LenientText<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_in_either_form() {
        let tags = |json: &str| {
            let body = format!(r#"{{"data":{{"tags":{json}}}}}"#);
            let resend: ResendEvent<'_> = serde_json::from_str(&body).unwrap();
            resend.tags().iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(tags(r#"{"a":"1","b":2,"c":null}"#), ["a=1", "b=2"]);
        assert_eq!(tags(r#"[{"name":"a","value":"1"},{"name":"b"}]"#), ["a=1"]);
        assert!(tags("null").is_empty() && tags(r#"["a"]"#).is_empty());
    }
}
