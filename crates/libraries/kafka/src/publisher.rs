mod producers;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use producers::Producers;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

use crate::client::log_client_error;
use crate::stage::owned_headers;
use crate::{Connection, Error, OwnedRecord};

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
    /// Returns whether the record is the cause, so that Kafka would reject it every time and accept
    /// other records. Any other error is the cluster's and may pass.
    pub const fn is_of_record(self) -> bool {
        use RDKafkaErrorCode::{
            InvalidDifferentRecord, InvalidMessageSize, InvalidRecord, MessageBatchTooLarge,
        };
        match self {
            Self::TooLarge => true,
            // Kafka rejects a whole batch for one of its records. The others succeed without it.
            Self::Refused(code) => matches!(
                code,
                InvalidRecord | InvalidDifferentRecord | InvalidMessageSize | MessageBatchTooLarge
            ),
            Self::QueueFull | Self::Timeout => false,
        }
    }

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

/// An idempotent producer with `acks=all` that many tasks share. A thread of its own polls it and
/// wakes the batches whose last record was acknowledged.
///
/// After a fatal error librdkafka rejects every further record. The producer is then replaced by a new
/// one: the records in flight fail, and batches that start later use the new one.
pub struct Publisher {
    producers: Arc<Producers>,
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
        let producers = Arc::new(Producers::open(config, component)?);
        let poller = std::thread::Builder::new()
            .name("kafka-acks".into())
            .spawn({
                let producers = Arc::clone(&producers);
                move || producers.poll_until_stopped()
            })
            .map_err(Error::state)?;
        Ok(Self { producers, poller: Some(poller) })
    }

    /// Makes a task of `runtime` wake complete batches, many at once. Otherwise the producer's thread
    /// wakes each of them with a system call. Call it once, at startup.
    pub fn wake_through(&self, runtime: &Handle) {
        let (sender, mut finished) = mpsc::unbounded_channel::<Vec<Arc<Acks>>>();
        if self.producers.waker().set(sender).is_ok() {
            runtime.spawn(async move {
                while let Some(finished) = finished.recv().await {
                    finished.iter().for_each(|acks| acks.done.notify_one());
                }
            });
        }
    }

    /// Starts a batch.
    pub fn batch(&self) -> Batch<'_> {
        let producer = self.producers.current();
        Batch { publisher: self, producer, acks: Arc::new(Acks::default()) }
    }

    /// Returns whether a broker answers a metadata request within `timeout`. Blocks.
    pub fn is_reachable(&self, timeout: Duration) -> bool {
        let producer = self.producers.current();
        producer.client().fetch_metadata(Some("mailpulse-reachable"), timeout).is_ok()
    }

    /// Returns the number of records that are not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.producers.current().in_flight_count()).unwrap_or(0)
    }

    /// Waits until no record is in flight. Blocks.
    ///
    /// # Errors
    /// [`Error::Kafka`] after `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        Ok(self.producers.current().flush(timeout)?)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.producers.stop();
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

