//! `[notify]`; each key is explained in `deploy/mailpulse.toml`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use service::{Secret, Settings, SettingsError};

use crate::alertmanager::Alertmanager;
use crate::backoff::Retry;
use crate::channel::{Channel, Target};
use crate::endpoint::{BadUrl, Endpoint};
use crate::webhook::{SigningKey, Webhook};

/// `[notify]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifySettings {
    /// Of `/livez`, `/readyz` and `/metrics`.
    pub admin: SocketAddr,
    #[serde(with = "service::units::duration")]
    retry_min: Duration,
    #[serde(with = "service::units::duration")]
    retry_max: Duration,
    #[serde(with = "service::units::duration")]
    give_up_after: Duration,
    channel: Vec<ChannelSettings>,
}

/// `[[notify.channel]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum ChannelSettings {
    Log {
        name: String,
    },
    Alertmanager {
        name: String,
        url: String,
        #[serde(with = "service::units::duration", default = "a_day")]
        expires_after: Duration,
    },
    Webhook {
        name: String,
        url: String,
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

    fn target(&self) -> Result<Target, (&'static str, String)> {
        let at_url = |error: BadUrl| ("url", error.to_string());
        Ok(match self {
            Self::Log { .. } => Target::Log,
            Self::Alertmanager { url, expires_after, .. } => {
                let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
                let endpoint = Endpoint::new(&url).map_err(at_url)?;
                Target::Alertmanager(Alertmanager::new(endpoint, *expires_after))
            }
            Self::Webhook { url, secret, .. } => {
                let key = SigningKey::parse(secret.expose())
                    .map_err(|error| ("secret", error.to_string()))?;
                Target::Webhook(Webhook::new(Endpoint::new(url).map_err(at_url)?, key))
            }
        })
    }
}

fn a_day() -> Duration {
    Duration::from_secs(24 * 3600)
}

impl NotifySettings {
    /// Reads and checks the section.
    ///
    /// # Errors
    /// When a key is missing, unknown or of no use; names the key and the mend.
    pub fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let own: Self = settings.section("notify")?;
        if own.retry_min.is_zero() {
            return Err(settings.invalid("notify.retry_min", "must be at least 1ms"));
        }
        if own.retry_max < own.retry_min {
            return Err(settings.invalid("notify.retry_max", "must not be less than retry_min"));
        }
        if own.channel.is_empty() {
            return Err(settings.invalid("notify.channel", "must name at least one channel"));
        }
        let mut names = BTreeSet::new();
        for (index, channel) in own.channel.iter().enumerate() {
            if channel.name().is_empty() || !names.insert(channel.name()) {
                let key = format!("notify.channel[{index}].name");
                return Err(settings.invalid(&key, "every channel needs a name of its own"));
            }
        }
        Ok(own)
    }

    /// The channels, ready to be used. Connects to nobody.
    ///
    /// # Errors
    /// When a URL or secret cannot be used.
    pub fn channels(&self, settings: &Settings) -> Result<Vec<Channel>, SettingsError> {
        let channels = self.channel.iter().enumerate().map(|(index, channel)| {
            let target = channel.target().map_err(|(key, problem)| {
                settings.invalid(&format!("notify.channel[{index}].{key}"), problem)
            })?;
            Ok(Channel { name: channel.name().to_owned(), target })
        });
        channels.collect()
    }

    /// How patient the channels are.
    pub const fn retry(&self) -> Retry {
        Retry { min: self.retry_min, max: self.retry_max, give_up_after: self.give_up_after }
    }
}
