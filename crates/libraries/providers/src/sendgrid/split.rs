use event::Kind;

use crate::{SplitBody, SplitError};

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    crate::split::flat(body, kind)
}

/// Returns the kind of an `event`. Case is ignored, because one page of the documentation writes
/// `Processed`.
pub(super) fn kind(event: Option<&str>) -> Kind {
    match event.unwrap_or_default() {
        "processed" => Kind::Accepted,
        "delivered" => Kind::Delivered,
        "deferred" => Kind::Deferred,
        "bounce" => Kind::Bounced,
        "dropped" => Kind::Dropped,
        "open" => Kind::Opened,
        "click" => Kind::Clicked,
        "spamreport" => Kind::Complained,
        "unsubscribe" | "group_unsubscribe" => Kind::Unsubscribed,
        "group_resubscribe" => Kind::Subscribed,
        other if other.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            kind(Some(&other.to_ascii_lowercase()))
        }
        _ => Kind::Other,
    }
}
