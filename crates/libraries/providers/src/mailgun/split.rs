use std::borrow::Cow;

use event::{Kind, addresses, recipient_key};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::body::{Body, Form};
use crate::json::{self, LastText, LenientObject, LenientText, LenientTexts};
use crate::{SplitBody, SplitError};

const EXPECTED: &str = "an object with an object `event-data`";

#[derive(Deserialize)]
struct MailgunBody<'a> {
    #[serde(borrow, rename = "event-data")]
    event_data: Option<&'a RawValue>,
}

/// The fields that decide topic and key. In a form, the sender's own variables have the same level as
/// Mailgun's fields; of a name that occurs twice, the last is Mailgun's.
#[derive(Deserialize)]
struct MailgunHead<'a> {
    #[serde(borrow)]
    event: LastText<'a>,
    severity: LenientText<'a>,
    reason: LastText<'a>,
    code: LastText<'a>,
    recipient: LastText<'a>,
    envelope: LenientObject<Targets<'a>>,
    message: LenientObject<MessageHead<'a>>,
    /// On members of a mailing list.
    member: LenientObject<Member<'a>>,
}

#[derive(Default, Deserialize)]
struct Targets<'a> {
    #[serde(borrow)]
    targets: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct MessageHead<'a> {
    #[serde(borrow)]
    recipients: LenientTexts<'a>,
    headers: LenientObject<Headers<'a>>,
}

#[derive(Default, Deserialize)]
struct Headers<'a> {
    #[serde(borrow)]
    to: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct Member<'a> {
    #[serde(borrow)]
    address: LenientText<'a>,
}

impl MailgunHead<'_> {
    /// Returns the keys of the recipients, without duplicates. A rejected message has no `recipient`,
    /// because nothing was sent: its recipients are those of the message. A stored message was
    /// received, so its recipients are ours.
    fn recipients(&self, kind: Kind) -> Vec<Cow<'_, str>> {
        let of_event = self.recipient.as_ref().or(self.member.address.as_ref());
        let mut keys: Vec<_> = match of_event {
            Some(address) => vec![recipient_key(address)],
            None if kind == Kind::Other => Vec::new(),
            None => {
                let targets = self.envelope.targets.as_deref();
                let to = self.message.headers.to.as_deref();
                let listed = self.message.recipients.iter().map(|text| &**text);
                let mut fields: Vec<&str> = targets.into_iter().collect();
                if fields.is_empty() {
                    fields.extend(listed);
                }
                if fields.is_empty() {
                    fields.extend(to);
                }
                fields.into_iter().flat_map(addresses).map(recipient_key).collect()
            }
        };
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    match Body::read(body) {
        Body::Json(json) => {
            let json: MailgunBody<'_> = json::body(json)?;
            split_event(body, json.event_data.ok_or(SplitError::WrongShape(EXPECTED))?)
        }
        Body::TooManyFields => Err(SplitError::NotForm("it has more than 256 fields")),
        Body::Form(form) => split_form(body, &form),
    }
}

fn split_event<'b>(body: &'b [u8], event: &RawValue) -> Result<SplitBody<'b>, SplitError> {
    let raw = event.get();
    let head: MailgunHead<'_> = json::single(raw).map_err(|_| SplitError::WrongShape(EXPECTED))?;
    let terms = Terms {
        event: head.event.as_deref(),
        severity: head.severity.as_deref(),
        reason: head.reason.as_deref(),
        code: head.code.as_deref(),
    };
    let kind = terms.kind();
    let recipients = head.recipients(kind);
    let mut split = SplitBody::with_capacity(body, recipients.len().max(1));
    if recipients.is_empty() {
        split.push(kind, "", raw.as_bytes());
    }
    for recipient in &recipients {
        split.push(kind, recipient, raw.as_bytes());
    }
    Ok(split)
}

fn split_form<'b>(body: &'b [u8], form: &Form<'_>) -> Result<SplitBody<'b>, SplitError> {
    const NO_EVENT: SplitError = SplitError::NotForm("there is no field `event`");
    form.text("event").ok_or(NO_EVENT)?;
    let object = form.to_json().map_err(|_| NO_EVENT)?;
    split_event(body, &object)
}

/// The fields that decide the kind of an event.
pub(super) struct Terms<'a> {
    pub(super) event: Option<&'a str>,
    pub(super) severity: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    /// Only in forms.
    pub(super) code: Option<&'a str>,
}

impl<'a> Terms<'a> {
    /// Returns the kind. A suppressed address is reported as a permanent failure, although Mailgun
    /// sent nothing. Forms have `bounced` and `dropped` instead.
    pub(super) fn kind(&self) -> Kind {
        match self.event.unwrap_or_default() {
            "accepted" => Kind::Accepted,
            "delivered" => Kind::Delivered,
            "failed" if self.suppression().is_some() => Kind::Dropped,
            "failed" if self.severity == Some("temporary") => Kind::Deferred,
            "failed" | "bounced" => Kind::Bounced,
            // Mailgun retried until the message was too old.
            "dropped" if self.reason == Some("old") => Kind::Bounced,
            "rejected" | "dropped" => Kind::Dropped,
            "opened" => Kind::Opened,
            "clicked" => Kind::Clicked,
            "complained" => Kind::Complained,
            "unsubscribed" => Kind::Unsubscribed,
            _ => Kind::Other,
        }
    }

    /// Returns the `reason` for an address on a suppression list. Forms have a code instead.
    pub(super) fn suppression(&self) -> Option<&'a str> {
        match (self.event, self.code) {
            (Some("dropped"), Some("605")) => Some("suppress-bounce"),
            (Some("dropped"), Some("606")) => Some("suppress-unsubscribe"),
            (Some("dropped"), Some("607")) => Some("suppress-complaint"),
            _ => self.reason.filter(|reason| reason.starts_with("suppress-")),
        }
    }
}
