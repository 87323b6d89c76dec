//! Which addresses a receiver may have.
//!
//! URLs of receivers come from the settings, and names are resolved by DNS, which others control. Without
//! this guard, a name could lead to services of the own network that trust every client in it, such as
//! the metadata service of a cloud (169.254.169.254).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use ipnet::{Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The networks of IANA's special-purpose registry that are not global, and multicast
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>).
const SPECIAL_V4: [&str; 15] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

/// Networks inside `2000::/3` that are not global. `2002::/16` (6to4) and Teredo (`2001::/32`) wrap IPv4
/// addresses, and nobody offers them any more.
const SPECIAL_V6: [&str; 5] =
    ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48"];

static REFUSED_V4: LazyLock<Vec<Ipv4Net>> =
    LazyLock::new(|| SPECIAL_V4.iter().filter_map(|network| network.parse().ok()).collect());
static REFUSED_V6: LazyLock<Vec<Ipv6Net>> =
    LazyLock::new(|| SPECIAL_V6.iter().filter_map(|network| network.parse().ok()).collect());

/// The longest time for the resolution of a name. Attempts have a longer one.
const RESOLVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// Decides to which addresses connections may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressGuard {
    /// Only to addresses of the public Internet.
    PublicOnly,
    /// To all, because the settings have `allow_private = true`.
    AllowPrivate,
}

/// A host has no address that connections may be made to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// All of its addresses are refused.
    #[error(
        "the host resolves to {0}, which is not an address of the public Internet; set \
         allow_private = true for it if it is meant to be in your own network"
    )]
    Refused(IpAddr),
    /// The name cannot be resolved.
    #[error("the host cannot be resolved: {0}")]
    Unresolved(String),
}

impl AddressGuard {
    /// Returns the guard for a value of the setting `allow_private`.
    pub const fn new(allow_private: bool) -> Self {
        if allow_private { Self::AllowPrivate } else { Self::PublicOnly }
    }

    /// Returns whether a connection to the address may be made.
    pub fn allows(self, address: IpAddr) -> bool {
        self == Self::AllowPrivate || is_public(address)
    }

    /// Resolves a host and returns those of its addresses that are allowed. The caller
    /// must connect to one of them and not resolve the name again, because the second answer can differ.
    ///
    /// # Errors
    /// Fails if the host cannot be resolved, or if no address is allowed.
    pub async fn resolve(self, host: &str, port: u16) -> Result<Vec<SocketAddr>, AddressError> {
        let unresolved =
            |problem: &dyn std::fmt::Display| AddressError::Unresolved(problem.to_string());
        let lookup = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port)));
        let found = lookup.await.map_err(|_| unresolved(&"the name servers did not answer"))?;
        let found: Vec<SocketAddr> = found.map_err(|error| unresolved(&error))?.collect();
        let allowed: Vec<_> =
            found.iter().copied().filter(|address| self.allows(address.ip())).collect();
        match (allowed.is_empty(), found.first()) {
            (false, _) => Ok(allowed),
            (true, Some(refused)) => Err(AddressError::Refused(refused.ip())),
            (true, None) => Err(unresolved(&"the name has no address")),
        }
    }
}

/// The resolver of reqwest's clients: they connect only to addresses that it returns.
impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            // reqwest replaces port 0 by the port of the URL.
            let addresses = Self::resolve(guard, name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(embedded) => is_public(IpAddr::V4(embedded)),
            None => {
                let is_global_unicast = address.segments()[0] & 0xe000 == 0x2000;
                is_global_unicast && !REFUSED_V6.iter().any(|network| network.contains(&address))
            }
        },
    }
}

/// Returns the IPv4 address that a connection to the IPv6 address reaches: of `::ffff:0:0/96` (mapped)
/// and of `64:ff9b::/96` (NAT64).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let nat64 = || match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    };
    address.to_ipv4_mapped().or_else(nat64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allows(address: &str) -> bool {
        AddressGuard::PublicOnly.allows(address.parse().unwrap())
    }

    #[test]
    fn all_networks_are_read() {
        assert_eq!((REFUSED_V4.len(), REFUSED_V6.len()), (SPECIAL_V4.len(), SPECIAL_V6.len()));
    }

    #[test]
    fn only_public_addresses_are_allowed() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.250",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::1",
            "100::1",
            "4000::1",
        ] {
            assert!(!allows(address), "{address}");
            assert!(AddressGuard::AllowPrivate.allows(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "172.15.0.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(allows(address), "{address}");
        }
    }

    proptest! {
        /// The standard library knows a part of the special networks; none of it is allowed.
        #[test]
        fn nothing_that_the_standard_library_calls_special_is_allowed(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let is_special = v4.is_private() || v4.is_loopback() || v4.is_link_local()
                || v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified()
                || v4.is_documentation();
            let guard = AddressGuard::PublicOnly;
            prop_assert!(!(is_special && guard.allows(IpAddr::V4(v4))));
            let forms = [v4.to_ipv6_mapped(), Ipv6Addr::from(0x64_ff9b << 96 | u128::from(bits))];
            for form in forms {
                prop_assert_eq!(guard.allows(IpAddr::V6(form)), guard.allows(IpAddr::V4(v4)));
            }
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_refused() {
        let refused = AddressGuard::PublicOnly.resolve("localhost", 80).await.unwrap_err();
        assert!(matches!(refused, AddressError::Refused(address) if address.is_loopback()));
        let allowed = AddressGuard::AllowPrivate.resolve("localhost", 80).await.unwrap();
        assert!(allowed.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        let unknown = AddressGuard::PublicOnly.resolve("no-such-host.invalid", 80).await;
        assert!(matches!(unknown, Err(AddressError::Unresolved(_))));
    }
}
