//! Finds the client address behind trusted load balancers.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use serde::Deserialize;

mod forwarded;

/// How many elements of a header line are read, from the right. No installation has as many proxies.
const MAX_HOPS: usize = 64;

/// The header in which our proxies name their client. We read only one of the two: a proxy that
/// writes one header may forward the other as its client sent it, so that one can be forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardedHeader {
    /// A list of addresses. Each proxy appends the address of its client.
    XForwardedFor,
    /// The header of RFC 7239.
    Forwarded,
}

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The networks of our own proxies.
#[derive(Debug)]
pub(crate) struct TrustedProxies {
    networks: Vec<IpNet>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    pub(crate) const fn new(networks: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self { networks, header }
    }

    /// Returns the nearest address that is not a trusted proxy. Addresses further left in the
    /// header were sent by the client and can be forged.
    pub(crate) fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = peer.to_canonical();
        let values = headers.get_all(self.header_name());
        let mut hops = values.iter().rev().flat_map(|value| self.hops(value));
        while self.is_trusted(nearest) {
            // This trusted proxy names no client, so its own address is the nearest that we have.
            let Some(Some(hop)) = hops.next() else { return nearest };
            nearest = hop;
        }
        nearest
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Returns whether there are none, so that every connection is one of a client.
    pub(crate) const fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    const fn header_name(&self) -> HeaderName {
        match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        }
    }

    /// Returns the addresses of one header line, nearest first, with `None` for each element that
    /// is not an address.
    fn hops(&self, value: &HeaderValue) -> Vec<Option<IpAddr>> {
        match self.header {
            ForwardedHeader::XForwardedFor => x_forwarded_for(value.as_bytes()),
            ForwardedHeader::Forwarded => forwarded::hops(value.as_bytes()),
        }
    }
}

/// Splits at every comma, because `X-Forwarded-For` has no quoting. What a client wrote before the
/// last comma therefore never changes how the element behind it is read.
fn x_forwarded_for(line: &[u8]) -> Vec<Option<IpAddr>> {
    let hops = line.rsplit(|&byte| byte == b',');
    hops.map(|hop| parse_address(std::str::from_utf8(hop).ok()?)).take(MAX_HOPS).collect()
}

