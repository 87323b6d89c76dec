//! Verifies requests, and limits how much work unverified ones cause.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use event::Provider;
use http::HeaderMap;
use providers::{ReceivedRequest, Rejection, Verified};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::certificates::CertificateCache;
use crate::client_address::{TrustedProxies, X_FORWARDED_FOR};
use crate::heavy_work::HeavyWork;
use crate::limits::Limit;
use crate::problem::Problem;
use crate::rejection_limit::{NO_SOURCE, RejectionLimit};
use crate::replay_cache::ReplayCache;
use crate::settings::IngressSettings;
use crate::sources::Source;

/// How many requests of suspect clients are decoded and verified at the same time.
const SUSPECT_VERIFICATIONS: usize = 2;
/// How long a request of a suspect client waits for its turn. Without load a verification
/// takes less than a millisecond.
const SUSPECT_WAIT: Duration = Duration::from_secs(1);

pub(crate) struct AdmissionControl {
    proxies: TrustedProxies,
    rejection_limit: RejectionLimit,
    /// One permit for each request of a suspect client that is decoded and verified.
    suspects: Semaphore,
    certificates: Arc<CertificateCache>,
    replay_cache: ReplayCache,
    work: HeavyWork,
    /// Whether a forwarded address arrived although no proxy is trusted.
    has_warned: AtomicBool,
}

/// A request whose body is complete. It can move to another thread.
#[derive(Clone)]
pub(crate) struct UnverifiedRequest {
    pub(crate) headers: Arc<HeaderMap>,
    pub(crate) body: Bytes,
    pub(crate) client: IpAddr,
    /// The time of receipt in unix seconds.
    pub(crate) now: i64,
}

impl UnverifiedRequest {
    fn verify(
        &self,
        source: &Source,
        certificates: &CertificateCache,
    ) -> Result<Verified, Rejection> {
        let received = ReceivedRequest {
            headers: &self.headers,
            body: &self.body,
            remote_ip: Some(self.client),
            now: self.now,
        };
        source.authenticator.verify(&received, &|url| certificates.cached(url))
    }
}

/// Why a request was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The provider sent it.
    Authentic,
    /// It failed verification, but its source is in shadow mode.
    Shadow,
}

impl AdmissionControl {
    pub(crate) fn new(
        certificates: CertificateCache,
        work: HeavyWork,
        settings: &IngressSettings,
    ) -> Self {
        Self {
            proxies: settings.trusted_proxies(),
            rejection_limit: RejectionLimit::new(
                settings.rejection_burst,
                settings.rejections_per_minute,
            ),
            suspects: Semaphore::new(SUSPECT_VERIFICATIONS),
            certificates: Arc::new(certificates),
            replay_cache: ReplayCache::new(settings.replay_cache_tokens),
            work,
            has_warned: AtomicBool::new(false),
        }
    }

