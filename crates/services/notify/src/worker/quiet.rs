//! What is held back during quiet hours, and what a new process has to know about it.

use std::sync::Arc;
use std::time::Duration;

use alerting::Severity;
use jiff::SignedDuration;
use tokio::task::JoinSet;

use super::{Lane, Worker, lock};
use crate::message::{Delivery, combine};
use crate::open_incidents::Identity;
use crate::quiet_hours::QuietPeriod;
use crate::received::Received;

/// The number of incidents that wait for the end of the quiet hours. Further ones are delivered at once.
const MAX_HELD_BACK: usize = 1_000;

/// How long after the quiet hours a new process still sends their digest. Whether the last process has
/// sent it is not known, so it may be sent twice.
const DIGEST_LATE: Duration = Duration::from_secs(3600);

/// How far event time may have been behind the clock when the last process held a warning back. A warning of
/// these minutes before the quiet hours may come twice after a restart.
const EVENT_TIME_LAG: SignedDuration = SignedDuration::from_mins(10);

impl Worker {
    /// Takes over the newest record of an incident that an earlier process delivered.
    pub(super) fn restore(&self, received: &Arc<Received>, identity: Identity) {
        if !self.channel.route.matches(&received.incident) {
            return;
        }
        let delivery = Delivery::of(Arc::clone(received)).finished();
        self.remember_open(&delivery, identity);
        let now = (self.context.clock)();
        let hours = self.channel.quiet_hours.as_ref();
        let period = hours.and_then(|hours| hours.at_or_ended_within(now, DIGEST_LATE));
        let is_quiet = period.is_some_and(|period| {
            // Records have event times, which are a little before the time at which they were held back.
            let start = period.start.checked_sub(EVENT_TIME_LAG).unwrap_or(period.start);
            let period = QuietPeriod { start, ..period };
            let is_news = received.change().notifies() && period.contains(received.at);
            is_news || period.contains(received.opened_at)
        });
        let incident = &received.incident;
        if is_quiet && incident.severity == Severity::Warning && incident.page > 0 {
            lock(&self.held_back).insert(received.id(), delivery);
        }
    }

    /// Keeps a warning until the quiet hours are over. Returns false if it must be delivered now.
    pub(super) fn hold_back(&self, delivery: &Delivery) -> bool {
        let Some(hours) = &self.channel.quiet_hours else { return false };
        let is_warning = delivery.received.incident.severity == Severity::Warning;
        if !is_warning || hours.at((self.context.clock)()).is_none() {
            return false;
        }
        let (id, delivery) = (delivery.received.id(), delivery.finished());
        let mut held_back = lock(&self.held_back);
        if held_back.len() >= MAX_HELD_BACK && !held_back.contains_key(&id) {
            return false;
        }
        let earlier = held_back.remove(&id);
        let changes: Vec<_> = earlier.into_iter().chain([delivery]).collect();
        held_back.extend(combine(&changes).map(|combined| (id, combined)));
        true
    }

    /// Delivers what was held back, once the quiet hours are over.
    pub(super) fn end_quiet_hours(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let Some(hours) = &self.channel.quiet_hours else { return };
        let now = (self.context.clock)();
        let mut held_back = lock(&self.held_back);
        if !held_back.is_empty() && hours.at(now).is_none() {
            let changes = std::mem::take(&mut *held_back).into_values();
            let ended = hours.at_or_ended_within(now, Duration::MAX);
            let end = ended.map_or(now, |period| period.end);
            self.push(Lane::QuietHours(end), changes, tasks);
        }
        metrics::gauge!("mailpulse_notify_held_back", "channel" => self.channel.name.clone())
            .set(held_back.len() as f64);
    }
}
