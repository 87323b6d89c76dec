//! What is sent at once.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use courier::{Delivery, DeliveryError, Endpoint, SigningKey, signed_headers};
use erasure::Erased;
use event::{EventId, ReceivedAt};
use jiff::Timestamp;
use kafka::{NextOffset, Offset, OwnedRecord};
use sha2::{Digest, Sha256};

use crate::body::BodyWriter;
use crate::partition::BatchItem;

/// How often an attempt looks whether the tombstones are known again.
const ERASED_CHECK: Duration = Duration::from_millis(100);

/// A matching event.
#[derive(Debug, Clone)]
pub struct MatchingEvent {
    /// As it was read. It becomes a dead letter if the receiver does not accept the event.
    pub record: OwnedRecord,
    pub event_id: EventId,
    pub received_at: ReceivedAt,
}

impl BatchItem for MatchingEvent {
    fn offset(&self) -> Offset {
        self.record.offset
    }

    fn bytes(&self) -> usize {
        self.record.value.as_ref().map_or(0, Vec::len)
    }
}

impl MatchingEvent {
    /// Returns the memory that the event takes, in bytes.
    pub fn memory(&self) -> usize {
        let headers = self.record.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len() + 48).sum();
        size_of::<Self>() + self.record.key.len() + self.bytes() + headers
    }
}

/// Where and how a forward sends its batches.
pub struct Receiver {
    /// The name of the forward.
    pub forward: String,
    pub endpoint: Arc<Endpoint>,
    /// The current key, and the previous one while it is replaced.
    pub keys: Vec<SigningKey>,
    pub bodies: BodyWriter,
    /// The recipients whose events are not sent.
    pub erased: Arc<Erased>,
    /// Returns the current time, which is part of the signature.
    pub clock: fn() -> Timestamp,
}

/// Events of one partition that are sent together.
pub struct Batch {
    /// The `webhook-id`.
    pub id: String,
    /// In the order of their offsets. There is at least one.
    pub events: Vec<MatchingEvent>,
    /// The offset after the last one.
    pub end: NextOffset,
    /// When the partition was assigned that the events were read from, as a number.
    pub assignment: u64,
    receiver: Arc<Receiver>,
    /// The last body, with the recipients that were erased then.
    body: Mutex<Option<WrittenBody>>,
}

/// A body, and what it depends on besides the events.
#[derive(Debug, Clone)]
struct WrittenBody {
    erased: Option<[u8; 8]>,
    /// `None` if all recipients were erased.
    body: Option<Bytes>,
}

impl Batch {
    /// Returns the batch of these events. `None` if there are none.
    pub fn new(
        events: Vec<MatchingEvent>,
        assignment: u64,
        receiver: &Arc<Receiver>,
    ) -> Option<Self> {
        let (first, last) = (events.first()?, events.last()?);
        let (id, end) = (id(&receiver.forward, first, last), last.record.offset.next());
        let (receiver, body) = (Arc::clone(receiver), Mutex::default());
        Some(Self { id, events, end, assignment, receiver, body })
    }

    /// Returns the memory that the events take, in bytes.
    pub fn memory(&self) -> usize {
        self.events.iter().map(MatchingEvent::memory).sum()
    }

    /// Returns the body, or `None` if there is nothing to send.
    fn body(&self) -> Option<Bytes> {
        let eraser = self.receiver.erased.eraser();
        let erased = eraser.fingerprint();
        let mut last = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(written) = last.as_ref().filter(|written| written.erased == erased) {
            return written.body.clone();
        }
        let values = self.events.iter().filter_map(|event| event.record.value.as_deref());
        let newest = self.events.iter().map(|event| event.received_at).max();
        let newest = newest.unwrap_or(ReceivedAt(0));
        let written = self.receiver.bodies.write(values, newest, &eraser);
        let body = written.map(|(body, _)| body);
        *last = Some(WrittenBody { erased, body: body.clone() });
        body
    }
}

impl Delivery for Batch {
    /// A digest of the recipient. Two recipients with the same digest only wait for each other.
    type Key = u64;

    fn keys(&self) -> Vec<u64> {
        let keys = self.events.iter().map(|event| &event.record.key);
        // Events without a recipient have no order.
        let digests = keys.filter(|key| !key.is_empty()).map(|key| {
            let mut hasher = DefaultHasher::new();
            key.hash(&mut hasher);
            hasher.finish()
        });
        digests.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn bytes(&self) -> usize {
        self.memory()
    }

    async fn attempt(&self) -> Result<(), DeliveryError> {
        let Receiver { forward, endpoint, keys, erased, clock, .. } = &*self.receiver;
        while !erased.is_current() {
            tokio::time::sleep(ERASED_CHECK).await;
        }
        let Some(body) = self.body() else { return Ok(()) };
        let headers = signed_headers(keys, &self.id, clock().as_second(), &body);
        let result = endpoint.post(headers, body).await;
        if let Err(error) = &result {
            let (id, events) = (&self.id, self.events.len());
            tracing::warn!(forward, code = error.code(), id, events, %error, "sending a batch failed");
        }
        result
    }
}

/// Returns the id of a batch: a digest of the forward and of the place of the events in Kafka. The id of the
/// first event is a part of it, because offsets begin again if the topic is deleted.
fn id(forward: &str, first: &MatchingEvent, last: &MatchingEvent) -> String {
    let OwnedRecord { topic, partition, offset, .. } = &first.record;
    let place = format!("{forward}\n{topic}/{partition}/{offset}-{}\n", last.record.offset);
    let mut digest = Sha256::new();
    digest.update(place.as_bytes());
    digest.update(first.event_id.as_bytes());
    let digest = digest.finalize();
    format!("msg_{}", hex::encode(digest.get(..16).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(offset: i64, key: &str, id: u8) -> MatchingEvent {
        let record = OwnedRecord {
            topic: "mail.events".to_owned(),
            partition: 3,
            offset: Offset(offset),
            key: key.as_bytes().to_vec(),
            value: Some(b"{}".to_vec()),
            headers: Vec::new(),
        };
        let event_id = EventId::from_bytes(&[id; 16]).unwrap();
        MatchingEvent { record, event_id, received_at: ReceivedAt(1) }
    }

    #[test]
    fn the_id_follows_from_forward_place_and_first_event() {
        let base = id("crm", &event(7, "a", 1), &event(9, "b", 2));
        assert!(base.starts_with("msg_") && base.len() == 36 && !base.contains('.'), "{base}");
        assert_eq!(base, id("crm", &event(7, "a", 1), &event(9, "b", 3)));
        for other in [
            id("erp", &event(7, "a", 1), &event(9, "b", 2)),
            id("crm", &event(6, "a", 1), &event(9, "b", 2)),
            id("crm", &event(7, "a", 1), &event(8, "b", 2)),
            id("crm", &event(7, "a", 9), &event(9, "b", 2)),
        ] {
            assert_ne!(base, other);
        }
    }
}
