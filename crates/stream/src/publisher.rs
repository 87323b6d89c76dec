use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::sync::Notify;

use crate::output::owned_headers;
use crate::{Connection, StreamError};

/// How the publisher trades latency, memory and patience.
#[derive(Debug, Clone, Copy)]
pub struct PublisherSettings {
    /// How long librdkafka waits to fill a batch.
    pub linger: Duration,
    /// Bytes of records waiting for acknowledgement before [`Batch::send`] refuses.
    pub queue_bytes: usize,
    /// After this long an unacknowledged record counts as failed.
    pub ack_timeout: Duration,
}

/// Why records of a request are not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// More waits for Kafka than is allowed.
    #[error("too much waits for kafka")]
    QueueFull,
    /// Kafka did not acknowledge in time.
    #[error("kafka did not acknowledge in time")]
    Timeout,
    /// Larger than the topic takes.
    #[error("a record is larger than kafka takes")]
    TooLarge,
    /// Kafka refused a record.
    #[error("kafka refused a record: {0}")]
    Refused(RDKafkaErrorCode),
}

impl PublishError {
    /// The stable code, for metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Timeout => "ack_timeout",
            Self::TooLarge => "too_large",
            Self::Refused(_) => "kafka_refused",
        }
    }
}

/// The ingress's producer: idempotent, `acks=all`, shared by all connections. One thread of its own
/// polls it and wakes the requests whose last record was acknowledged.
pub struct Publisher {
    producer: Arc<BaseProducer<Reports>>,
    stop: Arc<AtomicBool>,
    poller: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Connects in the background; the first records wait for it.
    pub fn open(connection: &Connection, settings: PublisherSettings) -> Result<Self, StreamError> {
        let mut config = connection.producer("ingress");
        config
            .set("linger.ms", settings.linger.as_millis().to_string())
            .set("queue.buffering.max.kbytes", (settings.queue_bytes / 1024).max(1).to_string())
            .set("message.timeout.ms", settings.ack_timeout.as_millis().to_string());
        let producer: Arc<BaseProducer<Reports>> = Arc::new(
            config
                .create_with_context(Reports)
                .map_err(|error| StreamError::Settings(error.to_string()))?,
        );
        let stop = Arc::new(AtomicBool::new(false));
        let poller = std::thread::Builder::new()
            .name("kafka-acks".into())
            .spawn({
                let (producer, stop) = (Arc::clone(&producer), Arc::clone(&stop));
                move || {
                    while !stop.load(Ordering::Relaxed) {
                        producer.poll(Duration::from_millis(100));
                    }
                }
            })
            .map_err(StreamError::state)?;
        Ok(Self { producer, stop, poller: Some(poller) })
    }

    /// Starts the records of one request.
    pub fn batch(&self) -> Batch<'_> {
        Batch { publisher: self, acks: Arc::new(Acks::default()) }
    }

    /// Whether a broker answers a metadata request within `timeout`. Blocks.
    pub fn reachable(&self, timeout: Duration) -> bool {
        self.producer.client().fetch_metadata(Some("mailpulse-reachable"), timeout).is_ok()
    }

    /// Records not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    /// Waits until nothing is in flight. Blocks.
    pub fn flush(&self, timeout: Duration) -> Result<(), StreamError> {
        Ok(self.producer.flush(timeout)?)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(poller) = self.poller.take() {
            let _ = poller.join();
        }
    }
}

/// Headers prepared once for all records of a request.
#[derive(Clone)]
pub struct PreparedHeaders(OwnedHeaders);

impl PreparedHeaders {
    /// Prepares them.
    pub fn new<'a>(headers: &[(&'a str, &'a [u8])]) -> Self {
        Self(owned_headers(headers.iter().copied()))
    }
}

/// The records of one request: all are durable, or the request failed.
pub struct Batch<'p> {
    publisher: &'p Publisher,
    acks: Arc<Acks>,
}

impl Batch<'_> {
    /// Hands a record to librdkafka, which copies it.
    pub fn send(
        &self,
        topic: &str,
        key: &[u8],
        value: &[u8],
        headers: &PreparedHeaders,
    ) -> Result<(), PublishError> {
        let record = BaseRecord::<[u8], [u8], Arc<Acks>>::with_opaque_to(topic, self.acks.add())
            .key(key)
            .payload(value)
            .headers(headers.0.clone());
        self.publisher.producer.send(record).map_err(|(error, record)| {
            // librdkafka did not take it, so no report will come for it.
            record.delivery_opaque.report(Ok(()));
            match error {
                KafkaError::MessageProduction(code) => error_of(code),
                _ => PublishError::Refused(RDKafkaErrorCode::Fail),
            }
        })
    }

    /// Waits until every record is acknowledged, or one has failed for good.
    pub async fn acknowledged(self) -> Result<(), PublishError> {
        self.acks.report(Ok(()));
        let woken = self.acks.done.notified();
        if self.acks.pending.load(Ordering::Acquire) > 0 {
            woken.await;
        }
        self.acks.failure.get().map_or(Ok(()), |&failure| Err(failure))
    }
}

fn error_of(code: RDKafkaErrorCode) -> PublishError {
    match code {
        RDKafkaErrorCode::QueueFull => PublishError::QueueFull,
        RDKafkaErrorCode::MessageTimedOut | RDKafkaErrorCode::RequestTimedOut => {
            PublishError::Timeout
        }
        RDKafkaErrorCode::MessageSizeTooLarge => PublishError::TooLarge,
        code => PublishError::Refused(code),
    }
}

/// Acknowledgements of one request: a count down to zero, one of it held by the request itself.
struct Acks {
    pending: AtomicUsize,
    /// The failure that came first.
    failure: OnceLock<PublishError>,
    done: Notify,
}

impl Default for Acks {
    fn default() -> Self {
        Self { pending: AtomicUsize::new(1), failure: OnceLock::new(), done: Notify::new() }
    }
}

impl Acks {
    fn add(self: &Arc<Self>) -> Arc<Self> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Arc::clone(self)
    }

    fn report(&self, result: Result<(), RDKafkaErrorCode>) {
        if let Err(code) = result {
            let _ = self.failure.set(error_of(code));
        }
        if self.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.notify_one();
        }
    }
}

struct Reports;

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka producer");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Acks>;

    fn delivery(&self, result: &DeliveryResult<'_>, acks: Arc<Acks>) {
        acks.report(match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        });
    }
}
