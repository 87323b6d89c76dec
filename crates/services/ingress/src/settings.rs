//! The section `[ingress]`.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use event::Provider;
use ipnet::IpNet;
use kafka::PublisherSettings;
use providers::SplitLimits;
use serde::{Deserialize, Deserializer};
use service::client_limit::ClientLimit;
use service::timed_stream::StreamTimeouts;
use service::{Secret, Settings, SettingsError};
use spool::SpoolKeys;

use crate::body_memory::{MemoryLimits, SMALL_BODY_BYTES};
use crate::client_address::{ForwardedHeader, TrustedProxies};
use crate::tls::TlsFiles;

/// The queue of the publisher that drains the backlog. The largest record (20 MiB) fits into it, and so
/// does a window of [`crate::publish_segment`].
const BACKLOG_QUEUE_BYTES: usize = 32 << 20;

/// The limits of `time_every`. Time passes in the log in steps of this size, and every step is one record in
/// each partition of all raw topics.
const TIME_EVERY_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(10);

/// The keys of `[ingress]`, which `deploy/mailpulse.toml` explains.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IngressSettings {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_client: usize,
    pub(crate) body_memory_bytes: usize,
    pub(crate) body_memory_client_share: NonZeroUsize,
    pub(crate) body_memory_small_share: NonZeroUsize,
    pub(crate) min_body_rate: NonZeroU32,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) client_header: ForwardedHeader,
    pub(crate) rejection_burst: NonZeroU32,
    pub(crate) rejections_per_minute: NonZeroU32,
    pub(crate) replay_cache_tokens: usize,
    #[serde(deserialize_with = "max_events")]
    pub(crate) max_events: usize,
    pub(crate) max_recipients: usize,
    pub(crate) max_published_bytes: usize,
    #[serde(with = "service::units::duration")]
    pub(crate) read_timeout: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) idle_timeout: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) write_timeout: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) ack_timeout: Duration,
    pub(crate) queue_bytes: usize,
    #[serde(with = "service::units::duration")]
    pub(crate) linger: Duration,
    /// How often a time record is written to every raw partition. Zero means never.
    #[serde(with = "service::units::duration")]
    pub(crate) time_every: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) drain_delay: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) drain_timeout: Duration,
    pub(crate) spool_directory: PathBuf,
    pub(crate) spool_bytes: u64,
    spool_keys: Vec<Secret>,
    pub(crate) sns_certificates: String,
    tls_certificate: PathBuf,
    tls_key: PathBuf,
}

impl IngressSettings {
    pub(crate) fn read(settings: &Settings) -> Result<Self, SettingsError> {
        let read: Self = settings.section("ingress")?;
        let largest = Provider::ALL
            .into_iter()
            .map(|provider| providers::profile(provider).body_limit)
            .max()
            .unwrap_or(0);
        if read.body_memory_bytes < largest {
            let fix =
                format!("must be at least {largest}, the longest body that a provider may send");
            return Err(settings.invalid("ingress.body_memory_bytes", fix));
        }
        if read.body_memory_small_share.get() == 1 {
            let fix = "must be at least 2, because a share of 1 leaves no memory to other bodies";
            return Err(settings.invalid("ingress.body_memory_small_share", fix));
        }
        if !read.time_every.is_zero() && !TIME_EVERY_RANGE.contains(&read.time_every) {
            let fix = "must be from 100ms to 10s, or 0s to write no time records";
            return Err(settings.invalid("ingress.time_every", fix));
        }
        for (key, path, other) in [
            ("tls_certificate", &read.tls_certificate, &read.tls_key),
            ("tls_key", &read.tls_key, &read.tls_certificate),
        ] {
            if path.as_os_str().is_empty() && !other.as_os_str().is_empty() {
                let fix = "is empty, and the other file of the pair is not; set both tls_certificate and \
                           tls_key, or neither";
                return Err(settings.invalid(&format!("ingress.{key}"), fix));
            }
        }
        Ok(read)
    }

    /// Returns the keys that encrypt the spool.
    pub(crate) fn spool_keys(&self, settings: &Settings) -> Result<SpoolKeys, SettingsError> {
        SpoolKeys::new(self.spool_keys.iter().map(Secret::expose))
            .map_err(|error| settings.invalid("ingress.spool_keys", error.to_string()))
    }

    /// Returns the files of the certificate, or `None` for plain HTTP.
    pub(crate) fn tls_files(&self) -> Option<TlsFiles> {
        let (certificate, key) = (self.tls_certificate.clone(), self.tls_key.clone());
        (!certificate.as_os_str().is_empty()).then_some(TlsFiles { certificate, key })
    }

