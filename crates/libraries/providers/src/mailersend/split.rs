use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use crate::{RawEvent, Split, SplitError, json};

/// What topic and key take.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    data: Data<'a>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default, deserialize_with = "json::part")]
    email: Email<'a>,
}

#[derive(Default, Deserialize)]
struct Email<'a> {
    #[serde(borrow, default, deserialize_with = "json::part")]
    recipient: Recipient<'a>,
}

#[derive(Default, Deserialize)]
struct Recipient<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    email: Option<Text<'a>>,
}

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let head: Head<'_> = json::body(body)?;
    let recipient = head.data.email.recipient.email.as_deref().unwrap_or_default();
    sink(RawEvent {
        kind: kind(head.event.as_deref()),
        recipient: &recipient_key(recipient),
        raw: body,
    });
    Ok(Split::Events(1))
}

/// The kind of a `type`. The first open and the first click of a recipient come twice, also as
/// `opened_unique` and `clicked_unique`: those say nothing that we do not find out ourselves, and
/// are not counted, whichever comes first.
pub(super) fn kind(event: Option<&str>) -> Kind {
    match event.unwrap_or_default() {
        "activity.sent" => Kind::Accepted,
        "activity.delivered" => Kind::Delivered,
        "activity.deferred" => Kind::Deferred,
        "activity.soft_bounced" | "activity.hard_bounced" => Kind::Bounced,
        "activity.opened" => Kind::Opened,
        "activity.clicked" => Kind::Clicked,
        "activity.spam_complaint" => Kind::Complained,
        "activity.unsubscribed" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}
