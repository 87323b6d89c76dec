//! Sends the open incidents to Alertmanager again and again.

use std::sync::Arc;

use alerting::{Change, IncidentState};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::attempt::count_failure;
use super::{Lane, Worker, lock};
use crate::message::{Delivery, Message};
use crate::open_incidents::Identity;

/// When the open incidents are sent again.
pub(super) struct Resending {
    due: Instant,
    /// The last time at which the receiver knew all open incidents.
    current_at: Instant,
}

impl Resending {
    /// The first time is at once: a new process does not know when the last one did it.
    pub(super) const fn new(now: Instant) -> Self {
        Self { due: now, current_at: now }
    }
}

impl Worker {
    /// Remembers the newest record of an incident, if the channel is an Alertmanager.
    pub(super) fn remember_open(&self, delivery: &Delivery, identity: Identity) {
        let Some(alertmanager) = self.channel.target.alertmanager() else { return };
        // People do not know of an incident without a page.
        if delivery.received.incident.page == 0 {
            return;
        }
        let message = Message::about(std::slice::from_ref(delivery), &self.context.pages);
        if let Some(message) = message {
            alertmanager.open().update(&delivery.received, message.page, identity);
        }
    }

    /// Returns whether the change needs no message of its own: it changes only the text of an alert, and
    /// another message about the incident waits already. The text is sent with the next round.
    pub(super) fn is_covered_by_resending(&self, delivery: &Delivery) -> bool {
        self.channel.target.alertmanager().is_some()
            && delivery.change == Change::Updated
            && delivery.received.incident.state != IncidentState::Resolved
            && lock(&self.lanes).contains_key(&Lane::Incident(delivery.received.id()))
    }

    /// Sends all open incidents again, if the channel is an Alertmanager and it is time.
    pub(super) fn send_again_if_due(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let Some(alertmanager) = self.channel.target.alertmanager() else { return };
        let (now, open) = (Instant::now(), alertmanager.open().len());
        let mut resending = lock(&self.resending);
        if open == 0 {
            resending.current_at = now;
        } else if now >= resending.due && !self.context.shutdown.requested() {
            resending.due = now + alertmanager.resend();
            let worker = Arc::clone(self);
            tasks.spawn(async move { worker.send_again(now).await });
        }
        let channel = &self.channel.name;
        metrics::gauge!("mailpulse_notify_open_incidents", "channel" => channel.clone())
            .set(open as f64);
        metrics::gauge!("mailpulse_notify_resend_age_seconds", "channel" => channel.clone())
            .set((now - resending.current_at).as_secs_f64());
    }

    async fn send_again(&self, started: Instant) {
        let Some(alertmanager) = self.channel.target.alertmanager() else { return };
        // Not limited by the circuit breaker: it is one request, and it shows when the receiver is back.
        let result = alertmanager.send_again((self.context.clock)()).await;
        count_failure(&self.channel.name, &result);
        self.attempts.note(&result);
        match result {
            Ok(()) => lock(&self.resending).current_at = started,
            Err(error) => tracing::warn!(
                channel = self.channel.name,
                code = error.code(),
                %error,
                "the open incidents could not be sent again; retrying"
            ),
        }
    }
}
