//! Finds the client address behind trusted load balancers.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use serde::Deserialize;

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

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

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

    const fn header_name(&self) -> HeaderName {
        match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        }
    }

    /// Returns the addresses of one header line, nearest first, with `None` for each element that
    /// is not an address.
    fn hops(&self, value: &HeaderValue) -> Vec<Option<IpAddr>> {
        let Ok(value) = value.to_str() else { return vec![None] };
        let hops = split_unquoted(value, ',').into_iter().rev();
        match self.header {
            ForwardedHeader::XForwardedFor => hops.map(parse_address).collect(),
            ForwardedHeader::Forwarded => hops.map(parse_forwarded_element).collect(),
        }
    }
}

/// Returns the `for` address of an element such as `for="[2001:db8::17]:4711";proto=https`.
fn parse_forwarded_element(element: &str) -> Option<IpAddr> {
    split_unquoted(element, ';').into_iter().find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let is_for = name.trim().eq_ignore_ascii_case("for");
        is_for.then(|| parse_address(value.trim().trim_matches('"')))?
    })
}

/// Parses an address with or without a port. An IPv6 address with a port is in brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

/// Splits at each separator that is not inside a quoted string.
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let mut is_quoted = false;
    text.split(|c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
    .collect()
}

#[cfg(test)]
mod tests {
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
    }
}
