//! Gets SNS signing certificates over HTTPS, or reads them from a directory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use providers::Certificate;

/// The maximum length of a response. A certificate has a few kilobytes.
const MAX_BYTES: usize = 64 * 1024;
/// How many certificates are cached. SNS has one per region and replaces it about once a year.
const MAX_CACHED: usize = 64;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long we wait after a failure before we try a URL again. Otherwise each forged message could
/// make us send a request.
const RETRY_AFTER: Duration = Duration::from_secs(10);

enum CertificateSource {
    Https(reqwest::Client),
    Directory(PathBuf),
}

/// Certificates by URL. The URLs come from messages that are not verified yet; the caller has
/// checked that they are URLs of SNS, and the cache limits their number.
pub(crate) struct CertificateCache {
    source: CertificateSource,
    cached: Mutex<HashMap<String, Arc<Certificate>>>,
    failed: Mutex<HashMap<String, Instant>>,
}

impl CertificateCache {
    /// `setting` is `fetch` or the path of a directory.
    pub(crate) fn new(setting: &str) -> anyhow::Result<Self> {
        let source = match setting {
            "fetch" => CertificateSource::Https(https_client()?),
            directory => CertificateSource::Directory(PathBuf::from(directory)),
        };
        Ok(Self { source, cached: Mutex::default(), failed: Mutex::default() })
    }

    pub(crate) fn cached(&self, url: &str) -> Option<Arc<Certificate>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned()
    }

    /// Tries to load a certificate into the cache. If it fails, the cache stays unchanged.
    pub(crate) async fn fetch(&self, url: &str) {
        if self.has_failed_recently(url) {
            return;
        }
        match self.load(url).await {
            Ok(certificate) => {
                let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
                if cached.len() >= MAX_CACHED {
                    cached.clear();
                }
                cached.insert(url.to_owned(), Arc::new(certificate));
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(url, error, "loading the SNS signing certificate failed");
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.retain(|_, at| at.elapsed() < RETRY_AFTER);
                if failed.len() < MAX_CACHED {
                    failed.insert(url.to_owned(), Instant::now());
                }
            }
        }
    }

    fn has_failed_recently(&self, url: &str) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.len() >= MAX_CACHED || failed.get(url).is_some_and(|at| at.elapsed() < RETRY_AFTER)
    }

    async fn load(&self, url: &str) -> anyhow::Result<Certificate> {
        let pem = match &self.source {
            CertificateSource::Https(client) => get(client, url).await?,
            CertificateSource::Directory(directory) => {
                let name = url.rsplit('/').next().unwrap_or_default();
                let path = directory.join(name);
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?
            }
        };
        Ok(Certificate::parse(&pem)?)
    }

    /// Confirms an SNS subscription by fetching its URL. The caller has verified the message, its
    /// URL and its topic.
    pub(crate) async fn confirm_subscription(&self, subscribe_url: &str) -> anyhow::Result<()> {
        match &self.source {
            CertificateSource::Https(client) => get(client, subscribe_url).await.map(drop),
            // Without `fetch`, the ingress sends no requests to SNS.
            CertificateSource::Directory(_) => {
                tracing::warn!(
                    subscribe_url,
                    "SNS subscription must be confirmed by hand; open its URL"
                );
                Ok(())
            }
        }
    }
}

fn https_client() -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .https_only(true)
        .timeout(FETCH_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot create the HTTPS client for SNS certificates")
}

async fn get(client: &reqwest::Client, url: &str) -> anyhow::Result<Vec<u8>> {
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let length = body.len() + chunk.len();
        anyhow::ensure!(length <= MAX_BYTES, "the response is longer than {MAX_BYTES} bytes");
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
