//! The `[ingress]` section.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stream::PublisherSettings;

/// Of records of the spool on their way to Kafka; the longest body fits.
const PATIENT_QUEUE_BYTES: usize = 32 << 20;

/// `[ingress]`; each key is explained in `deploy/mailpulse.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngressSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) max_connections: usize,
    #[serde(with = "service::units::duration")]
    pub(crate) read_timeout: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) ack_timeout: Duration,
    pub(crate) queue_bytes: usize,
    #[serde(with = "service::units::duration")]
    pub(crate) linger: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) drain_delay: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) drain_timeout: Duration,
    pub(crate) spool_directory: PathBuf,
    pub(crate) spool_bytes: u64,
    pub(crate) sns_certificates: String,
}

impl IngressSettings {
    pub(crate) fn publisher(&self) -> PublisherSettings {
        PublisherSettings {
            linger: self.linger,
            queue_bytes: self.queue_bytes,
            ack_timeout: Some(self.ack_timeout),
        }
    }

    /// For what waits in the spool: in its order, however long Kafka takes.
    pub(crate) fn patient_publisher(&self) -> PublisherSettings {
        let queue_bytes = self.queue_bytes.min(PATIENT_QUEUE_BYTES);
        PublisherSettings { ack_timeout: None, queue_bytes, ..self.publisher() }
    }
}
