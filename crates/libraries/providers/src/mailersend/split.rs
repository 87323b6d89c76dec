use event::{Kind, recipient_key};
use serde::Deserialize;

use crate::json::{self, LenientObject, LenientText};
use crate::{SplitBody, SplitError};

/// The fields that decide topic and key.
#[derive(Deserialize)]
struct MailerSendHead<'a> {
    #[serde(borrow, rename = "type")]
    event: LenientText<'a>,
    data: LenientObject<DataHead<'a>>,
}

#[derive(Default, Deserialize)]
struct DataHead<'a> {
    #[serde(borrow)]
    email: LenientObject<EmailHead<'a>>,
}

#[derive(Default, Deserialize)]
struct EmailHead<'a> {
    #[serde(borrow)]
    recipient: LenientObject<Recipient<'a>>,
}

#[derive(Default, Deserialize)]
struct Recipient<'a> {
    #[serde(borrow)]
    email: LenientText<'a>,
}

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let head: MailerSendHead<'_> = json::body(body)?;
    let address = head.data.email.recipient.email.as_deref().unwrap_or_default();
    let mut split = SplitBody::new(body);
    split.push(kind(head.event.as_deref()), &recipient_key(address), body);
    Ok(split)
}

/// Returns the kind of a `type`. A recipient's first open and first click are posted twice, also as
/// `opened_unique` and `clicked_unique`. Mailpulse finds first opens and clicks itself, so the
/// unique ones are not counted, whichever of the two arrives first.
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
