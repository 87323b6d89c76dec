use std::borrow::Cow;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use record::{DeadLetter, Reason, Stage, fit, record_bytes};

use super::counters::PendingCounts;
use super::{CommittedCounter, DeadLettered, Outcome};
use crate::transaction::{self, DeliveryReports, Input};
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

/// What a dead letter keeps of a record, besides its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<'r> {
    pub key: Cow<'r, [u8]>,
    /// The value. `None` is a tombstone.
    pub value: Option<Cow<'r, [u8]>>,
}

impl<'r> Kept<'r> {
    /// Keeps everything.
    pub fn all(record: &Record<'r>) -> Self {
        Self { key: Cow::Borrowed(record.key()), value: record.value().map(Cow::Borrowed) }
    }
}

/// The open transaction: everything here becomes visible when it commits.
pub struct Output<'a> {
    pub(crate) producer: &'a BaseProducer<DeliveryReports>,
    pub(crate) dead_letter_topic: &'a str,
    pub(crate) stage: Stage,
    pub(crate) counts: &'a mut PendingCounts,
    /// The largest record, in bytes.
    pub(crate) max_bytes: usize,
    /// The input record that the next outputs belong to.
    pub(crate) input: Input,
    /// The number of records sent.
    pub(crate) sent: u64,
}

impl Output<'_> {
    /// Sends a record.
    ///
    /// # Errors
    /// [`Error::OutputRejected`] if the record is too large, [`Error::Kafka`] if librdkafka rejects it.
    /// Return the error: the input record then becomes a dead letter in the next attempt.
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
        self.forward_as(record, topic, partition, (record.key(), record.value()), more_headers)
    }

    /// Like [`Output::forward`], with another key and value.
    ///
    /// # Errors
    /// As [`Output::send`].
    pub fn forward_as(
        &mut self,
        record: &Record<'_>,
        topic: &str,
        partition: i32,
        (key, value): (&[u8], Option<&[u8]>),
        more_headers: &[(&str, &[u8])],
    ) -> Result<(), Error> {
        let mut headers = record.0.headers().map(|h| h.detach()).unwrap_or_default();
        for &(key, value) in more_headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let outgoing = Outgoing { topic, partition: Some(partition), key, value, headers: &[] };
        self.produce(outgoing, headers)
    }

    /// Sends a record to the dead letters with its key, value and headers, the reason, and `detail`
    /// for people. A record that would be too large is cut.
    ///
    /// # Errors
    /// As [`Output::send`].
    pub fn dead_letter(
        &mut self,
        record: &Record<'_>,
        reason: Reason,
        detail: &str,
    ) -> Result<Outcome, Error> {
        self.dead_letter_of(record, &Kept::all(record), reason, detail, self.max_bytes)
    }

    /// Like [`Output::dead_letter`], with another key and value, because the record's own must not be kept.
    ///
    /// # Errors
    /// As [`Output::send`].
    pub fn dead_letter_with(
        &mut self,
        record: &Record<'_>,
        kept: &Kept<'_>,
        reason: Reason,
        detail: &str,
    ) -> Result<Outcome, Error> {
        self.dead_letter_of(record, kept, reason, detail, self.max_bytes)
    }

    /// Sends a dead letter of at most `max_bytes` for a record whose output Kafka does not accept.
    pub(super) fn unfit(
        &mut self,
        record: &Record<'_>,
        kept: &Kept<'_>,
        max_bytes: usize,
    ) -> Result<Outcome, Error> {
        let detail = format!(
            "Kafka does not accept what `{}` makes of this record, because it is too large or not valid",
            self.stage.code()
        );
        self.dead_letter_of(record, kept, Reason::TooLarge, &detail, max_bytes)
    }

    fn dead_letter_of(
        &mut self,
        record: &Record<'_>,
        Kept { key, value }: &Kept<'_>,
        reason: Reason,
        detail: &str,
        max_bytes: usize,
    ) -> Result<Outcome, Error> {
        self.counts.add_dead_letter(reason, record.source());
        let dead_letter =
            DeadLetter { stage: self.stage, reason, detail, origin: Some(record.origin()) };
        let fitted = fit(dead_letter, key, value.as_deref(), record.headers(), max_bytes);
        let headers: Vec<_> =
            fitted.headers.iter().map(|(name, value)| (*name, &value[..])).collect();
        self.send(Outgoing {
            topic: self.dead_letter_topic,
            partition: None,
            key: fitted.key,
            value: fitted.value,
            headers: &headers,
        })?;
        Ok(Outcome::DeadLettered(DeadLettered(())))
    }

    pub(super) fn has_too_large(&self) -> bool {
        self.producer.context().has_too_large()
    }

    pub(super) fn check_rejected(&self) -> Result<(), Error> {
        self.producer.context().check_rejected()
    }

    /// Waits until everything that was sent is delivered.
    pub(super) fn flush(&self) -> Result<(), Error> {
        transaction::await_deliveries(self.producer)
    }

    /// Increments a counter. It takes effect when the transaction commits.
    pub fn count(&mut self, counter: &CommittedCounter, count: u64) {
        self.counts.add(counter, count);
    }

    fn produce(&mut self, outgoing: Outgoing<'_>, headers: OwnedHeaders) -> Result<(), Error> {
        if self.is_too_large(&outgoing, &headers) {
            self.producer.context().reject_too_large(self.input, outgoing.topic);
            return self.check_rejected();
        }
        let mut message =
            BaseRecord::<[u8], [u8], Input>::with_opaque_to(outgoing.topic, self.input)
                .key(outgoing.key)
                .headers(headers);
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
                Err((KafkaError::MessageProduction(code), _))
                    if transaction::is_permanent(code) =>
                {
                    self.producer.context().reject(self.input, outgoing.topic, code);
                    return self.check_rejected();
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Returns whether the broker would reject the record for its size. Headers are only counted if
    /// key and value need half of the space: reading them takes longer than sending a small record.
    fn is_too_large(&self, outgoing: &Outgoing<'_>, headers: &OwnedHeaders) -> bool {
        let (key, value) = (outgoing.key.len(), outgoing.value.unwrap_or_default().len());
        let lengths = || headers.iter().map(|it| (it.key.len(), it.value.map_or(0, <[u8]>::len)));
        key + value > self.max_bytes / 2 && record_bytes(key, value, lengths()) > self.max_bytes
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
