//! A transactional producer that is rebuilt whenever the outcome of its transaction is unknown.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
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
/// How long to collect the delivery reports of a failed transaction.
const REPORTS_POLL: Duration = Duration::from_millis(20);

/// The failed deliveries of the open transaction.
#[derive(Default)]
pub(crate) struct DeliveryReports {
    failed: AtomicU64,
    rejected: Mutex<Rejected>,
}

/// The outputs that were rejected for what they are. No later attempt succeeds with them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Rejected {
    /// The inputs whose outputs are larger than the largest record.
    pub(crate) too_large: BTreeSet<Input>,
    /// The inputs whose outputs librdkafka or the broker rejected, possibly because of another
    /// record of the same batch.
    pub(crate) inputs: BTreeSet<Input>,
    /// The topic of one of them, and why it was rejected.
    pub(crate) example: Option<(String, RDKafkaErrorCode)>,
}

/// The input record that an output belongs to: its index in the batch plus one. Zero is an output
/// without an input record, such as a changelog record of the whole batch.
pub(crate) type Input = usize;

impl DeliveryReports {
    /// Remembers an output that librdkafka or the broker rejected for what it is.
    pub(crate) fn reject(&self, input: Input, topic: &str, code: RDKafkaErrorCode) {
        let mut rejected = self.rejected();
        rejected.inputs.insert(input);
        rejected.example.get_or_insert_with(|| (topic.to_owned(), code));
    }

    /// Remembers an output that is larger than the largest record.
    pub(crate) fn reject_too_large(&self, input: Input, topic: &str) {
        let mut rejected = self.rejected();
        rejected.too_large.insert(input);
        let code = RDKafkaErrorCode::MessageSizeTooLarge;
        rejected.example.get_or_insert_with(|| (topic.to_owned(), code));
    }

    /// Returns whether an output was larger than the largest record.
    pub(crate) fn has_too_large(&self) -> bool {
        !self.rejected().too_large.is_empty()
    }

    /// Returns an error if an output was rejected for what it is.
    pub(crate) fn check_rejected(&self) -> Result<(), Error> {
        match self.rejected().example.clone() {
            Some((topic, code)) => Err(Error::OutputRejected { topic, code }),
            None => Ok(()),
        }
    }

    fn rejected(&self) -> MutexGuard<'_, Rejected> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a record, or another one of its batch, was rejected for what it is, so that sending
/// it again does not help.
pub(crate) const fn is_permanent(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        InvalidDifferentRecord, InvalidRecord, InvalidTimestamp, MessageBatchTooLarge,
        MessageSizeTooLarge,
    };
    matches!(
        code,
        InvalidDifferentRecord
            | InvalidRecord
            | InvalidTimestamp
            | MessageBatchTooLarge
            | MessageSizeTooLarge
    )
}

impl ClientContext for DeliveryReports {
    fn error(&self, error: KafkaError, reason: &str) {
        crate::client::log_client_error("transactional producer", &error, reason);
    }
}

impl ProducerContext for DeliveryReports {
    type DeliveryOpaque = Input;

    fn delivery(&self, result: &DeliveryResult<'_>, input: Input) {
        let Err((error, message)) = result else { return };
        tracing::warn!(%error, topic = message.topic(), "record of a transaction was not delivered");
        self.failed.fetch_add(1, Ordering::Relaxed);
        if let Some(code) = error.rdkafka_error_code().filter(|code| is_permanent(*code)) {
            self.reject(input, message.topic(), code);
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
        *self.producer.context().rejected() = Rejected::default();
        self.producer.begin_transaction()?;
        Ok(&self.producer)
    }

    /// Aborts the open transaction, which must have no records.
    pub(crate) fn abort_empty(&self) -> Result<(), Error> {
        self.producer.abort_transaction(KAFKA_REQUEST_TIMEOUT)?;
        Ok(())
    }

    /// Returns the outputs of the failed transaction that were rejected for what they are.
    pub(crate) fn take_rejected(&self) -> Rejected {
        // The reports of a failed transaction may still be in librdkafka's queue.
        self.producer.poll(REPORTS_POLL);
        std::mem::take(&mut self.producer.context().rejected())
    }

    /// Makes outputs and input offsets visible together, or returns an error.
    pub(crate) fn commit(
        &self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), Error> {
        if offsets.count() > 0
            && let Err(error) =
                self.producer.send_offsets_to_transaction(offsets, group, KAFKA_REQUEST_TIMEOUT)
        {
            // If Kafka has rejected an output meanwhile, this error only says that the transaction failed.
            self.producer.poll(REPORTS_POLL);
            self.producer.context().check_rejected()?;
            return Err(error.into());
        }
        await_deliveries(&self.producer)?;
        self.producer.commit_transaction(KAFKA_REQUEST_TIMEOUT)?;
        Ok(())
    }
}

/// Waits until no message is in flight. rdkafka's `flush` sleeps a full poll interval (100 ms per
/// commit), and polling with a sub-millisecond timeout busy-loops.
///
/// # Errors
/// [`Error::OutputRejected`] or [`Error::Kafka`] if a record was not delivered.
pub(crate) fn await_deliveries(producer: &BaseProducer<DeliveryReports>) -> Result<(), Error> {
    let deadline = Instant::now() + KAFKA_REQUEST_TIMEOUT;
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(Duration::ZERO);
        std::thread::sleep(DELIVERY_POLL);
    }
    let reports = producer.context();
    reports.check_rejected()?;
    if reports.failed.load(Ordering::Relaxed) > 0 {
        return Err(KafkaError::Canceled.into());
    }
    Ok(())
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
