use event::{Kind, Text};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;

/// The fields of all events together. Any of them may be `null`.
#[derive(Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) event: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) payload: Payload<'a>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) uuid: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Payload<'a> {
    #[serde(borrow, default, deserialize_with = "json::maybe")]
    message: Option<Message<'a>>,
    /// In place of `message` where a bounce came back later.
    #[serde(borrow, default, deserialize_with = "json::maybe")]
    original_message: Option<Message<'a>>,
    /// The message that told us of it.
    #[serde(borrow, default, deserialize_with = "json::part")]
    pub(super) bounce: Message<'a>,
    /// Postal's words.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) details: Option<Text<'a>>,
    /// The receiving server's words.
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) output: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) url: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) ip_address: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) user_agent: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    direction: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) message_id: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) to: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) subject: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    pub(super) tag: Option<Text<'a>>,
}

impl<'a> Record<'a> {
    pub(super) fn kind(&self) -> Kind {
        // Postal also takes mail in, and reports on that in the same words.
        let message = self.message();
        if message.is_some_and(|message| message.direction.as_deref() == Some("incoming")) {
            return Kind::Other;
        }
        match self.event.as_deref().unwrap_or_default() {
            "MessageSent" => Kind::Delivered,
            "MessageDelayed" => Kind::Deferred,
            "MessageDeliveryFailed" | "MessageBounced" => Kind::Bounced,
            "MessageHeld" => Kind::Dropped,
            "MessageLoaded" => Kind::Opened,
            "MessageLinkClicked" => Kind::Clicked,
            _ => Kind::Other,
        }
    }

    /// The message that it is about.
    pub(super) fn message(&self) -> Option<&Message<'a>> {
        self.payload.message.as_ref().or(self.payload.original_message.as_ref())
    }
}
