use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

use crate::client::log_client_error;
use crate::stage::owned_headers;
use crate::{Connection, Error};

/// Settings that trade latency and memory for throughput.
#[derive(Debug, Clone, Copy)]
pub struct PublisherSettings {
    /// How long librdkafka waits to fill a batch.
    pub linger: Duration,
    /// How many bytes of records may wait for acknowledgement. Beyond it, [`Batch::send`] returns
    /// [`PublishError::QueueFull`].
    pub queue_bytes: usize,
    /// How long to wait for the acknowledgement of a record. `None` waits without limit. A record that
    /// times out may be followed by records that do not, so only `None` preserves the order of
    /// sending.
    pub ack_timeout: Option<Duration>,
}

/// Why the records of a batch are not all durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The producer's queue is full.
    #[error("the producer's queue is full, because Kafka acknowledges too slowly")]
    QueueFull,
    /// Kafka did not acknowledge a record in time.
    #[error("Kafka did not acknowledge a record in time")]
    Timeout,
    /// A record is larger than the topic accepts.
    #[error("a record is larger than the Kafka topic accepts")]
    TooLarge,
    /// Kafka rejected a record.
    #[error("Kafka rejected a record: {0}")]
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

/// How often acknowledgements are collected while some are outstanding. Waking a request for each
/// acknowledgement would cost as much as answering it; this way one wake-up serves many.
const ACK_POLL: Duration = Duration::from_micros(500);
/// How often librdkafka is polled while no acknowledgement is outstanding.
const IDLE_POLL: Duration = Duration::from_millis(100);

/// An idempotent producer with `acks=all` that many tasks share. A thread of its own polls it and
/// wakes the batches whose last record was acknowledged.
pub struct Publisher {
    producer: Arc<BaseProducer<DeliveryReports>>,
    stop: Arc<AtomicBool>,
    poller: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Connects in the background; the first records wait for the connection. `component` becomes part
    /// of the client id.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn open(
        connection: &Connection,
        component: &str,
        settings: PublisherSettings,
    ) -> Result<Self, Error> {
        let mut config = connection.producer(component);
        config
            .set("linger.ms", settings.linger.as_millis().to_string())
            .set("queue.buffering.max.kbytes", (settings.queue_bytes / 1024).max(1).to_string())
            // Zero means no limit to librdkafka.
            .set(
                "message.timeout.ms",
                settings.ack_timeout.map_or(0, |t| t.as_millis()).to_string(),
            );
        let producer: Arc<BaseProducer<DeliveryReports>> = Arc::new(
            config
                .create_with_context(DeliveryReports::default())
                .map_err(|error| Error::settings(&error))?,
        );
        let stop = Arc::new(AtomicBool::new(false));
        let poller = std::thread::Builder::new()
            .name("kafka-acks".into())
            .spawn({
                let (producer, stop) = (Arc::clone(&producer), Arc::clone(&stop));
                move || {
                    while !stop.load(Ordering::Relaxed) {
                        poll_acks(&producer);
                    }
                }
            })
            .map_err(Error::state)?;
        Ok(Self { producer, stop, poller: Some(poller) })
    }

    /// Makes a task of `runtime` wake complete batches, many at once. Otherwise the producer's thread
    /// wakes each of them with a system call. Call it once, at startup.
    pub fn wake_through(&self, runtime: &Handle) {
        let (sender, mut finished) = mpsc::unbounded_channel::<Vec<Arc<Acks>>>();
        if self.producer.context().waker.set(sender).is_ok() {
            runtime.spawn(async move {
                while let Some(finished) = finished.recv().await {
                    finished.iter().for_each(|acks| acks.done.notify_one());
                }
            });
        }
    }

    /// Starts a batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch { publisher: self, acks: Arc::new(Acks::default()) }
    }

    /// Returns whether a broker answers a metadata request within `timeout`. Blocks.
    pub fn is_reachable(&self, timeout: Duration) -> bool {
        self.producer.client().fetch_metadata(Some("mailpulse-reachable"), timeout).is_ok()
    }

    /// Returns the number of records that are not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }

    /// Waits until no record is in flight. Blocks.
    ///
    /// # Errors
    /// [`Error::Kafka`] after `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        Ok(self.producer.flush(timeout)?)
    }
}

