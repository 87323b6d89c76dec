use std::num::NonZeroU32;

use event::Provider;
use serde::Deserialize;

use crate::Secret;

/// The section `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// A name that no other running process of the service has, stable over restarts. Empty for a
    /// random name.
    pub instance: String,
    /// The log filter, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// The format of log lines.
    pub log_format: LogFormat,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The section `[clickhouse]`. (The crate `kafka` reads `[kafka]` and `[topics]`.)
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClickHouseSettings {
    /// The URLs of ClickHouse's HTTP interface, `http://host:port` or `https://host:port`, separated by commas; see
    /// [`Self::urls`].
    pub url: String,
    /// A PEM file with the certificates of the authorities to trust for `https`, instead of those that
    /// the system trusts. Empty: those of the system.
    pub ca_file: String,
    /// A PEM file with the certificate that the client shows for `https`, and with those between it and its authority.
    /// Empty: the client has none.
    pub certificate_file: String,
    /// A PEM file with the private key of that certificate.
    pub key_file: String,
    /// The cluster in ClickHouse's configuration on which the migrations run. Empty: they run on one server.
    pub cluster: String,
    /// The database with Mailpulse's tables.
    pub database: String,
    /// The ClickHouse user.
    pub user: String,
    /// The user's password, which may be empty.
    #[serde(deserialize_with = "crate::secret::optional")]
    pub password: Secret,
}

impl ClickHouseSettings {
    /// Returns the URLs in the order in which they are preferred. A comma separates two URLs if a URL follows it, so that
    /// a URL may contain commas.
    pub fn urls(&self) -> Vec<&str> {
        let mut urls = Vec::new();
        let mut rest = self.url.trim();
        while let Some(end) = rest.match_indices(',').map(|(at, _)| at).find(|&at| {
            let next = rest[at + 1..].trim_start();
            next.starts_with("http://") || next.starts_with("https://")
        }) {
            urls.push(rest[..end].trim_end());
            rest = rest[end + 1..].trim_start();
        }
        urls.push(rest);
        urls
    }
}

/// One `[[source]]` table; see [`Settings::sources`](crate::Settings::sources). `docs/sources.md`
/// explains each key.
#[derive(Debug, Clone, Deserialize)]
pub struct SourceTable {
    /// The provider whose requests the source receives.
    pub provider: Provider,
    /// The name of the source, unique for its provider.
    pub name: String,
    /// All valid secrets. There are several while a secret is rotated.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Whether every request is rejected with a status that makes the provider retry.
    #[serde(default)]
    pub disabled: bool,
    /// Whether requests that fail verification are accepted.
    #[serde(default)]
    pub shadow: bool,
    /// The limit of events per second.
    pub rate: Option<NonZeroU32>,
    /// The limit of events at once. Default: `rate`.
    pub burst: Option<NonZeroU32>,
    /// The address that sends the mail of the source. `enrich` reads this key and the next two.
    pub sender: Option<String>,
    /// The JSON pointer to the address that sends.
    pub sender_pointer: Option<String>,
    /// The mailbox providers that report complaints to the source.
    pub feedback_loops: Option<Vec<String>>,
    /// The time zone in which `monitor` learns what is usual at an hour of the week.
    pub time_zone: Option<String>,
    /// The options of the provider, which the crate `providers` reads.
    #[serde(flatten)]
    pub options: toml::Table,
}

impl SourceTable {
    /// Returns the key and the description of a mistake, if there is one.
    pub(crate) fn problem(&self) -> Option<(&'static str, String)> {
        let Self { provider, name, .. } = self;
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_allowed) {
            let problem = format!(
                "source.name {name:?} ({provider}) is invalid; use 1 to 64 ASCII letters, digits, \
                 `-`, `_` and `.`"
            );
            return Some(("name", problem));
        }
        if self.rate.is_none() && self.burst.is_some() {
            let problem = format!(
                "source {name} ({provider}) has `burst` without `rate`; add `rate` or remove `burst`"
            );
            return Some(("burst", problem));
        }
        None
    }
}
