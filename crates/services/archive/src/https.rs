//! The HTTP client for ClickHouse, with or without TLS.

use std::sync::Arc;
use std::time::Duration;

use clickhouse::Client;
use http::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use service::ClickHouseSettings;

/// The time between keep-alive probes of an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// ClickHouse closes a connection that is idle for 3 s (`keep_alive_timeout`), so we do it earlier.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A setting of `[clickhouse]` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{key}`: {problem}")]
pub struct HttpsError {
    /// The dotted key.
    pub key: &'static str,
    /// The fault and the fix.
    pub problem: String,
}

impl HttpsError {
    fn url(problem: impl Into<String>) -> Self {
        Self { key: "clickhouse.url", problem: problem.into() }
    }

    fn ca_file(problem: impl Into<String>) -> Self {
        Self { key: "clickhouse.ca_file", problem: problem.into() }
    }
}

/// Returns a client without user and password for the scheme of the URL. It connects on its first use.
///
/// # Errors
/// Names the setting that cannot be used.
pub(crate) fn client(settings: &ClickHouseSettings) -> Result<Client, HttpsError> {
    let uri: Uri = settings.url.parse().map_err(|_| HttpsError::url(FORM))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(HttpsError::url(FORM));
    }
    let mut connector = HttpConnector::new();
    connector.set_keepalive(Some(KEEPALIVE));
    let mut builder = HyperClient::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE_TIMEOUT);
    let client = match uri.scheme_str() {
        Some("http") if settings.ca_file.is_empty() => {
            Client::with_http_client(builder.build(connector))
        }
        Some("http") => {
            return Err(HttpsError::ca_file(
                "it has no effect, because clickhouse.url begins with http://; write https:// and \
                 ClickHouse's https_port (8443) there, or remove clickhouse.ca_file",
            ));
        }
        Some("https") => {
            connector.enforce_http(false);
            let https = HttpsConnectorBuilder::new()
                .with_tls_config(tls(&settings.ca_file)?)
                .https_only()
                .enable_http1()
                .wrap_connector(connector);
            Client::with_http_client(builder.build(https))
        }
        _ => return Err(HttpsError::url(FORM)),
    };
    Ok(client.with_url(&settings.url))
}

const FORM: &str = "it is not a URL; write http://host:8123 or https://host:8443";

fn tls(ca_file: &str) -> Result<ClientConfig, HttpsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpsError::url(format!("TLS is not available: {error}")))?;
    let builder = if ca_file.is_empty() {
        builder.with_platform_verifier().map_err(|error| {
            HttpsError::url(format!(
                "the authorities that the system trusts cannot be read: {error}; install \
                 ca-certificates, or set clickhouse.ca_file"
            ))
        })?
    } else {
        builder.with_root_certificates(authorities(ca_file)?)
    };
    Ok(builder.with_no_client_auth())
}

fn authorities(path: &str) -> Result<RootCertStore, HttpsError> {
    let unusable = |why: &dyn std::fmt::Display| {
        HttpsError::ca_file(format!(
            "{path} cannot be used: {why}; it must be a PEM file with the certificates of the \
             authorities"
        ))
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        store.add(certificate).map_err(|error| unusable(&error))?;
    }
    if store.is_empty() {
        return Err(unusable(&"it has no certificate"));
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use service::Secret;

    use super::*;

    fn refused(url: &str, ca_file: &str) -> HttpsError {
        let settings = ClickHouseSettings {
            url: url.into(),
            ca_file: ca_file.into(),
            database: "mailpulse".into(),
            user: "default".into(),
            password: Secret::new("hunter2"),
        };
        client(&settings).err().unwrap()
    }

    #[test]
    fn settings_that_cannot_be_used_are_named_with_the_fix() {
        for url in ["", "clickhouse:8123", "ftp://clickhouse", "https://", "/path"] {
            let error = refused(url, "");
            assert_eq!(error.key, "clickhouse.url", "{url}");
            assert!(error.problem.contains("https://host:8443"), "{error}");
        }
        let error = refused("http://clickhouse:8123", "ca.pem");
        assert_eq!(error.key, "clickhouse.ca_file");
        assert!(error.problem.contains("write https://"), "{error}");

        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        std::fs::write(path("empty"), "no PEM\n").unwrap();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(path("broken"), broken).unwrap();
        for name in ["absent", "empty", "broken"] {
            let error = refused("https://clickhouse:8443", &path(name));
            assert_eq!(error.key, "clickhouse.ca_file");
            assert!(error.problem.contains(name) && error.problem.contains("PEM"), "{error}");
        }
    }
}
