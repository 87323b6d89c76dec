use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use crate::{RawEvent, Split, SplitError, json};

/// What topic and key take.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    email: Option<Text<'a>>,
}

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let events = json::objects::<Head<'_>>(json::text(body)?)?;
    for (head, raw) in &events {
        sink(RawEvent {
            kind: kind(head.event.as_deref()),
            recipient: &recipient_key(head.email.as_deref().unwrap_or_default()),
            raw: raw.as_bytes(),
        });
    }
    Ok(Split::Events(events.len()))
}

/// The kind of an `event`. One page of the documentation writes `Processed`: the case is ignored.
pub(super) fn kind(event: Option<&str>) -> Kind {
    match event.unwrap_or_default() {
        "processed" => Kind::Accepted,
        "delivered" => Kind::Delivered,
        "deferred" => Kind::Deferred,
        "bounce" => Kind::Bounced,
        "dropped" => Kind::Dropped,
        "open" => Kind::Opened,
        "click" => Kind::Clicked,
        "spamreport" => Kind::Complained,
        "unsubscribe" | "group_unsubscribe" => Kind::Unsubscribed,
        "group_resubscribe" => Kind::Subscribed,
        other if other.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            kind(Some(&other.to_ascii_lowercase()))
        }
        _ => Kind::Other,
    }
}
