//! One `[[notify.channel]]`.

use std::num::NonZeroU32;
use std::time::Duration;

use alerting::{Family, Severity};
use courier::{
    AddressGuard, ClientSettings, Encryption, Endpoint, EndpointError, SigningKey, SmtpSettings,
};
use serde::Deserialize;
use service::{Patterns, Secret};

use crate::alertmanager::Alertmanager;
use crate::channel::{Channel, Target};
use crate::email::{Email, EmailSettings};
use crate::pagerduty::PagerDuty;
use crate::quiet_hours::QuietHours;
use crate::route::Route;
use crate::slack::Slack;
use crate::teams::Teams;
use crate::webhook::Webhook;

/// A key that is invalid, and the problem.
type Problem = (&'static str, String);

/// Declares the kinds of channels. Every kind has the same keys for routes and limits: serde cannot flatten
/// a struct into a type that rejects unknown keys.
macro_rules! kinds {
    ($($kind:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {
        /// One `[[notify.channel]]`.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
        pub(super) enum ChannelSettings {
            $($kind {
                name: String,
                #[serde(default)]
                severities: Vec<Severity>,
                #[serde(default)]
                families: Vec<Family>,
                #[serde(default)]
                tenants: Patterns,
                #[serde(default)]
                sources: Patterns,
                #[serde(default)]
                quiet_hours: Option<QuietHours>,
                #[serde(default)]
                max_per_minute: Option<u32>,
                $($(#[$attribute])* $field: $type,)*
            },)*
        }

        impl ChannelSettings {
            pub(super) fn name(&self) -> &str {
                match self { $(Self::$kind { name, .. } => name,)* }
            }

            fn route(&self) -> Route {
                match self {
                    $(Self::$kind { severities, families, tenants, sources, .. } => Route {
                        severities: severities.clone(),
                        families: families.clone(),
                        tenants: tenants.clone(),
                        sources: sources.clone(),
                    },)*
                }
            }

            fn quiet_hours(&self) -> Option<QuietHours> {
                match self { $(Self::$kind { quiet_hours, .. } => quiet_hours.clone(),)* }
            }

            fn max_per_minute(&self) -> Option<u32> {
                match self { $(Self::$kind { max_per_minute, .. } => *max_per_minute,)* }
            }
        }
    };
}

kinds! {
    Log {}
    Alertmanager {
        url: Secret,
        #[serde(with = "service::units::duration", default = "expires_after")]
        expires_after: Duration,
        #[serde(with = "service::units::duration", default = "resend")]
        resend: Duration,
        // Alertmanager is usually in the own network.
        #[serde(default = "yes")]
        allow_private: bool,
    }
    PagerDuty {
        routing_key: Secret,
        #[serde(default)]
        url: Option<Secret>,
        #[serde(default)]
        allow_private: Option<bool>,
    }
    Slack {
        url: Secret,
        #[serde(default)]
        allow_private: Option<bool>,
    }
    Teams {
        url: Secret,
        #[serde(default)]
        allow_private: Option<bool>,
    }
    Email {
        host: String,
        #[serde(default)]
        port: Option<u16>,
        #[serde(default = "starttls")]
        encryption: Encryption,
        #[serde(default)]
        ca_file: String,
        #[serde(default)]
        user: Option<String>,
        #[serde(default)]
        password: Option<Secret>,
        from: String,
        to: Vec<String>,
        #[serde(default)]
        allow_private: Option<bool>,
    }
    Webhook {
        url: Secret,
        secret: Secret,
        #[serde(default)]
        allow_private: Option<bool>,
    }
}

const fn expires_after() -> Duration {
    Duration::from_secs(5 * 60)
}

const fn resend() -> Duration {
    Duration::from_secs(60)
}

const fn yes() -> bool {
    true
}

const fn starttls() -> Encryption {
    Encryption::Starttls
}

/// The timeout of one attempt, including the connection set-up.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where PagerDuty receives events.
const PAGERDUTY: &str = "https://events.pagerduty.com";

impl ChannelSettings {
    /// Creates the channel, or returns the invalid key and the problem. `allow_private` applies if the
    /// channel does not have this key.
    pub(super) fn channel(&self, allow_private: bool) -> Result<Channel, Problem> {
        let has_own = matches!(
            self,
            Self::Alertmanager { .. } | Self::PagerDuty { .. } | Self::Webhook { .. }
        );
        if has_own && self.quiet_hours().is_some() {
            let problem = "this kind of channel has none, because a receiver that is a program decides \
                           for itself whom it wakes; configure the quiet hours there";
            return Err(("quiet_hours", problem.to_owned()));
        }
        let max_per_minute = self.max_per_minute().map(|max| {
            NonZeroU32::new(max).ok_or(("max_per_minute", "must be at least 1".to_owned()))
        });
        let max_per_minute = max_per_minute.transpose()?;
        Ok(Channel {
            name: self.name().to_owned(),
            route: self.route(),
            quiet_hours: self.quiet_hours(),
            max_per_minute,
            target: self.target(allow_private)?,
        })
    }

    fn target(&self, default: bool) -> Result<Target, Problem> {
        let guard = |own: &Option<bool>| AddressGuard::new(own.unwrap_or(default));
        Ok(match self {
            Self::Log { .. } => Target::Log,
            Self::Alertmanager { url, expires_after, resend, allow_private, .. } => {
                if resend.is_zero() {
                    return Err(("resend", "must be at least 1s".to_owned()));
                }
                if *expires_after < *resend * 2 {
                    let problem = "must be at least twice as long as resend, so that one request that \
                                   fails does not end the alerts";
                    return Err(("expires_after", problem.to_owned()));
                }
                let url = format!("{}/api/v2/alerts", url.expose().trim_end_matches('/'));
                let endpoint = self.endpoint(&url, AddressGuard::new(*allow_private))?;
                Target::Alertmanager(Alertmanager::new(endpoint, *expires_after, *resend))
            }
            Self::PagerDuty { routing_key, url, allow_private, .. } => {
                if routing_key.expose().len() != 32 {
                    let problem = "must have 32 characters; copy it from the integration of type \
                                   Events API v2";
                    return Err(("routing_key", problem.to_owned()));
                }
                let base = url.as_ref().map_or(PAGERDUTY, Secret::expose).trim_end_matches('/');
                let endpoint =
                    self.endpoint(&format!("{base}/v2/enqueue"), guard(allow_private))?;
                Target::PagerDuty(PagerDuty::new(endpoint, routing_key.clone()))
            }
            Self::Slack { url, allow_private, .. } => {
                Target::Slack(Slack::new(self.endpoint(url.expose(), guard(allow_private))?))
            }
            Self::Teams { url, allow_private, .. } => {
                Target::Teams(Teams::new(self.endpoint(url.expose(), guard(allow_private))?))
            }
            Self::Email { allow_private, .. } => self.email(guard(allow_private))?,
            Self::Webhook { url, secret, allow_private, .. } => {
                let key = SigningKey::parse(secret.expose())
                    .map_err(|error| ("secret", error.to_string()))?;
                let endpoint = self.endpoint(url.expose(), guard(allow_private))?;
                Target::Webhook(Webhook::new(endpoint, key))
            }
        })
    }

    fn endpoint(&self, url: &str, guard: AddressGuard) -> Result<Endpoint, Problem> {
        let error = |error: EndpointError| ("url", error.to_string());
        let settings = ClientSettings {
            guard,
            timeout: ATTEMPT_TIMEOUT,
            user_agent: concat!("mailpulse-notify/", env!("CARGO_PKG_VERSION")),
        };
        let endpoint = Endpoint::new(url, settings).map_err(error)?;
        if endpoint.is_plaintext() {
            tracing::warn!(
                channel = self.name(),
                "incidents are sent over http, so others in the network can read them; use https"
            );
        }
        Ok(endpoint)
    }

    fn email(&self, guard: AddressGuard) -> Result<Target, Problem> {
        let Self::Email { host, port, encryption, ca_file, user, password, from, to, .. } = self
        else {
            return Err(("kind", "is not email".to_owned()));
        };
        let login = match (user, password) {
            (Some(user), Some(password)) => Some((user.clone(), password.clone())),
            (None, None) => None,
            (Some(_), None) => return Err(("password", "is missing; user is set".to_owned())),
            (None, Some(_)) => return Err(("user", "is missing; password is set".to_owned())),
        };
        if *encryption == Encryption::None && login.is_some() {
            let problem = "must be starttls or tls if there is a password, which others in the network \
                           could read otherwise";
            return Err(("encryption", problem.to_owned()));
        }
        let server = SmtpSettings {
            host: host.clone(),
            port: port.unwrap_or_else(|| encryption.port()),
            encryption: *encryption,
            ca_file: ca_file.clone(),
            login,
        };
        let settings = EmailSettings { server, from: from.clone(), to: to.clone() };
        Ok(Target::Email(Email::new(settings, guard)?))
    }
}
