//! The metrics and the log of the attempts of a forward.

use std::time::Duration;

use courier::{BreakerChange, BreakerSettings, DeliveryError, Observer};

/// Exports what happens to the attempts of a forward.
pub struct ForwardObserver {
    forward: String,
    breaker: BreakerSettings,
}

impl ForwardObserver {
    /// The circuit is closed now.
    pub fn new(forward: &str, breaker: BreakerSettings) -> Self {
        let observer = Self { forward: forward.to_owned(), breaker };
        observer.set_open(false);
        observer
    }

    fn set_open(&self, is_open: bool) {
        metrics::gauge!(
            "mailpulse_forward_circuit_open", "forward" => self.forward.clone()
        )
        .set(f64::from(u8::from(is_open)));
    }
}

impl Observer for ForwardObserver {
    fn attempted(&self, took: Duration, result: &Result<(), DeliveryError>) {
        let forward = &self.forward;
        metrics::histogram!(
            "mailpulse_forward_attempt_duration_seconds", "forward" => forward.clone()
        )
        .record(took);
        if let Err(error) = result {
            metrics::counter!(
                "mailpulse_forward_failed_attempts_total",
                "forward" => forward.clone(),
                "code" => error.code()
            )
            .increment(1);
        }
    }

    fn circuit_changed(&self, change: BreakerChange) {
        let forward = &self.forward;
        match change {
            BreakerChange::None => {}
            BreakerChange::Opened => {
                self.set_open(true);
                tracing::error!(
                    forward,
                    "the receiver has failed several times in a row; the next attempt is in {} s. Check the \
                     receiver and the forward's url.",
                    self.breaker.open_for.as_secs()
                );
            }
            BreakerChange::Closed => {
                self.set_open(false);
                tracing::info!(forward, "the receiver answers again");
            }
        }
    }
}
