use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use crate::bounce::numbers;
use crate::json::{self, LenientObject, LenientText};
use crate::split::range_within;
use crate::{Content, SplitBody, SplitError, form};

/// The only field of the form.
pub(super) const FIELD: &[u8] = b"mandrill_events";

/// The fields that decide topic and key.
#[derive(Deserialize)]
struct MandrillHead<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    msg: LenientObject<MessageHead<'a>>,
    /// On changes of the reject list.
    reject: LenientObject<Party<'a>>,
    /// On changes of the allow list.
    entry: LenientObject<Party<'a>>,
}

#[derive(Default, Deserialize)]
struct Party<'a> {
    #[serde(borrow)]
    email: LenientText<'a>,
}

#[derive(Default, Deserialize)]
struct MessageHead<'a> {
    #[serde(borrow)]
    email: LenientText<'a>,
    bgtools_code: LenientText<'a>,
}

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let mut split = SplitBody::new(body);
    let mut has_field = false;
    // The field comes once. If it comes twice, both are signed, so no event of either may be lost.
    for (_, json) in form::fields(body).filter(|(name, _)| **name == *FIELD) {
        has_field = true;
        add_events(&mut split, &json)?;
    }
    match (has_field, split.is_empty()) {
        (false, _) => Err(SplitError::NotForm("there is no field `mandrill_events`")),
        (true, true) => Ok(SplitBody::without_events(body, Content::Ping)),
        (true, false) => Ok(split),
    }
}

/// Adds the events of a decoded field. If the field has to be repaired to be read, the raw events are
/// still those that were received.
fn add_events(split: &mut SplitBody<'_>, received: &[u8]) -> Result<(), SplitError> {
    if add_readable(split, received, received).is_ok() {
        return Ok(());
    }
    match json::repair(received) {
        Some(repaired) => add_readable(split, &repaired, received),
        None => add_readable(split, received, received),
    }
}

/// Adds the events of `readable`, which has the length of `received`.
fn add_readable(
    split: &mut SplitBody<'_>,
    readable: &[u8],
    received: &[u8],
) -> Result<(), SplitError> {
    for (head, raw) in json::objects::<MandrillHead<'_>>(json::text(readable)?)? {
        let address = head.msg.email.as_ref().or(head.reject.email.as_ref());
        let address = address.or(head.entry.email.as_ref()).map(Text::as_str);
        let recipient = recipient_key(address.unwrap_or_default());
        let kind = kind(head.event.as_deref(), head.msg.bgtools_code.as_deref());
        let position = range_within(readable, raw.as_bytes());
        split.push(kind, &recipient, position.map_or(raw.as_bytes(), |at| &received[at]));
    }
    Ok(())
}

/// Returns the kind of an `event`. Changes of the reject list and the allow list have no `event`.
///
/// The number is SparkPost's, so it has SparkPost's kind: with some, nothing was sent.
pub(super) fn kind(event: Option<&str>, number: Option<&str>) -> Kind {
    match event.unwrap_or_default() {
        "send" => Kind::Accepted,
        "delivered" => Kind::Delivered,
        "deferral" => Kind::Deferred,
        "hard_bounce" | "soft_bounce" => numbers::kind_of_refusal(number),
        "reject" => Kind::Dropped,
        "open" => Kind::Opened,
        "click" => Kind::Clicked,
        "spam" => Kind::Complained,
        "unsub" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}
