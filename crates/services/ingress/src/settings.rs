//! The sections `[ingress]` and `[privacy]`.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use event::Provider;
use ipnet::IpNet;
use serde::Deserialize;
use service::{Settings, SettingsError};
use kafka::PublisherSettings;

use crate::client::ForwardedHeader;

/// Of records of the spool on their way to Kafka; the longest body fits.
const PATIENT_QUEUE_BYTES: usize = 32 << 20;

/// `[ingress]`; each key is explained in `deploy/mailpulse.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngressSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) max_connections: usize,
    pub(crate) body_bytes: usize,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) client_header: ForwardedHeader,
    pub(crate) refusal_burst: NonZeroU32,
    pub(crate) refusals_per_minute: NonZeroU32,
    pub(crate) replay_tokens: usize,
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
    /// Reads and checks them.
    pub(crate) fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let read: Self = settings.section("ingress")?;
        let largest = Provider::ALL.into_iter().map(providers::body_limit).max().unwrap_or(0);
        if read.body_bytes < largest {
            let mend = format!("must be at least {largest}, the longest body of a provider");
            return Err(settings.invalid("ingress.body_bytes", mend));
        }
        Ok(read)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(key: &str, value: &str) -> Settings {
        let variable = (format!("MAILPULSE__{key}"), value.to_owned());
        Settings::load(None, std::iter::once(variable)).unwrap()
    }

    #[test]
    fn the_reference_file_has_every_key_and_no_key_of_privacy() {
        let settings = settings("SERVICE__LOG", "info");
        let read = IngressSettings::read(&settings).unwrap();
        assert_eq!(
            (read.body_bytes, read.client_header),
            (128 << 20, ForwardedHeader::XForwardedFor)
        );
        assert!(privacy::configured(&settings).unwrap().is_none());
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let error = IngressSettings::read(&settings("INGRESS__BODY_BYTES", "1000")).unwrap_err();
        assert!(error.to_string().contains("ingress.body_bytes"), "{error}");
        let proxies = settings("INGRESS__TRUSTED_PROXIES", "[\"10.0.0.0/8\", \"ten\"]");
        let error = IngressSettings::read(&proxies).unwrap_err();
        assert!(error.to_string().contains("trusted_proxies[1]"), "{error}");
        let error = privacy::configured(&settings("PRIVACY__PSEUDONYM_KEY", "short")).unwrap_err();
        assert!(error.to_string().contains("privacy.pseudonym_key"), "{error}");
        assert!(!error.to_string().contains("short\""), "{error}");
    }
}
