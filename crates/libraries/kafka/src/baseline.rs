//! A plain producer with which `cargo xtask bench` compares the services. No service uses it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::{Connection, Error};

const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
const LINGER_MILLIS: &str = "2";
const QUEUE_KIB: &str = "131072";
/// The number of records between two polls for delivery reports.
const POLL_EVERY: usize = 1000;

/// Produces records (key and value) with one idempotent producer and `acks=all`, as fast as
/// librdkafka accepts them. Returns when all are acknowledged.
///
/// # Errors
/// [`Error::Kafka`] if a record was not delivered.
pub fn produce<'r>(
    connection: &Connection,
    topic: &str,
    records: impl Iterator<Item = (&'r [u8], &'r [u8])>,
) -> Result<(), Error> {
    let producer: BaseProducer<Failures> = connection
        .producer("baseline")
        .set("linger.ms", LINGER_MILLIS)
        .set("queue.buffering.max.kbytes", QUEUE_KIB)
        .create_with_context(Failures::default())
        .map_err(|error| Error::settings(&error))?;
    for (number, (key, value)) in records.enumerate() {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).key(key).payload(value);
        while let Err((error, back)) = producer.send(record) {
            let KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) = error else {
                return Err(error.into());
            };
            producer.poll(Duration::from_millis(5));
            record = back;
        }
        if number % POLL_EVERY == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        producer.poll(Duration::from_millis(2));
    }
    let lost = producer.context().0.load(Ordering::Relaxed);
    if lost > 0 || producer.in_flight_count() > 0 {
        return Err(KafkaError::Canceled.into());
    }
    Ok(())
}

/// Returns librdkafka's version, such as `2.12.1`.
pub fn librdkafka_version() -> String {
    rdkafka::util::get_rdkafka_version().1
}

/// Counts failed deliveries.
#[derive(Default)]
struct Failures(AtomicU64);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
