//! The servers and settings of one installation, for commands about stored data.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use kafka::{
    ClusterSettings, Connection, PreparedHeaders, Publisher, PublisherSettings, TopicSettings,
};
use privacy::{ErasureKey, Pseudonymizer};
use record::Topics;
use service::{ServiceSettings, Settings};

use crate::InputError;
use crate::database::Database;

/// How long Kafka has to acknowledge what the tool writes.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// One installation. Nothing is connected yet.
pub(crate) struct Installation {
    pub(crate) settings: Settings,
    pub(crate) database: Database,
    pub(crate) connection: Connection,
    pub(crate) topics: Topics,
    pub(crate) partitions: TopicSettings,
}

impl Installation {
    /// Reads the settings and starts logging.
    ///
    /// # Errors
    /// If the settings are invalid.
    pub(crate) fn open(config: Option<&Path>) -> anyhow::Result<Self> {
        let settings = Settings::discover(config)?;
        let service: ServiceSettings = settings.section("service")?;
        service::init_log(&service).map_err(|error| InputError(format!("{error:#}")))?;
        settings.warn_about_old_names();
        let database = Database::open(&settings)?;
        let kafka: ClusterSettings = settings.section("kafka")?;
        let connection = kafka.connection("operator", false);
        let partitions = settings.section("topics")?;
        Ok(Self { settings, database, connection, topics: kafka.topics(), partitions })
    }

    /// Returns the key with which recipients are erased.
    ///
    /// # Errors
    /// If none is configured, or it is too short.
    pub(crate) fn erasure_key(&self) -> anyhow::Result<ErasureKey> {
        erasure::key(&self.settings)?.ok_or_else(|| {
            let text = "privacy.erasure_key is not set; set it to a secret, the same for enrich, dedupe, monitor, archive and this tool";
            InputError(text.to_owned()).into()
        })
    }

    /// Returns what replaces addresses at the ingress, if it is configured.
    pub(crate) fn pseudonymizer(&self) -> anyhow::Result<Option<Pseudonymizer>> {
        Ok(Pseudonymizer::from_settings(&self.settings)?)
    }

    /// Writes records of key and value to a topic, and waits until they are durable.
    pub(crate) fn publish(
        &self,
        topic: &str,
        headers: &[(&str, &[u8])],
        records: &[(String, Vec<u8>)],
    ) -> anyhow::Result<()> {
        let settings = PublisherSettings {
            linger: Duration::ZERO,
            queue_bytes: 16 << 20,
            ack_timeout: Some(ACK_TIMEOUT),
        };
        let publisher = Publisher::open(&self.connection, "operator", settings)?;
        let (batch, headers) = (publisher.batch(), PreparedHeaders::new(headers));
        for (key, value) in records {
            batch.send(topic, key.as_bytes(), value, &headers)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(batch.acknowledged())?)
    }
}

/// Writes a line about the progress to standard error.
pub(crate) fn note(text: &str) -> io::Result<()> {
    writeln!(io::stderr(), "{text}")
}