    /// Returns the address of the client behind our proxies. `peer` is the other end of the
    /// connection.
    pub(crate) fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if self.proxies.is_empty()
            && headers.contains_key(X_FORWARDED_FOR)
            && !self.has_warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %peer,
                "a request has the header X-Forwarded-For, but `ingress.trusted_proxies` is empty, \
                 so the header is ignored; if a proxy of yours wrote it, add the proxy's network: \
                 limits of clients and `allow_ips` see the proxy instead of its clients"
            );
        }
        self.proxies.client_address(peer, headers)
    }

    /// Rejects a request whose path names no source. It costs the client as much as a request that
    /// fails verification, so that source names cannot be guessed for free. `provider` is the one in
    /// the path, if there is such a provider.
    pub(crate) fn reject_unknown(&self, provider: Option<Provider>, client: IpAddr) -> Problem {
        if let Some(wait) = self.rejection_limit.suspect_for(NO_SOURCE, client) {
            self.rejection_limit.record_rejected(NO_SOURCE, client);
            Limit::Rejections.count();
            return Problem::TooManyRejections(provider, wait);
        }
        self.rejection_limit.record_rejected(NO_SOURCE, client);
        Problem::UnknownSource
    }

    /// Checks what needs no body: the address, credentials in headers, and presence and form of the
    /// headers with the signature. In shadow mode [`Self::verify`] does it later.
    pub(crate) fn check_head(
        &self,
        source: &Source,
        client: IpAddr,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        if source.is_shadow {
            return Ok(());
        }
        let checked = source.authenticator.check_head(headers, Some(client));
        checked.map_err(|rejection| self.reject(source, client, rejection))
    }

    /// Rejects a request to a disabled source. A suspect client does not learn that the source exists.
    pub(crate) fn reject_disabled(&self, source: &Source, client: IpAddr) -> Problem {
        match self.rejection_limit.suspect_for(source.index, client) {
            Some(wait) => Problem::TooManyRejections(Some(source.provider), wait),
            None => Problem::SourceDisabled(source.provider),
        }
    }

    /// Rejects a request whose body was too long, too slow, incomplete or wrongly encoded.
    pub(crate) fn reject_body(&self, source: &Source, client: IpAddr, problem: Problem) -> Problem {
        if source.is_shadow || !problem.is_fault_of_client() {
            return problem;
        }
        self.reject_as(source, client, problem)
    }

    /// Waits, if the client is suspect, until few other requests of suspect clients are decoded and
    /// verified. The permit is to be kept until the request is verified.
    pub(crate) async fn await_turn(
        &self,
        source: &Source,
        client: IpAddr,
    ) -> Result<Option<SemaphorePermit<'_>>, Problem> {
        let suspect = self.rejection_limit.suspect_for(source.index, client);
        let Some(wait) = suspect.filter(|_| !source.is_shadow) else { return Ok(None) };
        match tokio::time::timeout(SUSPECT_WAIT, self.suspects.acquire()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => {
                Limit::Rejections.count();
                Err(Problem::TooManyRejections(Some(source.provider), wait))
            }
        }
    }

    /// Verifies a request. In shadow mode a failure is only counted and logged.
    pub(crate) async fn verify(
        &self,
        source: &Arc<Source>,
        request: &UnverifiedRequest,
        request_id: &str,
    ) -> Result<Admission, Problem> {
        let client = request.client;
        let rejection = match self.authenticate(source, request).await {
            Ok(verified) => {
                source.metrics.count_verified(verified.key);
                self.rejection_limit.record_authentic(source.index, client);
                return Ok(Admission::Authentic);
            }
            Err(rejection) => rejection,
        };
        if source.is_shadow {
            source.metrics.count_shadow_rejected(&rejection);
            tracing::info!(
                provider = source.provider.as_str(),
                source = source.name,
                %client,
                code = rejection.code(),
                request_id,
                "request failed verification; accepted in shadow mode"
            );
            return Ok(Admission::Shadow);
        }
        Err(self.reject(source, client, rejection))
    }

    fn reject(&self, source: &Source, client: IpAddr, rejection: Rejection) -> Problem {
        self.reject_as(source, client, Problem::Unverified(source.provider, rejection))
    }

    /// Counts a rejected request of a client. A suspect client does not learn why.
    fn reject_as(&self, source: &Source, client: IpAddr, problem: Problem) -> Problem {
        let suspect = self.rejection_limit.suspect_for(source.index, client);
        self.rejection_limit.record_rejected(source.index, client);
        match suspect {
            Some(wait) => {
                Limit::Rejections.count();
                Problem::TooManyRejections(Some(source.provider), wait)
            }
            None => problem,
        }
    }

    async fn authenticate(
        &self,
        source: &Arc<Source>,
        request: &UnverifiedRequest,
    ) -> Result<Verified, Rejection> {
        let verified = match self.check_signature(source, request).await {
            Err(Rejection::CertificateNeeded(url)) => {
                self.certificates.fetch(&url).await;
                self.check_signature(source, request).await
            }
            result => result,
        }?;
        if let Some(once) = &verified.single_use {
            self.replay_cache.check(source.index, once, request.now)?;
        }
        Ok(verified)
    }

    async fn check_signature(
        &self,
        source: &Arc<Source>,
        request: &UnverifiedRequest,
    ) -> Result<Verified, Rejection> {
        if HeavyWork::is_light(request.body.len()) {
            return request.verify(source, &self.certificates);
        }
        let (source, request) = (Arc::clone(source), request.clone());
        let certificates = Arc::clone(&self.certificates);
        let bytes = request.body.len();
        self.work.run(bytes, move || request.verify(&source, &certificates)).await
    }

    /// Runs work of an authentic request that is proportional to `bytes`.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.work.run(bytes, job).await
    }

    /// Confirms an SNS subscription. `verify` has checked the URL and the topic.
    pub(crate) async fn confirm_subscription(
        &self,
        source: &Source,
        subscribe_url: &str,
    ) -> Result<(), Problem> {
        self.certificates.confirm_subscription(subscribe_url).await.map_err(|error| {
            let error = format!("{error:#}");
            tracing::warn!(source = source.name, error, "confirming the SNS subscription failed");
            Problem::Unavailable(source.provider, "subscription_not_confirmed")
        })
    }
}
