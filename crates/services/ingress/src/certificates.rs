//! SNS signing certificates: fetched over HTTPS, or read from a directory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use providers::Certificate;

/// A certificate is a few kilobytes; anything longer is not one.
const MAX_BYTES: usize = 64 * 1024;
/// SNS has one certificate a region and changes it about yearly.
const MAX_CACHED: usize = 64;
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an address that gave no certificate is not asked again: a forged message must not make
/// us fetch at its sender's pace.
const FAILURE_LASTS: Duration = Duration::from_secs(10);

enum Origin {
    Https(reqwest::Client),
    Directory(PathBuf),
}

/// A cache by address. Addresses come from messages not yet proved genuine, so they were checked
/// against SNS's form before they get here, and their number is bounded.
pub(crate) struct Certificates {
    origin: Origin,
    cached: Mutex<HashMap<String, Arc<Certificate>>>,
    failed: Mutex<HashMap<String, Instant>>,
}

impl Certificates {
    /// `fetch`, or a directory.
    pub(crate) fn new(setting: &str) -> anyhow::Result<Self> {
        let origin = match setting {
            "fetch" => Origin::Https(https_client()?),
            directory => Origin::Directory(PathBuf::from(directory)),
        };
        Ok(Self { origin, cached: Mutex::default(), failed: Mutex::default() })
    }

    /// The certificate of an address, if it is here already.
    pub(crate) fn cached(&self, url: &str) -> Option<Arc<Certificate>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned()
    }

    /// Gets a certificate into the cache. Whether it is there afterwards is asked of `cached`.
    pub(crate) async fn fetch(&self, url: &str) {
        if self.failed_lately(url) {
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
                tracing::warn!(url, error = format!("{error:#}"), "no signing certificate");
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.retain(|_, at| at.elapsed() < FAILURE_LASTS);
                if failed.len() < MAX_CACHED {
                    failed.insert(url.to_owned(), Instant::now());
                }
            }
        }
    }

    fn failed_lately(&self, url: &str) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.len() >= MAX_CACHED || failed.get(url).is_some_and(|at| at.elapsed() < FAILURE_LASTS)
    }

    async fn load(&self, url: &str) -> anyhow::Result<Certificate> {
        let pem = match &self.origin {
            Origin::Https(client) => get(client, url).await?,
            Origin::Directory(directory) => {
                let name = url.rsplit('/').next().unwrap_or_default();
                let path = directory.join(name);
                std::fs::read(&path).with_context(|| format!("{} not read", path.display()))?
            }
        };
        Ok(Certificate::parse(&pem)?)
    }

    /// Answers SNS's question whether this endpoint wants a topic. Only for addresses and topics
    /// that were checked.
    pub(crate) async fn confirm(&self, subscribe_url: &str) -> anyhow::Result<()> {
        match &self.origin {
            Origin::Https(client) => get(client, subscribe_url).await.map(drop),
            // Nothing is fetched in this mode; who runs it confirms by hand.
            Origin::Directory(_) => {
                tracing::info!(subscribe_url, "subscription to be confirmed by hand");
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
        .context("no HTTPS client")
}

async fn get(client: &reqwest::Client, url: &str) -> anyhow::Result<Vec<u8>> {
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        anyhow::ensure!(body.len() + chunk.len() <= MAX_BYTES, "longer than {MAX_BYTES} bytes");
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
