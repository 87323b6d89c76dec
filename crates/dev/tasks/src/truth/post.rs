//! Posts the events of a wave like providers: each source one request after the other, and each of them
//! until it is accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use event::Provider;
use serde_json::Value;
use testkit::{Credentials, SignedRequest, sign};
use tokio::task::JoinSet;

use super::message::{Fact, Message};
use super::payload;

/// The number of events in one request of a provider that posts batches.
const BATCH: usize = 10;
/// How often a request is posted, as a provider would repeat it.
const ATTEMPTS: usize = 200;
const PAUSE: Duration = Duration::from_millis(100);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// An event to post: the numbers of its message and of the fact.
pub(super) type Post = (usize, usize);

pub(super) struct Poster {
    client: reqwest::Client,
    ingress: String,
    credentials: Credentials,
    messages: Arc<Vec<Message>>,
    /// Distinguishes the messages of several runs.
    run: u64,
    posted: AtomicU64,
    repeated: AtomicU64,
}

impl Poster {
    pub(super) fn new(
        ingress: &str,
        credentials: &Credentials,
        messages: Arc<Vec<Message>>,
    ) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            client: reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build()?,
            ingress: ingress.to_owned(),
            credentials: credentials.clone(),
            messages,
            run: now_micros().unsigned_abs(),
            posted: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        }))
    }

    /// Returns how many events were accepted, and how many requests were posted again.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.posted.load(Ordering::Relaxed), self.repeated.load(Ordering::Relaxed))
    }

    /// Posts events, those of different sources at the same time, and returns when all are accepted.
    pub(super) async fn post(self: &Arc<Self>, posts: &[Post]) -> anyhow::Result<()> {
        let mut lanes: std::collections::BTreeMap<(Provider, &str), Vec<Post>> = Default::default();
        for &(message, fact) in posts {
            let source = self.messages[message].source;
            lanes.entry((source.provider, source.name)).or_default().push((message, fact));
        }
        let mut tasks = JoinSet::new();
        for ((provider, source), posts) in lanes {
            let (poster, source) = (Arc::clone(self), source.to_owned());
            tasks.spawn(async move { poster.lane(provider, &source, &posts).await });
        }
        while let Some(posted) = tasks.join_next().await {
            posted??;
        }
        Ok(())
    }

    async fn lane(&self, provider: Provider, source: &str, posts: &[Post]) -> anyhow::Result<()> {
        let size = if in_batches(provider) { BATCH } else { 1 };
        for posts in posts.chunks(size) {
            let values: Vec<Value> =
                posts.iter().map(|&post| self.json(post)).collect::<anyhow::Result<_>>()?;
            self.values(provider, source, &values).await?;
        }
        Ok(())
    }

    fn json(&self, (message, fact): Post) -> anyhow::Result<Value> {
        let message: &Message = &self.messages[message];
        let fact: &Fact = &message.facts[fact];
        payload::json(message, fact, self.run, now_micros())
            .with_context(|| format!("{} does not report {:?}", message.source.provider, fact.what))
    }

    /// Posts the events of one request until it is accepted.
    pub(super) async fn values(
        &self,
        provider: Provider,
        source: &str,
        values: &[Value],
    ) -> anyhow::Result<()> {
        let mut problem = String::new();
        for _ in 0..ATTEMPTS {
            // Signed again each time, because signatures expire.
            let now = now_micros() / 1_000_000;
            let requests = sign::values(&self.credentials, provider, source, values, now);
            let [request] = &requests[..] else {
                anyhow::bail!("{provider} posts {} events in several requests", values.len());
            };
            match self.attempt(request).await {
                Ok(accepted) => {
                    let events = values.len() as u64;
                    ensure!(
                        accepted == events,
                        "{provider}/{source}: {accepted} of {events} events"
                    );
                    self.posted.fetch_add(events, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => problem = error.to_string(),
            }
            self.repeated.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::bail!(
            "{provider}/{source} has no final answer after {ATTEMPTS} attempts: {problem}"
        )
    }

    /// Returns how many events were accepted.
    async fn attempt(&self, request: &SignedRequest) -> anyhow::Result<u64> {
        let url = format!("http://{}{}", self.ingress, request.path);
        let mut builder = self.client.post(url).body(request.body.clone());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let response = builder.send().await?;
        let status = response.status();
        ensure!(status.is_success(), "status {status}: {}", response.text().await?);
        let receipt: Value = response.json().await?;
        receipt["accepted"].as_u64().context("the answer of the ingress has no number of events")
    }
}

const fn in_batches(provider: Provider) -> bool {
    matches!(
        provider,
        Provider::SendGrid
            | Provider::Mandrill
            | Provider::Generic
            | Provider::SparkPost
            | Provider::Brevo
            | Provider::Mailjet
    )
}

/// Returns microseconds since the Unix epoch.
pub(super) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
