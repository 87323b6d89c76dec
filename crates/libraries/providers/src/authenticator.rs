use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;

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
    /// The networks of `allow_ips` without overlaps, sorted. There may be 100,000, and every request is
    /// looked up.
    allowed: Vec<IpNet>,
}

/// Returns the certificate at a URL if it has been fetched; see [`Authenticator::verify`].
pub(crate) type FindCertificate<'f> = dyn Fn(&str) -> Option<Arc<Certificate>> + 'f;

impl Authenticator {
    /// Checks the settings of a source and parses its keys.
    pub fn new(settings: &SourceSettings) -> Result<Self, SettingsError> {
        let verifier = Verifier::new(settings)?;
        let mut allowed = IpNet::aggregate(&settings.options.allow_ips().0);
        allowed.sort_unstable_by_key(IpNet::network);
        Ok(Self { settings: settings.clone(), verifier, allowed })
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
        if self.allowed.is_empty() {
            trace.skipped(NAME, || format!("{}; any address is allowed", shown(remote_ip)));
            return Ok(());
        }
        let found = remote_ip.and_then(|ip| self.allowed_network(ip));
        let Some(net) = found else {
            trace.failed(NAME, || format!("{} is not in `allow_ips`", shown(remote_ip)));
            return Err(Rejection::AddressNotAllowed);
        };
        trace.passed(NAME, || format!("{} is in {net}", shown(remote_ip)));
        Ok(())
    }

    /// Returns the network of `allow_ips` that contains an address. Adjacent networks are one.
    fn allowed_network(&self, ip: IpAddr) -> Option<&IpNet> {
        let after = self.allowed.partition_point(|net| net.network() <= ip);
        let net = self.allowed.get(after.checked_sub(1)?)?;
        net.contains(&ip).then_some(net)
    }
}

#[cfg(test)]
mod tests {
    use event::Provider;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Options;

    fn authenticator(networks: &[String]) -> Authenticator {
        let options = json!({ "allow_ips": networks });
        let options = Options::read(Provider::Postmark, options).unwrap();
        let settings = SourceSettings { name: "s".into(), secrets: Vec::new(), options };
        Authenticator::new(&settings).unwrap()
    }

    fn network() -> impl Strategy<Value = String> {
        let v4 =
            (0..=255_u8, 0..=255_u8, 20..=32_u8).prop_map(|(a, b, n)| format!("10.0.{a}.{b}/{n}"));
        let v6 = (0..=255_u8, 118..=128_u8).prop_map(|(a, n)| format!("2001:db8::{a:x}/{n}"));
        let edge = prop::sample::select(vec!["0.0.0.0/32", "255.255.255.255/32", "::/128"]);
        prop_oneof![4 => v4, 2 => v6, 1 => edge.prop_map(str::to_owned)]
    }

    proptest! {
        #[test]
        fn an_address_is_found_as_by_asking_every_network(
            networks in prop::collection::vec(network(), 1..20),
            address in prop_oneof![
                (0..=255_u8, 0..=255_u8).prop_map(|(a, b)| IpAddr::from([10, 0, a, b])),
                (0..=300_u16).prop_map(|a| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, a])),
                prop::sample::select(vec!["0.0.0.0", "255.255.255.255", "::", "9.255.255.255"])
                    .prop_map(|text| text.parse().unwrap()),
            ],
        ) {
            let authenticator = authenticator(&networks);
            let listed = &authenticator.settings.options.allow_ips().0;
            let is_listed = listed.iter().any(|net| net.contains(&address));
            prop_assert_eq!(authenticator.allowed_network(address).is_some(), is_listed);
        }
    }

    #[test]
    fn a_network_may_be_everything() {
        let all = authenticator(&["0.0.0.0/0".into(), "10.0.0.0/8".into(), "::/0".into()]);
        for address in ["0.0.0.0", "10.1.2.3", "255.255.255.255", "::", "ffff::1"] {
            assert!(all.allowed_network(address.parse().unwrap()).is_some(), "{address}");
        }
    }
}