/// Parses an address with or without a port. An IPv6 address with a port is in brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(header: ForwardedHeader, peer: &str, lines: &[&str]) -> String {
        let networks = ["10.0.0.0/8", "2001:db8:1::/48"].map(|net| net.parse().unwrap()).to_vec();
        let proxies = TrustedProxies::new(networks, header);
        let name = proxies.header_name();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_str(line).unwrap());
        }
        proxies.client_address(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_nearest_address_that_is_not_a_trusted_proxy() {
        let client = |peer, lines: &[&str]| client(ForwardedHeader::XForwardedFor, peer, lines);
        assert_eq!(client("10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, 192.0.2.7, 10.0.0.2"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["198.51.100.1", "192.0.2.7", "10.0.0.2"]), "192.0.2.7");
        assert_eq!(client("::ffff:10.0.0.1", &["::ffff:192.0.2.7"]), "192.0.2.7");
        assert_eq!(client("2001:db8:1::1", &["2001:db8:2::7"]), "2001:db8:2::7");
        assert_eq!(client("10.0.0.1", &["192.0.2.7:4711"]), "192.0.2.7");
        assert_eq!(client("10.0.0.1", &["[2001:db8:2::7]:4711"]), "2001:db8:2::7");
    }

    #[test]
    fn addresses_that_no_trusted_proxy_wrote_are_ignored() {
        let client = |peer, lines: &[&str]| client(ForwardedHeader::XForwardedFor, peer, lines);
        assert_eq!(client("203.0.113.9", &["192.0.2.7"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.7, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.7, 10.0.0.300, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(
            TrustedProxies::new(Vec::new(), ForwardedHeader::Forwarded)
                .client_address("10.0.0.1".parse().unwrap(), &HeaderMap::new())
                .to_string(),
            "10.0.0.1"
        );
    }

    #[test]
    fn the_header_forwarded_is_read_in_all_its_forms() {
        let client = |lines: &[&str]| client(ForwardedHeader::Forwarded, "10.0.0.1", lines);
        assert_eq!(client(&["for=192.0.2.7;proto=https;by=10.0.0.1"]), "192.0.2.7");
        assert_eq!(
            client(&["for=198.51.100.1, For=\"192.0.2.7:4711\", for=10.0.0.2"]),
            "192.0.2.7"
        );
        assert_eq!(client(&["proto=https;FOR=\"[2001:db8:2::7]:4711\""]), "2001:db8:2::7");
        assert_eq!(client(&["for=192.0.2.7;host=\"a,b;for=1.2.3.4\""]), "192.0.2.7");
        assert_eq!(client(&["for=192.0.2.7, for=_hidden"]), "10.0.0.1");
        assert_eq!(client(&["for=192.0.2.7, proto=https"]), "10.0.0.1");
        assert_eq!(client(&["for=198.51.100.1", "for=192.0.2.7"]), "192.0.2.7");
        assert_eq!(client(&[", for=192.0.2.7 ;proto=https ,"]), "192.0.2.7", "empty elements");
    }

    #[test]
    fn a_quotation_mark_of_the_client_does_not_hide_the_hop_behind_it() {
        let client = |header, line: &str| client(header, "10.0.0.1", &[line]);
        let (list, rfc) = (ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded);
        assert_eq!(client(list, "198.51.100.1, \", 192.0.2.7"), "192.0.2.7");
        assert_eq!(client(list, "198.51.100.1\", 192.0.2.7"), "192.0.2.7");
        // In RFC 7239 the whole line is malformed, so it names nobody.
        assert_eq!(client(rfc, "for=198.51.100.1, for=\"x, for=192.0.2.7"), "10.0.0.1");
        assert_eq!(client(rfc, "for=198.51.100.1;x=\", for=192.0.2.7"), "10.0.0.1");
        for malformed in [
            "for =192.0.2.7",
            "for=192.0.2.7;for=192.0.2.8",
            "for=192.0.2.7 8",
            "for=[2001:db8::1]",
            "for=\"192.0.2.7\"x",
            "192.0.2.7",
            "=x",
        ] {
            let line = format!("{malformed}, for=192.0.2.9");
            assert_eq!(client(rfc, &line), "10.0.0.1", "{malformed}");
        }
    }

    proptest! {
        /// A proxy appends its hop to whatever the client has sent, in the same line or in another.
        #[test]
        fn the_hop_of_a_proxy_is_found_behind_anything(
            before in proptest::collection::vec(prop_oneof![0x20..0x7f_u8, 0x80..=0xff_u8], 0..60),
            hop in prop_oneof![Just("192.0.2.7"), Just("192.0.2.7:99"), Just("2001:db8:2::7")],
            separator in prop_oneof![Just(", "), Just(",")],
            as_line: bool,
        ) {
            let networks = vec!["10.0.0.0/8".parse().unwrap()];
            let proxies = TrustedProxies::new(networks, ForwardedHeader::XForwardedFor);
            let mut headers = HeaderMap::new();
            let mut append = |bytes: &[u8]| {
                HeaderValue::from_bytes(bytes).map(|value| headers.append(X_FORWARDED_FOR, value))
            };
            let sent = if as_line {
                append(&before).and_then(|_| append(hop.as_bytes()))
            } else {
                append(&[&before[..], separator.as_bytes(), hop.as_bytes()].concat())
            };
            prop_assume!(sent.is_ok());
            let found = proxies.client_address("10.0.0.1".parse().unwrap(), &headers);
            prop_assert_eq!(Some(found), parse_address(hop));
        }

        /// A line with `Forwarded` elements is read completely or not at all, so the client never
        /// chooses the address.
        #[test]
        fn a_client_never_chooses_the_address_of_forwarded(before in "[a-z0-9 =;,.:\"\\\\]{0,40}") {
            let networks = vec!["10.0.0.0/8".parse().unwrap()];
            let proxies = TrustedProxies::new(networks, ForwardedHeader::Forwarded);
            let mut headers = HeaderMap::new();
            let line = format!("for=198.51.100.1;{before}, for=192.0.2.7");
            headers.append(FORWARDED, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            let found = proxies.client_address("10.0.0.1".parse().unwrap(), &headers).to_string();
            prop_assert!(found == "192.0.2.7" || found == "10.0.0.1", "{}", found);
        }
    }
}
