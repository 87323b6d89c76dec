//! Limits: on requests that are refused, per client and source, and where an operator wants it, on
//! events that are not.
//!
//! What is costly about a forged request is finding out that it is one. A client whose requests to
//! a source were refused too often is turned away before its body is read. A client that has sent
//! that source something authentic lately never is: were it an attacker's neighbour behind one
//! address, or a balancer that is not in `ingress.trusted_proxies`, its webhooks would be lost.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// How long an authentic request speaks for its client.
const TRUST: Duration = Duration::from_secs(600);
/// Clients remembered at once, of either sort. Those that do not fit are not limited.
const MOST_CLIENTS: usize = 65_536;
/// While there are that many, how often it is looked whether some can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A client of one source.
type Key = (usize, IpAddr);

type PerClient<C> =
    RateLimiter<Key, HashMapStateStore<Key>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Who was refused, and who was not.
pub(crate) struct Refusals<C: Clock = DefaultClock> {
    refused: PerClient<C>,
    state: Mutex<State<C::Instant>>,
    clock: C,
}

struct State<T> {
    /// Until when a client is turned away.
    barred: HashMap<Key, T>,
    /// Until when a client is not.
    trusted: HashMap<Key, T>,
    next_sweep: T,
}

impl Refusals {
    /// So many refused requests of a client at once, and so many a minute after that.
    pub(crate) fn new(burst: NonZeroU32, per_minute: NonZeroU32) -> Self {
        Self::with_clock(burst, per_minute, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Refusals<C> {
    fn with_clock(burst: NonZeroU32, per_minute: NonZeroU32, clock: C) -> Self {
        let quota = Quota::per_minute(per_minute).allow_burst(burst);
        let refused = RateLimiter::hashmap_with_clock(quota, clock.clone());
        let (barred, trusted) = (HashMap::new(), HashMap::new());
        let state = State { barred, trusted, next_sweep: clock.now() };
        Self { refused, state: Mutex::new(state), clock }
    }

    /// How long a client is to wait, if its request is not to be looked at.
    pub(crate) fn barred(&self, source: usize, client: IpAddr) -> Option<Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.barred.is_empty() {
            return None;
        }
        let key = key(source, client);
        let until = *state.barred.get(&key)?;
        let now = self.clock.now();
        if until <= now {
            state.barred.remove(&key);
            return None;
        }
        Some(until.duration_since(now).into())
    }

    /// A request of the client was authentic.
    pub(crate) fn authentic(&self, source: usize, client: IpAddr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, until) = (key(source, client), self.clock.now() + TRUST.into());
        if state.trusted.len() >= MOST_CLIENTS && !state.trusted.contains_key(&key) {
            self.sweep(&mut state);
            if state.trusted.len() >= MOST_CLIENTS {
                return;
            }
        }
        state.trusted.insert(key, until);
        if !state.barred.is_empty() {
            state.barred.remove(&key);
        }
    }

    /// A request of the client was refused.
    pub(crate) fn refused(&self, source: usize, client: IpAddr) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, now) = (key(source, client), self.clock.now());
        if state.trusted.get(&key).is_some_and(|&until| now < until) {
            return;
        }
        if self.refused.len() >= MOST_CLIENTS {
            self.sweep(&mut state);
            if self.refused.len() >= MOST_CLIENTS {
                return;
            }
        }
        if let Err(too_often) = self.refused.check_key(&key) {
            state.barred.insert(key, too_often.earliest_possible());
        }
    }

    /// Forgets whom nothing is known of any more.
    fn sweep(&self, state: &mut State<C::Instant>) {
        let now = self.clock.now();
        if now < state.next_sweep {
            return;
        }
        state.next_sweep = now + SWEEP_EVERY.into();
        self.refused.retain_recent();
        state.barred.retain(|_, until| now < *until);
        state.trusted.retain(|_, until| now < *until);
    }
}

/// Who has one address of version 6 has 2⁶⁴ of them (RFC 6177): they count as one client.
fn key(source: usize, client: IpAddr) -> Key {
    let client = match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    };
    (source, client)
}

