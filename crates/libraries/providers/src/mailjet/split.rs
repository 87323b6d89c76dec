use event::Kind;

use crate::split::flat;
use crate::{RawEvent, Split, SplitError};

pub(crate) fn split(body: &[u8], sink: &mut dyn FnMut(RawEvent<'_>)) -> Result<Split, SplitError> {
    flat(body, sink, kind)
}

/// The kind of an `event`. `sent` is what the recipient's server took.
pub(super) fn kind(event: Option<&str>) -> Kind {
    match event.unwrap_or_default() {
        "sent" => Kind::Delivered,
        "bounce" => Kind::Bounced,
        "blocked" => Kind::Dropped,
        "open" => Kind::Opened,
        "click" => Kind::Clicked,
        "spam" => Kind::Complained,
        "unsub" => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}
