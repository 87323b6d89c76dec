//! The sections `[kafka]` and `[topics]`, and how the topics are prepared from them.
//!
//! All functions block. A service calls them before it starts a runtime of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use record::{Layout, Topics};
use serde::{Deserialize, Deserializer};

use crate::{Connection, Error, properties, topics};

/// How long to wait until all topics exist, whether this process or another program creates them.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(60);

/// The section `[kafka]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// Bootstrap servers: `host:port`, separated by commas.
    pub bootstrap: String,
    /// Prepended to the name of every topic, group and transactional id.
    pub prefix: String,
    /// How the members of a group divide the partitions.
    pub group_protocol: GroupProtocol,
    /// Under the classic protocol, the time after which a silent member loses its partitions. Under the
    /// new one, the brokers decide.
    #[serde(deserialize_with = "session_timeout")]
    pub session_timeout: Duration,
    /// The compression of produced records.
    pub compression: Compression,
    /// The largest record, in bytes. Topics are created with it, and a record that would be larger
    /// becomes a dead letter.
    #[serde(deserialize_with = "max_message_bytes")]
    pub max_message_bytes: usize,
    /// More librdkafka properties by their dotted names. Text values of the form `env:NAME` or
    /// `file:PATH` are resolved. `Debug` shows only the names, because values may be secrets.
    #[serde(deserialize_with = "properties")]
    pub properties: BTreeMap<String, String>,
}

/// The librdkafka property `group.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// The newest one that the broker supports.
    Auto,
    /// KIP-848, for Kafka 4 and newer.
    Consumer,
    /// For any broker.
    Classic,
}

/// The librdkafka property `compression.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    Lz4,
    Zstd,
    Gzip,
    Snappy,
    None,
}

impl ClusterSettings {
    /// Returns how to reach the cluster as `instance`. `is_static` tells whether the operator chose
    /// that name, so that it stays the same after a restart.
    pub fn connection(&self, instance: &str, is_static: bool) -> Connection {
        let group_protocol = match self.group_protocol {
            GroupProtocol::Auto => "auto",
            GroupProtocol::Consumer => "consumer",
            GroupProtocol::Classic => "classic",
        };
        let compression = match self.compression {
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::None => "none",
        };
        Connection {
            bootstrap: self.bootstrap.clone(),
            instance: instance.to_owned(),
            static_member: is_static,
            group_protocol: group_protocol.to_owned(),
            session_timeout: self.session_timeout,
            compression: compression.to_owned(),
            max_message_bytes: self.max_message_bytes,
            properties: self.properties.clone(),
        }
    }

    /// The names of all topics.
    pub fn topics(&self) -> Topics {
        Topics::new(&self.prefix)
    }
}

impl fmt::Debug for ClusterSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterSettings")
            .field("bootstrap", &self.bootstrap)
            .field("prefix", &self.prefix)
            .field("group_protocol", &self.group_protocol)
            .field("session_timeout", &self.session_timeout)
            .field("compression", &self.compression)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// The limits of `kafka.max_message_bytes`. Records of dedupe's changelog have up to 512 KiB, and a
/// response with a record of the largest size fits into what a consumer accepts by default (100 MB).
const MAX_MESSAGE_BYTES_RANGE: RangeInclusive<usize> = 1 << 20..=64 << 20;

fn max_message_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let bytes = usize::deserialize(deserializer)?;
    if MAX_MESSAGE_BYTES_RANGE.contains(&bytes) {
        return Ok(bytes);
    }
    let (min, max) = MAX_MESSAGE_BYTES_RANGE.into_inner();
    let problem = format!("max_message_bytes is {bytes}; choose a value from {min} to {max}");
    Err(serde::de::Error::custom(problem))
}

/// From what Kafka's brokers accept by default (`group.min.session.timeout.ms`) to the time between two polls that a member
/// may take (`max.poll.interval.ms`), which librdkafka requires to be as long.
const SESSION_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(6)..=Duration::from_secs(5 * 60);

fn session_timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let timeout = service::units::duration::deserialize(deserializer)?;
    if SESSION_TIMEOUT_RANGE.contains(&timeout) {
        return Ok(timeout);
    }
    Err(serde::de::Error::custom(
        "session_timeout is outside of 6s to 5m; choose a time between them",
    ))
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let number = i32::deserialize(deserializer)?;
    if number >= 1 {
        return Ok(number);
    }
    Err(serde::de::Error::custom(format!("the value is {number}; choose a number of at least 1")))
}

/// The section `[topics]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// The number of partitions of every topic keyed by recipient.
    #[serde(deserialize_with = "at_least_one")]
    pub recipient_partitions: i32,
    /// The number of partitions of every topic keyed by scope.
    #[serde(deserialize_with = "at_least_one")]
    pub scope_partitions: i32,
    /// The replication factor.
    #[serde(deserialize_with = "at_least_one")]
    pub replication: i32,
    /// Whether to create missing topics at startup. Otherwise the service waits for them.
    pub create: bool,
}

impl TopicSettings {
    /// Returns the layout of all topics. `horizon_hours` is how long dedupe remembers events and messages.
    pub fn layout(&self, horizon_hours: u32, max_message_bytes: usize) -> Layout {
        Layout {
            recipient_partitions: self.recipient_partitions,
            scope_partitions: self.scope_partitions,
            replication: self.replication,
            dedupe_horizon_hours: horizon_hours,
            max_message_bytes,
        }
    }

