//! What happens to deliveries that have an outcome.

use std::sync::atomic::Ordering;

use kafka::FailedRecord;
use record::Reason;

use super::{Lane, Worker, lock};
use crate::delivery::Finished;
use crate::message::{Delivery, combine};
use crate::received::CHANNEL;

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Delivered,
    /// The channel rejected it for good.
    Rejected,
    /// The channel did not accept it in time.
    GaveUp,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
            Self::GaveUp => "gave_up",
        }
    }
}

impl Worker {
    /// Removes the first deliveries from a lane and finishes them.
    pub(super) fn complete(&self, lane: Lane, count: usize, outcome: Outcome, problem: &str) {
        let done: Vec<_> = match lock(&self.lanes).get_mut(&lane) {
            Some(waiting) => waiting.drain(..count.min(waiting.len())).collect(),
            None => return,
        };
        let bytes = done.iter().map(|delivery| delivery.received.bytes()).sum();
        self.waiting.fetch_sub(done.len(), Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        match (outcome, lane) {
            (Outcome::Delivered, _) => done.iter().for_each(|delivery| self.finish(delivery)),
            (_, Lane::QuietHours(_)) => {
                done.iter().for_each(|delivery| self.give_up(delivery, problem));
            }
            (_, Lane::Incident(_)) => {
                if let Some(delivery) = combine(&done) {
                    self.give_up(&delivery, problem);
                }
            }
        }
        self.report(&done, outcome);
    }

    pub(super) fn finish(&self, delivery: &Delivery) {
        for position in &delivery.positions {
            // The receiver lives as long as the tasks.
            let _ = self.context.finish.send(Finished::Done(*position));
        }
    }

    /// Passes the delivery on to the dead letters.
    pub(super) fn give_up(&self, delivery: &Delivery, problem: &str) {
        let mut record = delivery.received.record.clone();
        record.headers.push((CHANNEL.to_owned(), self.channel.name.clone().into_bytes()));
        let detail = format!("channel {}: {problem}", self.channel.name);
        let failed = FailedRecord { record, reason: Reason::Undeliverable, detail };
        let positions = delivery.positions.clone();
        let _ = self.context.finish.send(Finished::Undeliverable { positions, failed });
    }

    /// Counts the outcome, and logs an error if the message is lost for this channel.
    pub(super) fn report(&self, done: &[Delivery], outcome: Outcome) {
        let channel = &self.channel.name;
        metrics::counter!(
            "mailpulse_notify_deliveries_total",
            "channel" => channel.clone(),
            "outcome" => outcome.as_str()
        )
        .increment(1);
        let now = (self.context.clock)();
        for delivery in done {
            let incident = &delivery.received.incident;
            if outcome != Outcome::Delivered {
                tracing::error!(
                    channel,
                    outcome = outcome.as_str(),
                    incident = %incident.id,
                    seq = incident.seq,
                    summary = incident.lead.summary,
                    "incident was not delivered; writing a dead letter"
                );
            } else if delivery.change.notifies() && !delivery.positions.is_empty() {
                let age = now.duration_since(delivery.received.at).as_secs_f64();
                metrics::histogram!(
                    "mailpulse_notify_alert_age_seconds", "channel" => channel.clone()
                )
                .record(age.max(0.0));
            }
        }
    }
}
