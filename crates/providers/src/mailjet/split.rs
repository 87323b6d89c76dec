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

/// The kind of an `event`. `sent` is what the recipient's server took.
pub(super) fn kind(event: Option<&str>) -> Kind {
    match event.unwrap_or_default() {
        "sent" => Kind::Delivered,
        "bounce" => Kind::Bounced,
        "blocked" => Kind::Dropped,
        "open" => Kind::Opened,
        "click" => Kind::Clicked,
        "spam" => Kind::Complained,
        "unsub" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}
