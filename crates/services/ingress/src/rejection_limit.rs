//! Limits the rejected requests of a client.
//!
//! Verification is the costly part of a forged request. If a source has rejected too many requests
//! of a client, we reject the next ones before we read their body.
//!
//! This never applies to a client that has recently sent an authentic request to the same source.
//! Otherwise an attacker behind the same address as the provider, or behind a load balancer that is
//! missing from `ingress.trusted_proxies`, could make us lose the provider's webhooks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// How long a client is trusted after an authentic request.
const TRUST_DURATION: Duration = Duration::from_secs(600);
/// How many trusted and how many rejected clients are remembered. Further clients are not limited.
const MAX_CLIENTS: usize = 65_536;
/// The minimum time between two searches for expired entries, while the maximum is reached.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(1);

/// The index of a source, and the address of a client.
type Key = (usize, IpAddr);

type PerClientLimiter<C> =
    RateLimiter<Key, HashMapStateStore<Key>, C, NoOpMiddleware<<C as Clock>::Instant>>;

pub(crate) struct RejectionLimit<C: Clock = DefaultClock> {
    limiter: PerClientLimiter<C>,
    state: Mutex<State<C::Instant>>,
    clock: C,
}

struct State<T> {
    /// When each blocked client may send again.
    blocked_until: HashMap<Key, T>,
    /// When the trust in each client ends.
    trusted_until: HashMap<Key, T>,
    next_cleanup: T,
}

impl RejectionLimit {
    /// Allows each client `burst` rejected requests at once and `per_minute` after that.
    pub(crate) fn new(burst: NonZeroU32, per_minute: NonZeroU32) -> Self {
        Self::with_clock(burst, per_minute, DefaultClock::default())
    }
}

impl<C: Clock + Clone> RejectionLimit<C> {
    fn with_clock(burst: NonZeroU32, per_minute: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_minute(per_minute).allow_burst(burst);
        let limiter = RateLimiter::hashmap_with_clock(quota, clock.clone());
        let state = State {
            blocked_until: HashMap::new(),
            trusted_until: HashMap::new(),
            next_cleanup: clock.now(),
        };
        Self { limiter, state: Mutex::new(state), clock }
    }

    /// Returns how long the client is still blocked, or `None` if its request may be read.
    pub(crate) fn blocked_for(&self, source: usize, client: IpAddr) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.blocked_until.is_empty() {
            return None;
        }
        let key = key(source, client);
        let until = *state.blocked_until.get(&key)?;
        let now = self.clock.now();
        if until <= now {
            state.blocked_until.remove(&key);
            return None;
        }
        Some(until.duration_since(now).into())
    }

    /// Trusts the client after an authentic request.
    pub(crate) fn record_authentic(&self, source: usize, client: IpAddr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, until) = (key(source, client), self.clock.now() + TRUST_DURATION.into());
        if state.trusted_until.len() >= MAX_CLIENTS && !state.trusted_until.contains_key(&key) {
            self.clean_up(&mut state);
            if state.trusted_until.len() >= MAX_CLIENTS {
                return;
            }
        }
        state.trusted_until.insert(key, until);
        if !state.blocked_until.is_empty() {
            state.blocked_until.remove(&key);
        }
    }

    /// Counts a rejected request, and blocks the client if there were too many.
    pub(crate) fn record_rejected(&self, source: usize, client: IpAddr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, now) = (key(source, client), self.clock.now());
        if state.trusted_until.get(&key).is_some_and(|&until| now < until) {
            return;
        }
        if self.limiter.len() >= MAX_CLIENTS {
            self.clean_up(&mut state);
            if self.limiter.len() >= MAX_CLIENTS {
                return;
            }
        }
        if let Err(too_many) = self.limiter.check_key(&key) {
            state.blocked_until.insert(key, too_many.earliest_possible());
        }
    }

    /// Removes expired entries.
    fn clean_up(&self, state: &mut State<C::Instant>) {
        let now = self.clock.now();
        if now < state.next_cleanup {
            return;
        }
        state.next_cleanup = now + CLEANUP_INTERVAL.into();
        self.limiter.retain_recent();
        state.blocked_until.retain(|_, until| now < *until);
        state.trusted_until.retain(|_, until| now < *until);
    }
}

/// A client with one IPv6 address usually owns the whole /64 network (RFC 6177), so all its
/// addresses count as one client.
fn key(source: usize, client: IpAddr) -> Key {
    let client = match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    };
    (source, client)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    /// Allows three rejected requests at once and one per second after that.
    fn limit() -> (RejectionLimit<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let number = |n| NonZeroU32::new(n).unwrap();
        (RejectionLimit::with_clock(number(3), number(60), clock.clone()), clock)
    }

    #[test]
    fn a_client_with_too_many_rejected_requests_is_blocked_for_a_while() {
        let (limit, clock) = limit();
        for _ in 0..3 {
            limit.record_rejected(0, CLIENT);
            assert_eq!(limit.blocked_for(0, CLIENT), None);
        }
        limit.record_rejected(0, CLIENT);
        let wait = limit.blocked_for(0, CLIENT).unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(limit.blocked_for(1, CLIENT), None, "another source");
        assert_eq!(limit.blocked_for(0, "192.0.2.8".parse().unwrap()), None, "another client");
        clock.advance(wait);
        assert_eq!(limit.blocked_for(0, CLIENT), None);
        limit.record_rejected(0, CLIENT);
        limit.record_rejected(0, CLIENT);
        assert!(limit.blocked_for(0, CLIENT).is_some(), "the burst is used up");
    }

    #[test]
    fn a_client_with_a_recent_authentic_request_is_never_blocked() {
        let (limit, clock) = limit();
        limit.record_authentic(0, CLIENT);
        (0..100).for_each(|_| limit.record_rejected(0, CLIENT));
        assert_eq!(limit.blocked_for(0, CLIENT), None);
        clock.advance(TRUST_DURATION);
        (0..4).for_each(|_| limit.record_rejected(0, CLIENT));
        assert!(limit.blocked_for(0, CLIENT).is_some(), "the trust has ended");
        limit.record_authentic(0, CLIENT);
        assert_eq!(limit.blocked_for(0, CLIENT), None);
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_the_number_of_clients_is_bounded() {
        let (limit, clock) = limit();
        let v6 = |n: u128| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | n));
        (0..4).for_each(|n| limit.record_rejected(0, v6(n)));
        assert!(limit.blocked_for(0, v6(99)).is_some());
        let others = 1..=2 * MAX_CLIENTS as u128;
        others.clone().for_each(|n| limit.record_rejected(0, v6(n << 64)));
        others.for_each(|n| limit.record_authentic(0, v6(n << 64)));
        assert_eq!(limit.limiter.len(), MAX_CLIENTS);
        assert_eq!(limit.state.lock().unwrap().trusted_until.len(), MAX_CLIENTS);
        clock.advance(TRUST_DURATION);
        limit.record_rejected(0, CLIENT);
        assert_eq!(limit.limiter.len(), 1);
        assert!(limit.state.lock().unwrap().trusted_until.is_empty());
    }
}
