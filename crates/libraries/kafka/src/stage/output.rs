use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};
use record::{DeadLetter, Reason, Stage};

use super::counters::PendingCounts;
use super::{CommittedCounter, DeadLettered, Outcome};
use crate::transaction::DeliveryReports;
use crate::{Error, Record};

/// A record to be produced.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    /// The partition. `None` chooses it by the hash of the key.
    pub partition: Option<i32>,
    pub key: &'a [u8],
    /// The value. `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// The open transaction: everything here becomes visible when it commits.
pub struct Output<'a> {
    pub(crate) producer: &'a BaseProducer<DeliveryReports>,
    pub(crate) dead_letter_topic: &'a str,
    pub(crate) stage: Stage,
    pub(crate) counts: &'a mut PendingCounts,
    /// The number of records sent.
    pub(crate) sent: u64,
}

impl Output<'_> {
    /// Sends a record.
    ///
    /// # Errors
    /// [`Error::Kafka`] if librdkafka rejects the record.
    pub fn send(&mut self, outgoing: Outgoing<'_>) -> Result<(), Error> {
        let headers = owned_headers(outgoing.headers.iter().copied());
        self.produce(outgoing, headers)
    }

    /// Sends a consumed record with its key, value and headers, followed by more headers.
    ///
    /// # Errors
    /// As [`Output::send`].
    pub fn forward(
        &mut self,
        record: &Record<'_>,
        topic: &str,
        partition: i32,
        more_headers: &[(&str, &[u8])],
    ) -> Result<(), Error> {
        self.forward_with_value(record, topic, partition, record.value(), more_headers)
    }

    /// Like [`Output::forward`], with another value.
    ///
    /// # Errors
    /// As [`Output::send`].
    pub fn forward_with_value(
        &mut self,
        record: &Record<'_>,
        topic: &str,
        partition: i32,
        value: Option<&[u8]>,
        more_headers: &[(&str, &[u8])],
    ) -> Result<(), Error> {
        let mut headers = record.0.headers().map(|h| h.detach()).unwrap_or_default();
        for &(key, value) in more_headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let outgoing =
            Outgoing { topic, partition: Some(partition), key: record.key(), value, headers: &[] };
        self.produce(outgoing, headers)
    }

    /// Sends a record to the dead letters with its key, value and headers, the reason, and `detail`
    /// for people.
    ///
    /// # Errors
    /// As [`Output::send`].
    pub fn dead_letter(
        &mut self,
        record: &Record<'_>,
        reason: Reason,
        detail: &str,
    ) -> Result<Outcome, Error> {
        self.counts.add_dead_letter(reason);
        let origin = Some(record.origin());
        let added = DeadLetter { stage: self.stage, reason, detail, origin }.headers();
        let added = added.iter().map(|(name, value)| (*name, &value[..]));
        let headers: Vec<_> = record.headers().chain(added).collect();
        self.send(Outgoing {
            topic: self.dead_letter_topic,
            partition: None,
            key: record.key(),
            value: record.value(),
            headers: &headers,
        })?;
        Ok(Outcome::DeadLettered(DeadLettered(())))
    }

    /// Increments a counter. It takes effect when the transaction commits.
    pub fn count(&mut self, counter: &CommittedCounter, count: u64) {
        self.counts.add(counter, count);
    }

    fn produce(&mut self, outgoing: Outgoing<'_>, headers: OwnedHeaders) -> Result<(), Error> {
        let mut message =
            BaseRecord::<[u8], [u8]>::to(outgoing.topic).key(outgoing.key).headers(headers);
        if let Some(value) = outgoing.value {
            message = message.payload(value);
        }
        if let Some(partition) = outgoing.partition {
            message = message.partition(partition);
        }
        self.sent += 1;
        loop {
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), rejected)) => {
                    self.producer.poll(Duration::from_millis(5));
                    message = rejected;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}

pub(crate) fn owned_headers<'a>(
    headers: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>,
) -> OwnedHeaders {
    let capacity = headers.len();
    headers.fold(OwnedHeaders::new_with_capacity(capacity), |all, (key, value)| {
        all.insert(Header { key, value: Some(value) })
    })
}
