//! Publishes the events of a body to `mail.raw.<kind>`.

use std::borrow::Cow;
use std::time::Duration;

use kafka::{Batch, Cluster, PreparedHeaders, PublishError, Publisher};
use providers::SplitError;
use record::{DeadLetter, RawHeaders, Reason, Stage, Topics};
use tokio::runtime::Handle;

use crate::settings::IngressSettings;
use crate::split_request::SplitRequest;

pub(crate) struct RawPublisher {
    topics: Topics,
    publisher: Publisher,
    /// Publishes the backlog. It has no timeout: after a timeout we would send the record again, and
    /// it would come after later records.
    backlog_publisher: Publisher,
    ack_timeout: Duration,
}

/// Records that are sent together, and the dead letters among them.
pub(crate) struct RawBatch<'p> {
    batch: Batch<'p>,
    dead_letters: Vec<Reason>,
}

impl RawPublisher {
    pub(crate) fn open(
        cluster: &Cluster,
        settings: &IngressSettings,
        runtime: &Handle,
    ) -> Result<Self, kafka::Error> {
        let publisher = Publisher::open(&cluster.connection, "ingress", settings.publisher())?;
        publisher.wake_through(runtime);
        let backlog_publisher =
            Publisher::open(&cluster.connection, "ingress", settings.backlog_publisher())?;
        let topics = cluster.topics.clone();
        Ok(Self { topics, publisher, backlog_publisher, ack_timeout: settings.ack_timeout })
    }

    /// Returns the publisher of new requests.
    pub(crate) const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Starts a batch of the backlog.
    pub(crate) fn backlog_batch(&self) -> RawBatch<'_> {
        RawBatch::new(&self.backlog_publisher)
    }

    /// Returns how long we wait for Kafka before requests go to the spool.
    pub(crate) const fn ack_timeout(&self) -> Duration {
        self.ack_timeout
    }

    /// Publishes the events of a request and waits until Kafka has acknowledged all of them.
    pub(crate) async fn publish(
        &self,
        headers: &RawHeaders<'_>,
        request: &SplitRequest<'_>,
    ) -> Result<(), PublishError> {
        let mut batch = RawBatch::new(&self.publisher);
        self.send(headers, request, &mut batch)?;
        let acknowledged = tokio::time::timeout(self.ack_timeout, batch.acknowledged());
        acknowledged.await.unwrap_or(Err(PublishError::Timeout))
    }

    /// Passes the events of a request to librdkafka, one record per event and recipient. A body that
    /// could not be split becomes one dead letter.
    pub(crate) fn send(
        &self,
        headers: &RawHeaders<'_>,
        request: &SplitRequest<'_>,
        batch: &mut RawBatch<'_>,
    ) -> Result<(), PublishError> {
        let headers = headers.headers();
        match &request.split {
            Ok(split) => {
                let prepared = prepare(&headers);
                split.events().try_for_each(|event| {
                    let topic = self.topics.raw(event.kind);
                    batch.batch.send(topic, event.recipient.as_bytes(), event.raw, &prepared)
                })
            }
            Err(error) => {
                let detail = error.to_string();
                let dead_letter = dead_letter(reason_of(error), &detail);
                self.send_dead_letter(&dead_letter, &headers, request.body, batch)
            }
        }
    }

    /// Sends a spool entry that this release cannot read to the dead letters.
    pub(crate) fn dead_letter_entry(
        &self,
        entry: &[u8],
        batch: &mut RawBatch<'_>,
    ) -> Result<(), PublishError> {
        let detail = "the headers of a spool entry cannot be read";
        self.send_dead_letter(&dead_letter(Reason::BadHeaders, detail), &[], entry, batch)
    }

    /// `headers` are those of the original record, if there are any.
    fn send_dead_letter(
        &self,
        dead_letter: &DeadLetter<'_>,
        headers: &[Header<'_>],
        value: &[u8],
        batch: &mut RawBatch<'_>,
    ) -> Result<(), PublishError> {
        let headers = [headers, &dead_letter.headers()].concat();
        batch.batch.send(&self.topics.dead_letters, b"", value, &prepare(&headers))?;
        batch.dead_letters.push(dead_letter.reason);
        Ok(())
    }
}

impl<'p> RawBatch<'p> {
    fn new(publisher: &'p Publisher) -> Self {
        Self { batch: publisher.batch(), dead_letters: Vec::new() }
    }

    /// Waits until Kafka has acknowledged all records, then counts the dead letters.
    pub(crate) async fn acknowledged(self) -> Result<(), PublishError> {
        self.batch.acknowledged().await?;
        for reason in self.dead_letters {
            metrics::counter!("mailpulse_dead_letters_total",
                "stage" => Stage::Ingress.code(), "reason" => reason.code())
            .increment(1);
        }
        Ok(())
    }
}

type Header<'h> = (&'static str, Cow<'h, [u8]>);

fn prepare(headers: &[Header<'_>]) -> PreparedHeaders {
    let headers: Vec<(&str, &[u8])> =
        headers.iter().map(|(name, value)| (*name, &**value)).collect();
    PreparedHeaders::new(&headers)
}

/// A dead letter of the ingress has no origin, because it came from an HTTP request.
const fn dead_letter(reason: Reason, detail: &str) -> DeadLetter<'_> {
    DeadLetter { stage: Stage::Ingress, reason, detail, origin: None }
}

const fn reason_of(error: &SplitError) -> Reason {
    match error {
        SplitError::NotUtf8 => Reason::NotUtf8,
        SplitError::NotJson { .. } => Reason::NotJson,
        SplitError::NotForm(_) => Reason::NotForm,
        SplitError::WrongShape(_) => Reason::WrongShape,
    }
}
