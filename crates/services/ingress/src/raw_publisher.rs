//! Publishes the events of a body to `mail.raw.<kind>`.

use std::time::Duration;

use event::Provider;
use kafka::{Batch, Connection, PreparedHeaders, PublishError, Publisher};
use providers::{Mappings, SplitLimits};
use record::{RawHeaders, Reason, Stage, TimeRecord, Topics};
use tokio::runtime::Handle;

use crate::current::Current;
use crate::raw_request::{DEAD_LETTER_BYTES, RawRecord, RawRequest, RequestDeadLetter};
use crate::settings::IngressSettings;
use crate::split_request::SplitRequest;

pub(crate) struct RawPublisher {
    topics: Topics,
    limits: SplitLimits,
    publisher: Publisher,
    /// Publishes the backlog. It has no timeout: after a timeout we would send the record again, and
    /// it would come after later records.
    backlog_publisher: Publisher,
    ack_timeout: Duration,
    mappings: Current<Mappings>,
}

impl RawPublisher {
    pub(crate) fn open(
        connection: &Connection,
        topics: Topics,
        settings: &IngressSettings,
        mappings: Mappings,
        runtime: &Handle,
    ) -> Result<Self, kafka::Error> {
        let publisher = Publisher::open(connection, "ingress", settings.publisher())?;
        publisher.wake_through(runtime);
        let backlog_publisher =
            Publisher::open(connection, "ingress", settings.backlog_publisher())?;
        let limits = settings.split_limits();
        let (ack_timeout, mappings) = (settings.ack_timeout, Current::new(mappings));
        Ok(Self { topics, limits, publisher, backlog_publisher, ack_timeout, mappings })
    }

    /// Returns the publisher of new requests.
    pub(crate) const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Returns the publisher of the backlog.
    pub(crate) const fn backlog_publisher(&self) -> &Publisher {
        &self.backlog_publisher
    }

    /// Returns how long we wait for Kafka before requests go to the spool.
    pub(crate) const fn ack_timeout(&self) -> Duration {
        self.ack_timeout
    }

    /// Uses these mappings from now on. They must have the former ones unchanged: a part of the backlog
    /// may be split again, and must have the same events.
    pub(crate) fn replace_mappings(&self, mappings: Mappings) {
        self.mappings.replace(mappings);
    }

    /// Splits a body, unless it exceeds a limit.
    pub(crate) fn split<'b>(
        &self,
        provider: Provider,
        source: &str,
        body: &'b [u8],
    ) -> SplitRequest<'b> {
        SplitRequest::new(&self.mappings.load(), provider, source, body, &self.limits)
    }

    /// Publishes the events of a request and waits until Kafka has acknowledged all of them. An event
    /// that Kafka never accepts becomes a dead letter, and so does a body that was not split.
    ///
    /// # Errors
    /// Fails if the cluster does not accept all records in time. The error is never that of a record.
    pub(crate) async fn publish(
        &self,
        headers: &RawHeaders<'_>,
        request: &SplitRequest<'_>,
    ) -> Result<(), PublishError> {
        let request = RawRequest::new(headers, request);
        let published = tokio::time::timeout(self.ack_timeout, self.publish_all(&request));
        published.await.unwrap_or(Err(PublishError::Timeout))
    }

    async fn publish_all(&self, request: &RawRequest<'_>) -> Result<(), PublishError> {
        let batch = self.publisher.batch();
        let mut rejected = Vec::new();
        for (number, record) in request.records().enumerate() {
            match self.send(request, number, record, &batch) {
                Ok(()) => {}
                Err(error) if error.is_of_record() => rejected.push(number),
                Err(error) => return Err(error),
            }
        }
        for (number, error) in batch.failures().await {
            if !error.is_of_record() {
                return Err(error);
            }
            rejected.push(number);
        }
        if rejected.is_empty() {
            request.dead_letter_reason().iter().for_each(|reason| count_dead_letter(*reason));
            return Ok(());
        }
        rejected.sort_unstable();
        let mut rejected = rejected.into_iter().peekable();
        for (number, record) in request.records().enumerate() {
            if rejected.next_if_eq(&number).is_some() {
                self.publish_alone(&self.publisher, request, record).await?;
            }
        }
        Ok(())
    }

    /// Publishes a time record to every partition of all raw topics, and waits until Kafka has acknowledged
    /// all of them.
    ///
    /// # Errors
    /// Fails if Kafka does not accept all of them in time.
    pub(crate) async fn publish_time(
        &self,
        record: &TimeRecord<'_>,
        partitions: i32,
    ) -> Result<(), PublishError> {
        let headers: Vec<_> = record.headers().collect();
        let headers: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (*name, &**value)).collect();
        let headers = PreparedHeaders::new(&headers);
        let batch = self.publisher.batch();
        for topic in self.topics.all_raw() {
            for partition in 0..partitions {
                batch.send_to_partition(topic, partition, &headers)?;
            }
        }
        let acknowledged = tokio::time::timeout(self.ack_timeout, batch.acknowledged());
        acknowledged.await.unwrap_or(Err(PublishError::Timeout))
    }

    /// Passes a record to librdkafka.
    pub(crate) fn send(
        &self,
        request: &RawRequest<'_>,
        number: usize,
        record: RawRecord<'_>,
        batch: &Batch<'_>,
    ) -> Result<(), PublishError> {
        request.send(number, record, &self.topics, batch)
    }

    /// Publishes a record by itself, after it was rejected together with others. If it is rejected
    /// again, a dead letter takes its place.
    ///
    /// # Errors
    /// An error of the cluster, or that of a dead letter that Kafka rejects even without its value.
    pub(crate) async fn publish_alone(
        &self,
        publisher: &Publisher,
        request: &RawRequest<'_>,
        record: RawRecord<'_>,
    ) -> Result<(), PublishError> {
        match record {
            RawRecord::Event(event) => {
                let batch = publisher.batch();
                let published = match request.send(0, record, &self.topics, &batch) {
                    Ok(()) => batch.acknowledged().await,
                    Err(error) => Err(error),
                };
                match published {
                    Err(error) if error.is_of_record() => {
                        let dead_letter = request.event_dead_letter(&event, error);
                        self.publish_dead_letter(publisher, request, &dead_letter).await
                    }
                    published => published,
                }
            }
            RawRecord::Body(error) => {
                let dead_letter = request.body_dead_letter(error);
                self.publish_dead_letter(publisher, request, &dead_letter).await
            }
        }
    }

    /// Publishes a dead letter with as much of its value as Kafka accepts.
    async fn publish_dead_letter(
        &self,
        publisher: &Publisher,
        request: &RawRequest<'_>,
        dead_letter: &RequestDeadLetter<'_>,
    ) -> Result<(), PublishError> {
        let mut result = Ok(());
        for (attempt, limit) in DEAD_LETTER_BYTES.into_iter().enumerate() {
            if attempt > 0 && !dead_letter.is_longer_than(limit) {
                continue; // as the attempt before
            }
            let batch = publisher.batch();
            result = match dead_letter.send(0, limit, request, &self.topics, &batch) {
                Ok(()) => batch.acknowledged().await,
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => {
                    count_dead_letter(dead_letter.reason);
                    return Ok(());
                }
                Err(error) if error.is_of_record() => {}
                Err(error) => return Err(error),
            }
        }
        result
    }
}

/// Counts a dead letter when Kafka has acknowledged it.
pub(crate) fn count_dead_letter(reason: Reason) {
    metrics::counter!("mailpulse_dead_letters_total",
        "stage" => Stage::Ingress.code(), "reason" => reason.code())
    .increment(1);
}
