use event::{Kind, Text, recipient_key};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::{Body, Form};
use crate::{RawEvent, Split, SplitError, json};

#[derive(Deserialize)]
struct Whole<'a> {
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
    code: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    recipient: Option<Text<'a>>,
}

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    match Body::read(body) {
        Body::Json(body) => {
            let whole: Whole<'_> = json::body(body)?;
            event(whole.event_data.ok_or(SplitError::WrongShape(EXPECTED))?, sink)
        }
        Body::Form(form) => legacy(&form, sink),
    }
}

const EXPECTED: &str = "an object with an object `event-data`";

fn event(raw: &RawValue, sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    let raw = raw.get();
    let head: Head<'_> = json::whole(raw).map_err(|_| SplitError::WrongShape(EXPECTED))?;
    let what = What {
        event: head.event.as_deref(),
        severity: head.severity.as_deref(),
        reason: head.reason.as_deref(),
        code: head.code.as_deref(),
    };
    sink(RawEvent {
        kind: what.kind(),
        recipient: &recipient_key(head.recipient.as_deref().unwrap_or_default()),
        raw: raw.as_bytes(),
    });
    Ok(Split::Events(1))
}

fn legacy(form: &Form<'_>, sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    const NO_FORM: SplitError = SplitError::NotForm("there is no field `event`");
    form.text("event").ok_or(NO_FORM)?;
    let object = form.to_json().map_err(|_| NO_FORM)?;
    event(&object, sink)
}

/// What an event says of its kind.
pub(super) struct What<'a> {
    pub(super) event: Option<&'a str>,
    pub(super) severity: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    /// Of the forms alone.
    pub(super) code: Option<&'a str>,
}

impl<'a> What<'a> {
    /// A suppressed address comes as a permanent failure, though nothing was tried. The forms know
    /// `bounced` and `dropped` in its place.
    pub(super) fn kind(&self) -> Kind {
        match self.event.unwrap_or_default() {
            "accepted" => Kind::Accepted,
            "delivered" => Kind::Delivered,
            "failed" if self.suppression().is_some() => Kind::Dropped,
            "failed" if self.severity == Some("temporary") => Kind::Deferred,
            "failed" | "bounced" => Kind::Bounced,
            // Tried until it had grown too old.
            "dropped" if self.reason == Some("old") => Kind::Bounced,
            "rejected" | "dropped" => Kind::Dropped,
            "opened" => Kind::Opened,
            "clicked" => Kind::Clicked,
            "complained" => Kind::Complained,
            "unsubscribed" => Kind::Unsubscribed,
            _ => Kind::Other,
        }
    }

    /// The list that the address is on, as today's `reason` names it.
    pub(super) fn suppression(&self) -> Option<&'a str> {
        match (self.event, self.code) {
            (Some("dropped"), Some("605")) => Some("suppress-bounce"),
            (Some("dropped"), Some("606")) => Some("suppress-unsubscribe"),
            (Some("dropped"), Some("607")) => Some("suppress-complaint"),
            _ => self.reason.filter(|reason| reason.starts_with("suppress-")),
        }
    }
}
