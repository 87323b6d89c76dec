//! One transactional producer, rebuilt whenever its fate is unclear.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::StreamError;

/// How long a broker keeps a transaction open whose owner has vanished. Readers of committed
/// records wait that long behind it, unless a member of the same name comes back sooner.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(30);
/// How long a broker may take to give us the transactional id.
const REGISTERED_WITHIN: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);
/// How often a commit looks whether its records have arrived: a few of them take that long.
const LOOK: Duration = Duration::from_micros(250);

/// Counts failed deliveries of the open transaction.
#[derive(Default)]
pub(crate) struct Deliveries {
    failed: AtomicU64,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka producer");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::warn!(%error, "delivery in a transaction");
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(crate) struct Transactions {
    config: ClientConfig,
    producer: BaseProducer<Deliveries>,
}

impl Transactions {
    /// Registers the transactional id: a predecessor of that name is fenced and its open
    /// transaction ended.
    pub(crate) fn open(mut config: ClientConfig, id: &str) -> Result<Self, StreamError> {
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
            .set("message.timeout.ms", "9000")
            .set("linger.ms", "2")
            // Nobody asks which deliveries succeeded, and being told costs 8 % of a step's CPU.
            .set("delivery.report.only.error", "true")
            .set("queue.buffering.max.kbytes", "65536");
        let producer = register(&config)?;
        Ok(Self { config, producer })
    }

    /// A new producer under the same id; the old one's open transaction is ended by it.
    pub(crate) fn rebuild(&mut self) -> Result<(), StreamError> {
        self.producer = register(&self.config)?;
        Ok(())
    }

    pub(crate) fn begin(&self) -> Result<&BaseProducer<Deliveries>, StreamError> {
        self.producer.context().failed.store(0, Ordering::Relaxed);
        self.producer.begin_transaction()?;
        Ok(&self.producer)
    }

    /// Ends a transaction nothing was written to.
    pub(crate) fn forget(&self) -> Result<(), StreamError> {
        self.producer.abort_transaction(CALL)?;
        Ok(())
    }

    /// Outputs and input offsets become visible together or not at all.
    ///
    /// It is waited here until nothing is in flight. The wrapper's flush would sleep out its poll
    /// (100 ms a commit), and its poll with a timeout turns on the spot for what is left of it below
    /// a millisecond.
    pub(crate) fn commit(
        &self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), StreamError> {
        if offsets.count() > 0 {
            self.producer.send_offsets_to_transaction(offsets, group, CALL)?;
        }
        let deadline = Instant::now() + CALL;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(LOOK);
        }
        if self.producer.context().failed.load(Ordering::Relaxed) > 0 {
            return Err(KafkaError::Canceled.into());
        }
        self.producer.commit_transaction(CALL)?;
        Ok(())
    }
}

fn register(config: &ClientConfig) -> Result<BaseProducer<Deliveries>, StreamError> {
    let producer: BaseProducer<Deliveries> = config
        .create_with_context(Deliveries::default())
        .map_err(|error| StreamError::Settings(error.to_string()))?;
    let until = Instant::now() + REGISTERED_WITHIN;
    loop {
        match producer.init_transactions(CALL) {
            Ok(()) => return Ok(producer),
            // The broker still ends a predecessor's transaction, or has only just come back.
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < until =>
            {
                tracing::warn!(%error, "transactional id not registered yet");
                std::thread::sleep(RETRY);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
