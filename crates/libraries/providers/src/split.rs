use event::{Kind, Text, recipient_key};
use serde::Deserialize;

use crate::{SplitError, json};

/// One event at one recipient, in the provider's own bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// What became of the message: the topic.
    pub kind: Kind,
    /// The lower-cased address: the key. Empty where the event names nobody.
    pub recipient: &'a str,
    /// The bytes to keep, as they came. Of an array, the element; of Mailgun, the value of
    /// `event-data`; where one body is one event, the whole of it. Only Mailgun's forms of before
    /// 2018, which are no JSON, become an object of their fields.
    pub raw: &'a [u8],
}

/// What a verified body was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Split {
    /// So many events were handed over.
    Events(usize),
    /// A sign of life with nothing in it: Mandrill's `[]`, SNS's first plain-text message.
    Ping,
    /// SNS asks whether this endpoint wants the topic: it does when `subscribe_url` is fetched.
    ConfirmSubscription {
        /// An `https` address of Amazon SNS, checked.
        subscribe_url: String,
        /// The TopicArn, which [`crate::Authenticator::verify`] found on the source's list.
        topic: String,
    },
    /// SNS will send nothing more of this topic.
    Unsubscribed {
        /// The TopicArn.
        topic: String,
    },
}

/// What topic and key take of a flat event.
#[derive(Deserialize)]
struct Flat<'a> {
    #[serde(borrow, default, deserialize_with = "json::word")]
    event: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "json::word")]
    email: Option<Text<'a>>,
}

/// Splits a body of flat events, one object or an array of them, that name their `event` and one
/// `email`: SendGrid's, Brevo's and Mailjet's form.
pub(crate) fn flat(
    body: &[u8],
    sink: &mut dyn FnMut(RawEvent<'_>),
    kind: fn(Option<&str>) -> Kind,
) -> Result<Split, SplitError> {
    let events = json::objects::<Flat<'_>>(json::text(body)?)?;
    for (head, raw) in &events {
        sink(RawEvent {
            kind: kind(head.event.as_deref()),
            recipient: &recipient_key(head.email.as_deref().unwrap_or_default()),
            raw: raw.as_bytes(),
        });
    }
    Ok(Split::Events(events.len()))
}
