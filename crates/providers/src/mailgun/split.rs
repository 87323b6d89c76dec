use event::{Kind, Text, recipient_key};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{RawEvent, Split, SplitError, json};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, default, rename = "event-data")]
    event_data: Option<&'a RawValue>,
}

/// What topic and key take.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    severity: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    reason: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    recipient: Option<Text<'a>>,
}

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    const EXPECTED: &str = "an object with an object `event-data`";
    let body: Body<'_> = json::body(body)?;
    let raw = body.event_data.ok_or(SplitError::WrongShape(EXPECTED))?.get();
    let head: Head<'_> = json::whole(raw).map_err(|_| SplitError::WrongShape(EXPECTED))?;
    sink(RawEvent {
        kind: kind(head.event.as_deref(), head.severity.as_deref(), head.reason.as_deref()),
        recipient: &recipient_key(head.recipient.as_deref().unwrap_or_default()),
        raw: raw.as_bytes(),
    });
    Ok(Split::Events(1))
}

/// The kind of an event. A suppressed address comes as a permanent failure, though nothing was
/// tried.
pub(super) fn kind(event: Option<&str>, severity: Option<&str>, reason: Option<&str>) -> Kind {
    match event.unwrap_or_default() {
        "accepted" => Kind::Accepted,
        "delivered" => Kind::Delivered,
        "failed" if reason.is_some_and(|reason| reason.starts_with("suppress-")) => Kind::Dropped,
        "failed" if severity == Some("temporary") => Kind::Deferred,
        "failed" => Kind::Bounced,
        "rejected" => Kind::Dropped,
        "opened" => Kind::Opened,
        "clicked" => Kind::Clicked,
        "complained" => Kind::Complained,
        "unsubscribed" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}
