use std::borrow::Cow;
use std::ops::Range;

use event::{Kind, recipient_key};

use crate::SplitError;
use crate::json::{self, LenientText};

/// One event of one recipient, in the provider's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawEvent<'b> {
    /// Decides the topic.
    pub kind: Kind,
    /// The lower-cased address, which is the record's key. Empty if the event names no recipient.
    pub recipient: &'b str,
    /// The record's value, as received: an element of the array; with Mailgun the value of
    /// `event-data`; the whole body if the body is one event. Only Mailgun's forms from before
    /// 2018, which are not JSON, are converted, to an object of their fields.
    pub raw: &'b [u8],
}

/// What a verified body contained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// This number of events.
    Events(usize),
    /// No events, only a test that the endpoint exists: Mandrill's `[]`, or the plain-text message
    /// that SES sends first.
    Ping,
    /// SNS requests a confirmation of the subscription. Fetching `subscribe_url` confirms it.
    ConfirmSubscription {
        /// An `https` address whose host has been checked to be Amazon SNS.
        subscribe_url: String,
        /// The TopicArn. [`crate::Authenticator::verify`] found it on the source's list.
        topic: String,
    },
    /// SNS ended the subscription to the topic.
    Unsubscribed {
        /// The TopicArn.
        topic: String,
    },
}

/// A verified body, split into its events by [`crate::split`].
///
/// It owns no copy of the events that lie in the body, so it can be passed on cheaply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitBody<'b> {
    content: Content,
    body: &'b [u8],
    events: Vec<Span>,
    /// The recipients of all events, one after the other.
    recipients: String,
    /// The raw events that do not lie in `body`: those of decoded forms.
    decoded: Vec<u8>,
}

/// The position of one event. Bodies are far shorter than 4 GiB, and a body of empty objects has a
/// span for every three bytes, so the positions take only four bytes each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    kind: Kind,
    is_decoded: bool,
    /// In [`SplitBody::recipients`].
    recipient: Range<u32>,
    /// In [`SplitBody::body`] or [`SplitBody::decoded`].
    raw: Range<u32>,
}

impl<'b> SplitBody<'b> {
    pub(crate) fn new(body: &'b [u8]) -> Self {
        Self {
            content: Content::Events(0),
            body,
            events: Vec::new(),
            recipients: String::new(),
            decoded: Vec::new(),
        }
    }

    /// A body that has no events.
    pub(crate) fn without_events(body: &'b [u8], content: Content) -> Self {
        Self { content, ..Self::new(body) }
    }

    /// A body that is one event, once for each recipient. Without recipients it is one event with
    /// an empty key.
    pub(crate) fn per_recipient(body: &'b [u8], kind: Kind, recipients: &[Cow<'_, str>]) -> Self {
        let mut split = Self::with_capacity(body, recipients.len().max(1));
        if recipients.is_empty() {
            split.push(kind, "", body);
        }
        for recipient in recipients {
            split.push(kind, recipient, body);
        }
        split
    }

    /// Returns the same events as parts of `body`, which must have the length of the body that was
    /// split.
    pub(crate) fn moved_to(self, body: &[u8]) -> SplitBody<'_> {
        debug_assert_eq!(self.body.len(), body.len());
        let Self { content, body: _, events, recipients, decoded } = self;
        SplitBody { content, body, events, recipients, decoded }
    }

    /// Reserves memory for this number of events.
    pub(crate) fn with_capacity(body: &'b [u8], events: usize) -> Self {
        Self { events: Vec::with_capacity(events), ..Self::new(body) }
    }

    /// Adds an event. `recipient` is its key (see [`recipient_key`]), `raw` a part of the body or
    /// of what it decodes to.
    pub(crate) fn push(&mut self, kind: Kind, recipient: &str, raw: &[u8]) {
        let recipient_start = self.recipients.len();
        self.recipients.push_str(recipient);
        let in_body = range_within(self.body, raw);
        let is_decoded = in_body.is_none();
        let raw = in_body.unwrap_or_else(|| {
            let start = self.decoded.len();
            self.decoded.extend_from_slice(raw);
            start..self.decoded.len()
        });
        let recipient = recipient_start..self.recipients.len();
        let span = Span { kind, is_decoded, recipient: narrow(recipient), raw: narrow(raw) };
        self.events.push(span);
        self.content = Content::Events(self.events.len());
    }

    /// Returns how many bytes this takes besides the body. The caller can count them against a limit.
    pub fn memory_bytes(&self) -> usize {
        let spans = self.events.capacity() * size_of::<Span>();
        spans + self.recipients.capacity() + self.decoded.capacity()
    }

    /// Returns what the body contained.
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// Returns the number of events.
    pub const fn len(&self) -> usize {
        self.events.len()
    }

    /// True if the body has no events.
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns the kinds of the events, in the order of [`Self::events`].
    pub fn kinds(&self) -> impl ExactSizeIterator<Item = Kind> {
        self.events.iter().map(|span| span.kind)
    }

    /// Returns the events in the order of the body. An event of several recipients comes once for
    /// each recipient.
    pub fn events(&self) -> impl ExactSizeIterator<Item = RawEvent<'_>> {
        self.events.iter().map(|span| RawEvent {
            kind: span.kind,
            recipient: &self.recipients[widen(&span.recipient)],
            raw: if span.is_decoded {
                &self.decoded[widen(&span.raw)]
            } else {
                &self.body[widen(&span.raw)]
            },
        })
    }
}

