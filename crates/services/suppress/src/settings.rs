//! The section `[suppress]`. Its keys are explained in `deploy/mailpulse.toml`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use event::Provider;
use ipnet::IpNet;
use kafka::BatchSettings;
use privacy::{ErasureKey, Pseudonymizer};
use serde::Deserialize;
use service::{Settings, SettingsError, tokens};
use suppression::list::{ListBasis, PurposeRule, Purposes, source_list};
use suppression::{Policy, Purpose, RecipientKey};

use crate::http::access::{Access, Token};
use crate::stage::StageSettings;

/// The greatest number of soft bounces that an operator can ask for. The policy remembers as many.
const MAX_SOFT_BOUNCES: usize = 100;

/// The section `[suppress]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuppressSettings {
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// The address of the API.
    pub listen: SocketAddr,
    batch_records: usize,
    batch_bytes: usize,
    #[serde(with = "service::units::duration")]
    batch_wait: Duration,
    refusal_limit: u32,
    lists: ListBasis,
    soft_bounces: usize,
    #[serde(with = "service::units::duration")]
    soft_within: Duration,
    #[serde(with = "service::units::duration")]
    soft_for: Duration,
    default_purpose: Purpose,
    scope_label: String,
    purpose: Vec<PurposeRule>,
    tokens: Vec<Token>,
    /// The greatest number of connections to the API.
    pub max_connections: usize,
    /// How many of them one client may have.
    pub max_connections_per_client: usize,
    /// The networks of proxies, which have no limit of their own.
    pub proxies: Vec<IpNet>,
}

/// The keys of a `[[source]]` that name it. The others are ignored, so that no secret of a source is needed here.
#[derive(Debug, Deserialize)]
struct SourceName {
    provider: Provider,
    name: String,
}

impl SuppressSettings {
    /// Reads the section.
    ///
    /// # Errors
    /// If a key is missing, unknown or invalid. The error names the key and the fix.
    pub fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let suppress: Self = settings.section("suppress")?;
        if !(1..=MAX_SOFT_BOUNCES).contains(&suppress.soft_bounces) {
            return Err(settings.invalid("suppress.soft_bounces", "must be from 1 to 100"));
        }
        for (key, duration) in [
            ("suppress.soft_within", suppress.soft_within),
            ("suppress.soft_for", suppress.soft_for),
        ] {
            if !(3600..=10 * 365 * 86_400).contains(&duration.as_secs()) {
                return Err(settings.invalid(key, "must be from 1h to 3650d"));
            }
        }
        for (key, number) in [
            ("suppress.max_connections", suppress.max_connections),
            ("suppress.max_connections_per_client", suppress.max_connections_per_client),
        ] {
            if !(1..=100_000).contains(&number) {
                return Err(settings.invalid(key, "must be from 1 to 100000"));
            }
        }
        Ok(suppress)
    }

    /// Returns what the stage needs.
    ///
    /// # Errors
    /// If `privacy.erasure_key` is not set, or a key of `[privacy]` is invalid.
    pub fn stage(&self, settings: &Settings) -> Result<StageSettings, SettingsError> {
        let key = ErasureKey::from_settings(settings)?.ok_or_else(|| {
            let problem = "must be set: entries have the HMAC of the address under this key, so that an erased recipient \
                           stays blocked; set it to a secret of at least 16 bytes, the same for all services, and keep it";
            settings.invalid("privacy.erasure_key", problem)
        })?;
        let keys = RecipientKey::new(key, Pseudonymizer::from_settings(settings)?);
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Ok(StageSettings {
            policy: Policy {
                soft_bounces: self.soft_bounces,
                soft_within: seconds(self.soft_within),
                soft_for: seconds(self.soft_for),
            },
            basis: self.lists,
            purposes: Purposes {
                rules: self.purpose.clone(),
                otherwise: self.default_purpose,
                scope_label: self.scope_label.clone(),
            },
            keys,
        })
    }

    /// Returns the lists that exist because their sources are configured.
    ///
    /// # Errors
    /// If a `[[source]]` is invalid.
    pub fn known_lists(settings: &Settings) -> Result<BTreeSet<String>, SettingsError> {
        let sources: Vec<SourceName> = settings.list("source")?;
        let lists = sources.iter().map(|it| source_list(it.provider.as_str(), &it.name));
        Ok(lists.collect())
    }

    /// Returns who may ask and who may change.
    ///
    /// # Errors
    /// If a token is invalid.
    pub fn access(&self, settings: &Settings) -> Result<Access, SettingsError> {
        tokens::check(settings, "suppress.tokens", &self.tokens)?;
        Ok(Access::new(self.tokens.clone()))
    }

    /// Returns the size of a transaction and the refusal limit.
    pub const fn batch(&self) -> BatchSettings {
        BatchSettings {
            records: self.batch_records,
            bytes: self.batch_bytes,
            wait: self.batch_wait,
            refusal_limit: self.refusal_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Settings {
        let variables = environment
            .iter()
            .map(|(name, value)| (format!("MAILPULSE__{name}"), (*value).to_owned()));
        Settings::load(None, variables).unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_policy_and_let_nobody_in() {
        let settings = load(&[("PRIVACY__ERASURE_KEY", "a key of the tests alone")]);
        let suppress = SuppressSettings::read(&settings).unwrap();
        let stage = suppress.stage(&settings).unwrap();
        let day = 86_400;
        let policy = Policy { soft_bounces: 5, soft_within: 30 * day, soft_for: 90 * day };
        assert_eq!((stage.policy, stage.basis), (policy, ListBasis::Source));
        assert_eq!(stage.purposes.of("ses/news", "any"), Purpose::Marketing);
        assert!(suppress.access(&settings).unwrap().is_closed());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let error = |name: &str, value: &str| {
            let settings = load(&[(name, value)]);
            let suppress = match SuppressSettings::read(&settings) {
                Ok(suppress) => suppress,
                Err(error) => return error.to_string(),
            };
            let access = suppress.access(&settings).map(drop);
            access.and(suppress.stage(&settings).map(drop)).unwrap_err().to_string()
        };
        for (name, value, expected) in [
            ("SUPPRESS__SOFT_BOUNCES", "0", "suppress.soft_bounces"),
            ("SUPPRESS__SOFT_WITHIN", "1s", "suppress.soft_within"),
            ("SUPPRESS__MAX_CONNECTIONS", "0", "suppress.max_connections"),
            ("SUPPRESS__LISTS", "campaign", "suppress.lists"),
            (
                "SUPPRESS__TOKENS",
                r#"[{name = "a", role = "reader", secret = "short"}]"#,
                "suppress.tokens[0].secret",
            ),
            ("SUPPRESS__LISTS", "source", "privacy.erasure_key"),
        ] {
            let error = error(name, value);
            assert!(error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn a_list_is_known_by_its_source_without_the_secrets() {
        let source = r#"[{provider = "ses", name = "news", secrets = ["env:ABSENT_SECRET"]}]"#;
        let lists = SuppressSettings::known_lists(&load(&[("SOURCE", source)])).unwrap();
        assert_eq!(lists.into_iter().collect::<Vec<_>>(), ["ses/news"]);
    }
}
