use event::Kind;

use crate::{SplitBody, SplitError};

pub(crate) fn split(body: &[u8]) -> Result<SplitBody<'_>, SplitError> {
    crate::split::flat(body, kind)
}

/// Returns the kind of an `event`. `sent` means that the recipient's server accepted the message.
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
