//! The channels that transitions are delivered to.

use jiff::Timestamp;
use window::State;

use crate::alertmanager::Alertmanager;
use crate::endpoint::DeliveryError;
use crate::transition::Transition;
use crate::webhook::Webhook;

/// A configured channel.
#[derive(Debug)]
pub struct Channel {
    /// The name in the settings, which is also a log field and a metric label.
    pub name: String,
    /// Where the channel sends transitions.
    pub target: Target,
}

/// The target of a channel.
#[derive(Debug)]
pub enum Target {
    /// The log of this process.
    Log,
    /// An Alertmanager, through its API.
    Alertmanager(Alertmanager),
    /// Any URL, with a signed request.
    Webhook(Webhook),
}

impl Channel {
    /// Makes one attempt to deliver the transition. `now` is the current time.
    ///
    /// # Errors
    /// Fails if the target does not accept it.
    pub async fn send(&self, transition: &Transition, now: Timestamp) -> Result<(), DeliveryError> {
        match &self.target {
            Target::Log => {
                log(transition);
                Ok(())
            }
            Target::Alertmanager(alertmanager) => alertmanager.send(transition, now).await,
            Target::Webhook(webhook) => webhook.send(transition, now).await,
        }
    }
}

macro_rules! log_at {
    ($level:ident, $transition:expr) => {{
        let alert = &$transition.alert;
        tracing::$level!(
            severity = alert.severity.as_str(),
            rule = alert.rule,
            scope = %alert.scope,
            episode = %alert.episode_id,
            value = alert.value,
            threshold = alert.threshold,
            volume = alert.volume,
            started_at = %$transition.started_at,
            at = %$transition.at,
            runbook = alert.runbook,
            "alert {}: {}",
            $transition.change().as_str(),
            alert.summary
        );
    }};
}

fn log(transition: &Transition) {
    match transition.alert.state {
        State::Firing => log_at!(warn, transition),
        State::Resolved => log_at!(info, transition),
    }
}
