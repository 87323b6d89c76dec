//! One attempt, and what its result means for the next ones.

use tokio::time::Instant;

use super::{Worker, lock};
use crate::breaker::{self, BreakerChange};
use crate::endpoint::DeliveryError;
use crate::message::Message;

impl Worker {
    /// Makes one attempt.
    pub(super) async fn attempt(&self, message: &Message) -> Result<(), DeliveryError> {
        let (started, channel) = (Instant::now(), &self.channel.name);
        let result = self.channel.send(message, (self.context.clock)()).await;
        metrics::histogram!(
            "mailpulse_notify_attempt_duration_seconds", "channel" => channel.clone()
        )
        .record(started.elapsed());
        self.note_result(&result);
        if let Err(error) = &result {
            let id = &message.id;
            tracing::warn!(channel, code = error.code(), id, %error, "delivery attempt failed");
        }
        result
    }

    /// Counts a failed attempt, and tells the circuit breaker.
    pub(super) fn note_result(&self, result: &Result<(), DeliveryError>) {
        let channel = &self.channel.name;
        let change = match result {
            Ok(()) => lock(&self.breaker).succeed(),
            Err(error) => {
                metrics::counter!(
                    "mailpulse_notify_failed_attempts_total",
                    "channel" => channel.clone(),
                    "code" => error.code()
                )
                .increment(1);
                let mut breaker = lock(&self.breaker);
                if error.is_final() { breaker.succeed() } else { breaker.fail(Instant::now()) }
            }
        };
        let gauge = metrics::gauge!("mailpulse_notify_circuit_open", "channel" => channel.clone());
        match change {
            BreakerChange::None => {}
            BreakerChange::Opened => {
                gauge.set(1.0);
                tracing::error!(
                    channel,
                    "the receiver has failed several times in a row; the next attempt is in {} s. Check \
                     the receiver and the channel's url.",
                    breaker::OPEN_FOR.as_secs()
                );
            }
            BreakerChange::Closed => {
                gauge.set(0.0);
                tracing::info!(channel, "the receiver answers again");
            }
        }
    }
}
