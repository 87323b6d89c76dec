//! Where transitions go.

use jiff::Timestamp;
use window::State;

use crate::alertmanager::Alertmanager;
use crate::endpoint::Failure;
use crate::transition::Transition;
use crate::webhook::Webhook;

/// A configured channel.
#[derive(Debug)]
pub struct Channel {
    /// Its name in the settings: log field, metric label.
    pub name: String,
    /// What it is.
    pub target: Target,
}

/// The kinds of channel.
#[derive(Debug)]
pub enum Target {
    /// The log of this process.
    Log,
    /// An Alertmanager.
    Alertmanager(Alertmanager),
    /// Any URL.
    Webhook(Webhook),
}

impl Channel {
    /// Tries once to deliver, as of the time `now`.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn send(&self, transition: &Transition, now: Timestamp) -> Result<(), Failure> {
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
            step = $transition.step().as_str(),
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
            "{}",
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
