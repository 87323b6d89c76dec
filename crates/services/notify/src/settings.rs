//! The section `[notify]`. Its keys are explained in `deploy/mailpulse.toml`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use service::{Secret, Settings, SettingsError};

use crate::alertmanager::Alertmanager;
use crate::backoff::Retry;
use crate::channel::{Channel, Target};
use crate::endpoint::{Endpoint, EndpointError};
use crate::webhook::{SigningKey, Webhook};

/// The section `[notify]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifySettings {
    /// The address of `/livez`, `/readyz` and `/metrics`.
    pub admin: SocketAddr,
    #[serde(with = "service::units::duration")]
    retry_min: Duration,
    #[serde(with = "service::units::duration")]
    retry_max: Duration,
    #[serde(with = "service::units::duration")]
    give_up_after: Duration,
    channel: Vec<ChannelSettings>,
}

/// One `[[notify.channel]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum ChannelSettings {
    Log {
        name: String,
    },
    Alertmanager {
        name: String,
        url: Secret,
        #[serde(with = "service::units::duration", default = "one_day")]
        expires_after: Duration,
    },
    Webhook {
        name: String,
        url: Secret,
        secret: Secret,
    },
}

impl ChannelSettings {
    fn name(&self) -> &str {
        match self {
            Self::Log { name } | Self::Alertmanager { name, .. } | Self::Webhook { name, .. } => {
                name
            }
        }
    }

    fn endpoint(&self, url: &str) -> Result<Endpoint, EndpointError> {
        let endpoint = Endpoint::new(url)?;
        if endpoint.is_plaintext() {
            tracing::warn!(
                channel = self.name(),
                "alerts are sent over http, so others in the network can read them; use https"
            );
        }
        Ok(endpoint)
    }

    /// Creates the target, or returns the invalid key and the problem.
    fn target(&self) -> Result<Target, (&'static str, String)> {
        let url_error = |error: EndpointError| ("url", error.to_string());
        Ok(match self {
            Self::Log { .. } => Target::Log,
            Self::Alertmanager { url, expires_after, .. } => {
                let url = format!("{}/api/v2/alerts", url.expose().trim_end_matches('/'));
                let endpoint = self.endpoint(&url).map_err(url_error)?;
                Target::Alertmanager(Alertmanager::new(endpoint, *expires_after))
            }
            Self::Webhook { url, secret, .. } => {
                let key = SigningKey::parse(secret.expose())
                    .map_err(|error| ("secret", error.to_string()))?;
                Target::Webhook(Webhook::new(self.endpoint(url.expose()).map_err(url_error)?, key))
            }
        })
    }
}

fn one_day() -> Duration {
    Duration::from_secs(24 * 3600)
}

impl NotifySettings {
    /// Reads and checks the section.
    ///
    /// # Errors
    /// Fails if a key is missing, unknown or invalid. The error names the key and the fix.
    pub fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let notify: Self = settings.section("notify")?;
        if notify.retry_min.is_zero() {
            return Err(settings.invalid("notify.retry_min", "must be at least 1ms"));
        }
        if notify.retry_max < notify.retry_min {
            return Err(settings.invalid("notify.retry_max", "must be at least retry_min"));
        }
        if notify.channel.is_empty() {
            return Err(settings.invalid("notify.channel", "must contain at least one channel"));
        }
        let mut names = BTreeSet::new();
        for (index, channel) in notify.channel.iter().enumerate() {
            if channel.name().is_empty() || !names.insert(channel.name()) {
                let key = format!("notify.channel[{index}].name");
                return Err(settings.invalid(&key, "every channel needs a unique, non-empty name"));
            }
        }
        Ok(notify)
    }

    /// Creates the channels. This opens no connection.
    ///
    /// # Errors
    /// Fails if a URL or a secret is invalid.
    pub fn channels(&self, settings: &Settings) -> Result<Vec<Channel>, SettingsError> {
        let channels = self.channel.iter().enumerate().map(|(index, channel)| {
            let target = channel.target().map_err(|(key, problem)| {
                settings.invalid(&format!("notify.channel[{index}].{key}"), problem)
            })?;
            Ok(Channel { name: channel.name().to_owned(), target })
        });
        channels.collect()
    }

    /// Returns how failed deliveries are retried.
    pub const fn retry(&self) -> Retry {
        Retry { min: self.retry_min, max: self.retry_max, give_up_after: self.give_up_after }
    }
}
