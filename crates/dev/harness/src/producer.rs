//! A producer that shares no code with the pipeline's.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use crate::reader::client;
use crate::{DEADLINE, Outgoing};

/// An idempotent producer; transactional if it was opened with a transactional id.
pub struct Producer(BaseProducer<Deliveries>);

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Producer")
    }
}

/// Keeps the first failed delivery until someone waits for the deliveries.
#[derive(Default)]
struct Deliveries(Mutex<Option<String>>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap().get_or_insert(error.to_string());
        }
    }
}

impl Producer {
    /// Opens a producer. A transactional id fences all earlier producers of the same id.
    pub(crate) fn open(bootstrap: &str, transactional_id: Option<&str>) -> Self {
        let mut config = client(bootstrap);
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.max.bytes", "20971520")
            // Tests keep transactions open while they wait for something else.
            .set("transaction.timeout.ms", "300000");
        if let Some(id) = transactional_id {
            config.set("transactional.id", id);
        }
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(Deliveries::default()).unwrap();
        if transactional_id.is_some() {
            producer.init_transactions(DEADLINE).unwrap();
        }
        Self(producer)
    }

    /// Produces records, in this order in each partition, and returns when all are acknowledged.
    ///
    /// # Panics
    /// If one is not acknowledged.
    pub fn produce<'r>(&self, records: impl IntoIterator<Item = &'r Outgoing>) {
        for record in records {
            self.enqueue(record);
        }
        self.await_deliveries();
    }

    fn enqueue(&self, record: &Outgoing) {
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value) })
        });
        let mut message = BaseRecord::<[u8], [u8]>::to(&record.topic).headers(headers);
        if !record.is_tombstone {
            message = message.payload(&record.value);
        }
        if !record.key.is_empty() {
            message = message.key(&record.key);
        }
        if let Some(partition) = record.partition {
            message = message.partition(partition);
        }
        if let Some(millis) = record.timestamp {
            message = message.timestamp(millis);
        }
        loop {
            match self.0.send(message) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    self.0.poll(Duration::from_millis(5));
                    message = returned;
                }
                Err((error, _)) => panic!("{}: {error}", record.topic),
            }
        }
    }

    fn await_deliveries(&self) {
        while self.0.in_flight_count() > 0 {
            self.0.poll(Duration::from_millis(5));
        }
        let failure = self.0.context().0.lock().unwrap().take();
        assert_eq!(failure, None, "a record was not delivered");
    }

    /// Begins a transaction.
    pub fn begin(&self) {
        self.0.begin_transaction().unwrap();
    }

    /// Commits the transaction.
    pub fn commit(&self) {
        self.0.commit_transaction(DEADLINE).unwrap();
    }

    /// Aborts the transaction.
    pub fn abort(&self) {
        self.0.abort_transaction(DEADLINE).unwrap();
    }

    /// Produces records in transactions of `size` records each. One further transaction is aborted
    /// after the first, so that offsets have gaps as they have behind the pipeline's own producers.
    pub fn produce_in_transactions(&self, records: &[Outgoing], size: usize) {
        for (number, batch) in records.chunks(size).enumerate() {
            if number == 1 {
                self.begin();
                self.produce(&batch[..1]);
                self.abort();
            }
            self.begin();
            self.produce(batch);
            self.commit();
        }
    }
}
