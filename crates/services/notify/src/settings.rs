//! The section `[notify]`. Its keys are explained in `deploy/mailpulse.toml`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use service::{ClickHouseSettings, Secret, Settings, SettingsError};

use crate::channel::Channel;
use crate::delivery::{DeliverySettings, Retry};
use crate::explainer::Explainer;
use alerting::page::PageSettings;

mod channel;

use channel::ChannelSettings;

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
    #[serde(with = "service::units::duration", default = "gather")]
    gather: Duration,
    #[serde(default = "yes")]
    explain: bool,
    #[serde(with = "service::units::duration", default = "explain_within")]
    explain_within: Duration,
    #[serde(default = "yes")]
    mask_recipients: bool,
    #[serde(default)]
    allow_private: bool,
    #[serde(default)]
    dashboard_url: String,
    #[serde(default)]
    runbook_base: String,
    #[serde(default = "utc")]
    zone: String,
    acknowledgements: AcknowledgementSettings,
    channel: Vec<ChannelSettings>,
}

/// `[notify.acknowledgements]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AcknowledgementSettings {
    listen: String,
    secrets: Vec<Secret>,
}

const fn gather() -> Duration {
    Duration::from_millis(500)
}

const fn explain_within() -> Duration {
    Duration::from_millis(800)
}

fn utc() -> String {
    "UTC".to_owned()
}

const fn yes() -> bool {
    true
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
        if TimeZone::get(&notify.zone).is_err() {
            let problem = "is not a known time zone; write it as \"Europe/Berlin\"";
            return Err(settings.invalid("notify.zone", problem));
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
    /// Fails if a URL, a secret or an address is invalid.
    pub fn channels(&self, settings: &Settings) -> Result<Vec<Channel>, SettingsError> {
        let channels = self.channel.iter().enumerate().map(|(index, channel)| {
            channel.channel(self.allow_private).map_err(|(key, problem)| {
                settings.invalid(&format!("notify.channel[{index}].{key}"), problem)
            })
        });
        channels.collect()
    }

    /// Returns how incidents are delivered.
    #[expect(clippy::disallowed_methods, reason = "an attempt has the time of its delivery")]
    pub fn delivery(&self) -> DeliverySettings {
        DeliverySettings {
            retry: self.retry(),
            gather: self.gather,
            pages: PageSettings {
                dashboard_url: self.dashboard_url.clone(),
                runbook_base: self.runbook_base.clone(),
                zone: TimeZone::get(&self.zone).unwrap_or(TimeZone::UTC),
            },
            clock: Arc::new(Timestamp::now),
        }
    }

    /// Returns how failed deliveries are retried.
    pub const fn retry(&self) -> Retry {
        Retry { min: self.retry_min, max: self.retry_max, give_up_after: self.give_up_after }
    }

    /// Returns the address at which PagerDuty's webhooks arrive, and the secrets of the subscription. `None` if
    /// nothing is to listen.
    ///
    /// # Errors
    /// Fails if the address is invalid or there is no secret.
    pub fn acknowledgements(
        &self,
        settings: &Settings,
    ) -> Result<Option<(SocketAddr, Vec<Secret>)>, SettingsError> {
        let AcknowledgementSettings { listen, secrets } = &self.acknowledgements;
        if listen.is_empty() {
            return Ok(None);
        }
        let address = listen.parse().map_err(|_| {
            let problem = "must be empty or an address with a port, such as 127.0.0.1:9107";
            settings.invalid("notify.acknowledgements.listen", problem)
        })?;
        if secrets.is_empty() || secrets.iter().any(|secret| secret.expose().is_empty()) {
            let problem = "must contain the secret of the webhook subscription in PagerDuty";
            return Err(settings.invalid("notify.acknowledgements.secrets", problem));
        }
        Ok(Some((address, secrets.clone())))
    }

    /// Creates the client for explanations. Returns `None` with `explain = false`.
    ///
    /// # Errors
    /// Fails if the section `[clickhouse]` is invalid.
    pub fn explainer(&self, settings: &Settings) -> Result<Option<Explainer>, SettingsError> {
        if !self.explain {
            return Ok(None);
        }
        let clickhouse: ClickHouseSettings = settings.section("clickhouse")?;
        let explainer = Explainer::new(&clickhouse, self.explain_within, self.mask_recipients);
        explainer.map(Some).map_err(|error| settings.invalid(error.key, error.problem))
    }
}
