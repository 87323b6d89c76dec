//! The HTTP client for ClickHouse, with or without TLS.

use std::sync::Arc;
use std::time::Duration;

use clickhouse::Client;
use clickhouse_http::endpoints::CONNECT_TIMEOUT;
use http::Uri;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
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

const CERTIFICATE: &str = "clickhouse.certificate_file";
const KEY: &str = "clickhouse.key_file";

/// Returns one client for each URL, without user and password. They connect on their first use.
///
/// # Errors
/// Names the setting that cannot be used.
pub(crate) fn clients(settings: &ClickHouseSettings) -> Result<Vec<Client>, HttpsError> {
    let urls = settings.urls();
    urls.iter().map(|url| client(settings, url, urls.len() > 1)).collect()
}

fn client(
    settings: &ClickHouseSettings,
    url: &str,
    is_one_of_several: bool,
) -> Result<Client, HttpsError> {
    let uri: Uri = url.parse().map_err(|_| HttpsError::url(FORM))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(HttpsError::url(FORM));
    }
    let mut connector = HttpConnector::new();
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_connect_timeout(is_one_of_several.then_some(CONNECT_TIMEOUT));
    let mut builder = HyperClient::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE_TIMEOUT);
    let of_tls = [
        ("clickhouse.ca_file", &settings.ca_file),
        (CERTIFICATE, &settings.certificate_file),
        (KEY, &settings.key_file),
    ];
    let of_tls = of_tls.into_iter().find(|(_, path)| !path.is_empty());
    let client = match (uri.scheme_str(), of_tls) {
        (Some("http"), None) => Client::with_http_client(builder.build(connector)),
        (Some("http"), Some((key, _))) => {
            let problem = format!(
                "it has no effect, because clickhouse.url begins with http://; write https:// and \
                 ClickHouse's https_port (8443) there, or remove {key}"
            );
            return Err(HttpsError { key, problem });
        }
        (Some("https"), _) => {
            connector.enforce_http(false);
            let https = HttpsConnectorBuilder::new()
                .with_tls_config(tls(settings)?)
                .https_only()
                .enable_http1()
                .wrap_connector(connector);
            Client::with_http_client(builder.build(https))
        }
        _ => return Err(HttpsError::url(FORM)),
    };
    Ok(client.with_url(url))
}

const FORM: &str = "it is not a URL; write http://host:8123 or https://host:8443, and separate the URLs of several servers by \
                    commas";

fn tls(settings: &ClickHouseSettings) -> Result<ClientConfig, HttpsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpsError::url(format!("TLS is not available: {error}")))?;
    let builder = if settings.ca_file.is_empty() {
        builder.with_platform_verifier().map_err(|error| {
            HttpsError::url(format!(
                "the authorities that the system trusts cannot be read: {error}; install \
                 ca-certificates, or set clickhouse.ca_file"
            ))
        })?
    } else {
        builder.with_root_certificates(authorities(&settings.ca_file)?)
    };
    let Some((certificates, key)) = identity(settings)? else {
        return Ok(builder.with_no_client_auth());
    };
    builder
        .with_client_auth_cert(certificates, key)
        .map_err(|error| unusable_identity(KEY, &settings.key_file, &error))
}

/// Returns the certificate of the client, with those between it and its authority, and its private key, if the settings
/// have one.
fn identity(
    settings: &ClickHouseSettings,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, HttpsError> {
    let (certificate, key) = (&settings.certificate_file, &settings.key_file);
    let lacking = |key, other| {
        let problem = format!("it is empty, but {other} is set; set both or neither");
        HttpsError { key, problem }
    };
    match (certificate.is_empty(), key.is_empty()) {
        (true, true) => return Ok(None),
        (true, false) => return Err(lacking(CERTIFICATE, KEY)),
        (false, true) => return Err(lacking(KEY, CERTIFICATE)),
        (false, false) => {}
    }
    let unusable = |error| unusable_identity(CERTIFICATE, certificate, &error);
    let certificates = CertificateDer::pem_file_iter(certificate).map_err(unusable)?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(unusable)?;
    if certificates.is_empty() {
        return Err(unusable_identity(CERTIFICATE, certificate, &"it has no certificate"));
    }
    let key_der = PrivateKeyDer::from_pem_file(key);
    Ok(Some((certificates, key_der.map_err(|error| unusable_identity(KEY, key, &error))?)))
}

fn unusable_identity(key: &'static str, path: &str, why: &dyn std::fmt::Display) -> HttpsError {
    let problem = format!(
        "{path} cannot be used: {why}; clickhouse.certificate_file must be a PEM file with the certificate of the \
         client, and clickhouse.key_file one with its private key"
    );
    HttpsError { key, problem }
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

    fn settings(url: &str, ca_file: &str) -> ClickHouseSettings {
        ClickHouseSettings {
            url: url.into(),
            ca_file: ca_file.into(),
            certificate_file: String::new(),
            key_file: String::new(),
            cluster: String::new(),
            database: "mailpulse".into(),
            user: "default".into(),
            password: Secret::new("hunter2"),
        }
    }

    fn refused(url: &str, ca_file: &str) -> HttpsError {
        clients(&settings(url, ca_file)).err().unwrap()
    }

    #[test]
    fn settings_that_cannot_be_used_are_named_with_the_fix() {
        for url in [
            "",
            "clickhouse:8123",
            "ftp://clickhouse",
            "https://",
            "/path",
            "http://one:8123, https://",
            "http://one:8123,two:8123",
        ] {
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

    #[test]
    fn a_certificate_that_cannot_be_used_is_named_with_the_fix() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let dirs = devstack::Dirs::new().unwrap();
        let authority = devstack::Authority::new(&dirs).unwrap();
        let (one, other) = (authority.client("one").unwrap(), authority.client("other").unwrap());
        let text = |path: &std::path::Path| path.display().to_string();
        std::fs::write(path("empty"), "no PEM\n").unwrap();
        let with = |url: &str, certificate: &str, key: &str| ClickHouseSettings {
            certificate_file: certificate.to_owned(),
            key_file: key.to_owned(),
            ..settings(url, "")
        };
        let url = "https://clickhouse:8443";
        let (certificate, key) = (text(&one.certificate), text(&one.key));
        assert!(clients(&with(url, &certificate, &key)).is_ok());
        for (url, certificate, key, setting) in [
            (url, certificate.as_str(), "", KEY),
            (url, "", key.as_str(), CERTIFICATE),
            (url, &path("absent"), &key, CERTIFICATE),
            (url, &path("empty"), &key, CERTIFICATE),
            (url, &certificate, &path("absent"), KEY),
            (url, &certificate, &path("empty"), KEY),
            (url, &certificate, &text(&other.key), KEY),
            ("http://clickhouse:8123", &certificate, &key, CERTIFICATE),
        ] {
            let error = clients(&with(url, certificate, key)).err().unwrap();
            assert_eq!(error.key, setting, "{certificate} {key}: {error}");
        }
    }
}
