use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use crate::json::{self, LenientObject, LenientText};
use crate::{Content, SplitBody, SplitError, form};

/// The only field of the form.
pub(super) const FIELD: &[u8] = b"mandrill_events";

/// The fields that decide topic and key.
#[derive(Deserialize)]
struct MandrillHead<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    msg: LenientObject<Party<'a>>,
    /// On changes of the reject list.
    reject: LenientObject<Party<'a>>,
    /// On changes of the allow list.
    entry: LenientObject<Party<'a>>,
}

#[derive(Default, Deserialize)]
struct Party<'a> {
    #[serde(borrow)]
    email: LenientText<'a>,
}

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let (_, json) = form::fields(body)
        .find(|(name, _)| **name == *FIELD)
        .ok_or(SplitError::NotForm("there is no field `mandrill_events`"))?;
    let heads = json::objects::<MandrillHead<'_>>(json::text(&json)?)?;
    if heads.is_empty() {
        return Ok(SplitBody::without_events(body, Content::Ping));
    }
    let mut split = SplitBody::with_capacity(body, heads.len());
    for (head, raw) in &heads {
        let address = head.msg.email.as_ref().or(head.reject.email.as_ref());
        let address = address.or(head.entry.email.as_ref()).map(Text::as_str);
        let recipient = recipient_key(address.unwrap_or_default());
        split.push(kind(head.event.as_deref()), &recipient, raw.as_bytes());
    }
    Ok(split)
}

/// Returns the kind of an `event`. Changes of the reject list and the allow list have no `event`.
pub(super) fn kind(event: Option<&str>) -> Kind {
    match event.unwrap_or_default() {
        "send" => Kind::Accepted,
        "delivered" => Kind::Delivered,
        "deferral" => Kind::Deferred,
        "hard_bounce" | "soft_bounce" => Kind::Bounced,
        "reject" => Kind::Dropped,
        "open" => Kind::Opened,
        "click" => Kind::Clicked,
        "spam" => Kind::Complained,
        "unsub" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}
