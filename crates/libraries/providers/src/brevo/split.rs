use event::Kind;

use crate::split::flat;
use crate::{RawEvent, Split, SplitError};

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    flat(body, sink, kind)
}

/// The kind of an `event`. `unique_opened` is a message's first open and `opened` a later one, or
/// once more the first: see [`super::parse`] for how one open is kept from counting twice.
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
