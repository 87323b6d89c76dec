use std::time::Duration;

use record::Topics;
use serde::Deserialize;
use service::{Service, SettingsError};

use crate::{ClusterSettings, Connection, Error, TopicSettings};

/// The connection, the topics and their settings, which every service needs.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// How to reach the cluster.
    pub connection: Connection,
    /// The names of all topics.
    pub topics: Topics,
    /// How the topics are partitioned, replicated and created.
    pub partitions: TopicSettings,
    /// How long dedupe remembers events and messages. The retention of its changelog follows from it.
    dedupe_horizon: Duration,
}

/// The only keys of `[dedupe]` that the topics depend on.
#[derive(Deserialize)]
struct DedupeHorizons {
    #[serde(with = "service::units::duration")]
    horizon: Duration,
    #[serde(with = "service::units::duration")]
    remember: Duration,
}

impl Cluster {
    /// Reads `[kafka]`, `[topics]`, the name of this instance, and dedupe's horizons. With `--check`, it
    /// also constructs clients, see [`Connection::check`]; otherwise the service constructs its own.
    ///
    /// # Errors
    /// Names the key whose value is invalid.
    pub fn read(service: &Service) -> Result<Self, SettingsError> {
        let settings = &service.settings;
        let kafka: ClusterSettings = settings.section("kafka")?;
        let connection = kafka.connection(&service.instance, service.has_stable_instance());
        if service.is_check() {
            let rejected = |error: Error| settings.invalid("kafka.properties", error.to_string());
            connection.check().map_err(rejected)?;
        }
        let DedupeHorizons { horizon, remember } = settings.section("dedupe")?;
        Ok(Self {
            connection,
            topics: kafka.topics(),
            partitions: settings.section("topics")?,
            dedupe_horizon: horizon.max(remember),
        })
    }

    /// Returns once all topics exist as configured; see [`TopicSettings::prepare`].
    ///
    /// # Errors
    /// [`Error::Topic`] for a missing topic, [`Error::Partitions`] for a topic with another number of
    /// partitions.
    pub fn prepare(&self) -> Result<(), Error> {
        let hours = u32::try_from(self.dedupe_horizon.as_secs().div_ceil(3600)).unwrap_or(u32::MAX);
        self.partitions.prepare(&self.connection, &self.topics, hours)
    }
}
