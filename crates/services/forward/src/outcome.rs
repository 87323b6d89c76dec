//! What happens to batches that have a verdict, and to records that cannot be read.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use courier::{Verdict, write_dead_letters};
use erasure::{Erased, erase_record};
use jiff::Timestamp;
use kafka::{DeadLetterWriter, FailedRecord, NextOffset, OwnedRecord, TopicPartition};
use record::Reason;
use service::Shutdown;
use tokio::runtime::Handle;

use crate::batch::Batch;

/// The header that a dead letter of this service has in addition: the name of the forward. If it is sent back,
/// only this forward sends the event.
pub const FORWARD: &str = "forward";

/// A batch, or a record that cannot be read, is done.
#[derive(Debug, Clone)]
pub struct Done {
    pub partition: TopicPartition,
    /// Distinguishes this assignment of the partition from others.
    pub assignment: u64,
    /// The offset after its last event.
    pub end: NextOffset,
    /// The memory that its events took, in bytes.
    pub memory: usize,
    /// The number of its events.
    pub events: usize,
}

/// Ends the batches of one forward.
pub struct Outcomes {
    pub forward: String,
    pub dead_letters: Arc<DeadLetterWriter>,
    pub erased: Arc<Erased>,
    pub done: Sender<Done>,
    pub clock: fn() -> Timestamp,
    pub runtime: Handle,
    pub shutdown: Shutdown,
}

impl Outcomes {
    /// Ends a batch: it is done at once if it was delivered, and otherwise when its events are dead letters.
    pub fn end(&self, done: Done, batch: &Batch, verdict: &Verdict) {
        let (outcome, problem) = match verdict {
            Verdict::Delivered => ("delivered", None),
            Verdict::Rejected(problem) => ("rejected", Some(problem)),
            Verdict::GaveUp(problem) => ("gave_up", Some(problem)),
        };
        self.count(outcome, batch);
        let Some(problem) = problem else {
            // The thread that receives lives as long as its batches.
            let _ = self.done.send(done);
            return;
        };
        let (forward, id, events) = (&self.forward, &batch.id, batch.events.len());
        tracing::error!(
            forward,
            outcome,
            id,
            events,
            problem,
            "a batch was not delivered; writing dead letters"
        );
        let detail = format!("forward {forward}: {problem}");
        let records = batch.events.iter().map(|event| event.record.clone());
        let failed = records.map(|record| self.failed(record, Reason::Undeliverable, &detail));
        self.write(failed.collect(), done);
    }

    /// Writes a dead letter of a record that cannot be read.
    pub fn reject(&self, done: Done, record: OwnedRecord, error: &serde_json::Error) {
        let reason = Reason::of_json(error);
        let (forward, origin, code) = (&self.forward, record.origin(), reason.code());
        tracing::error!(
            forward, %origin, reason = code, %error,
            "record is not an event; writing a dead letter"
        );
        let failed = self.failed(record, reason, &error.to_string());
        self.write(vec![failed], done);
    }

    fn failed(&self, record: OwnedRecord, reason: Reason, detail: &str) -> FailedRecord {
        let eraser = self.erased.eraser();
        let mut record = erase_record(&eraser, record);
        // It has the header already if it became a dead letter again after a redrive.
        record.headers.retain(|(name, _)| name != FORWARD);
        record.headers.push((FORWARD.to_owned(), self.forward.clone().into_bytes()));
        let detail = eraser.erase_body(detail.as_bytes());
        FailedRecord { record, reason, detail: String::from_utf8_lossy(&detail).into_owned() }
    }

    fn write(&self, failed: Vec<FailedRecord>, done: Done) {
        let (writer, shutdown) = (Arc::clone(&self.dead_letters), self.shutdown.clone());
        let sender = self.done.clone();
        self.runtime.spawn(async move {
            if write_dead_letters(&writer, &failed, &shutdown).await {
                let _ = sender.send(done);
            }
        });
    }

    fn count(&self, outcome: &'static str, batch: &Batch) {
        let forward = &self.forward;
        metrics::counter!(
            "mailpulse_forward_batches_total", "forward" => forward.clone(), "outcome" => outcome
        )
        .increment(1);
        metrics::counter!(
            "mailpulse_forward_events_total", "forward" => forward.clone(), "outcome" => outcome
        )
        .increment(batch.events.len() as u64);
        if outcome == "delivered" {
            let now = (self.clock)().as_microsecond();
            let age = metrics::histogram!(
                "mailpulse_forward_event_age_seconds", "forward" => forward.clone()
            );
            for event in &batch.events {
                let micros = now.saturating_sub(event.received_at.micros()).max(0);
                age.record(micros as f64 / 1e6);
            }
        }
    }
}
