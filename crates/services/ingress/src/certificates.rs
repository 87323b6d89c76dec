//! Gets SNS signing certificates over HTTPS, or reads them from a directory.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use lru::LruCache;
use providers::Certificate;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::lock::lock;

/// The maximum length of a response. A certificate has a few kilobytes.
const MAX_BYTES: usize = 64 * 1024;
/// How many certificates are cached. SNS has one per region and replaces it about once a year.
const MAX_CACHED: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// How many failures are remembered. The oldest is forgotten first: whoever names many URLs makes us
/// try some of them twice, and never keeps us from trying another.
const MAX_FAILED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// How many certificates are fetched at the same time.
const MAX_FETCHES: usize = 4;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long we wait after a failure before we try a URL again. Otherwise each forged message could
/// make us send a request.
const RETRY_AFTER: Duration = Duration::from_secs(10);

enum CertificateSource {
    Https(reqwest::Client),
    Directory(PathBuf),
}

/// Certificates by URL. The URLs come from messages that are not verified yet. The caller has
/// checked that they are URLs of SNS in the region of a configured topic.
pub(crate) struct CertificateCache {
    source: CertificateSource,
    /// The least recently used certificate is removed first.
    cached: Mutex<LruCache<String, Arc<Certificate>>>,
    /// When the URLs failed.
    failed: Mutex<LruCache<String, Instant>>,
    /// A lock for each URL that is being fetched, so that many messages cause one request.
    fetching: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    slots: Semaphore,
}

impl CertificateCache {
    /// `setting` is `fetch` or the path of a directory.
    pub(crate) fn new(setting: &str) -> anyhow::Result<Self> {
        let source = match setting {
            "fetch" => CertificateSource::Https(https_client(reqwest::Client::builder())?),
            directory => CertificateSource::Directory(PathBuf::from(directory)),
        };
        Ok(Self::from_source(source))
    }

    fn from_source(source: CertificateSource) -> Self {
        Self {
            source,
            cached: Mutex::new(LruCache::new(MAX_CACHED)),
            failed: Mutex::new(LruCache::new(MAX_FAILED)),
            fetching: Mutex::default(),
            slots: Semaphore::new(MAX_FETCHES),
        }
    }

    pub(crate) fn cached(&self, url: &str) -> Option<Arc<Certificate>> {
        lock(&self.cached).get(url).cloned()
    }

    /// Tries to load a certificate into the cache. If it fails, the cache stays unchanged.
    pub(crate) async fn fetch(&self, url: &str) {
        if self.has_failed_recently(url) {
            return;
        }
        let turn = Turn::new(self, url);
        let _only_one = turn.lock.lock().await;
        if self.cached(url).is_some() || self.has_failed_recently(url) {
            return;
        }
        // Without a free slot the message is answered with 503, and SNS sends it again.
        let Ok(Ok(_slot)) = tokio::time::timeout(FETCH_TIMEOUT, self.slots.acquire()).await else {
            return;
        };
        match self.load(url).await {
            Ok(certificate) => {
                lock(&self.cached).put(url.to_owned(), Arc::new(certificate));
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(url, error, "loading the SNS signing certificate failed");
                lock(&self.failed).put(url.to_owned(), Instant::now());
            }
        }
    }

    fn has_failed_recently(&self, url: &str) -> bool {
        lock(&self.failed).peek(url).is_some_and(|at| at.elapsed() < RETRY_AFTER)
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

/// The lock of a URL that is being fetched. The last user removes it, also if its request is
/// cancelled.
struct Turn<'c> {
    cache: &'c CertificateCache,
    url: &'c str,
    lock: Arc<tokio::sync::Mutex<()>>,
}

impl<'c> Turn<'c> {
    fn new(cache: &'c CertificateCache, url: &'c str) -> Self {
        let lock = Arc::clone(lock(&cache.fetching).entry(url.to_owned()).or_default());
        Self { cache, url, lock }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut fetching = lock(&self.cache.fetching);
        // The map has one reference, and this is another.
        if Arc::strong_count(&self.lock) <= 2 {
            fetching.remove(self.url);
        }
    }
}

/// Builds the client. Only tests pass a builder with a resolver or a root certificate of their own.
fn https_client(builder: reqwest::ClientBuilder) -> anyhow::Result<reqwest::Client> {
    builder
        .https_only(true)
        .timeout(FETCH_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot create the HTTPS client for SNS certificates")
}

async fn get(client: &reqwest::Client, url: &str) -> anyhow::Result<Vec<u8>> {
    // The URL that confirms a subscription has a token, which must not be logged.
    let response = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
    let mut response = response.map_err(reqwest::Error::without_url)?;
    // Without redirects, a 3xx is an answer that is no certificate and confirms nothing.
    anyhow::ensure!(response.status().is_success(), "the status is {}", response.status());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        let length = body.len() + chunk.len();
        anyhow::ensure!(length <= MAX_BYTES, "the response is longer than {MAX_BYTES} bytes");
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
