//! TLS of the port for webhooks.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use service::timed_stream::TimedStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use x509_cert::der::Decode;

use crate::current::Current;
use crate::low_watermark::system_clock;

/// The longest file, in bytes. A chain has some kilobytes.
const MAX_BYTES: u64 = 1 << 20;
/// The only protocol that the server speaks (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// The files of a certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The server's certificate, and behind it those of intermediate authorities.
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Accepts TLS connections with the certificate that was last valid.
pub(crate) struct Tls {
    files: TlsFiles,
    acceptor: Current<Acceptor>,
}

/// Accepts connections with one certificate.
struct Acceptor {
    tls: TlsAcceptor,
    /// A digest of the files.
    digest: u64,
}

/// Why the files of a certificate cannot be used. Each message names the file and the fix.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("the file {} cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("the file {} has more than {MAX_BYTES} bytes; it must have a certificate chain or a key", .0.display())]
    TooLong(PathBuf),
    #[error("the file {} has no certificate in PEM; write the server's certificate and those of the intermediate authorities", .0.display())]
    NoCertificate(PathBuf),
    #[error("the file {} has a certificate that cannot be read; write X.509 certificates in PEM", .0.display())]
    BrokenCertificate(PathBuf),
    #[error("the file {} has no private key in PEM; write it without a passphrase", .0.display())]
    NoKey(PathBuf),
    #[error("the key in {} does not belong to the first certificate in {}; replace both files", .0.key.display(), .0.certificate.display())]
    Mismatch(TlsFiles),
    #[error("the certificate in {} has expired; renew it", .0.display())]
    Expired(PathBuf),
    #[error("the certificate and the key cannot be used: {0}")]
    Unusable(rustls::Error),
}

/// Why there is no TLS connection with a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandshakeFailure {
    /// The client was too slow. `read_timeout` has passed since it connected.
    Timeout,
    /// The client closed the connection, as checks of a load balancer do.
    Closed,
    /// What the client sent is not TLS, such as plain HTTP.
    NotTls,
    /// The client supports no version, cipher or protocol that the server has.
    Incompatible,
    /// The client rejected the server, most likely its certificate.
    Rejected,
    /// The client violated the protocol.
    Invalid,
}

impl TlsError {
    /// Returns the stable code, for logs and tests.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "tls_file_unreadable",
            Self::TooLong(_) => "tls_file_too_long",
            Self::NoCertificate(_) => "tls_no_certificate",
            Self::BrokenCertificate(_) => "tls_certificate_broken",
            Self::NoKey(_) => "tls_no_key",
            Self::Mismatch(_) => "tls_key_mismatch",
            Self::Expired(_) => "tls_certificate_expired",
            Self::Unusable(_) => "tls_unusable",
        }
    }
}

impl Tls {
    /// Reads the files. A certificate that has expired is used with a warning, because some clients do not
    /// check it.
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let pair = Pair::read(&files)?;
        if pair.has_expired() {
            let error = TlsError::Expired(files.certificate.clone());
            tracing::warn!(code = error.code(), "{error}");
        }
        let acceptor = Current::new(pair.accept());
        Ok(Self { files, acceptor })
    }

    /// Uses the present content of the files for all connections from now on. Returns whether it differs
    /// from the former.
    ///
    /// # Errors
    /// If it cannot be used. Then the former certificate stays.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let pair = Pair::read(&self.files)?;
        if pair.digest == self.acceptor.load().digest {
            return Ok(false);
        }
        if pair.has_expired() {
            return Err(TlsError::Expired(self.files.certificate.clone()));
        }
        self.acceptor.replace(pair.accept());
        Ok(true)
    }

    pub(crate) const fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// Performs the handshake with a client. The timeouts of the stream limit it.
    pub(crate) async fn accept(
        &self,
        stream: TimedStream,
    ) -> Result<TlsStream<TimedStream>, HandshakeFailure> {
        let acceptor = self.acceptor.load();
        acceptor.tls.accept(stream).await.map_err(|error| HandshakeFailure::of(&error))
    }
}

/// A certificate and its key.
struct Pair {
    config: ServerConfig,
    /// When the first certificate of the chain expires, in unix seconds.
    expires_at: i64,
    /// When the server's own certificate expires. An authority behind it may have expired on purpose, for old clients.
    own_expires_at: i64,
    /// A digest of the files.
    digest: u64,
}

