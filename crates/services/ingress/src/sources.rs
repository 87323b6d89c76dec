//! The configured sources.

use std::collections::{HashMap, hash_map};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;

use event::Provider;
use providers::{Authenticator, Mappings, Options, SourceMapping, SourceSettings};
use serde::Deserialize;
use service::{Settings, SettingsError, SourceTable};

use crate::rate_limit::RateLimit;
use crate::request_metrics::SourceMetrics;

/// A configured source.
pub(crate) struct Source {
    /// A short key. A source keeps it as long as the process runs.
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
    pub(crate) rate_limit: Option<Arc<RateLimit>>,
    pub(crate) metrics: SourceMetrics,
    /// A digest of all settings of the source, with its secrets.
    digest: u64,
    /// `rate` and `burst`.
    rates: (Option<NonZeroU32>, Option<NonZeroU32>),
}

/// What the operator should know about a secret.
struct SecretProperties {
    is_short: bool,
    is_literal: bool,
}

/// The provider and the name of a source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub(crate) struct SourceName {
    provider: Provider,
    name: String,
}

/// All sources, and what a list that replaces this one takes over.
#[derive(Default)]
pub(crate) struct Sources {
    by_name: HashMap<SourceName, Arc<Source>>,
    /// The index of every source that this process has had.
    indexes: HashMap<SourceName, usize>,
    /// How the bodies of a source are read, for every source that this process has had. It never changes:
    /// `enrich` must have another mapping before we do, and the spool may have requests of a former source.
    mappings: HashMap<SourceName, SourceMapping>,
}

/// How a list of sources differs from the one before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SourceChanges {
    pub(crate) added: Vec<SourceName>,
    pub(crate) removed: Vec<SourceName>,
    pub(crate) changed: Vec<SourceName>,
    /// The sources whose new mapping needs a restart.
    pub(crate) mapping_kept: Vec<SourceName>,
}

/// Why a list of sources cannot be used. Each message names the source or the key, and the fix.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourcesError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The provider does not have the option, or its value has another type.
    #[error("source {name} ({provider}) has an invalid option: {problem}")]
    Option { name: String, provider: Provider, problem: String },
    #[error(transparent)]
    Source(#[from] providers::SettingsError),
    /// A file that is empty or missing is more likely than the wish to refuse everything.
    #[error(
        "the configuration has no [[source]] any more, and every webhook would get status 404; restore the \
         file, or restart the ingress if it is to have no source"
    )]
    AllRemoved,
}

/// The source of `POST /webhooks/{provider}`.
const DEFAULT_NAME: &str = "default";

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.name)
    }
}

impl SourcesError {
    /// Returns the stable code, for logs and tests.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Settings(error) => error.code(),
            Self::Option { .. } => "source_invalid_option",
            Self::Source(_) => "source_unusable",
            Self::AllRemoved => "sources_all_removed",
        }
    }
}

impl Sources {
    /// Reads and checks every `[[source]]`, so that an unusable secret is found at startup instead
    /// of at the first webhook.
    pub(crate) fn read(settings: &Settings) -> Result<Self, SourcesError> {
        Self::default().successor(settings).map(|(sources, _)| sources)
    }

    /// Reads the list that replaces this one. Sources that stay keep what is remembered about them; those
    /// that are the same in both lists stay the same object.
    ///
    /// # Errors
    /// If any source cannot be used.
    pub(crate) fn successor(
        &self,
        settings: &Settings,
    ) -> Result<(Self, SourceChanges), SourcesError> {
        let mut changes = SourceChanges::default();
        let (mut indexes, mut by_name) = (self.indexes.clone(), HashMap::new());
        for table in settings.sources()? {
            let name = SourceName { provider: table.provider, name: table.name.clone() };
            let next = indexes.len();
            let index = *indexes.entry(name.clone()).or_insert(next);
            let former = self.by_name.get(&name);
            let digest = digest(&table);
            let source = match former {
                Some(former) if former.digest == digest => Arc::clone(former),
                _ => Arc::new(Source::new(index, table, digest, former)?),
            };
            match former {
                None => changes.added.push(name.clone()),
                Some(former) if former.digest != digest => changes.changed.push(name.clone()),
                Some(_) => {}
            }
            by_name.insert(name, source);
        }
        let removed = self.by_name.keys().filter(|name| !by_name.contains_key(*name));
        changes.removed = removed.cloned().collect();
        let mappings = self.successor_mappings(settings, &mut changes)?;
        let SourceChanges { added, removed, changed, mapping_kept } = &mut changes;
        [added, removed, changed, mapping_kept].into_iter().for_each(|names| names.sort());
        Ok((Self { by_name, indexes, mappings }, changes))
    }

    fn successor_mappings(
        &self,
        settings: &Settings,
        changes: &mut SourceChanges,
    ) -> Result<HashMap<SourceName, SourceMapping>, SourcesError> {
        let mut mappings = self.mappings.clone();
        let names: Vec<SourceName> = settings.list("source")?;
        let read: Vec<SourceMapping> = settings.list("source")?;
        Mappings::new(read.iter().cloned())?;
        for (name, mapping) in names.into_iter().zip(read) {
            match mappings.entry(name) {
                hash_map::Entry::Vacant(entry) => drop(entry.insert(mapping)),
                hash_map::Entry::Occupied(entry) if *entry.get() != mapping => {
                    changes.mapping_kept.push(entry.key().clone());
                }
                hash_map::Entry::Occupied(_) => {}
            }
        }
        Ok(mappings)
    }

