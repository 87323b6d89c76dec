//! How the messages of a lane are delivered: when attempts are made, and what one message contains.

use std::collections::VecDeque;
use std::time::Duration;

use alerting::Severity;
use governor::clock::{Clock as _, DefaultClock};
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::outcome::Outcome;
use super::{Lane, Worker, lock};
use crate::backoff::Backoff;
use crate::channel::Combining;
use crate::message::{Delivery, Message};

/// The shortest time that the last attempt of a delivery waits for its turn.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// How often a message that waits because of the rate limit looks whether it has become urgent.
const URGENCY_CHECK: Duration = Duration::from_secs(1);

/// The process stops. The next process delivers what is pending.
struct Postponed;

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

    /// Makes attempts until the next message of a lane has an outcome. What arrives in the meantime may
    /// become part of the message.
    async fn deliver_next(&self, lane: Lane) -> Result<(), Postponed> {
        let (started, mut backoff) = (Instant::now(), Backoff::new(self.context.retry));
        let shutdown = &self.context.shutdown;
        let mut last_error = "no attempt was made".to_owned();
        loop {
            let left = self.context.retry.give_up_after.saturating_sub(started.elapsed());
            let may_attempt = tokio::select! {
                // A process that stops makes no new attempt.
                biased;
                () = shutdown.wait() => return Err(Postponed),
                may = tokio::time::timeout(left.max(LAST_WAIT), self.await_turn(lane)) => may,
            };
            let Some((message, count)) = self.next_message(lane) else { return Ok(()) };
            let Ok(permit) = may_attempt else {
                let problem = format!("the time for attempts is over; {last_error}");
                self.complete(lane, count, Outcome::GaveUp, &problem);
                return Ok(());
            };
            let error = match self.attempt(&message).await {
                Ok(()) => {
                    self.complete(lane, count, Outcome::Delivered, "");
                    return Ok(());
                }
                Err(error) if error.is_final() => {
                    self.complete(lane, count, Outcome::Rejected, &error.to_string());
                    return Ok(());
                }
                Err(error) => error,
            };
            drop(permit);
            let pause = backoff.next(started.elapsed(), rand::random(), error.retry_after());
            last_error = error.to_string();
            let Some(pause) = pause else {
                self.complete(lane, count, Outcome::GaveUp, &last_error);
                return Ok(());
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.wait() => {}
            }
        }
    }

    /// Returns when the rate limit, the other attempts and the circuit breaker allow an attempt.
    async fn await_turn(&self, lane: Lane) -> Option<SemaphorePermit<'_>> {
        if let Some(limiter) = &self.limiter {
            while let Err(not_until) = limiter.check() {
                if self.is_urgent(lane) {
                    break;
                }
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                tokio::time::sleep(wait.min(URGENCY_CHECK)).await;
            }
        }
        // The semaphore is never closed. If it were, the attempt would be made without a permit.
        let permit = self.attempts.acquire().await.ok();
        loop {
            // The lock must not be held during the pause.
            let admitted = lock(&self.breaker).admit(Instant::now());
            match admitted {
                Ok(()) => return permit,
                Err(pause) => tokio::time::sleep(pause).await,
            }
        }
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
