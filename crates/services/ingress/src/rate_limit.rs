//! Limits the events per second of a source.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// The limit of one source, if its `rate` is configured.
pub(crate) struct RateLimit {
    limiter: DefaultDirectRateLimiter,
    burst: NonZeroU32,
    clock: DefaultClock,
}

impl RateLimit {
    /// Allows `burst` events at once and `per_second` events per second after that.
    pub(crate) fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Self { limiter: RateLimiter::direct(quota), burst, clock: DefaultClock::default() }
    }

    /// Counts the events of a request if the limit allows them. A request with more events than
    /// the burst counts as the burst, because it could never be accepted otherwise.
    ///
    /// # Errors
    /// Returns how long to wait before the next try.
    pub(crate) fn check(&self, events: usize) -> Result<(), Duration> {
        let events = u32::try_from(events).unwrap_or(u32::MAX).min(self.burst.get());
        let Some(events) = NonZeroU32::new(events) else { return Ok(()) };
        match self.limiter.check_n(events) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(until.wait_time_from(self.clock.now())),
            Err(_) => Err(Duration::from_secs(1)), // unreachable: events <= burst
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_beyond_the_burst_must_wait() {
        let limit = RateLimit::new(NonZeroU32::MIN, NonZeroU32::new(10).unwrap());
        assert_eq!(limit.check(0), Ok(()));
        assert_eq!(limit.check(9), Ok(()));
        assert_eq!(limit.check(1), Ok(()));
        let wait = limit.check(5).unwrap_err();
        assert!(wait > Duration::from_secs(3) && wait <= Duration::from_secs(5), "{wait:?}");
    }

    #[test]
    fn a_request_larger_than_the_burst_is_accepted_if_the_whole_burst_is_available() {
        let limit = RateLimit::new(NonZeroU32::MIN, NonZeroU32::new(10).unwrap());
        assert_eq!(limit.check(50), Ok(()));
        assert!(limit.check(1).is_err());
    }
}
