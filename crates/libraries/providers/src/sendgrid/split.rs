use event::Kind;

use crate::split::flat;
use crate::{RawEvent, Split, SplitError};

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    flat(body, sink, kind)
}

/// The kind of an `event`. One page of the documentation writes `Processed`: the case is ignored.
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
