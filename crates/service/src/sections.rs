use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer};

use crate::{Secret, secret};

/// `[service]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSettings {
    /// This process's name among its peers, stable over restarts; empty for a random one.
    pub instance: String,
    /// Filter of the log, in the syntax of `tracing`'s `EnvFilter`.
    pub log: String,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[kafka]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// Before every topic, group and transactional id.
    pub prefix: String,
    /// How group members agree on partitions.
    pub group_protocol: GroupProtocol,
    /// Of record batches.
    pub compression: Compression,
    /// Further librdkafka properties by their dotted names. Values may be `env:NAME` or `file:PATH`
    /// and are resolved here; `Debug` shows the names only.
    #[serde(deserialize_with = "properties")]
    pub properties: BTreeMap<String, String>,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap", &self.bootstrap)
            .field("prefix", &self.prefix)
            .field("group_protocol", &self.group_protocol)
            .field("compression", &self.compression)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// How group members agree on partitions: librdkafka's `group.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// KIP-848, Kafka 4 and newer.
    Consumer,
    /// Any broker.
    Classic,
}

impl GroupProtocol {
    /// librdkafka's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Classic => "classic",
        }
    }
}

/// Of record batches: librdkafka's `compression.codec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// The least work.
    Lz4,
    /// The smallest.
    Zstd,
    /// For brokers that know nothing newer.
    Gzip,
    /// Close to lz4.
    Snappy,
    /// Not at all.
    None,
}

impl Compression {
    /// librdkafka's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::None => "none",
        }
    }
}

/// `[topics]`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Of every topic keyed by recipient.
    pub recipient_partitions: i32,
    /// Of every topic keyed by scope.
    pub scope_partitions: i32,
    /// Copies of each partition.
    pub replication: i32,
    /// Whether missing topics are created at start.
    pub create: bool,
}

/// `[clickhouse]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClickHouseSettings {
    /// Of the HTTP interface.
    pub url: String,
    /// Its database.
    pub database: String,
    /// Its user.
    pub user: String,
    /// The user's password; may be empty.
    pub password: Secret,
}

/// A property as TOML has it. `ssl.ca.location = "x"` without quotes around the key is nested
/// tables to TOML, and means the same.
#[derive(Deserialize)]
#[serde(untagged)]
enum Property {
    Flag(bool),
    Whole(i64),
    Real(f64),
    Text(String),
    Group(BTreeMap<String, Property>),
}

fn properties<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let mut flat = BTreeMap::new();
    let nested = BTreeMap::<String, Property>::deserialize(deserializer)?;
    flatten("", nested, &mut flat).map_err(serde::de::Error::custom)?;
    Ok(flat)
}

fn flatten(
    prefix: &str,
    nested: BTreeMap<String, Property>,
    flat: &mut BTreeMap<String, String>,
) -> Result<(), secret::SecretError> {
    for (key, property) in nested {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let value = match property {
            Property::Group(inner) => {
                flatten(&name, inner, flat)?;
                continue;
            }
            Property::Flag(flag) => flag.to_string(),
            Property::Whole(number) => number.to_string(),
            Property::Real(number) => number.to_string(),
            Property::Text(text) => secret::resolve(&text)?,
        };
        flat.insert(name, value);
    }
    Ok(())
}