/// The events a source may post.
pub(crate) struct Pace {
    limiter: DefaultDirectRateLimiter,
    burst: NonZeroU32,
    clock: DefaultClock,
}

impl Pace {
    /// So many events a second, after so many at once.
    pub(crate) fn new(rate: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self { limiter: RateLimiter::direct(quota), burst, clock: DefaultClock::default() }
    }

    /// Takes so many events, or says after what time to ask again. More than the burst count as
    /// the burst: they could never be taken otherwise.
    pub(crate) fn take(&self, events: usize) -> Result<(), Duration> {
        let events = u32::try_from(events).unwrap_or(u32::MAX).min(self.burst.get());
        let Some(events) = NonZeroU32::new(events) else { return Ok(()) };
        match self.limiter.check_n(events) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(until.wait_time_from(self.clock.now())),
            Err(_) => Err(Duration::from_secs(1)), // not with at most the burst
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

    /// Three at once, one a second.
    fn refusals() -> (Refusals<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let number = |n| NonZeroU32::new(n).unwrap();
        (Refusals::with_clock(number(3), number(60), clock.clone()), clock)
    }

    #[test]
    fn who_is_refused_too_often_is_turned_away_for_a_while() {
        let (refusals, clock) = refusals();
        for _ in 0..3 {
            refusals.refused(0, CLIENT);
            assert_eq!(refusals.barred(0, CLIENT), None);
        }
        refusals.refused(0, CLIENT);
        let wait = refusals.barred(0, CLIENT).unwrap();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(refusals.barred(1, CLIENT), None, "another source");
        assert_eq!(refusals.barred(0, "192.0.2.8".parse().unwrap()), None, "another client");
        clock.advance(wait);
        assert_eq!(refusals.barred(0, CLIENT), None);
        refusals.refused(0, CLIENT);
        refusals.refused(0, CLIENT);
        assert!(refusals.barred(0, CLIENT).is_some(), "one a second, not three again");
    }

    #[test]
    fn whoever_sent_something_authentic_is_not() {
        let (refusals, clock) = refusals();
        refusals.authentic(0, CLIENT);
        (0..100).for_each(|_| refusals.refused(0, CLIENT));
        assert_eq!(refusals.barred(0, CLIENT), None);
        clock.advance(TRUST);
        (0..4).for_each(|_| refusals.refused(0, CLIENT));
        assert!(refusals.barred(0, CLIENT).is_some(), "that was long ago");
        refusals.authentic(0, CLIENT);
        assert_eq!(refusals.barred(0, CLIENT), None);
    }

    #[test]
    fn a_network_of_version_6_is_one_client_and_their_number_is_bounded() {
        let (refusals, clock) = refusals();
        let v6 = |n: u128| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | n));
        (0..4).for_each(|n| refusals.refused(0, v6(n)));
        assert!(refusals.barred(0, v6(99)).is_some());
        let others = 1..=2 * MOST_CLIENTS as u128;
        others.clone().for_each(|n| refusals.refused(0, v6(n << 64)));
        others.for_each(|n| refusals.authentic(0, v6(n << 64)));
        assert_eq!(refusals.refused.len(), MOST_CLIENTS);
        assert_eq!(refusals.state.lock().unwrap().trusted.len(), MOST_CLIENTS);
        clock.advance(TRUST);
        refusals.refused(0, CLIENT);
        assert_eq!(refusals.refused.len(), 1);
        assert!(refusals.state.lock().unwrap().trusted.is_empty());
    }

    #[test]
    fn a_pace_is_kept_beyond_its_burst_only() {
        let pace = Pace::new(NonZeroU32::MIN, NonZeroU32::new(10).unwrap());
        assert_eq!(pace.take(0), Ok(()));
        assert_eq!(pace.take(9), Ok(()));
        assert_eq!(pace.take(1), Ok(()));
        let wait = pace.take(5).unwrap_err();
        assert!(wait > Duration::from_secs(3) && wait <= Duration::from_secs(5), "{wait:?}");
        let whole = Pace::new(NonZeroU32::MIN, NonZeroU32::new(10).unwrap());
        assert_eq!(whole.take(50), Ok(()), "a large batch is taken when nothing was before");
        assert!(whole.take(1).is_err());
    }
}
