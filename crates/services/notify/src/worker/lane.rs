//! How the messages of a lane are delivered: when attempts are made, and what one message contains.

use std::collections::VecDeque;

use alerting::Severity;
use courier::{DeliveryError, Job, Postponed, Verdict};

use super::outcome::Outcome;
use super::{Lane, Worker, lock};
use crate::channel::Combining;
use crate::message::{Delivery, Message};

/// The next message of a lane. What arrives between two attempts may become part of it.
struct NextMessage<'w> {
    worker: &'w Worker,
    lane: Lane,
}

impl Job for NextMessage<'_> {
    /// The message, and the number of deliveries that it contains.
    type Message = (Message, usize);

    fn message(&self) -> Option<Self::Message> {
        self.worker.next_message(self.lane)
    }

    fn is_urgent(&self) -> bool {
        self.worker.is_urgent(self.lane)
    }

    async fn attempt(&self, (message, _): &Self::Message) -> Result<(), DeliveryError> {
        self.worker.attempt(message).await
    }
}

impl Worker {
    /// Delivers everything in a lane.
    pub(super) async fn run_lane(&self, lane: Lane) {
        loop {
            {
                let mut lanes = lock(&self.lanes);
                if lanes.get(&lane).is_none_or(VecDeque::is_empty) {
                    lanes.remove(&lane);
                    return;
                }
            }
            if let Err(Postponed) = self.deliver_next(lane).await {
                return;
            }
        }
    }

    /// Makes attempts until the next message of a lane has an outcome.
    async fn deliver_next(&self, lane: Lane) -> Result<(), Postponed> {
        let ended = self.attempts.deliver(&NextMessage { worker: self, lane }).await?;
        let Some(((_, count), verdict)) = ended else { return Ok(()) };
        match verdict {
            Verdict::Delivered => self.complete(lane, count, Outcome::Delivered, ""),
            Verdict::Rejected(answer) => self.complete(lane, count, Outcome::Rejected, &answer),
            Verdict::GaveUp(problem) => self.complete(lane, count, Outcome::GaveUp, &problem),
        }
        Ok(())
    }

    fn is_urgent(&self, lane: Lane) -> bool {
        let is_page = |one: &Delivery| one.received.incident.severity == Severity::Page;
        lock(&self.lanes).get(&lane).is_some_and(|waiting| waiting.iter().any(is_page))
    }

    /// Returns the message to send next, and the number of deliveries that it contains.
    fn next_message(&self, lane: Lane) -> Option<(Message, usize)> {
        let waiting: Vec<_> = lock(&self.lanes).get(&lane)?.iter().cloned().collect();
        let count = match (lane, self.channel.target.combining()) {
            (Lane::Incident(_), Combining::Never) => 1,
            _ => waiting.len(),
        };
        let part = waiting.get(..count)?;
        let message = match lane {
            Lane::Incident(_) => Message::about(part, &self.context.pages),
            Lane::QuietHours(end) => {
                let hours = self.channel.quiet_hours.as_ref().map(ToString::to_string);
                Message::after_quiet_hours(part, &hours.unwrap_or_default(), end)
            }
        };
        Some((message?, count))
    }
}
