//! The configured sources.

use std::collections::HashMap;

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
    /// Requests that fail verification are accepted, counted and logged.
    pub(crate) is_shadow: bool,
    /// Requests are not verified.
    is_unverified: bool,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) metrics: SourceMetrics,
}

/// All sources by provider and name.
pub(crate) struct Sources(HashMap<(Provider, String), Source>);

/// The source of `POST /webhooks/{provider}`.
const DEFAULT_NAME: &str = "default";

impl Sources {
    /// Reads and checks every `[[source]]`, so that an unusable secret is found at startup instead
    /// of at the first webhook.
    pub(crate) fn read(settings: &Settings) -> anyhow::Result<Self> {
        let mut sources = HashMap::new();
        for (index, table) in settings.sources()?.into_iter().enumerate() {
            let (provider, name) = (table.provider, table.name.clone());
            sources.insert((provider, name), Source::new(index, table)?);
        }
        Ok(Self(sources))
    }

    /// Warns about settings that are valid but probably not intended for production.
    pub(crate) fn log_warnings(&self) {
        if self.0.is_empty() {
            tracing::warn!("no [[source]] is configured; every webhook gets status 404");
        }
        for source in self.0.values().filter(|source| source.is_shadow || source.is_unverified) {
            tracing::warn!(
                provider = source.provider.as_str(),
                source = source.name,
                shadow = source.is_shadow,
                unverified = source.is_unverified,
                "source accepts requests that are not authentic"
            );
        }
    }

    /// Returns the source of a path such as `/webhooks/sendgrid/acme`.
    pub(crate) fn find(&self, path: &str) -> Option<&Source> {
        let rest = path.strip_prefix("/webhooks/")?.trim_end_matches('/');
        let (provider, name) = rest.split_once('/').unwrap_or((rest, DEFAULT_NAME));
        self.0.get(&(provider.parse().ok()?, name.to_owned()))
    }
}

impl Source {
    fn new(index: usize, table: SourceTable) -> anyhow::Result<Self> {
        let SourceTable { provider, name, secrets, shadow: is_shadow, rate, burst, options } =
            table;
        let rate_limit = rate.map(|rate| RateLimit::new(rate, burst.unwrap_or(rate)));
        let options = Options::read(provider, options)
            .with_context(|| format!("source {name} ({provider}) has an invalid option"))?;
        let metrics = SourceMetrics::new(provider, &name, secrets.len());
        let secrets = secrets.iter().map(|secret| secret.expose().to_owned().into()).collect();
        let settings = SourceSettings { name: name.clone(), secrets, options };
        let authenticator = Authenticator::new(&settings)?;
        let is_unverified = authenticator.accepts_any_request();
        Ok(Self {
            index,
            provider,
            name,
            authenticator,
            is_shadow,
            is_unverified,
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
