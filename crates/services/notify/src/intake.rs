//! Reads `mail.alerts` and commits the offsets that every channel has finished.

use std::sync::Arc;
use std::time::Duration;

use kafka::feed::{Feed, Item};
use kafka::{DeadLetterWriter, FailedRecord};
use service::{Health, Shutdown};

use crate::delivery::{Deliveries, Delivery};
use crate::progress::{Admission, Progress};
use crate::transition::{Transition, TransitionError};

/// How long to wait for a record. A finished delivery is marked as done after at most this time.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// The maximum number of pending records. A channel that fails holds at most half as many, so it does
/// not stop the others. If more are pending all the same, reading stops: the memory stays bounded, and
/// the topic keeps the records. The group may then assign our partitions to another member until we read
/// again; [`Progress`] recognises the records that we read twice.
const MAX_PENDING: usize = 10_000;

/// Reads alerts and passes them to the channels.
pub struct Intake {
    feed: Feed,
    deliveries: Deliveries,
    dead_letters: Arc<DeadLetterWriter>,
    progress: Progress,
}

impl Intake {
    /// Reads from `feed` and delivers with `deliveries`.
    pub fn new(feed: Feed, deliveries: Deliveries, dead_letters: DeadLetterWriter) -> Self {
        let dead_letters = Arc::new(dead_letters);
        Self { feed, deliveries, dead_letters, progress: Progress::default() }
    }

    /// Runs until the shutdown is requested, then waits for the attempts in progress. The next start
    /// delivers the transitions that are still pending.
    ///
    /// # Errors
    /// Returns errors of Kafka from which only a new process recovers.
    pub fn run(mut self, health: &Health, shutdown: &Shutdown) -> Result<(), kafka::Error> {
        while !shutdown.requested() {
            health.mark_alive();
            if self.progress.pending() < MAX_PENDING {
                match self.feed.held() {
                    Some(reason) => health.hold(reason),
                    None => health.ready(),
                }
                if let Some(item) = self.feed.next(POLL_TIMEOUT)? {
                    self.dispatch(item)?;
                }
            } else {
                health.hold("a channel does not accept alerts and too many are pending");
                self.deliveries.await_finished(POLL_TIMEOUT);
            }
            self.mark_finished()?;
            metrics::gauge!("mailpulse_notify_pending_transitions")
                .set(self.progress.pending() as f64);
        }
        self.deliveries.stop();
        self.mark_finished()?;
        self.feed.close()?;
        tracing::info!(pending = self.progress.pending(), "deliveries stopped");
        Ok(())
    }

    /// Passes a record to every channel, or to the dead letters if it is not a valid alert.
    fn dispatch(&mut self, mut item: Item) -> Result<(), kafka::Error> {
        let (transition, channels) = match Transition::read(item.value.as_deref()) {
            Ok(transition) => {
                // The value is not needed any more. Many records may be pending.
                item.value = None;
                (Ok(transition), self.deliveries.channels())
            }
            Err(error) => (Err(failed_record(&item, &error)), 1),
        };
        match (self.progress.start(item, channels), transition) {
            (Admission::Deliver(position), Ok(transition)) => {
                self.deliveries.send(&Arc::new(Delivery { position, transition }));
                Ok(())
            }
            (Admission::Deliver(position), Err(failed)) => {
                let (origin, reason) = (failed.record.origin(), failed.reason.code());
                tracing::error!(
                    %origin, reason, detail = failed.detail,
                    "record is not a valid alert; writing a dead letter"
                );
                self.deliveries.send_dead_letter(&self.dead_letters, position, failed);
                Ok(())
            }
            (Admission::Delivered(item), _) => self.feed.done(&item),
            (Admission::Pending, _) => Ok(()),
        }
    }

    /// Marks the records as done that every channel has finished.
    fn mark_finished(&mut self) -> Result<(), kafka::Error> {
        while let Some(position) = self.deliveries.next_finished() {
            if let Some(last) = self.progress.finish(position) {
                self.feed.done(&last)?;
            }
        }
        Ok(())
    }
}

fn failed_record(item: &Item, error: &TransitionError) -> FailedRecord {
    FailedRecord { record: item.clone(), reason: error.reason(), detail: error.to_string() }
}
