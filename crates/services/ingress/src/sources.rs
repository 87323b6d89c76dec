//! The configured sources.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use event::Provider;
use providers::{Authenticator, Options, SourceSettings};
use service::{Settings, SourceTable};

use crate::rate_limit::RateLimit;
use crate::request_metrics::SourceMetrics;

/// A configured source.
pub(crate) struct Source {
    /// The position in the settings, used as a short key.
    pub(crate) index: usize,
    pub(crate) provider: Provider,
    pub(crate) name: String,
    pub(crate) authenticator: Authenticator,
    /// Every request is rejected for now.
    pub(crate) is_disabled: bool,
    /// Requests that fail verification are accepted, counted and logged.
    pub(crate) is_shadow: bool,
    /// Requests are not verified.
    is_unverified: bool,
    /// In the order of `secrets`. Empty if they are public.
    secret_properties: Vec<SecretProperties>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) metrics: SourceMetrics,
}

/// What the operator should know about a secret.
struct SecretProperties {
    is_short: bool,
    is_literal: bool,
}

/// All sources by provider and name.
pub(crate) struct Sources(HashMap<(Provider, String), Arc<Source>>);

/// The source of `POST /webhooks/{provider}`.
const DEFAULT_NAME: &str = "default";

impl Sources {
    /// Reads and checks every `[[source]]`, so that an unusable secret is found at startup instead
    /// of at the first webhook.
    pub(crate) fn read(settings: &Settings) -> anyhow::Result<Self> {
        let mut sources = HashMap::new();
        for (index, table) in settings.sources()?.into_iter().enumerate() {
            let (provider, name) = (table.provider, table.name.clone());
            sources.insert((provider, name), Arc::new(Source::new(index, table)?));
        }
        Ok(Self(sources))
    }

    /// Warns about settings that are valid but probably not intended for production.
    pub(crate) fn log_warnings(&self) {
        if self.0.is_empty() {
            tracing::warn!("no [[source]] is configured; every webhook gets status 404");
        }
        for source in self.0.values() {
            source.log_warnings();
        }
    }

    /// Writes to the log which protections are on, so that a deployment that lacks one is noticed.
    pub(crate) fn log_protections(&self, has_pseudonyms: bool, trusted_proxies: usize) {
        let names = |is_meant: fn(&Source) -> bool| {
            let meant = self.0.values().filter(|source| is_meant(source));
            let mut names: Vec<_> =
                meant.map(|source| format!("{}/{}", source.provider, source.name)).collect();
            names.sort();
            if names.is_empty() { "none".to_owned() } else { names.join(" ") }
        };
        tracing::info!(
            pseudonyms = if has_pseudonyms { "on" } else { "off" },
            sources = self.0.len(),
            shadow = names(|source| source.is_shadow),
            unverified = names(|source| source.is_unverified),
            disabled = names(|source| source.is_disabled),
            trusted_proxies,
            "protections"
        );
    }

    /// Returns the source of a path such as `/webhooks/sendgrid/acme`.
    pub(crate) fn find(&self, path: &str) -> Option<&Arc<Source>> {
        let (provider, name) = read_path(path)?;
        self.0.get(&(provider, name.to_owned()))
    }
}

/// Returns the provider and the name of a source in a path, whether there is such a source or not.
pub(crate) fn read_path(path: &str) -> Option<(Provider, &str)> {
    let rest = path.strip_prefix("/webhooks/")?.trim_end_matches('/');
    let (provider, name) = rest.split_once('/').unwrap_or((rest, DEFAULT_NAME));
    Some((provider.parse().ok()?, name))
}

/// Whether the secrets of a provider are public keys or certificates, which need no protection.
const fn has_public_secrets(provider: Provider) -> bool {
    matches!(provider, Provider::SendGrid | Provider::Postal | Provider::Ses)
}

impl Source {
    fn log_warnings(&self) {
        let (provider, source) = (self.provider.as_str(), self.name.as_str());
        if self.is_shadow || self.is_unverified {
            tracing::warn!(
                provider,
                source,
                shadow = self.is_shadow,
                unverified = self.is_unverified,
                "source accepts requests that are not authentic"
            );
        }
        for (index, secret) in self.secret_properties.iter().enumerate() {
            if secret.is_short {
                tracing::warn!(
                    provider,
                    source,
                    "secrets[{index}] has fewer than 16 bytes and can be guessed; use a longer one"
                );
            }
            if secret.is_literal {
                tracing::warn!(
                    provider,
                    source,
                    "secrets[{index}] is written in the settings; write env:NAME or file:PATH \
                     instead, so that nobody who reads the settings can forge requests"
                );
            }
        }
    }

