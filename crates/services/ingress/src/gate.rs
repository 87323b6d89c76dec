//! Who may post: the client's address, its record, and whether the request is the provider's.

use std::net::IpAddr;

use http::HeaderMap;
use providers::{Received, Refusal, Verified};

use crate::certificates::Certificates;
use crate::client::Proxies;
use crate::problem::Problem;
use crate::settings::IngressSettings;
use crate::sources::Source;
use crate::throttle::Refusals;
use crate::tokens::Tokens;

/// All that is asked before a body counts as the provider's.
pub(crate) struct Gate {
    proxies: Proxies,
    refusals: Refusals,
    certificates: Certificates,
    tokens: Tokens,
}

/// What became of a request that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is the provider's.
    Authentic,
    /// It is not, and its source is in shadow mode.
    LetThrough,
}

impl Gate {
    pub(crate) fn new(certificates: Certificates, settings: &IngressSettings) -> Self {
        Self {
            proxies: Proxies::new(settings.trusted_proxies.clone(), settings.client_header),
            refusals: Refusals::new(settings.refusal_burst, settings.refusals_per_minute),
            certificates,
            tokens: Tokens::new(settings.replay_tokens),
        }
    }

    /// The address a request comes from, behind our proxies.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(peer, headers)
    }

    /// Turns away, before its body is read, a client that was refused too often.
    pub(crate) fn pass(&self, source: &Source, client: IpAddr) -> Result<(), Problem> {
        match self.refusals.barred(source.index, client) {
            Some(wait) => Err(Problem::TooManyRefusals(source.provider, wait)),
            None => Ok(()),
        }
    }

    /// Whether a request is the provider's; in shadow mode it only counts.
    pub(crate) async fn admit(
        &self,
        source: &Source,
        received: &Received<'_>,
        request_id: &str,
    ) -> Result<Admission, Problem> {
        let refusal = match self.judge(source, received).await {
            Ok(verified) => {
                source.meters.verified(verified.key);
                received.remote_ip.inspect(|&client| self.refusals.authentic(source.index, client));
                return Ok(Admission::Authentic);
            }
            Err(refusal) => refusal,
        };
        if source.is_shadow {
            source.meters.let_through(&refusal);
            let (provider, name, code) = (source.provider.as_str(), &source.name, refusal.code());
            tracing::info!(request_id, provider, source = name, code, "let through in shadow mode");
            return Ok(Admission::LetThrough);
        }
        received.remote_ip.inspect(|&client| self.refusals.refused(source.index, client));
        Err(Problem::Refused(source.provider, refusal))
    }

    async fn judge(&self, source: &Source, received: &Received<'_>) -> Result<Verified, Refusal> {
        let certificate = |url: &str| self.certificates.cached(url);
        let verify = || source.authenticator.verify(received, &certificate);
        let verified = match verify() {
            Err(Refusal::CertificateNeeded(url)) => {
                self.certificates.fetch(&url).await;
                verify()
            }
            verdict => verdict,
        }?;
        if let Some(once) = &verified.once {
            self.tokens.judge(source.index, once, received.now)?;
        }
        Ok(verified)
    }

    /// Confirms an SNS subscription of a topic that was checked.
    pub(crate) async fn confirm(&self, source: &Source, url: &str) -> Result<(), Problem> {
        self.certificates.confirm(url).await.map_err(|error| {
            tracing::warn!(error = format!("{error:#}"), "subscription not confirmed");
            Problem::Unavailable(source.provider, "subscription_not_confirmed")
        })
    }
}
