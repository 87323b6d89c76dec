use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use crate::{RawEvent, Split, SplitError, form, json};

/// The form's only field.
pub(super) const FIELD: &[u8] = b"mandrill_events";

/// What topic and key take.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    msg: Party<'a>,
    /// Of changes to the reject list.
    #[serde(borrow, default, deserialize_with = "json::part")]
    reject: Party<'a>,
    /// Of changes to the allow list.
    #[serde(borrow, default, deserialize_with = "json::part")]
    entry: Party<'a>,
}

#[derive(Default, Deserialize)]
struct Party<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    email: Option<Text<'a>>,
}

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let (_, json) = form::fields(body)
        .find(|(name, _)| **name == *FIELD)
        .ok_or(SplitError::NotForm("there is no field `mandrill_events`"))?;
    let events = json::objects::<Head<'_>>(json::text(&json)?)?;
    if events.is_empty() {
        return Ok(Split::Ping);
    }
    for (head, raw) in &events {
        let email = head.msg.email.as_ref().or(head.reject.email.as_ref());
        let email = email.or(head.entry.email.as_ref());
        sink(RawEvent {
            kind: kind(head.event.as_deref()),
            recipient: &recipient_key(email.map(Text::as_str).unwrap_or_default()),
            raw: raw.as_bytes(),
        });
    }
    Ok(Split::Events(events.len()))
}

/// The kind of an `event`; changes to the reject and allow lists have none.
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