    fn new(index: usize, table: SourceTable) -> anyhow::Result<Self> {
        let SourceTable { provider, name, secrets, disabled, shadow, rate, burst, options, .. } =
            table;
        let rate_limit = rate.map(|rate| RateLimit::new(rate, burst.unwrap_or(rate)));
        let options = Options::read(provider, options)
            .with_context(|| format!("source {name} ({provider}) has an invalid option"))?;
        let metrics = SourceMetrics::new(provider, &name, secrets.len());
        let secret_properties = secrets
            .iter()
            .filter(|_| !has_public_secrets(provider))
            .map(|secret| SecretProperties {
                is_short: secret.is_short(),
                is_literal: secret.is_literal(),
            })
            .collect();
        let secrets = secrets.iter().map(|secret| secret.expose().to_owned().into()).collect();
        let settings = SourceSettings { name: name.clone(), secrets, options };
        let authenticator = Authenticator::new(&settings)?;
        let is_unverified = authenticator.accepts_any_request();
        Ok(Self {
            index,
            provider,
            name,
            authenticator,
            is_disabled: disabled,
            is_shadow: shadow,
            is_unverified,
            secret_properties,
            rate_limit,
            metrics,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(toml: &str) -> anyhow::Result<Sources> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("mailpulse.toml");
        std::fs::write(&path, toml)?;
        Sources::read(&Settings::load(Some(&path), std::iter::empty())?)
    }

    const MAILGUN: &str = "[[source]]\nprovider = 'mailgun'\nname = 'shop'\nsecrets = ['k']\n";

    #[test]
    fn a_path_names_a_source() {
        let sources = sources(&format!("{MAILGUN}{}", MAILGUN.replace("shop", "default"))).unwrap();
        let name = |path| sources.find(path).map(|source| source.name.as_str());
        assert_eq!(name("/webhooks/mailgun/shop"), Some("shop"));
        assert_eq!(name("/webhooks/mailgun/shop/"), Some("shop"));
        assert_eq!(name("/webhooks/mailgun"), Some("default"));
        for unknown in ["/webhooks/mailgun/other", "/webhooks/fax/shop", "/webhooks/", "/", ""] {
            assert_eq!(name(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_wrong_mapping_is_an_error_that_names_the_key_and_the_fix() {
        const GENERIC: &str = "[[source]]\nprovider = 'generic'\nname = 'own'\nsecrets = ['k']\n";
        let error =
            |line: &str| format!("{:#}", sources(&format!("{GENERIC}{line}\n")).err().unwrap());
        for (line, key, fix) in [
            ("events = 'data'", "`events`", "/data/email"),
            ("fields = { email = '/email' }", "`fields.email`", "recipient"),
            ("fields = { recipient = 'email' }", "`fields.recipient`", "/data/email"),
            ("kinds = { 'mail.sent' = 'sent' }", "`kinds.\"mail.sent\"`", "delivered"),
            ("timestamp = 'at'", "`timestamp`", "/data/email"),
            ("timestamp = '/at'\nsigned = '{timestamp}.{body}'", "`timestamp`", "remove one"),
            ("signed = '{body}'\ntolerance_seconds = 9", "`tolerance_seconds`", "remove it"),
            ("event = '/x'", "event", "events"),
        ] {
            let error = error(line);
            assert!(error.contains("own") && error.contains(key) && error.contains(fix), "{error}");
        }
        assert!(sources(&format!("{GENERIC}timestamp = '/at'\ntolerance_seconds = 9\n")).is_ok());
    }

    #[test]
    fn an_invalid_source_is_an_error_that_names_the_mistake() {
        let error = |toml: &str| format!("{:#}", sources(toml).err().unwrap());
        assert!(error(&format!("{MAILGUN}{MAILGUN}")).contains("twice"));
        assert!(error(&MAILGUN.replace("shop", "a/b")).contains("source.name"));
        assert!(error(&format!("{MAILGUN}heder = 'X'\n")).contains("heder"));
        assert!(error(&MAILGUN.replace("['k']", "[]")).contains("secrets"));
        assert!(error(&format!("{MAILGUN}burst = 10\n")).contains("`rate`"));
        assert!(error(&format!("{MAILGUN}rate = 0\n")).contains("source[0]"));
        assert!(error(&format!("{MAILGUN}allow_ips = ['192.0.2.0/33']\n")).contains("shop"));
        let open = "[[source]]\nprovider = 'postmark'\nname = 'open'\n";
        assert!(error(open).contains("secrets"));
        assert!(
            sources(&format!("{open}unverified = true\n")).is_ok(),
            "without verification no secret is needed"
        );
        assert!(sources(&format!("{open}allow_ips = ['192.0.2.0/24']\n")).is_ok());
    }
}
