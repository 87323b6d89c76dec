use event::Kind;

use crate::{SplitBody, SplitError};

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    crate::split::flat(body, kind)
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
