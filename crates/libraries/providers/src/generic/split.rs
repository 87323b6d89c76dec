use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use crate::{RawEvent, Split, SplitError, json};

/// What topic and key take.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    recipient: Option<Text<'a>>,
}

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let events = json::objects::<Head<'_>>(json::text(body)?)?;
    for (head, raw) in &events {
        sink(RawEvent {
            kind: kind(head.event.as_deref()),
            recipient: &recipient_key(head.recipient.as_deref().unwrap_or_default()),
            raw: raw.as_bytes(),
        });
    }
    Ok(Split::Events(events.len()))
}

/// `event` is the name of one of our kinds.
pub(crate) fn kind(event: Option<&str>) -> Kind {
    let name = event.unwrap_or_default();
    Kind::ALL.into_iter().find(|kind| kind.as_str() == name).unwrap_or(Kind::Other)
}