/// Bodies are limited to a few MiB before they are split, so no position is cut off.
fn narrow(Range { start, end }: Range<usize>) -> Range<u32> {
    start as u32..end as u32
}

const fn widen(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Returns the position of `part` in `whole`, if it is a slice of it.
pub(crate) fn range_within(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

/// The fields of a flat event that decide topic and key.
#[derive(serde::Deserialize)]
struct FlatHead<'a> {
    #[serde(borrow)]
    event: LenientText<'a>,
    email: LenientText<'a>,
}

/// Splits a body that is one flat event or an array of them, each with the fields `event` and
/// `email`: the form of SendGrid, Brevo and Mailjet.
pub(crate) fn flat(
    body: &[u8],
    kind: fn(Option<&str>) -> Kind,
) -> Result<SplitBody<'_>, SplitError> {
    let heads = json::objects::<FlatHead<'_>>(json::text(body)?)?;
    let mut split = SplitBody::with_capacity(body, heads.len());
    for (head, raw) in &heads {
        let recipient = recipient_key(head.email.as_deref().unwrap_or_default());
        split.push(kind(head.event.as_deref()), &recipient, raw.as_bytes());
    }
    Ok(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_body_are_not_copied() {
        let body = b"[{\"a\":1},{\"b\":2}]".to_vec();
        let decoded = b"{\"c\":3}".to_vec();
        let mut split = SplitBody::new(&body);
        split.push(Kind::Opened, "ada@example.com", &body[1..8]);
        split.push(Kind::Other, "", &decoded);
        split.push(Kind::Clicked, "grace@example.org", &body[9..16]);
        assert!(split.memory_bytes() < 512, "three positions, two addresses and the decoded event");
        let events: Vec<_> = split.events().collect();
        assert_eq!(events[0].recipient, "ada@example.com");
        assert_eq!(events[0].raw.as_ptr(), body[1..].as_ptr());
        assert_eq!((events[1].recipient, events[1].raw), ("", &decoded[..]));
        assert_eq!(events[2].raw, b"{\"b\":2}");
        assert_eq!(*split.content(), Content::Events(3));
        assert!(split.kinds().eq([Kind::Opened, Kind::Other, Kind::Clicked]));
    }

    #[test]
    fn only_slices_of_the_body_have_a_position_in_it() {
        let body = *b"0123456789";
        assert_eq!(range_within(&body, &body), Some(0..10));
        assert_eq!(range_within(&body, &body[9..]), Some(9..10));
        assert_eq!(range_within(&body[..5], &body[4..6]), None);
        assert_eq!(range_within(&body[5..], &body[4..6]), None);
    }
}