/// Records that are sent together.
pub struct Batch<'p> {
    publisher: &'p Publisher,
    producer: Arc<BaseProducer<DeliveryReports>>,
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
        self.send_numbered(0, topic, key, value, headers)
    }

    /// As [`Batch::send`]. `number` is the caller's number of the record, which
    /// [`Batch::failures`] returns if the record fails.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the record, which is then not part of the batch.
    pub fn send_numbered(
        &self,
        number: usize,
        topic: &str,
        key: &[u8],
        value: &[u8],
        headers: &PreparedHeaders,
    ) -> Result<(), PublishError> {
        let pending = Box::new(PendingRecord { acks: self.acks.add(), number });
        let record = BaseRecord::<[u8], [u8], Box<PendingRecord>>::with_opaque_to(topic, pending)
            .key(key)
            .payload(value)
            .headers(headers.0.clone());
        self.produce(record)
    }

    /// Passes a record without a key, with an empty value, for one partition to librdkafka.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the record, which is then not part of the batch.
    pub fn send_to_partition(
        &self,
        topic: &str,
        partition: i32,
        headers: &PreparedHeaders,
    ) -> Result<(), PublishError> {
        let pending = Box::new(PendingRecord { acks: self.acks.add(), number: 0 });
        let record = BaseRecord::<[u8], [u8], Box<PendingRecord>>::with_opaque_to(topic, pending)
            .partition(partition)
            .payload(b"")
            .headers(headers.0.clone());
        self.produce(record)
    }

    /// Passes a record without headers, for one partition, to librdkafka, which copies it.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the record, which is then not part of the batch.
    pub fn send_value_to_partition(
        &self,
        topic: &str,
        partition: i32,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), PublishError> {
        let pending = Box::new(PendingRecord { acks: self.acks.add(), number: 0 });
        let record = BaseRecord::<[u8], [u8], Box<PendingRecord>>::with_opaque_to(topic, pending)
            .partition(partition)
            .key(key)
            .payload(value);
        self.produce(record)
    }

    /// Passes a copy of a record, with its key, value and headers, to librdkafka, for the same partition of `topic`.
    ///
    /// # Errors
    /// Fails if librdkafka rejects the record, which is then not part of the batch.
    pub fn send_copy(&self, topic: &str, record: &OwnedRecord) -> Result<(), PublishError> {
        let OwnedRecord { partition, key, value, headers, .. } = record;
        let pending = Box::new(PendingRecord { acks: self.acks.add(), number: 0 });
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let copy = BaseRecord::<[u8], [u8], Box<PendingRecord>>::with_opaque_to(topic, pending)
            .partition(*partition)
            .key(key)
            .headers(owned_headers(headers));
        self.produce(match value {
            Some(value) => copy.payload(value),
            None => copy,
        })
    }

    fn produce(
        &self,
        record: BaseRecord<'_, [u8], [u8], Box<PendingRecord>>,
    ) -> Result<(), PublishError> {
        let sent = self.producer.send(record);
        if let Some(poller) = &self.publisher.poller {
            poller.thread().unpark();
        }
        sent.map_err(|(error, record)| {
            // librdkafka will not report on this record.
            record.delivery_opaque.acks.complete_one();
            match error {
                KafkaError::MessageProduction(code) => error_of(code),
                _ => PublishError::Refused(RDKafkaErrorCode::Fail),
            }
        })
    }

    /// Waits until every record is acknowledged or has failed.
    ///
    /// # Errors
    /// One of the failures.
    pub async fn acknowledged(self) -> Result<(), PublishError> {
        self.failures().await.first().map_or(Ok(()), |&(_, failure)| Err(failure))
    }

    /// Waits until every record is acknowledged or has failed. Returns the numbers of those that have
    /// failed, in ascending order, with the reasons.
    pub async fn failures(self) -> Vec<(usize, PublishError)> {
        self.acks.complete_one();
        let woken = self.acks.done.notified();
        if self.acks.pending.load(Ordering::Acquire) > 0 {
            woken.await;
        }
        let mut failures = std::mem::take(&mut *lock(&self.acks.failures));
        failures.sort_unstable_by_key(|&(number, _)| number);
        failures
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(crate) struct Acks {
    pending: AtomicUsize,
    /// The numbers of the records that have failed, in the order of the reports.
    failures: Mutex<Vec<(usize, PublishError)>>,
    done: Notify,
}

impl Default for Acks {
    fn default() -> Self {
        Self { pending: AtomicUsize::new(1), failures: Mutex::default(), done: Notify::new() }
    }
}

impl Acks {
    fn add(self: &Arc<Self>) -> Arc<Self> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Arc::clone(self)
    }

    /// Returns whether this was the last one.
    fn complete_one(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// A record that librdkafka will report on.
struct PendingRecord {
    acks: Arc<Acks>,
    /// The caller's number.
    number: usize,
}

/// The channel to the task that wakes complete batches, once there is one.
type Waker = OnceLock<mpsc::UnboundedSender<Vec<Arc<Acks>>>>;

#[derive(Default)]
struct DeliveryReports {
    /// The number of acknowledgements and failures so far.
    reported: AtomicUsize,
    /// Batches that completed since the last [`DeliveryReports::wake_completed`].
    completed: Mutex<Vec<Arc<Acks>>>,
    waker: Arc<Waker>,
}

impl DeliveryReports {
    fn wake_completed(&self) {
        let completed = std::mem::take(&mut *lock(&self.completed));
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
    type DeliveryOpaque = Box<PendingRecord>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<PendingRecord>) {
        self.reported.fetch_add(1, Ordering::Relaxed);
        let PendingRecord { acks, number } = *record;
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            lock(&acks.failures).push((number, error_of(code)));
        }
        if acks.complete_one() {
            lock(&self.completed).push(acks);
        }
    }
}
