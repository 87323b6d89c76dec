//! Limits the rejected requests of a client.
//!
//! Verification is the costly part of a forged request. If a source has rejected too many requests
//! of a client, the client is suspect. Its requests are still verified, because an attacker may
//! share the apparent address of the provider, behind a load balancer that is missing from
//! `ingress.trusted_proxies` for example. But few of them are verified at the same time, and under
//! load some are rejected without.
//!
//! A client that has recently sent an authentic request to the same source is never suspect.
//!
//! Requests to paths without a source count too, as those of the source [`NO_SOURCE`]. A client with
//! too many of them is suspect everywhere, and gets the same answer whether a source exists or not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use service::client_limit::network;

/// The index that stands for all paths without a source.
pub(crate) const NO_SOURCE: usize = usize::MAX;
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
    /// Until when each client is suspect.
    suspect_until: HashMap<Key, T>,
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
            suspect_until: HashMap::new(),
            trusted_until: HashMap::new(),
            next_cleanup: clock.now(),
        };
        Self { limiter, state: Mutex::new(state), clock }
    }

    /// Returns how long the client is still suspect, or `None` if it is not.
    pub(crate) fn suspect_for(&self, source: usize, client: IpAddr) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.suspect_until.is_empty() {
            return None;
        }
        let now = self.clock.now();
        let own = key(source, client);
        if state.trusted_until.get(&own).is_some_and(|&until| now < until) {
            return None;
        }
        let remaining = [own, key(NO_SOURCE, client)].map(|key| {
            let until = *state.suspect_until.get(&key)?;
            if until <= now {
                state.suspect_until.remove(&key);
                return None;
            }
            Some(until.duration_since(now).into())
        });
        remaining.into_iter().flatten().max()
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
        if !state.suspect_until.is_empty() {
            state.suspect_until.remove(&key);
        }
    }

    /// Counts a rejected request. The client becomes suspect if there were too many.
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
            state.suspect_until.insert(key, too_many.earliest_possible());
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
        state.suspect_until.retain(|_, until| now < *until);
        state.trusted_until.retain(|_, until| now < *until);
    }
}

const fn key(source: usize, client: IpAddr) -> Key {
    (source, network(client))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

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
    fn a_client_with_too_many_rejected_requests_is_suspect_for_a_while() {
        let (limit, clock) = limit();
        for _ in 0..3 {
            limit.record_rejected(0, CLIENT);
            assert_eq!(limit.suspect_for(0, CLIENT), None);
        }
        limit.record_rejected(0, CLIENT);
        let wait = limit.suspect_for(0, CLIENT).unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(limit.suspect_for(1, CLIENT), None, "another source");
        assert_eq!(limit.suspect_for(0, "192.0.2.8".parse().unwrap()), None, "another client");
        clock.advance(wait);
        assert_eq!(limit.suspect_for(0, CLIENT), None);
        limit.record_rejected(0, CLIENT);
        limit.record_rejected(0, CLIENT);
        assert!(limit.suspect_for(0, CLIENT).is_some(), "the burst is used up");
    }

    #[test]
    fn a_client_with_a_recent_authentic_request_is_never_suspect() {
        let (limit, clock) = limit();
        limit.record_authentic(0, CLIENT);
        (0..100).for_each(|_| limit.record_rejected(0, CLIENT));
        assert_eq!(limit.suspect_for(0, CLIENT), None);
        clock.advance(TRUST_DURATION);
        (0..4).for_each(|_| limit.record_rejected(0, CLIENT));
        assert!(limit.suspect_for(0, CLIENT).is_some(), "the trust has ended");
        limit.record_authentic(0, CLIENT);
        assert_eq!(limit.suspect_for(0, CLIENT), None);
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_the_number_of_clients_is_bounded() {
        let (limit, clock) = limit();
        let v6 = |n: u128| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | n));
        (0..4).for_each(|n| limit.record_rejected(0, v6(n)));
        assert!(limit.suspect_for(0, v6(99)).is_some());
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

    #[test]
    fn a_client_that_guesses_paths_is_suspect_everywhere_except_where_it_is_trusted() {
        let (limit, _) = limit();
        limit.record_authentic(1, CLIENT);
        (0..4).for_each(|_| limit.record_rejected(NO_SOURCE, CLIENT));
        assert!(limit.suspect_for(NO_SOURCE, CLIENT).is_some());
        assert!(limit.suspect_for(0, CLIENT).is_some());
        assert_eq!(limit.suspect_for(1, CLIENT), None, "trusted");
        assert_eq!(limit.suspect_for(0, "192.0.2.8".parse().unwrap()), None);
    }
}
