//! The records of a request, and the dead letters that replace them.

use std::borrow::Cow;

use kafka::{Batch, PreparedHeaders, PublishError};
use providers::{RawEvent, SplitBody};
use record::{DeadLetter, RawHeaders, Reason, Stage, Topics, names};

use crate::split_request::{NotSplit, SplitRequest};

/// How much of a key a dead letter keeps, in bytes. An address has at most 320.
const KEY_BYTES: usize = 4 << 10;
/// How much of a value a dead letter keeps, in bytes. Kafka may accept less than our topics are created
/// with, so each of these is tried until one is accepted: what our topics accept (20 MiB with key and
/// headers), what a broker accepts by default (1 MiB), and less.
pub(crate) const DEAD_LETTER_BYTES: [usize; 4] = [19 << 20, 900 << 10, 64 << 10, 0];

/// A request whose records can be sent: one per event and recipient, or one dead letter.
pub(crate) struct RawRequest<'r> {
    headers: Vec<Header<'r>>,
    prepared: PreparedHeaders,
    request: &'r SplitRequest<'r>,
}

/// One record of a request.
#[derive(Clone, Copy)]
pub(crate) enum RawRecord<'r> {
    Event(RawEvent<'r>),
    /// The whole body, as a dead letter.
    Body(&'r NotSplit),
}

impl RawRecord<'_> {
    /// Returns about how many bytes the record takes in the producer's queue.
    pub(crate) fn queue_bytes(self, request: &RawRequest<'_>) -> usize {
        /// Headers, and what librdkafka adds.
        const OVERHEAD: usize = 256;
        OVERHEAD
            + match self {
                Self::Event(event) => event.recipient.len() + event.raw.len(),
                Self::Body(_) => request.request.body.len(),
            }
    }
}

type Header<'h> = (&'static str, Cow<'h, [u8]>);

impl<'r> RawRequest<'r> {
    pub(crate) fn new(headers: &RawHeaders<'r>, request: &'r SplitRequest<'r>) -> Self {
        let mut headers: Vec<_> = headers.headers().collect();
        if request.is_mapped {
            headers.push((names::MAPPED, Cow::Borrowed(b"")));
        }
        let prepared = prepare(&headers);
        Self { headers, prepared, request }
    }

    /// Returns the records in their order. Their numbers begin at 0.
    pub(crate) fn records(&self) -> impl Iterator<Item = RawRecord<'_>> {
        let split = &self.request.split;
        let events = split.iter().flat_map(SplitBody::events).map(RawRecord::Event);
        events.chain(split.as_ref().err().map(RawRecord::Body))
    }

    /// Returns the reason of the dead letter, if the request is one.
    pub(crate) fn dead_letter_reason(&self) -> Option<Reason> {
        self.request.split.as_ref().err().map(NotSplit::reason)
    }

    /// Passes a record to librdkafka.
    pub(crate) fn send(
        &self,
        number: usize,
        record: RawRecord<'_>,
        topics: &Topics,
        batch: &Batch<'_>,
    ) -> Result<(), PublishError> {
        match record {
            RawRecord::Event(RawEvent { kind, recipient, raw }) => {
                let (topic, key) = (topics.raw(kind), recipient.as_bytes());
                batch.send_numbered(number, topic, key, raw, &self.prepared)
            }
            RawRecord::Body(error) => {
                let dead_letter = self.body_dead_letter(error);
                dead_letter.send(number, DEAD_LETTER_BYTES[0], self, topics, batch)
            }
        }
    }

    pub(crate) fn body_dead_letter(&self, error: &NotSplit) -> RequestDeadLetter<'_> {
        let (reason, detail) = (error.reason(), error.to_string());
        RequestDeadLetter { reason, detail, key: b"", value: self.request.body }
    }

    /// Returns the dead letter of an event whose record Kafka never accepts.
    pub(crate) fn event_dead_letter<'e>(
        &self,
        event: &RawEvent<'e>,
        error: PublishError,
    ) -> RequestDeadLetter<'e> {
        let RawEvent { kind, recipient, raw } = event;
        let (key, value) = (recipient.len(), raw.len());
        RequestDeadLetter {
            reason: match error {
                PublishError::Refused(_) => Reason::KafkaRefused,
                _ => Reason::TooLarge,
            },
            detail: format!(
                "{error}; the {kind} event has a key of {key} and a value of {value} bytes"
            ),
            key: recipient.as_bytes(),
            value: raw,
        }
    }
}

/// A dead letter about a request or one of its events. It has no origin, because it came from an HTTP
/// request.
pub(crate) struct RequestDeadLetter<'r> {
    pub(crate) reason: Reason,
    detail: String,
    key: &'r [u8],
    value: &'r [u8],
}

impl RequestDeadLetter<'_> {
    /// Returns whether the value has more than `limit` bytes, so that [`Self::send`] truncates it.
    pub(crate) const fn is_longer_than(&self, limit: usize) -> bool {
        self.value.len() > limit
    }

    /// Passes the dead letter to librdkafka, with at most `limit` bytes of the value.
    pub(crate) fn send(
        &self,
        number: usize,
        limit: usize,
        request: &RawRequest<'_>,
        topics: &Topics,
        batch: &Batch<'_>,
    ) -> Result<(), PublishError> {
        let (key, value) = (cut(self.key, KEY_BYTES), cut(self.value, limit));
        let mut headers = request.headers.clone();
        let (reason, detail) = (self.reason, self.detail.as_str());
        let added = DeadLetter { stage: Stage::Ingress, reason, detail, origin: None };
        headers.extend(added.headers());
        for (name, whole, part) in
            [(names::TRUNCATED, self.value, value), (names::TRUNCATED_KEY, self.key, key)]
        {
            if part.len() < whole.len() {
                headers.push((name, Cow::Owned(whole.len().to_string().into_bytes())));
            }
        }
        batch.send_numbered(number, &topics.dead_letters, key, value, &prepare(&headers))
    }
}

/// Returns at most `limit` bytes, and no half of a UTF-8 character at the end.
fn cut(bytes: &[u8], limit: usize) -> &[u8] {
    let Some(part) = bytes.get(..limit).filter(|_| bytes.len() > limit) else { return bytes };
    match std::str::from_utf8(part) {
        // The error is in the last character only if its length is unknown.
        Err(error) if error.error_len().is_none() => &part[..error.valid_up_to()],
        _ => part,
    }
}

fn prepare(headers: &[Header<'_>]) -> PreparedHeaders {
    let headers: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (*name, &**value)).collect();
    PreparedHeaders::new(&headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_ends_between_characters() {
        assert_eq!(cut(b"ada", 3), b"ada");
        assert_eq!(cut(b"ada", 2), b"ad");
        assert_eq!(cut(b"ada", 0), b"");
        assert_eq!(cut("aä".as_bytes(), 2), b"a");
        assert_eq!(cut(b"\xff\xffx", 2), b"\xff\xff", "not UTF-8");
    }
}