impl Pair {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let (chain, key) = (read(&files.certificate)?, read(&files.key)?);
        let mut hasher = DefaultHasher::new();
        (&chain, &key).hash(&mut hasher);
        let digest = hasher.finish();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
        let broken = || TlsError::BrokenCertificate(files.certificate.clone());
        let chain = chain.map_err(|_| broken())?;
        let expiries = chain.iter().map(|certificate| expiry(certificate).ok_or_else(broken));
        let expiries: Vec<i64> = expiries.collect::<Result<_, _>>()?;
        let none = || TlsError::NoCertificate(files.certificate.clone());
        let own_expires_at = expiries.first().copied().ok_or_else(none)?;
        let expires_at = expiries.into_iter().min().unwrap_or(own_expires_at);
        let key =
            PrivateKeyDer::from_pem_slice(&key).map_err(|_| TlsError::NoKey(files.key.clone()))?;
        let unusable = |error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch(files.clone()),
            error => TlsError::Unusable(error),
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config, expires_at, own_expires_at, digest })
    }

    fn has_expired(&self) -> bool {
        self.own_expires_at < system_clock().micros() / 1_000_000
    }

    /// Returns what accepts connections with this pair, and shows on the metrics when it expires.
    fn accept(self) -> Acceptor {
        metrics::gauge!("mailpulse_ingress_tls_certificate_expiration_timestamp_seconds")
            .set(self.expires_at as f64);
        Acceptor { tls: TlsAcceptor::from(Arc::new(self.config)), digest: self.digest }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |error| TlsError::Unreadable { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    // Opening a pipe would wait for somebody who writes.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(TlsError::TooLong(path.to_owned()));
    }
    Ok(bytes)
}

/// Returns the unix second at which a certificate expires.
fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let not_after = certificate.tbs_certificate().validity().not_after;
    i64::try_from(not_after.to_unix_duration().as_secs()).ok()
}

impl HandshakeFailure {
    fn of(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
        match cause {
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
                Self::Incompatible
            }
            Some(rustls::Error::AlertReceived(_)) => Self::Rejected,
            Some(_) => Self::Invalid,
            None if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            None => Self::Closed,
        }
    }

    /// Returns the label of the metric.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
        }
    }

    pub(crate) fn count(self) {
        metrics::counter!("mailpulse_ingress_tls_handshake_failures_total",
            "reason" => self.as_str())
        .increment(1);
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    struct Files {
        _directory: tempfile::TempDir,
        files: TlsFiles,
    }

    /// Writes a certificate that expires at the beginning of this year, and a key that belongs to it.
    fn files(year: i32) -> Files {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let files = TlsFiles { certificate: at("chain.pem"), key: at("key.pem") };
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        std::fs::write(&files.certificate, params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        Files { files, _directory: directory }
    }

    fn code(files: &TlsFiles) -> &'static str {
        Pair::read(files).err().unwrap().code()
    }

    #[test]
    fn a_pair_that_cannot_be_used_has_a_code() {
        let (good, other) = (files(2090), files(2090));
        let TlsFiles { certificate, key } = &good.files;
        assert_eq!(Pair::read(&good.files).ok().unwrap().expires_at, 3_786_912_000);
        let pair = |certificate: &PathBuf, key: &PathBuf| TlsFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        assert_eq!(code(&pair(certificate, &other.files.key)), "tls_key_mismatch");
        assert_eq!(code(&pair(key, key)), "tls_no_certificate");
        assert_eq!(code(&pair(certificate, certificate)), "tls_no_key");
        assert_eq!(code(&pair(&PathBuf::from("/nonexistent"), key)), "tls_file_unreadable");
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&other.files.certificate, broken).unwrap();
        assert_eq!(code(&pair(&other.files.certificate, key)), "tls_certificate_broken");
        std::fs::write(&other.files.key, vec![b'x'; (1 << 20) + 1]).unwrap();
        assert_eq!(code(&pair(certificate, &other.files.key)), "tls_file_too_long");
    }

    #[test]
    fn the_certificate_of_a_chain_that_expires_first_counts() {
        let (late, early) = (files(2090), files(2080));
        let chain =
            [&late, &early].map(|it| std::fs::read(&it.files.certificate).unwrap()).concat();
        std::fs::write(&late.files.certificate, chain).unwrap();
        assert_eq!(Pair::read(&late.files).ok().unwrap().expires_at, 3_471_292_800);
    }

    #[test]
    fn an_expired_certificate_is_used_at_start_and_replaces_none() {
        let (good, expired) = (files(2090), files(2020));
        let tls = Tls::open(expired.files.clone()).ok().unwrap();
        assert!(matches!(tls.reload(), Ok(false)), "it is the same");
        let tls = Tls::open(good.files.clone()).ok().unwrap();
        assert!(matches!(tls.reload(), Ok(false)));
        let other = files(2080);
        std::fs::copy(&other.files.certificate, &good.files.certificate).unwrap();
        std::fs::copy(&other.files.key, &good.files.key).unwrap();
        assert!(matches!(tls.reload(), Ok(true)));
        for (from, to) in [
            (&expired.files.certificate, &good.files.certificate),
            (&expired.files.key, &good.files.key),
        ] {
            std::fs::copy(from, to).unwrap();
        }
        assert_eq!(tls.reload().unwrap_err().code(), "tls_certificate_expired");
    }
}
