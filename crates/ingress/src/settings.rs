//! The `[ingress]` section.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use stream::PublisherSettings;

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
            ack_timeout: self.ack_timeout,
        }
    }
}
