//! The sections `[kafka]` and `[topics]`, and what every binary does with them before its own work.
//!
//! Everything here blocks: a binary calls it before it starts a runtime of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use record::{Layout, Topics};
use serde::{Deserialize, Deserializer};

use crate::{Connection, StreamError, admin};

/// How long the cluster may take to create the topics, or somebody else to.
const TOPICS_WITHIN: Duration = Duration::from_secs(60);

/// `[kafka]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// Before every topic, group and transactional id; empty when the cluster is ours alone.
    pub prefix: String,
    /// How group members agree on partitions.
    pub group_protocol: GroupProtocol,
    /// Of what we produce.
    pub compression: Compression,
    /// Further librdkafka properties by their dotted names. Text values may be `env:NAME` or
    /// `file:PATH` and are resolved here; `Debug` shows the names only.
    #[serde(deserialize_with = "properties")]
    pub properties: BTreeMap<String, String>,
}

/// `group.protocol` of librdkafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// KIP-848, Kafka 4 and newer.
    Consumer,
    /// Any broker.
    Classic,
}

/// `compression.type` of librdkafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// The least work.
    Lz4,
    /// The smallest.
    Zstd,
    /// For consumers that know nothing newer.
    Gzip,
    /// Close to lz4.
    Snappy,
    /// Not at all.
    None,
}

impl ClusterSettings {
    /// How to reach the cluster as `instance`. `is_static` says that the operator gave that name,
    /// so that it comes back after a restart.
    pub fn connect(&self, instance: &str, is_static: bool) -> Connection {
        let group_protocol = match self.group_protocol {
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
            compression: compression.to_owned(),
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
            .field("compression", &self.compression)
            .field("properties", &self.properties.keys())
            .finish()
    }
}

/// `[topics]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Of every topic keyed by recipient.
    pub recipient_partitions: i32,
    /// Of every topic keyed by scope.
    pub scope_partitions: i32,
    /// Copies of each partition.
    pub replication: i32,
    /// Whether missing topics are created at start; else they are awaited.
    pub create: bool,
}

impl TopicSettings {
    /// The layout these settings ask for, with `dedupe`'s horizon in hours.
    pub fn layout(&self, horizon_hours: u32) -> Layout {
        Layout {
            recipient_partitions: self.recipient_partitions,
            scope_partitions: self.scope_partitions,
            replication: self.replication,
            dedupe_horizon_hours: horizon_hours,
        }
    }

    /// Returns when every topic is there with the right number of partitions: creates the missing
    /// ones when `create` says so, waits a minute for somebody else to do it otherwise.
    ///
    /// Blocks; not to be called from within a runtime.
    ///
    /// # Errors
    /// [`StreamError::Topic`] for a topic that is missing, [`StreamError::Partitions`] for one that
    /// has another number of partitions.
    pub fn prepare(
        &self,
        connection: &Connection,
        topics: &Topics,
        horizon_hours: u32,
    ) -> Result<(), StreamError> {
        let specs = topics.specs(self.layout(horizon_hours));
        if !self.create {
            return admin::await_topics(connection, &specs, TOPICS_WITHIN);
        }
        tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(StreamError::state)?
            .block_on(admin::create_topics(connection, &specs, TOPICS_WITHIN))
    }
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
            Property::Group(inner) => {
                flatten(&name, inner, flat)?;
                continue;
            }
            Property::Flag(flag) => flag.to_string(),
            Property::Whole(number) => number.to_string(),
            Property::Real(number) => number.to_string(),
            Property::Text(text) => {
                service::resolve(&text).map_err(|why| format!("`{name}`: {why}"))?
            }
        };
        flat.insert(name, value);
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
        compression = "zstd"
        [properties]
        security.protocol = "sasl_ssl"
        "sasl.password" = "env:CARGO_PKG_NAME"
        "socket.timeout.ms" = 5000
    "#;

    #[test]
    fn the_section_becomes_a_connection() {
        let settings: ClusterSettings = toml::from_str(KAFKA).unwrap();
        let connection = settings.connect("pod-0", true);
        assert_eq!(connection.bootstrap, "one:9092,two:9092");
        assert_eq!((connection.instance.as_str(), connection.static_member), ("pod-0", true));
        assert_eq!(connection.group_protocol, "classic");
        assert_eq!(connection.compression, "zstd");
        assert_eq!(connection.properties["security.protocol"], "sasl_ssl");
        assert_eq!(connection.properties["sasl.password"], "stream");
        assert_eq!(connection.properties["socket.timeout.ms"], "5000");
        assert_eq!(settings.topics().events, "t1.mail.events");
        assert!(!format!("{settings:?}").contains("sasl_ssl"), "values may be secrets");
    }

    #[test]
    fn unknown_fields_words_and_secrets_are_refused() {
        let refused = |from, to| {
            toml::from_str::<ClusterSettings>(&KAFKA.replace(from, to)).unwrap_err().to_string()
        };
        assert!(refused("prefix", "prefixes").contains("prefixes"));
        assert!(refused("classic", "eager").contains("eager"));
        assert!(refused("zstd", "brotli").contains("brotli"));
        let secret = refused("env:CARGO_PKG_NAME", "env:MAILPULSE_NOWHERE");
        assert!(secret.contains("MAILPULSE_NOWHERE is not set"), "{secret}");
    }
}
