//! The section `[forwarding]` and the tables `[[forward]]`. Their keys are explained in
//! `deploy/mailpulse.toml`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use courier::{
    AddressGuard, BreakerSettings, ClientSettings, Endpoint, Retry, RetrySettings, SigningKey,
};
use event::{Kind, Provider};
use kafka::feed::Start;
use serde::Deserialize;
use service::{Patterns, Secret, Settings, SettingsError};

use crate::body::{BodyWriter, RecipientForm};
use crate::filter::{Filter, RecipientRegex};
use crate::partition::BatchLimits;

/// The greatest number of forwards: each has a consumer and a thread.
const MAX_FORWARDS: usize = 16;
/// The longest name.
const MAX_NAME: usize = 40;
/// The greatest number of batches of one partition in flight. Their cuts must fit into the metadata of an
/// offset.
const MAX_IN_FLIGHT: usize = kafka::cuts::MAX_CUTS / 2;
/// The greatest size of a batch, in bytes.
const MAX_BATCH_BYTES: usize = 4 << 20;
/// The greatest number of events of a batch.
const MAX_BATCH_EVENTS: usize = 10_000;
/// The greatest number of concurrent attempts.
const MAX_CONCURRENT: usize = 64;

/// The section `[forwarding]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardingSettings {
    /// The address of `/livez`, `/readyz` and `/metrics`.
    pub admin: SocketAddr,
    allow_private: bool,
}

/// One `[[forward]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForwardSettings {
    name: String,
    url: Secret,
    secret: Secret,
    #[serde(default)]
    previous_secret: Option<Secret>,
    #[serde(default)]
    kinds: Vec<Kind>,
    #[serde(default)]
    providers: Vec<Provider>,
    #[serde(default)]
    sources: Patterns,
    #[serde(default)]
    campaigns: Patterns,
    #[serde(default)]
    recipients: Option<RecipientRegex>,
    #[serde(default = "yes")]
    human: bool,
    #[serde(default)]
    recipient: RecipientForm,
    #[serde(default)]
    start: StartSetting,
    #[serde(default)]
    batch: BatchSettings,
    #[serde(default = "retry")]
    retry: RetrySettings,
    #[serde(default)]
    breaker: BreakerSettings,
    #[serde(with = "service::units::duration", default = "timeout")]
    timeout: Duration,
    #[serde(default = "concurrent")]
    concurrent: usize,
    #[serde(default = "in_flight")]
    in_flight: usize,
    #[serde(default)]
    allow_private: Option<bool>,
}

/// Where a new forward begins.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StartSetting {
    #[default]
    Now,
    Beginning,
}

/// `batch = { events = 100, bytes = 262144, wait = "1s" }`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BatchSettings {
    events: usize,
    bytes: usize,
    #[serde(with = "service::units::duration")]
    wait: Duration,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { events: 100, bytes: 256 << 10, wait: Duration::from_secs(1) }
    }
}

const fn yes() -> bool {
    true
}

const fn retry() -> RetrySettings {
    RetrySettings::Exponential {
        min: Duration::from_secs(1),
        max: Duration::from_secs(5 * 60),
        jitter: 1.0,
        give_up_after: Duration::from_secs(24 * 3600),
    }
}

const fn timeout() -> Duration {
    Duration::from_secs(10)
}

const fn concurrent() -> usize {
    4
}

const fn in_flight() -> usize {
    8
}

/// A forward that can be run.
#[derive(Debug)]
pub struct Forward {
    /// The name in the settings, which is also a log field, a metric label and a part of the name of the
    /// consumer group.
    pub name: String,
    /// Which events are sent.
    pub filter: Filter,
    /// Where they are sent.
    pub endpoint: Arc<Endpoint>,
    /// The current key, and the previous one while it is replaced.
    pub keys: Vec<SigningKey>,
    /// How bodies are written.
    pub bodies: BodyWriter,
    /// Where the group begins to read.
    pub start: Start,
    /// When a batch is complete.
    pub batch: BatchLimits,
    /// How failed attempts are repeated.
    pub retry: Retry,
    /// When all attempts pause.
    pub breaker: BreakerSettings,
    /// The number of concurrent attempts.
    pub concurrent: usize,
    /// The number of batches of one partition that may be in flight.
    pub in_flight: usize,
}

/// A key that is invalid, and the problem.
type Problem = (String, String);

