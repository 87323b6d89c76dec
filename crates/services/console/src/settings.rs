//! The section `[console]`. Its keys are explained in `deploy/mailpulse.toml`.

use std::net::SocketAddr;
use std::time::Duration;

use alerting::page::PageSettings;
use alerting::rule::Rule;
use alerting::{Override, RuleSet};
use http::HeaderName;
use ipnet::IpNet;
use jiff::tz::TimeZone;
use privacy::{ErasureKey, Pseudonymizer};
use serde::Deserialize;
use service::connections::ConnectionLimits;
use service::{ClickHouseSettings, Settings, SettingsError, tokens};

use crate::access::{Access, Proxy, Token};
use crate::audit::Audit;
use crate::server::limits;
use crate::store::{Limits, Store};

/// The section `[console]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleSettings {
    /// The address of `/livez`, `/readyz` and `/metrics`.
    pub admin: SocketAddr,
    /// The address of the pages.
    pub listen: SocketAddr,
    open: bool,
    https: bool,
    tokens: Vec<Token>,
    #[serde(with = "service::units::duration")]
    session: Duration,
    #[serde(with = "service::units::duration")]
    query_timeout: Duration,
    max_queries: usize,
    /// The greatest number of browsers that receive live numbers at the same time.
    pub max_live: usize,
    proxy: ProxySettings,
}

/// `[console.proxy]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProxySettings {
    networks: Vec<IpNet>,
    user_header: String,
    role_header: String,
}

/// The keys of `[notify]` by which pages of incidents are written.
#[derive(Debug, Deserialize)]
struct Notify {
    #[serde(default)]
    runbook_base: String,
    #[serde(default)]
    zone: String,
}

/// The keys of `[monitor]` that concern rules.
#[derive(Debug, Deserialize)]
struct Monitor {
    #[serde(default)]
    rule: Vec<Rule>,
    #[serde(default, rename = "override")]
    overrides: Vec<Override>,
}

impl ConsoleSettings {
    /// Reads the section.
    ///
    /// # Errors
    /// Fails if a key is missing, unknown or invalid. The error names the key and the fix.
    pub fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let console: Self = settings.section("console")?;
        for (key, number) in
            [("console.max_queries", console.max_queries), ("console.max_live", console.max_live)]
        {
            if number == 0 || number > 10_000 {
                return Err(settings.invalid(key, "must be from 1 to 10000"));
            }
        }
        if !(1..=300).contains(&console.query_timeout.as_secs()) {
            return Err(settings.invalid("console.query_timeout", "must be from 1s to 300s"));
        }
        if !(60..=30 * 86_400).contains(&console.session.as_secs()) {
            return Err(settings.invalid("console.session", "must be from 1m to 30d"));
        }
        Ok(console)
    }

    /// Returns who may see what.
    ///
    /// # Errors
    /// Fails if nobody would need to log in, unless `open` is set and only this machine can connect.
    pub fn access(&self, settings: &Settings) -> Result<Access, SettingsError> {
        tokens::check(settings, "console.tokens", &self.tokens)?;
        let proxy = self.proxy(settings)?;
        if self.open && !self.listen.ip().is_loopback() {
            let problem = "would show everything to everybody who reaches console.listen; remove it and set \
                           console.tokens, or listen on 127.0.0.1";
            return Err(settings.invalid("console.open", problem));
        }
        if self.open
            && let Some(other) = self.way_in()
        {
            let problem = format!(
                "lets everybody on this machine in without a login, also next to {other}; remove one of them"
            );
            return Err(settings.invalid("console.open", problem));
        }
        if !self.open && self.tokens.is_empty() && proxy.is_none() {
            let problem = "is empty, so nobody could log in; add a token, or set console.proxy, or set \
                           console.open = true to let everybody on this machine in";
            return Err(settings.invalid("console.tokens", problem));
        }
        let session = i64::try_from(self.session.as_secs()).unwrap_or(i64::MAX);
        Ok(Access::new(self.tokens.clone(), proxy, self.open, session, self.https))
    }

    /// Returns the key of a setting that makes sense only if people must log in.
    fn way_in(&self) -> Option<&'static str> {
        let ProxySettings { networks, user_header, role_header } = &self.proxy;
        let has_proxy = !networks.is_empty() || !user_header.is_empty() || !role_header.is_empty();
        let ways = [
            ("console.tokens", !self.tokens.is_empty()),
            ("console.proxy", has_proxy),
            ("console.https", self.https),
        ];
        ways.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
    }

    /// Returns the limits of the connections.
    pub fn connections(&self) -> ConnectionLimits {
        ConnectionLimits { proxies: self.proxy.networks.clone(), ..limits(self.max_live) }
    }

    fn proxy(&self, settings: &Settings) -> Result<Option<Proxy>, SettingsError> {
        let ProxySettings { networks, user_header, role_header } = &self.proxy;
        if user_header.is_empty() {
            return Ok(None);
        }
        if networks.is_empty() {
            let problem = "must contain the networks of the proxy; from any other address, console.proxy.user_header \
                           can be forged";
            return Err(settings.invalid("console.proxy.networks", problem));
        }
        let header = |key: &str, name: &str| {
            let name = HeaderName::from_bytes(name.as_bytes());
            name.map_err(|_| settings.invalid(key, "is not the name of an HTTP header"))
        };
        let role_header = match role_header.as_str() {
            "" => None,
            name => Some(header("console.proxy.role_header", name)?),
        };
        let user_header = header("console.proxy.user_header", user_header)?;
        Ok(Some(Proxy { networks: networks.clone(), user_header, role_header }))
    }

    /// Returns how the log names recipients whose data were shown.
    ///
    /// # Errors
    /// Fails if a key of `[privacy]` is invalid.
    pub fn audit(settings: &Settings) -> Result<Audit, SettingsError> {
        let erasure_key = ErasureKey::from_settings(settings)?;
        Ok(Audit::new(erasure_key, Pseudonymizer::from_settings(settings)?))
    }

    /// Creates the client of ClickHouse. This opens no connection.
    ///
    /// # Errors
    /// Fails if the section `[clickhouse]` is invalid.
    pub fn store(&self, settings: &Settings) -> Result<Store, SettingsError> {
        let clickhouse: ClickHouseSettings = settings.section("clickhouse")?;
        let limits = Limits { timeout: self.query_timeout, queries: self.max_queries };
        Store::new(&clickhouse, limits)
            .map_err(|error| settings.invalid(error.key, error.to_string()))
    }

    /// Returns the rules of `monitor`, by which the console knows which alerts can be recomputed.
    ///
    /// # Errors
    /// Fails if a rule is invalid.
    pub fn rules(settings: &Settings) -> Result<RuleSet, SettingsError> {
        let Monitor { rule, overrides } = settings.section("monitor")?;
        if rule.is_empty() {
            return Ok(RuleSet::defaults());
        }
        RuleSet::new(rule, overrides)
            .map_err(|error| settings.invalid("monitor.rule", error.to_string()))
    }

    /// Returns how pages of incidents are written: as `notify` writes them, without the link to the console.
    ///
    /// # Errors
    /// Fails if the section `[notify]` cannot be read.
    pub fn pages(settings: &Settings) -> Result<PageSettings, SettingsError> {
        let Notify { runbook_base, zone } = settings.section("notify")?;
        let zone = TimeZone::get(&zone).unwrap_or(TimeZone::UTC);
        Ok(PageSettings { dashboard_url: String::new(), runbook_base, zone })
    }
}