/// Polls the producer once, and wakes the batches that became complete.
fn poll_acks(producer: &BaseProducer<DeliveryReports>) {
    if producer.in_flight_count() == 0 {
        std::thread::park_timeout(IDLE_POLL); // `send` unparks
    }
    std::thread::sleep(ACK_POLL);
    let reports = producer.context();
    loop {
        let reported = reports.reported.load(Ordering::Relaxed);
        producer.poll(Duration::ZERO); // one event may report many acknowledgements
        if reports.reported.load(Ordering::Relaxed) == reported {
            break;
        }
    }
    reports.wake_completed();
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(poller) = self.poller.take() {
            poller.thread().unpark();
            let _ = poller.join();
        }
    }
}

/// Headers in librdkafka's form, built once for many records.
#[derive(Clone)]
pub struct PreparedHeaders(OwnedHeaders);

impl PreparedHeaders {
    /// Builds the headers.
    pub fn new<'a>(headers: &[(&'a str, &'a [u8])]) -> Self {
        Self(owned_headers(headers.iter().copied()))
    }
}

/// Records that succeed together: either all are durable, or the batch has failed.
pub struct Batch<'p> {
    publisher: &'p Publisher,
    acks: Arc<Acks>,
}

impl Batch<'_> {
    /// Passes a record to librdkafka, which copies it.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the record, which is then not part of the batch.
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
        let sent = self.publisher.producer.send(record);
        if let Some(poller) = &self.publisher.poller {
            poller.thread().unpark();
        }
        sent.map_err(|(error, record)| {
            // librdkafka will not report on this record.
            record.delivery_opaque.complete_one(Ok(()));
            match error {
                KafkaError::MessageProduction(code) => error_of(code),
                _ => PublishError::Refused(RDKafkaErrorCode::Fail),
            }
        })
    }

    /// Waits until every record is acknowledged or has failed.
    ///
    /// # Errors
    /// The first failure.
    pub async fn acknowledged(self) -> Result<(), PublishError> {
        self.acks.complete_one(Ok(()));
        let woken = self.acks.done.notified();
        if self.acks.pending.load(Ordering::Acquire) > 0 {
            woken.await;
        }
        self.acks.first_failure.get().map_or(Ok(()), |&failure| Err(failure))
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

/// The outstanding acknowledgements of one batch. The batch itself holds one more, so that it cannot
/// complete while records are still being added.
struct Acks {
    pending: AtomicUsize,
    first_failure: OnceLock<PublishError>,
    done: Notify,
}

impl Default for Acks {
    fn default() -> Self {
        Self { pending: AtomicUsize::new(1), first_failure: OnceLock::new(), done: Notify::new() }
    }
}

impl Acks {
    fn add(self: &Arc<Self>) -> Arc<Self> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Arc::clone(self)
    }

    /// Returns whether this was the last one.
    fn complete_one(&self, result: Result<(), RDKafkaErrorCode>) -> bool {
        if let Err(code) = result {
            let _ = self.first_failure.set(error_of(code));
        }
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

#[derive(Default)]
struct DeliveryReports {
    /// The number of acknowledgements and failures so far.
    reported: AtomicUsize,
    /// Batches that completed since the last [`DeliveryReports::wake_completed`].
    completed: Mutex<Vec<Arc<Acks>>>,
    /// The task that wakes them, if there is one.
    waker: OnceLock<mpsc::UnboundedSender<Vec<Arc<Acks>>>>,
}

impl DeliveryReports {
    fn wake_completed(&self) {
        let mut completed = self.completed.lock().unwrap_or_else(PoisonError::into_inner);
        let completed = std::mem::take(&mut *completed);
        if completed.is_empty() {
            return;
        }
        match self.waker.get() {
            // The channel closes only when the runtime has ended, and its requests with it.
            Some(waker) => drop(waker.send(completed)),
            None => completed.iter().for_each(|acks| acks.done.notify_one()),
        }
    }
}

impl ClientContext for DeliveryReports {
    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error("producer", &error, reason);
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = Arc<Acks>;

    fn delivery(&self, result: &DeliveryResult<'_>, acks: Arc<Acks>) {
        self.reported.fetch_add(1, Ordering::Relaxed);
        let is_last = acks.complete_one(match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        });
        if is_last {
            self.completed.lock().unwrap_or_else(PoisonError::into_inner).push(acks);
        }
    }
}