impl ForwardingSettings {
    /// Reads the section.
    ///
    /// # Errors
    /// Fails if a key is missing, unknown or invalid. The error names the key and the fix.
    pub fn read(settings: &Settings) -> Result<Self, SettingsError> {
        settings.section("forwarding")
    }

    /// Reads and checks the tables `[[forward]]`. This opens no connection.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn forwards(&self, settings: &Settings) -> Result<Vec<Forward>, SettingsError> {
        let all: Vec<ForwardSettings> = settings.list("forward")?;
        if all.len() > MAX_FORWARDS {
            let problem = format!("there are {}; at most {MAX_FORWARDS} can run", all.len());
            return Err(settings.invalid("forward", problem));
        }
        let mut names = BTreeSet::new();
        let forwards = all.into_iter().enumerate().map(|(index, forward)| {
            let invalid = |(key, problem): Problem| {
                settings.invalid(&format!("forward[{index}].{key}"), problem)
            };
            if !is_name(&forward.name) || !names.insert(forward.name.clone()) {
                let problem = format!(
                    "every forward needs a name of its own, of 1 to {MAX_NAME} lower-case ASCII letters, \
                     digits and hyphens"
                );
                return Err(invalid(("name".to_owned(), problem)));
            }
            forward.read(self.allow_private).map_err(invalid)
        });
        forwards.collect()
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_allowed)
}

impl ForwardSettings {
    /// Checks the table. `allow_private` applies if the table does not have this key.
    fn read(self, allow_private: bool) -> Result<Forward, Problem> {
        let batch = self.batch_limits()?;
        at("concurrent", self.concurrent, 1..=MAX_CONCURRENT)?;
        at("in_flight", self.in_flight, 1..=MAX_IN_FLIGHT)?;
        let retry =
            self.retry.read().map_err(|(key, problem)| (format!("retry.{key}"), problem))?;
        let bodies = BodyWriter::new(&self.name, self.recipient)
            .map_err(|error| ("recipient".to_owned(), error.to_string()))?;
        let guard = AddressGuard::new(self.allow_private.unwrap_or(allow_private));
        Ok(Forward {
            endpoint: Arc::new(self.endpoint(guard)?),
            keys: self.keys()?,
            start: match self.start {
                StartSetting::Now => Start::End,
                StartSetting::Beginning => Start::Beginning,
            },
            filter: Filter {
                kinds: self.kinds,
                providers: self.providers,
                sources: self.sources,
                campaigns: self.campaigns,
                recipients: self.recipients,
                human: self.human,
            },
            bodies,
            batch,
            retry,
            breaker: self.breaker,
            concurrent: self.concurrent,
            in_flight: self.in_flight,
            name: self.name,
        })
    }

    fn batch_limits(&self) -> Result<BatchLimits, Problem> {
        let BatchSettings { events, bytes, wait } = self.batch;
        at("batch.events", events, 1..=MAX_BATCH_EVENTS)?;
        at("batch.bytes", bytes, 1..=MAX_BATCH_BYTES)?;
        Ok(BatchLimits { events, bytes, wait })
    }

    fn keys(&self) -> Result<Vec<SigningKey>, Problem> {
        let key = |name: &str, secret: &Secret| {
            let parsed = SigningKey::parse(secret.expose());
            parsed.map_err(|error| (name.to_owned(), error.to_string()))
        };
        let previous = self.previous_secret.as_ref().map(|it| key("previous_secret", it));
        std::iter::once(key("secret", &self.secret)).chain(previous).collect()
    }

    fn endpoint(&self, guard: AddressGuard) -> Result<Endpoint, Problem> {
        if self.timeout.is_zero() {
            return Err(("timeout".to_owned(), "must be at least 1ms".to_owned()));
        }
        let client = ClientSettings {
            guard,
            timeout: self.timeout,
            user_agent: concat!("mailpulse-forward/", env!("CARGO_PKG_VERSION")),
        };
        let endpoint = Endpoint::new(self.url.expose(), client)
            .map_err(|error| ("url".to_owned(), error.to_string()))?;
        if endpoint.is_plaintext() {
            tracing::warn!(
                forward = self.name,
                "events are sent over http, so others in the network can read them; use https"
            );
        }
        Ok(endpoint)
    }
}

/// Checks that a number is in a range.
fn at(key: &str, value: usize, range: std::ops::RangeInclusive<usize>) -> Result<(), Problem> {
    if range.contains(&value) {
        return Ok(());
    }
    let problem = format!("must be between {} and {}", range.start(), range.end());
    Err((key.to_owned(), problem))
}
