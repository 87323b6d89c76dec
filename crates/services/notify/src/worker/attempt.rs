//! One attempt, and what its result means for the next ones.

use std::time::Duration;

use courier::{BreakerChange, DeliveryError, Observer};

use super::{BREAKER, Worker};
use crate::message::Message;

impl Worker {
    /// Makes one attempt.
    pub(super) async fn attempt(&self, message: &Message) -> Result<(), DeliveryError> {
        let channel = &self.channel.name;
        let result = self.channel.send(message, (self.context.clock)()).await;
        if let Err(error) = &result {
            let id = &message.id;
            tracing::warn!(channel, code = error.code(), id, %error, "delivery attempt failed");
        }
        result
    }
}

/// Exports what happens to the attempts of a channel.
pub(super) struct ChannelObserver {
    pub(super) channel: String,
}

impl Observer for ChannelObserver {
    fn attempted(&self, took: Duration, result: &Result<(), DeliveryError>) {
        metrics::histogram!(
            "mailpulse_notify_attempt_duration_seconds", "channel" => self.channel.clone()
        )
        .record(took);
        count_failure(&self.channel, result);
    }

    fn circuit_changed(&self, change: BreakerChange) {
        let channel = &self.channel;
        let gauge = metrics::gauge!("mailpulse_notify_circuit_open", "channel" => channel.clone());
        match change {
            BreakerChange::None => {}
            BreakerChange::Opened => {
                gauge.set(1.0);
                tracing::error!(
                    channel,
                    "the receiver has failed several times in a row; the next attempt is in {} s. Check \
                     the receiver and the channel's url.",
                    BREAKER.open_for.as_secs()
                );
            }
            BreakerChange::Closed => {
                gauge.set(0.0);
                tracing::info!(channel, "the receiver answers again");
            }
        }
    }
}

/// Counts a request that failed.
pub(super) fn count_failure(channel: &str, result: &Result<(), DeliveryError>) {
    if let Err(error) = result {
        metrics::counter!(
            "mailpulse_notify_failed_attempts_total",
            "channel" => channel.to_owned(),
            "code" => error.code()
        )
        .increment(1);
    }
}
