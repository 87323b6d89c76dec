use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use super::wrapper::Element;
use crate::bounce::numbers::{self, Category};
use crate::{RawEvent, Split, SplitError, json};

/// What topic and key take.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "json::word")]
    event_type: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    bounce_class: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    rcpt_to: Option<Text<'a>>,
    /// The same before it was lower-cased.
    #[serde(borrow, default, deserialize_with = "json::word")]
    raw_rcpt_to: Option<Text<'a>>,
}

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let elements = json::objects::<Element<'_, Head<'_>>>(json::text(body)?)?;
    let mut events = 0;
    for (element, raw) in &elements {
        if element.msys.as_ref().is_some_and(|msys| msys.class.is_none()) {
            continue;
        }
        events += 1;
        let head = element.msys.as_ref().and_then(|msys| msys.event.as_ref());
        let recipient = head.and_then(|head| head.rcpt_to.as_ref().or(head.raw_rcpt_to.as_ref()));
        sink(RawEvent {
            kind: head.map_or(Kind::Other, |head| {
                kind(head.event_type.as_deref(), head.bounce_class.as_deref())
            }),
            recipient: &recipient_key(recipient.map_or("", Text::as_str)),
            raw: raw.as_bytes(),
        });
    }
    Ok(if events == 0 { Split::Ping } else { Split::Events(events) })
}

/// The kind of a `type`.
///
/// A message has a pixel at its top, told as `initial_open`, and one at its end, told as `open`.
/// Who opens a message fetches both, so only one may count: `open`, SparkPost's own "rendered".
///
/// The events of mail *to* SparkPost (`relay_…`) and of text messages say nothing of mail sent.
pub(super) fn kind(event_type: Option<&str>, bounce_class: Option<&str>) -> Kind {
    match event_type.unwrap_or_default() {
        "injection" => Kind::Accepted,
        "delivery" => Kind::Delivered,
        "delay" => Kind::Deferred,
        "bounce" | "out_of_band" => match numbers::find(bounce_class).map(|found| found.category) {
            Some(Category::Admin) => Kind::Dropped,
            _ => Kind::Bounced,
        },
        "policy_rejection" | "generation_failure" | "generation_rejection" => Kind::Dropped,
        "spam_complaint" => Kind::Complained,
        "open" | "amp_open" => Kind::Opened,
        "click" | "amp_click" => Kind::Clicked,
        "list_unsubscribe" | "link_unsubscribe" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}
