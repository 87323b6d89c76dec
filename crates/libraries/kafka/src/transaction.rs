//! A transactional producer that is rebuilt whenever the outcome of its transaction is unknown.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::Error;
use crate::client::KAFKA_REQUEST_TIMEOUT;

/// How long the broker keeps a transaction open after its owner has vanished. Readers of committed
/// records wait behind it for that long, unless a member with the same name returns earlier.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the broker may take to register the transactional id.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often a commit checks whether its records are delivered. Delivery takes a few of these
/// polls.
const DELIVERY_POLL: Duration = Duration::from_micros(250);

/// Counts the failed deliveries of the open transaction.
#[derive(Default)]
pub(crate) struct DeliveryReports {
    failed: AtomicU64,
}

impl ClientContext for DeliveryReports {
    fn error(&self, error: KafkaError, reason: &str) {
        crate::client::log_client_error("transactional producer", &error, reason);
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::warn!(%error, "record of a transaction was not delivered");
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(crate) struct Transactions {
    config: ClientConfig,
    producer: BaseProducer<DeliveryReports>,
}

impl Transactions {
    /// Registers the transactional id. The broker fences a predecessor with the same id and ends its
    /// open transaction.
    pub(crate) fn open(mut config: ClientConfig, id: &str) -> Result<Self, Error> {
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
            .set("message.timeout.ms", "9000")
            .set("linger.ms", "2")
            // We do not use reports of successful deliveries; they would cost 8 % of a stage's CPU.
            .set("delivery.report.only.error", "true")
            .set("queue.buffering.max.kbytes", "65536");
        let producer = register(&config)?;
        Ok(Self { config, producer })
    }

    /// Replaces the producer by a new one with the same id. This ends the open transaction of the old
    /// producer.
    pub(crate) fn rebuild(&mut self) -> Result<(), Error> {
        self.producer = register(&self.config)?;
        Ok(())
    }

    pub(crate) fn begin(&self) -> Result<&BaseProducer<DeliveryReports>, Error> {
        self.producer.context().failed.store(0, Ordering::Relaxed);
        self.producer.begin_transaction()?;
        Ok(&self.producer)
    }

    /// Aborts the open transaction, which must have no records.
    pub(crate) fn abort_empty(&self) -> Result<(), Error> {
        self.producer.abort_transaction(KAFKA_REQUEST_TIMEOUT)?;
        Ok(())
    }

    /// Makes outputs and input offsets visible together, or returns an error.
    ///
    /// We wait here until no message is in flight. rdkafka's `flush` sleeps a full poll interval
    /// (100 ms per commit), and polling with a sub-millisecond timeout busy-loops.
    pub(crate) fn commit(
        &self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), Error> {
        if offsets.count() > 0 {
            self.producer.send_offsets_to_transaction(offsets, group, KAFKA_REQUEST_TIMEOUT)?;
        }
        let deadline = Instant::now() + KAFKA_REQUEST_TIMEOUT;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(DELIVERY_POLL);
        }
        if self.producer.context().failed.load(Ordering::Relaxed) > 0 {
            return Err(KafkaError::Canceled.into());
        }
        self.producer.commit_transaction(KAFKA_REQUEST_TIMEOUT)?;
        Ok(())
    }
}

fn register(config: &ClientConfig) -> Result<BaseProducer<DeliveryReports>, Error> {
    let producer: BaseProducer<DeliveryReports> = config
        .create_with_context(DeliveryReports::default())
        .map_err(|error| Error::settings(&error))?;
    let deadline = Instant::now() + REGISTRATION_TIMEOUT;
    loop {
        match producer.init_transactions(KAFKA_REQUEST_TIMEOUT) {
            Ok(()) => return Ok(producer),
            // The broker is still ending a predecessor's transaction, or has just restarted.
            Err(KafkaError::Transaction(error))
                if error.is_retriable() && Instant::now() < deadline =>
            {
                tracing::warn!(%error, "transactional id is not registered yet; retrying");
                std::thread::sleep(RETRY_PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
