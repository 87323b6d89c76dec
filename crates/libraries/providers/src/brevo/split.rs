use event::{Kind, recipient_key};
use serde::Deserialize;

use crate::json::{self, LenientObjects, LenientText, LenientTexts};
use crate::{SplitBody, SplitError};

/// The fields that decide topic and key.
#[derive(Deserialize)]
struct BrevoHead<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    /// An array if contacts were added to a list together.
    email: LenientTexts<'a>,
    /// The changed contacts of `contact_updated`, which has no `email` beside it.
    content: LenientObjects<Contact<'a>>,
}

#[derive(Deserialize)]
struct Contact<'a> {
    #[serde(borrow)]
    email: LenientText<'a>,
}

/// An event about several contacts is returned once for each address.
pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    let heads = json::objects::<BrevoHead<'_>>(json::text(body)?)?;
    let mut split = SplitBody::with_capacity(body, heads.len());
    for (head, raw) in &heads {
        let kind = kind(head.event.as_deref());
        let nested = head.content.iter().filter_map(|contact| contact.email.as_deref());
        let mut addresses: Vec<_> = head
            .email
            .iter()
            .map(|email| email.as_str())
            .chain(nested)
            .map(recipient_key)
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.retain(|address| !address.is_empty());
        if addresses.is_empty() {
            split.push(kind, "", raw.as_bytes());
        }
        for address in &addresses {
            split.push(kind, address, raw.as_bytes());
        }
    }
    Ok(split)
}

/// Returns the kind of an `event`. `unique_opened` is the first open of a message. `opened` is a
/// later open, or the first one again; [`super::parse`] prevents counting it twice.
pub(super) fn kind(event: Option<&str>) -> Kind {
    match event.unwrap_or_default() {
        "request" => Kind::Accepted,
        "delivered" => Kind::Delivered,
        "deferred" => Kind::Deferred,
        "hard_bounce" | "soft_bounce" | "invalid_email" => Kind::Bounced,
        "blocked" | "error" => Kind::Dropped,
        "opened" | "unique_opened" | "proxy_open" | "unique_proxy_open" => Kind::Opened,
        "click" => Kind::Clicked,
        "spam" | "complaint" => Kind::Complained,
        "unsubscribed" | "unsubscribe" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}
