//! Whose request it is, where balancers of ours stand between.

use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use serde::Deserialize;

/// The header in which our proxies say for whom they ask. Only one is looked at: a proxy that
/// writes the one passes the other on as its client made it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ForwardedHeader {
    /// A list of addresses, each proxy adding at the end.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word we take.
#[derive(Debug)]
pub(crate) struct Proxies {
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
}

impl Proxies {
    pub(crate) const fn new(trusted: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self { trusted, header }
    }

    /// The client's address: the nearest one that is no proxy of ours. What stands further left
    /// in the header is the client's own claim.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = peer.to_canonical();
        let values = headers.get_all(self.name());
        let mut hops = values.iter().rev().flat_map(|value| self.hops(value));
        while self.is_ours(nearest) {
            // Where one of ours does not say for whom it asks, it is the last that we know of.
            let Some(Some(hop)) = hops.next() else { return nearest };
            nearest = hop;
        }
        nearest
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    const fn name(&self) -> HeaderName {
        match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        }
    }

    /// The hops of one header line, nearest first; `None` for one that is no address.
    fn hops(&self, value: &HeaderValue) -> Vec<Option<IpAddr>> {
        let Ok(value) = value.to_str() else { return vec![None] };
        let hops = split_unquoted(value, ',').into_iter().rev();
        match self.header {
            ForwardedHeader::XForwardedFor => hops.map(address).collect(),
            ForwardedHeader::Forwarded => hops.map(forwarded_for).collect(),
        }
    }
}

/// The `for` of one element such as `for="[2001:db8::17]:4711";proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    split_unquoted(element, ';').into_iter().find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| address(value.trim().trim_matches('"')))?
    })
}

/// An address, with or without a port; in brackets where it is of version 6 and has one.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

/// Splits where the separator is not within a quoted string.
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
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].map(|net| net.parse().unwrap()).to_vec();
        let proxies = Proxies::new(trusted, header);
        let name = proxies.name();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_str(line).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_nearest_address_that_is_no_proxy_of_ours() {
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
    fn nobody_else_is_believed() {
        let client = |peer, lines: &[&str]| client(ForwardedHeader::XForwardedFor, peer, lines);
        assert_eq!(client("203.0.113.9", &["192.0.2.7"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.7, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["192.0.2.7, 10.0.0.300, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(
            Proxies::new(Vec::new(), ForwardedHeader::Forwarded)
                .client("10.0.0.1".parse().unwrap(), &HeaderMap::new())
                .to_string(),
            "10.0.0.1"
        );
    }

    #[test]
    fn the_standard_header_in_its_spellings() {
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
