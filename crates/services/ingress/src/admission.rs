//! Checks the rejection limit of a client and verifies its request.

use std::net::IpAddr;

use http::HeaderMap;
use providers::{ReceivedRequest, Rejection, Verified};

use crate::certificates::CertificateCache;
use crate::client_address::TrustedProxies;
use crate::problem::Problem;
use crate::rejection_limit::RejectionLimit;
use crate::replay_cache::ReplayCache;
use crate::settings::IngressSettings;
use crate::sources::Source;

pub(crate) struct AdmissionControl {
    proxies: TrustedProxies,
    rejection_limit: RejectionLimit,
    certificates: CertificateCache,
    replay_cache: ReplayCache,
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
    pub(crate) fn new(certificates: CertificateCache, settings: &IngressSettings) -> Self {
        Self {
            proxies: TrustedProxies::new(settings.trusted_proxies.clone(), settings.client_header),
            rejection_limit: RejectionLimit::new(
                settings.rejection_burst,
                settings.rejections_per_minute,
            ),
            certificates,
            replay_cache: ReplayCache::new(settings.replay_cache_tokens),
        }
    }

    /// Returns the address of the client behind our proxies. `peer` is the other end of the
    /// connection.
    pub(crate) fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.proxies.client_address(peer, headers)
    }

    /// Rejects a client that has sent this source too many rejected requests. Call it before
    /// reading the body.
    pub(crate) fn check_rejection_limit(
        &self,
        source: &Source,
        client: IpAddr,
    ) -> Result<(), Problem> {
        match self.rejection_limit.blocked_for(source.index, client) {
            Some(wait) => Err(Problem::TooManyRejections(source.provider, wait)),
            None => Ok(()),
        }
    }

    /// Verifies a request. In shadow mode a failure is only counted and logged.
    pub(crate) async fn verify(
        &self,
        source: &Source,
        received: &ReceivedRequest<'_>,
        request_id: &str,
    ) -> Result<Admission, Problem> {
        let rejection = match self.authenticate(source, received).await {
            Ok(verified) => {
                source.metrics.count_verified(verified.key);
                if let Some(client) = received.remote_ip {
                    self.rejection_limit.record_authentic(source.index, client);
                }
                return Ok(Admission::Authentic);
            }
            Err(rejection) => rejection,
        };
        if source.is_shadow {
            source.metrics.count_shadow_rejected(&rejection);
            tracing::info!(
                provider = source.provider.as_str(),
                source = source.name,
                client = received.remote_ip.map(tracing::field::display),
                code = rejection.code(),
                request_id,
                "request failed verification; accepted in shadow mode"
            );
            return Ok(Admission::Shadow);
        }
        if let Some(client) = received.remote_ip {
            self.rejection_limit.record_rejected(source.index, client);
        }
        Err(Problem::Unverified(source.provider, rejection))
    }

    async fn authenticate(
        &self,
        source: &Source,
        received: &ReceivedRequest<'_>,
    ) -> Result<Verified, Rejection> {
        let certificate = |url: &str| self.certificates.cached(url);
        let verify = || source.authenticator.verify(received, &certificate);
        let verified = match verify() {
            Err(Rejection::CertificateNeeded(url)) => {
                self.certificates.fetch(&url).await;
                verify()
            }
            result => result,
        }?;
        if let Some(once) = &verified.single_use {
            self.replay_cache.check(source.index, once, received.now)?;
        }
        Ok(verified)
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
