//! Limits the connections of each client, so that one of them cannot take them all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

/// Returns the address that stands for a client in limits. A client with one IPv6 address usually owns the whole
/// /64 network (RFC 6177), so all its addresses count as one client.
pub const fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// How many connections each client has, and may have. A trusted proxy has no limit, because its connections are those
/// of many clients.
#[derive(Debug)]
pub struct ClientLimit {
    limit: usize,
    proxies: Vec<IpNet>,
    open: Open,
}

type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A connection that counts against the limit of its client until it is dropped.
#[derive(Debug)]
pub struct CountedConnection {
    open: Open,
    /// `None` if the client has no limit.
    network: Option<IpAddr>,
}

impl ClientLimit {
    /// `proxies` are the networks of trusted proxies.
    pub fn new(limit: usize, proxies: Vec<IpNet>) -> Self {
        Self { limit, proxies, open: Arc::default() }
    }

    /// Counts a connection. Returns `None` if the client has as many as it may have.
    pub fn count(&self, peer: IpAddr) -> Option<CountedConnection> {
        let peer = peer.to_canonical();
        let is_proxy = self.proxies.iter().any(|network| network.contains(&peer));
        let network = (!is_proxy).then(|| network(peer));
        if let Some(network) = network {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let connections = open.entry(network).or_default();
            if *connections >= self.limit {
                return None;
            }
            *connections += 1;
        }
        Some(CountedConnection { open: Arc::clone(&self.open), network })
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = open.get_mut(&network) {
            *connections -= 1;
            if *connections == 0 {
                open.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_limit_and_a_proxy_has_none() {
        let clients = ClientLimit::new(2, vec!["10.0.0.7/32".parse().unwrap()]);
        let count = |peer: &str| clients.count(peer.parse().unwrap());
        let mut open = vec![count("192.0.2.1").unwrap(), count("::ffff:192.0.2.1").unwrap()];
        assert!(count("192.0.2.1").is_none(), "it is the same client");
        assert!(count("192.0.2.2").is_some(), "another client");
        open.extend([count("2001:db8::1").unwrap(), count("2001:db8::2").unwrap()]);
        assert!(count("2001:db8::3").is_none(), "the same /64 network");
        assert!(count("2001:db8:0:1::3").is_some(), "another network");
        open.extend(["10.0.0.7", "10.0.0.7", "::ffff:10.0.0.7"].map(|it| count(it).unwrap()));
        assert!(count("127.0.0.1").is_some());
        open.remove(0);
        assert!(count("192.0.2.1").is_some(), "a connection was closed");
        open.clear();
        assert!(clients.open.lock().unwrap().is_empty());
    }
}
