use event::{BounceClass, Kind, recipient_key};
use serde::Deserialize;

use super::bounces;
use crate::bounce::meaning;
use crate::json::{self, LenientText};
use crate::{SplitBody, SplitError};

/// The fields that decide topic and key.
#[derive(Deserialize)]
struct MailjetHead<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    email: LenientText<'a>,
    error: LenientText<'a>,
    error_related_to: LenientText<'a>,
}

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let heads = json::objects::<MailjetHead<'_>>(json::text(body)?)?;
    let mut split = SplitBody::with_capacity(body, heads.len());
    for (head, raw) in &heads {
        let recipient = recipient_key(head.email.as_deref().unwrap_or_default());
        let errors = [head.error.as_deref(), head.error_related_to.as_deref()];
        split.push(kind(head.event.as_deref(), errors), &recipient, raw.as_bytes());
    }
    Ok(split)
}

/// Returns the kind of an `event`. `sent` means that the recipient's server accepted the message. A
/// bounce because of a list of Mailjet's was never sent.
pub(super) fn kind(event: Option<&str>, errors: [Option<&str>; 2]) -> Kind {
    let is_suppressed = || {
        let classes = errors.map(|error| meaning(bounces::ERRORS, error).class);
        classes.contains(&Some(BounceClass::Suppressed))
    };
    match event.unwrap_or_default() {
        "sent" => Kind::Delivered,
        "bounce" if is_suppressed() => Kind::Dropped,
        "bounce" => Kind::Bounced,
        "blocked" => Kind::Dropped,
        "open" => Kind::Opened,
        "click" => Kind::Clicked,
        "spam" => Kind::Complained,
        "unsub" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}
