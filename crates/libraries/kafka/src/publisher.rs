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

use crate::output::owned_headers;
use crate::{Connection, StreamError};

/// How the publisher trades latency, memory and patience.
#[derive(Debug, Clone, Copy)]
pub struct PublisherSettings {
    /// How long librdkafka waits to fill a batch.
    pub linger: Duration,
    /// Bytes of records waiting for acknowledgement before [`Batch::send`] refuses.
    pub queue_bytes: usize,
    /// After this long an unacknowledged record counts as failed; `None` for never. One that
    /// failed may have others behind it that did not: only with `None` the order of what is sent
    /// is the order of what is there.
    pub ack_timeout: Option<Duration>,
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

/// How often acknowledgements are looked for while some are awaited. To be woken for each would cost
/// as much as answering its request; this way a wake-up serves many.
const GATHER: Duration = Duration::from_micros(500);
/// How often librdkafka is asked for news while nothing is awaited.
const IDLE: Duration = Duration::from_millis(100);

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
            // 0 is for ever to librdkafka.
            .set(
                "message.timeout.ms",
                settings.ack_timeout.map_or(0, |t| t.as_millis()).to_string(),
            );
        let producer: Arc<BaseProducer<Reports>> = Arc::new(
            config
                .create_with_context(Reports::default())
                .map_err(|error| StreamError::Settings(error.to_string()))?,
        );
        let stop = Arc::new(AtomicBool::new(false));
        let poller = std::thread::Builder::new()
            .name("kafka-acks".into())
            .spawn({
                let (producer, stop) = (Arc::clone(&producer), Arc::clone(&stop));
                move || {
                    while !stop.load(Ordering::Relaxed) {
                        attend(&producer);
                    }
                }
            })
            .map_err(StreamError::state)?;
        Ok(Self { producer, stop, poller: Some(poller) })
    }

    /// Wakes requests from within the runtime they run on, many at once. Without it each is woken
    /// from the producer's thread, at a system call a request. To be called once, at the start.
    pub fn wake_through(&self, runtime: &Handle) {
        let (sender, mut finished) = mpsc::unbounded_channel::<Vec<Arc<Acks>>>();
        if self.producer.context().gathered.set(sender).is_ok() {
            runtime.spawn(async move {
                while let Some(finished) = finished.recv().await {
                    finished.iter().for_each(|acks| acks.done.notify_one());
                }
            });
        }
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

/// One round of the producer's thread: what was acknowledged since the last, and who waits for it.
fn attend(producer: &BaseProducer<Reports>) {
    if producer.in_flight_count() == 0 {
        std::thread::park_timeout(IDLE); // `send` unparks
    }
    std::thread::sleep(GATHER);
    let reports = producer.context();
    loop {
        let seen = reports.seen.load(Ordering::Relaxed);
        producer.poll(Duration::ZERO); // one event, of many acknowledgements
        if reports.seen.load(Ordering::Relaxed) == seen {
            break;
        }
    }
    reports.wake();
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
        let sent = self.publisher.producer.send(record);
        if let Some(poller) = &self.publisher.poller {
            poller.thread().unpark();
        }
        sent.map_err(|(error, record)| {
            // librdkafka did not take it, so no report will come for it.
            record.delivery_opaque.count(Ok(()));
            match error {
                KafkaError::MessageProduction(code) => error_of(code),
                _ => PublishError::Refused(RDKafkaErrorCode::Fail),
            }
        })
    }

    /// Waits until every record is acknowledged, or one has failed for good.
    pub async fn acknowledged(self) -> Result<(), PublishError> {
        self.acks.count(Ok(()));
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

    /// Returns whether it was the last.
    fn count(&self, result: Result<(), RDKafkaErrorCode>) -> bool {
        if let Err(code) = result {
            let _ = self.failure.set(error_of(code));
        }
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

#[derive(Default)]
struct Reports {
    /// Acknowledgements and failures so far.
    seen: AtomicUsize,
    /// Requests whose last record was acknowledged since the last [`Reports::wake`].
    finished: Mutex<Vec<Arc<Acks>>>,
    /// Where they are woken, if not here.
    gathered: OnceLock<mpsc::UnboundedSender<Vec<Arc<Acks>>>>,
}

impl Reports {
    fn wake(&self) {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let finished = std::mem::take(&mut *finished);
        if finished.is_empty() {
            return;
        }
        match self.gathered.get() {
            // Closed only when the runtime has ended, and its requests with it.
            Some(runtime) => drop(runtime.send(finished)),
            None => finished.iter().for_each(|acks| acks.done.notify_one()),
        }
    }
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka producer");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Arc<Acks>;

    fn delivery(&self, result: &DeliveryResult<'_>, acks: Arc<Acks>) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        let is_last = acks.count(match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        });
        if is_last {
            self.finished.lock().unwrap_or_else(PoisonError::into_inner).push(acks);
        }
    }
}