    /// Returns once all topics exist with the right number of partitions. Creates missing topics if
    /// `create` is set; otherwise waits a minute for another program to create them. Raises the retention
    /// of dedupe's changelog if it is too short.
    ///
    /// Do not call this within a runtime: it blocks.
    ///
    /// # Errors
    /// [`Error::Topic`] for a missing topic, [`Error::Partitions`] for a topic with another number of
    /// partitions, [`Error::TopicSetting`] for a topic with a setting that breaks a promise.
    pub fn prepare(
        &self,
        connection: &Connection,
        names: &Topics,
        horizon_hours: u32,
    ) -> Result<(), Error> {
        let layout = self.layout(horizon_hours, connection.max_message_bytes);
        let specs = names.specs(layout);
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().map_err(Error::state)?;
        if self.create {
            runtime.block_on(topics::create_topics(connection, &specs, TOPICS_TIMEOUT))?;
        } else {
            topics::await_topics(connection, &specs, TOPICS_TIMEOUT)?;
        }
        runtime.block_on(topics::check_settings(connection, &names.required_settings(layout)))
    }
}

/// A property in TOML. An unquoted key such as `ssl.ca.location` means nested tables in TOML, so
/// nested tables are accepted and flattened.
#[derive(Deserialize)]
#[serde(untagged)]
enum Property {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Table(BTreeMap<String, Property>),
}

fn properties<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let nested = BTreeMap::<String, Property>::deserialize(deserializer)?;
    let mut flat = BTreeMap::new();
    flatten("", nested, &mut flat).map_err(serde::de::Error::custom)?;
    Ok(flat)
}

fn flatten(
    prefix: &str,
    nested: BTreeMap<String, Property>,
    flat: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    for (key, property) in nested {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let value = match property {
            Property::Table(inner) => {
                flatten(&name, inner, flat)?;
                continue;
            }
            Property::Bool(flag) => flag.to_string(),
            Property::Integer(number) => number.to_string(),
            Property::Float(number) => number.to_string(),
            Property::Text(text) => {
                service::resolve(&text).map_err(|why| format!("`{name}`: {why}"))?
            }
        };
        properties::check(&name)?;
        if flat.insert(name.clone(), value).is_some() {
            return Err(format!(
                "`{name}` is there twice, with and without quotation marks; remove one of them"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KAFKA: &str = r#"
        bootstrap = "one:9092,two:9092"
        prefix = "t1."
        group_protocol = "classic"
        session_timeout = "45s"
        compression = "zstd"
        max_message_bytes = 8388608
        [properties]
        security.protocol = "sasl_ssl"
        "sasl.password" = "env:CARGO_PKG_NAME"
        "socket.timeout.ms" = 5000
    "#;

    #[test]
    fn the_section_becomes_a_connection() {
        let settings: ClusterSettings = toml::from_str(KAFKA).unwrap();
        let connection = settings.connection("pod-0", true);
        assert_eq!(connection.bootstrap, "one:9092,two:9092");
        assert_eq!((connection.instance.as_str(), connection.static_member), ("pod-0", true));
        assert_eq!(connection.group_protocol, "classic");
        assert_eq!(connection.session_timeout, Duration::from_secs(45));
        assert_eq!((&*connection.compression, connection.max_message_bytes), ("zstd", 8 << 20));
        assert_eq!(connection.properties["security.protocol"], "sasl_ssl");
        assert_eq!(connection.properties["sasl.password"], "kafka");
        assert_eq!(connection.properties["socket.timeout.ms"], "5000");
        assert_eq!(settings.topics().events, "t1.mail.events");
        for shown in [format!("{settings:?}"), format!("{connection:?}")] {
            assert!(!shown.contains("sasl_ssl"), "values may be secrets: {shown}");
        }
    }

    #[test]
    fn unknown_keys_values_and_secrets_are_rejected() {
        let rejected = |from, to| {
            toml::from_str::<ClusterSettings>(&KAFKA.replace(from, to)).unwrap_err().to_string()
        };
        assert!(rejected("prefix", "prefixes").contains("prefixes"));
        assert!(rejected("classic", "eager").contains("eager"));
        assert!(rejected("zstd", "brotli").contains("brotli"));
        for bytes in ["1048575", "67108865"] {
            let error = rejected("8388608", bytes);
            assert!(error.contains("from 1048576 to 67108864"), "{error}");
        }
        for timeout in ["5s", "6m"] {
            assert!(rejected("45s", timeout).contains("6s to 5m"), "{timeout}");
        }
        let secret = rejected("env:CARGO_PKG_NAME", "env:MAILPULSE_NOWHERE");
        assert!(secret.contains("MAILPULSE_NOWHERE is not set"), "{secret}");
        for own in ["enable.idempotence = false", "\"enable.idempotence\" = false"] {
            let error = rejected("\"socket.timeout.ms\" = 5000", own);
            assert!(
                error.contains("`enable.idempotence` is set by Mailpulse, because exactly"),
                "{error}"
            );
            assert!(error.contains("remove it from [kafka.properties]"), "{error}");
        }
    }
}
