use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord};
use record::{Reason, names};

use crate::transaction::Deliveries;
use crate::{Record, StreamError};

/// A record to be produced.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Where to.
    pub topic: &'a str,
    /// Which partition; by the key's hash when `None`.
    pub partition: Option<i32>,
    /// Its key.
    pub key: &'a [u8],
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Where a step's records go: the open transaction.
pub struct Output<'a> {
    pub(crate) producer: &'a BaseProducer<Deliveries>,
    pub(crate) dead_letters: &'a str,
    pub(crate) stage: &'static str,
    pub(crate) sent: u64,
    /// Of those, dead letters.
    pub(crate) refused: u64,
}

impl Output<'_> {
    /// Adds a record to the open transaction.
    pub fn send(&mut self, outgoing: Outgoing<'_>) -> Result<(), StreamError> {
        let headers = owned_headers(outgoing.headers.iter().copied());
        self.produce(outgoing, headers)
    }

    /// Passes a record on with its key, value and headers, and further headers behind them.
    pub fn forward(
        &mut self,
        record: &Record<'_>,
        topic: &str,
        partition: i32,
        further: &[(&str, &[u8])],
    ) -> Result<(), StreamError> {
        self.forward_as(record, topic, partition, record.value(), further)
    }

    /// [`Output::forward`] with another value.
    pub fn forward_as(
        &mut self,
        record: &Record<'_>,
        topic: &str,
        partition: i32,
        value: Option<&[u8]>,
        further: &[(&str, &[u8])],
    ) -> Result<(), StreamError> {
        use rdkafka::message::Message;
        let mut headers = record.0.headers().map(|h| h.detach()).unwrap_or_default();
        for &(key, value) in further {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let outgoing =
            Outgoing { topic, partition: Some(partition), key: record.key(), value, headers: &[] };
        self.produce(outgoing, headers)
    }

    /// Sends a record to dead letters whole: its key, bytes and headers, and why.
    pub fn dead_letter(
        &mut self,
        record: &Record<'_>,
        reason: Reason,
        detail: &str,
    ) -> Result<(), StreamError> {
        metrics::counter!("mailpulse_dead_letters_total",
            "stage" => self.stage, "reason" => reason.code())
        .increment(1);
        self.refused += 1;
        let origin = record.origin();
        let why: [(&str, &[u8]); 4] = [
            (names::REASON, reason.code().as_bytes()),
            (names::DETAIL, detail.as_bytes()),
            (names::STAGE, self.stage.as_bytes()),
            (names::ORIGIN, origin.as_bytes()),
        ];
        let headers: Vec<_> = record.headers().chain(why).collect();
        self.send(Outgoing {
            topic: self.dead_letters,
            partition: None,
            key: record.key(),
            value: record.value(),
            headers: &headers,
        })
    }

    fn produce(
        &mut self,
        outgoing: Outgoing<'_>,
        headers: OwnedHeaders,
    ) -> Result<(), StreamError> {
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
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(5));
                    message = back;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}

pub(crate) fn owned_headers<'a>(
    headers: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>,
) -> OwnedHeaders {
    let room = headers.len();
    headers.fold(OwnedHeaders::new_with_capacity(room), |all, (key, value)| {
        all.insert(Header { key, value: Some(value) })
    })
}
