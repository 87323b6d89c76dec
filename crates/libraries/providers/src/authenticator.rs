use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;

use crate::trace::Trace;
use crate::{
    Certificate, ReceivedRequest, Rejection, SettingsError, SourceSettings, Verified, Verifier,
};

/// Verifies that requests come from the provider of one source. Build it once per source, because
/// this parses the source's keys.
#[derive(Debug)]
pub struct Authenticator {
    /// Kept for the diagnosis of a rejection, which tries variants of these settings.
    pub(crate) settings: SourceSettings,
    verifier: Verifier,
}

/// Returns the certificate at a URL if it has been fetched; see [`Authenticator::verify`].
pub(crate) type FindCertificate<'f> = dyn Fn(&str) -> Option<Arc<Certificate>> + 'f;

impl Authenticator {
    /// Checks the settings of a source and parses its keys.
    pub fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        Ok(Self { settings: settings.clone(), verifier: Verifier::new(settings)? })
    }

    /// Verifies that the request comes from the provider.
    ///
    /// Only SES calls `certificates`, with the URL in the message, after checking that the URL
    /// belongs to Amazon SNS. If `certificates` returns `None`, the result is
    /// [`Rejection::CertificateNeeded`] with the URL: fetch the certificate and call again.
    pub fn verify(
        &self,
        request: &ReceivedRequest<'_>,
        certificates: &FindCertificate<'_>,
    ) -> Result<Verified, Rejection> {
        self.verify_traced(request, certificates, &mut Trace::off())
    }

    /// Checks everything that needs no body: the address, credentials in headers, and presence and
    /// form of the headers with the signature. A request that fails here would also fail
    /// [`Self::verify`]; one that passes may still fail there.
    ///
    /// `client` is the client's address behind trusted proxies.
    pub fn check_head(&self, headers: &HeaderMap, client: Option<IpAddr>) -> Result<(), Rejection> {
        let request = ReceivedRequest { headers, body: b"", remote_ip: client, now: 0 };
        self.check_address(client, &mut Trace::off())?;
        self.verifier.check_head(&request)
    }

    /// True if even an empty request without headers from an unknown address is accepted. Such a
    /// source accepts everything that anyone posts to it.
    pub fn accepts_any_request(&self) -> bool {
        let headers = HeaderMap::new();
        let request = ReceivedRequest { headers: &headers, body: b"", remote_ip: None, now: 0 };
        self.verify(&request, &|_| None).is_ok()
    }

    pub(crate) fn verify_traced(
        &self,
        request: &ReceivedRequest<'_>,
        certificates: &FindCertificate<'_>,
        trace: &mut Trace,
    ) -> Result<Verified, Rejection> {
        self.check_address(request.remote_ip, trace)?;
        trace.body(request.body);
        self.verifier.verify(request, certificates, trace)
    }

    /// An IPv4 address inside an IPv6 one (RFC 4291 §2.5.5.2) is treated as the IPv4 address.
    fn check_address(&self, remote_ip: Option<IpAddr>, trace: &mut Trace) -> Result<(), Rejection> {
        const NAME: &str = "address";
        let shown = |ip: Option<IpAddr>| ip.map_or("unknown".to_owned(), |ip| ip.to_string());
        let remote_ip = remote_ip.map(|ip| ip.to_canonical());
        let allowed = &self.settings.options.allow_ips().0;
        if allowed.is_empty() {
            trace.skipped(NAME, || format!("{}; any address is allowed", shown(remote_ip)));
            return Ok(());
        }
        let found = remote_ip.and_then(|ip| allowed.iter().find(|net| net.contains(&ip)));
        let Some(net) = found else {
            trace.failed(NAME, || format!("{} is not in `allow_ips`", shown(remote_ip)));
            return Err(Rejection::AddressNotAllowed);
        };
        trace.passed(NAME, || format!("{} is in {net}", shown(remote_ip)));
        Ok(())
    }
}