    /// Returns how the memory for bodies is divided.
    pub(crate) fn memory_limits(&self) -> MemoryLimits {
        let total = self.body_memory_bytes;
        MemoryLimits {
            total,
            per_client: total / self.body_memory_client_share,
            for_small: total / self.body_memory_small_share,
            small_body: SMALL_BODY_BYTES,
        }
    }

    pub(crate) const fn stream_timeouts(&self) -> StreamTimeouts {
        StreamTimeouts {
            head: self.read_timeout,
            idle: self.idle_timeout,
            write: self.write_timeout,
        }
    }

    pub(crate) fn client_limit(&self) -> ClientLimit {
        ClientLimit::new(self.max_connections_per_client, self.trusted_proxies.clone())
    }

    pub(crate) fn trusted_proxies(&self) -> TrustedProxies {
        TrustedProxies::new(self.trusted_proxies.clone(), self.client_header)
    }

    /// Returns the settings of the publisher for new requests.
    pub(crate) fn publisher(&self) -> PublisherSettings {
        PublisherSettings {
            linger: self.linger,
            queue_bytes: self.queue_bytes,
            ack_timeout: Some(self.ack_timeout),
        }
    }

    /// Returns the settings of the publisher that drains the backlog. It waits for acknowledgements
    /// without limit, because the order of the backlog would be lost after a timeout.
    pub(crate) fn backlog_publisher(&self) -> PublisherSettings {
        let queue_bytes = BACKLOG_QUEUE_BYTES;
        PublisherSettings { ack_timeout: None, queue_bytes, ..self.publisher() }
    }

    /// Returns how much one body may make us publish.
    pub(crate) const fn split_limits(&self) -> SplitLimits {
        SplitLimits {
            events: self.max_events,
            recipients: self.max_recipients,
            published_bytes: self.max_published_bytes,
        }
    }
}

fn max_events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let events = usize::deserialize(deserializer)?;
    if (1..=SplitLimits::MAX_EVENTS).contains(&events) {
        return Ok(events);
    }
    let max = SplitLimits::MAX_EVENTS;
    Err(serde::de::Error::custom(format!("is {events}; use 1 to {max}")))
}

#[cfg(test)]
mod tests {
    use privacy::Pseudonymizer;

    use super::*;

    fn settings(key: &str, value: &str) -> Settings {
        let variable = (format!("MAILPULSE__{key}"), value.to_owned());
        Settings::load(None, std::iter::once(variable)).unwrap()
    }

    #[test]
    fn the_reference_file_has_every_key() {
        let settings = settings("SERVICE__LOG", "info");
        let read = IngressSettings::read(&settings).unwrap();
        assert_eq!(
            (read.body_memory_bytes, read.client_header),
            (128 << 20, ForwardedHeader::XForwardedFor)
        );
        assert!(Pseudonymizer::from_settings(&settings).unwrap().is_none(), "no key by default");
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_its_key() {
        let error =
            IngressSettings::read(&settings("INGRESS__BODY_MEMORY_BYTES", "1000")).unwrap_err();
        assert!(error.to_string().contains("ingress.body_memory_bytes"), "{error}");
        let proxies = settings("INGRESS__TRUSTED_PROXIES", "[\"10.0.0.0/8\", \"ten\"]");
        let error = IngressSettings::read(&proxies).unwrap_err();
        assert!(error.to_string().contains("trusted_proxies[1]"), "{error}");
        for every in ["99ms", "11s"] {
            let error = IngressSettings::read(&settings("INGRESS__TIME_EVERY", every)).unwrap_err();
            assert!(error.to_string().contains("ingress.time_every"), "{error}");
        }
        let never = IngressSettings::read(&settings("INGRESS__TIME_EVERY", "0s")).unwrap();
        assert!(never.time_every.is_zero());
        let all = settings("INGRESS__BODY_MEMORY_SMALL_SHARE", "1");
        let error = IngressSettings::read(&all).unwrap_err();
        assert!(error.to_string().contains("ingress.body_memory_small_share"), "{error}");
        for key in ["TLS_CERTIFICATE", "TLS_KEY"] {
            let alone = settings(&format!("INGRESS__{key}"), "server.pem");
            let error = IngressSettings::read(&alone).unwrap_err();
            assert!(error.to_string().contains("set both"), "{error}");
        }
        let short_key = settings("PRIVACY__PSEUDONYM_KEY", "short");
        let error = Pseudonymizer::from_settings(&short_key).unwrap_err();
        assert!(error.to_string().contains("privacy.pseudonym_key"), "{error}");
        assert!(!error.to_string().contains("short\""), "{error}");
    }
}
