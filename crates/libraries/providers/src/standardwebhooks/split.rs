use event::{Text, recipient_key};
use serde::Deserialize;

use crate::{RawEvent, Split, SplitError, generic, json};

/// What topic and key take.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    recipient: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    data: Data<'a>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    recipient: Option<Text<'a>>,
}

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let events = json::objects::<Head<'_>>(json::text(body)?)?;
    for (head, raw) in &events {
        let (event, recipient) = match &head.event {
            Some(_) => (&head.event, &head.recipient),
            None => (&head.data.event, &head.data.recipient),
        };
        sink(RawEvent {
            kind: generic::kind(event.as_deref()),
            recipient: &recipient_key(recipient.as_deref().unwrap_or_default()),
            raw: raw.as_bytes(),
        });
    }
    Ok(Split::Events(events.len()))
}
