//! Whom we take webhooks from.

use std::collections::HashMap;
use std::num::NonZeroU32;

use anyhow::{Context, bail};
use event::Provider;
use providers::{Authenticator, Options, SourceSettings};
use serde::Deserialize;
use service::{Secret, Settings};

use crate::meters::SourceMeters;
use crate::throttle::Pace;

/// One `[[source]]` table; each key is explained in `docs/sources.md`.
#[derive(Deserialize)]
struct Entry {
    provider: Provider,
    name: String,
    #[serde(default)]
    secrets: Vec<Secret>,
    /// Take what is not authentic too, and say so.
    #[serde(default)]
    shadow: bool,
    /// Events a second, and at once.
    rate: Option<NonZeroU32>,
    burst: Option<NonZeroU32>,
    /// How it is authenticated.
    #[serde(flatten)]
    options: toml::Table,
}

/// A configured source, ready to authenticate.
pub(crate) struct Source {
    /// Its place in the settings: a short name for it in this process.
    pub(crate) index: usize,
    pub(crate) provider: Provider,
    pub(crate) name: String,
    pub(crate) authenticator: Authenticator,
    pub(crate) is_shadow: bool,
    pub(crate) pace: Option<Pace>,
    pub(crate) meters: SourceMeters,
}

/// All sources by provider and name.
pub(crate) struct Sources(HashMap<(Provider, String), Source>);

/// The name meant by `POST /webhooks/{provider}`.
const DEFAULT: &str = "default";

impl Sources {
    /// Reads and checks every `[[source]]`, so that a key that cannot be used stops the start and
    /// not the first webhook.
    pub(crate) fn read(settings: &Settings) -> anyhow::Result<Self> {
        let mut sources = HashMap::new();
        for (index, entry) in settings.list::<Entry>("source")?.into_iter().enumerate() {
            let (provider, name) = (entry.provider, entry.name.clone());
            let source = Source::new(index, entry)?;
            if sources.insert((provider, name.clone()), source).is_some() {
                bail!("source {name} ({provider}) is there twice: give each a name of its own");
            }
        }
        if sources.is_empty() {
            tracing::warn!("no [[source]] is configured: every webhook will be answered with 404");
        }
        Ok(Self(sources))
    }

    /// The source of a path such as `/webhooks/sendgrid/acme`.
    pub(crate) fn of_path(&self, path: &str) -> Option<&Source> {
        let rest = path.strip_prefix("/webhooks/")?.trim_end_matches('/');
        let (provider, name) = rest.split_once('/').unwrap_or((rest, DEFAULT));
        self.0.get(&(provider.parse().ok()?, name.to_owned()))
    }
}

impl Source {
    fn new(index: usize, entry: Entry) -> anyhow::Result<Self> {
        let Entry { provider, name, secrets, shadow: is_shadow, rate, burst, options } = entry;
        let valid = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(valid) {
            bail!(
                "source.name {name:?} ({provider}): use 1 to 64 letters, digits, `-`, `_` and `.`"
            );
        }
        if rate.is_none() && burst.is_some() {
            bail!("source {name} ({provider}): `burst` means nothing without `rate`");
        }
        let pace = rate.map(|rate| Pace::new(rate, burst.unwrap_or(rate)));
        let options: Options = options
            .try_into()
            .with_context(|| format!("source {name} ({provider}) has a key that is not known"))?;
        if is_shadow || options.unverified {
            tracing::warn!(%provider, source = name, is_shadow, "whatever is posted to it is taken");
        }
        let meters = SourceMeters::new(provider, &name, secrets.len());
        let secrets = secrets.iter().map(|secret| secret.expose().to_owned().into()).collect();
        let settings = SourceSettings { provider, name: name.clone(), secrets, options };
        let authenticator = Authenticator::new(&settings)?;
        Ok(Self { index, provider, name, authenticator, is_shadow, pace, meters })
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
    fn paths_name_sources() {
        let sources = sources(&format!("{MAILGUN}{}", MAILGUN.replace("shop", "default"))).unwrap();
        let name = |path| sources.of_path(path).map(|source| source.name.as_str());
        assert_eq!(name("/webhooks/mailgun/shop"), Some("shop"));
        assert_eq!(name("/webhooks/mailgun/shop/"), Some("shop"));
        assert_eq!(name("/webhooks/mailgun"), Some("default"));
        for unknown in ["/webhooks/mailgun/other", "/webhooks/fax/shop", "/webhooks/", "/", ""] {
            assert_eq!(name(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = |toml: &str| format!("{:#}", sources(toml).err().unwrap());
        assert!(refused(&format!("{MAILGUN}{MAILGUN}")).contains("twice"));
        assert!(refused(&MAILGUN.replace("shop", "a/b")).contains("source.name"));
        assert!(refused(&format!("{MAILGUN}heder = 'X'\n")).contains("heder"));
        assert!(refused(&MAILGUN.replace("['k']", "[]")).contains("secrets"));
        assert!(refused(&format!("{MAILGUN}burst = 10\n")).contains("`rate`"));
        assert!(refused(&format!("{MAILGUN}rate = 0\n")).contains("source[0]"));
        assert!(refused(&format!("{MAILGUN}allow_ips = ['192.0.2.0/33']\n")).contains("shop"));
        let open = "[[source]]\nprovider = 'postmark'\nname = 'open'\n";
        assert!(refused(open).contains("secrets"));
        assert!(sources(&format!("{open}unverified = true\n")).is_ok(), "it says so itself");
        assert!(sources(&format!("{open}allow_ips = ['192.0.2.0/24']\n")).is_ok());
    }
}
