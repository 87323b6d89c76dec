use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};

use super::{DeliveryReports, Waker};
use crate::Error;

/// How often acknowledgements are collected while some are outstanding. Waking a request for each
/// acknowledgement would cost as much as answering it; this way one wake-up serves many.
const ACK_POLL: Duration = Duration::from_micros(500);
/// How often librdkafka is polled while no acknowledgement is outstanding.
const IDLE_POLL: Duration = Duration::from_millis(100);

type ReportingProducer = BaseProducer<DeliveryReports>;

/// The producer of a publisher, and those that it has replaced after fatal errors.
pub(super) struct Producers {
    config: ClientConfig,
    component: String,
    waker: Arc<Waker>,
    current: RwLock<Arc<ReportingProducer>>,
    stop: AtomicBool,
}

impl Producers {
    pub(super) fn open(config: ClientConfig, component: &str) -> Result<Self, Error> {
        let waker = Arc::new(Waker::new());
        let current = RwLock::new(create(&config, &waker)?);
        let component = component.to_owned();
        Ok(Self { config, component, waker, current, stop: AtomicBool::new(false) })
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    pub(super) fn current(&self) -> Arc<ReportingProducer> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes [`Producers::poll_until_stopped`] return.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Polls the producer and wakes complete batches. Replaces the producer after a fatal error.
    pub(super) fn poll_until_stopped(&self) {
        let mut replaced: Vec<Arc<ReportingProducer>> = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let producer = self.current();
            if producer.in_flight_count() == 0 && replaced.is_empty() {
                std::thread::park_timeout(IDLE_POLL); // `Batch::send` unparks
            }
            std::thread::sleep(ACK_POLL);
            poll_acks(&producer);
            replaced.extend(self.replace_after_fatal_error(producer));
            replaced.retain(|old| {
                poll_acks(old);
                // A batch that has the producer may still send to it, and then gets an error.
                old.in_flight_count() > 0 || Arc::strong_count(old) > 1
            });
        }
    }

    /// Returns the producer if it has had a fatal error and another one has taken its place.
    fn replace_after_fatal_error(
        &self,
        producer: Arc<ReportingProducer>,
    ) -> Option<Arc<ReportingProducer>> {
        let (code, reason) = producer.client().fatal_error()?;
        // What became of the records in flight is unknown. Their batches fail and are sent again.
        producer.purge(PurgeConfig::default().queue().inflight());
        match create(&self.config, &self.waker) {
            Ok(new) => {
                tracing::error!(
                    %code,
                    reason,
                    component = self.component,
                    "the Kafka producer had a fatal error; a new producer takes its place"
                );
                metrics::counter!("mailpulse_publisher_rebuilds_total",
                    "component" => self.component.clone())
                .increment(1);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
                Some(producer)
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    component = self.component,
                    "a Kafka producer cannot be created after a fatal error; trying again"
                );
                std::thread::sleep(IDLE_POLL);
                None
            }
        }
    }
}

fn create(config: &ClientConfig, waker: &Arc<Waker>) -> Result<Arc<ReportingProducer>, Error> {
    let reports = DeliveryReports { waker: Arc::clone(waker), ..DeliveryReports::default() };
    let created = config.create_with_context(reports);
    created.map(Arc::new).map_err(|error| Error::settings(&error))
}

/// Collects all reports, and wakes the batches that became complete.
fn poll_acks(producer: &ReportingProducer) {
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

#[cfg(test)]
mod tests;
