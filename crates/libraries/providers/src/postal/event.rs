use event::Kind;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::bounces::was_never_tried;
use crate::json::{LenientFlag, LenientObject, LenientText, OptionalObject};

/// The fields of all event types. Any of them may be `null`.
#[derive(Deserialize)]
pub(super) struct PostalEvent<'a> {
    #[serde(borrow)]
    pub(super) event: LenientText<'a>,
    pub(super) timestamp: Option<&'a RawValue>,
    pub(super) payload: LenientObject<Payload<'a>>,
    pub(super) uuid: LenientText<'a>,
}

#[derive(Default, Deserialize)]
pub(super) struct Payload<'a> {
    #[serde(borrow)]
    message: OptionalObject<Message<'a>>,
    /// Replaces `message` on a bounce that came back later.
    original_message: OptionalObject<Message<'a>>,
    /// The bounce message that came back.
    pub(super) bounce: LenientObject<Message<'a>>,
    /// Postal's explanation.
    pub(super) details: LenientText<'a>,
    /// The answer of the receiving server.
    pub(super) output: LenientText<'a>,
    /// The duration of the delivery in seconds.
    pub(super) time: Option<&'a RawValue>,
    pub(super) sent_with_ssl: LenientFlag,
    pub(super) url: LenientText<'a>,
    pub(super) ip_address: LenientText<'a>,
    pub(super) user_agent: LenientText<'a>,
}

#[derive(Default, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    direction: LenientText<'a>,
    pub(super) message_id: LenientText<'a>,
    pub(super) to: LenientText<'a>,
    pub(super) from: LenientText<'a>,
    /// When Postal took the message in.
    pub(super) timestamp: Option<&'a RawValue>,
    pub(super) subject: LenientText<'a>,
    pub(super) tag: LenientText<'a>,
}

impl<'a> PostalEvent<'a> {
    pub(super) fn kind(&self) -> Kind {
        // Postal also receives mail, and reports that with the same event names.
        let message = self.message();
        if message.is_some_and(|message| message.direction.as_deref() == Some("incoming")) {
            return Kind::Other;
        }
        match self.event.as_deref().unwrap_or_default() {
            "MessageSent" => Kind::Delivered,
            "MessageDelayed" => Kind::Deferred,
            "MessageDeliveryFailed" if was_never_tried(self.payload.details.as_deref()) => {
                Kind::Dropped
            }
            "MessageDeliveryFailed" | "MessageBounced" => Kind::Bounced,
            "MessageHeld" => Kind::Dropped,
            "MessageLoaded" => Kind::Opened,
            "MessageLinkClicked" => Kind::Clicked,
            _ => Kind::Other,
        }
    }

    /// Returns the message that the event is about.
    pub(super) fn message(&self) -> Option<&Message<'a>> {
        self.payload.message.as_ref().or(self.payload.original_message.as_ref())
    }
}