    /// Returns how the bodies of all sources are read that this process has had.
    pub(crate) fn mappings(&self) -> Result<Mappings, SourcesError> {
        Ok(Mappings::new(self.mappings.values().cloned())?)
    }

    /// Returns the number of sources.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Warns about settings that are valid but probably not intended for production.
    pub(crate) fn log_warnings(&self) {
        if self.by_name.is_empty() {
            tracing::warn!("no [[source]] is configured; every webhook gets status 404");
        }
        for source in self.by_name.values() {
            source.log_warnings();
        }
    }

    /// Writes to the log which protections are on, so that a deployment that lacks one is noticed.
    pub(crate) fn log_protections(&self, has_pseudonyms: bool, trusted_proxies: usize) {
        let names = |is_meant: fn(&Source) -> bool| {
            let meant = self.by_name.values().filter(|source| is_meant(source));
            let mut names: Vec<_> =
                meant.map(|source| format!("{}/{}", source.provider, source.name)).collect();
            names.sort();
            if names.is_empty() { "none".to_owned() } else { names.join(" ") }
        };
        tracing::info!(
            pseudonyms = if has_pseudonyms { "on" } else { "off" },
            sources = self.len(),
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
        self.by_name.get(&SourceName { provider, name: name.to_owned() })
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

    /// `former` is the source of this name in the list before.
    fn new(
        index: usize,
        table: SourceTable,
        digest: u64,
        former: Option<&Arc<Self>>,
    ) -> Result<Self, SourcesError> {
        let SourceTable { provider, name, secrets, disabled, shadow, rate, burst, options, .. } =
            table;
        let rates = (rate, burst);
        let rate_limit = match former {
            Some(former) if former.rates == rates => former.rate_limit.clone(),
            _ => rate.map(|rate| Arc::new(RateLimit::new(rate, burst.unwrap_or(rate)))),
        };
        let options = Options::read(provider, options).map_err(|error| SourcesError::Option {
            name: name.clone(),
            provider,
            problem: error.message().to_owned(),
        })?;
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
            digest,
            rates,
        })
    }
}

/// Returns a digest of what [`Source::new`] reads.
fn digest(table: &SourceTable) -> u64 {
    let SourceTable { provider, name, secrets, disabled, shadow, rate, burst, options, .. } = table;
    let mut hasher = DefaultHasher::new();
    (provider.as_str(), name, disabled, shadow, rate, burst).hash(&mut hasher);
    secrets.iter().for_each(|secret| (secret.expose(), secret.is_literal()).hash(&mut hasher));
    options.to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(toml: &str) -> Settings {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mailpulse.toml");
        std::fs::write(&path, toml).unwrap();
        Settings::load(Some(&path), std::iter::empty()).unwrap()
    }

    fn sources(toml: &str) -> Result<Sources, SourcesError> {
        Sources::read(&settings(toml))
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
    fn a_source_that_stays_is_the_same_and_one_that_returns_has_its_index() {
        let other = MAILGUN.replace("shop", "other");
        let first = sources(MAILGUN).unwrap();
        let (both, changes) = first.successor(&settings(&format!("{other}{MAILGUN}"))).unwrap();
        let names =
            |names: &[SourceName]| names.iter().map(SourceName::to_string).collect::<Vec<_>>();
        assert_eq!(names(&changes.added), ["mailgun/other"]);
        assert!(changes.removed.is_empty() && changes.changed.is_empty());
        let find = |sources: &Sources, name: &str| {
            Arc::clone(sources.find(&format!("/webhooks/mailgun/{name}")).unwrap())
        };
        assert!(Arc::ptr_eq(&find(&first, "shop"), &find(&both, "shop")));
        assert_ne!(find(&both, "shop").index, find(&both, "other").index);
        let (without, changes) = both.successor(&settings(&other)).unwrap();
        assert_eq!((names(&changes.removed), without.len()), (vec!["mailgun/shop".to_owned()], 1));
        let changed = format!("{}disabled = true\n", MAILGUN.replace("'k'", "'l'"));
        let (returned, changes) = without.successor(&settings(&changed)).unwrap();
        assert_eq!((changes.added.len(), changes.removed.len()), (1, 1));
        assert_eq!(find(&returned, "shop").index, find(&first, "shop").index);
        let (_, changes) = first.successor(&settings(&changed)).unwrap();
        assert_eq!(names(&changes.changed), ["mailgun/shop"]);
        let (_, changes) = first.successor(&settings(MAILGUN)).unwrap();
        assert_eq!(changes, SourceChanges::default());
    }

    #[test]
    fn the_limit_of_events_begins_anew_only_if_its_settings_change() {
        let limit = |sources: &Sources| {
            sources.find("/webhooks/mailgun/shop").unwrap().rate_limit.clone().unwrap()
        };
        let limited = format!("{MAILGUN}rate = 5\n");
        let first = sources(&limited).unwrap();
        let (same, _) = first.successor(&settings(&limited.replace("'k'", "'l'"))).unwrap();
        assert!(Arc::ptr_eq(&limit(&first), &limit(&same)));
        let (other, _) = first.successor(&settings(&limited.replace('5', "6"))).unwrap();
        assert!(!Arc::ptr_eq(&limit(&first), &limit(&other)));
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
