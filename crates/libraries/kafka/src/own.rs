use std::time::Duration;

use record::Topics;
use serde::Deserialize;
use service::{Service, SettingsError};

use crate::{ClusterSettings, Connection, StreamError, TopicSettings};

/// What every binary knows of its cluster.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// How to reach it, as this process.
    pub connection: Connection,
    /// The names of all topics.
    pub topics: Topics,
    /// How they are divided.
    pub partitions: TopicSettings,
    horizon: Duration,
}

/// The one key of `[dedupe]` that the topics depend on.
#[derive(Deserialize)]
struct Horizon {
    #[serde(with = "service::units::duration")]
    horizon: Duration,
}

impl Cluster {
    /// Reads `[kafka]`, `[topics]`, the instance's name, and how long `dedupe` remembers.
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn read(service: &Service) -> Result<Self, SettingsError> {
        let settings = &service.settings;
        let kafka: ClusterSettings = settings.section("kafka")?;
        Ok(Self {
            connection: kafka.connect(&service.instance, service.has_stable_instance()),
            topics: kafka.topics(),
            partitions: settings.section("topics")?,
            horizon: settings.section::<Horizon>("dedupe")?.horizon,
        })
    }

    /// Returns when every topic is there as it should be; see [`TopicSettings::prepare`].
    ///
    /// # Errors
    /// [`StreamError::Topic`] for a topic that is missing, [`StreamError::Partitions`] for one that
    /// has another number of partitions.
    pub fn prepare(&self) -> Result<(), StreamError> {
        let hours = u32::try_from(self.horizon.as_secs().div_ceil(3600)).unwrap_or(u32::MAX);
        self.partitions.prepare(&self.connection, &self.topics, hours)
    }
}
