//! Limits the log lines about rejected requests and failed handshakes, so that an attack does not fill the disk.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// How many lines are written at once.
const BURST: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// How many lines per second are written after that.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();

/// Decides which rejected requests, or which failed handshakes, are logged. The metrics count all of them.
pub(crate) struct RejectionLog<C: Clock = DefaultClock> {
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    omitted: AtomicU64,
}

impl RejectionLog {
    pub(crate) fn new() -> Self {
        Self::with_clock(DefaultClock::default())
    }
}

impl<C: Clock> RejectionLog<C> {
    fn with_clock(clock: C) -> Self {
        let limiter =
            RateLimiter::direct_with_clock(Quota::per_second(PER_SECOND).allow_burst(BURST), clock);
        Self { limiter, omitted: AtomicU64::new(0) }
    }

    /// Returns the number of lines that were omitted since the last line, or `None` if this one
    /// is omitted too.
    pub(crate) fn next(&self) -> Option<u64> {
        if self.limiter.check().is_ok() {
            return Some(self.omitted.swap(0, Ordering::Relaxed));
        }
        self.omitted.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn lines_beyond_the_burst_are_omitted_and_counted() {
        let clock = FakeRelativeClock::default();
        let log = RejectionLog::with_clock(clock.clone());
        assert!((0..BURST.get()).all(|_| log.next() == Some(0)));
        assert!((0..7).all(|_| log.next().is_none()));
        clock.advance(Duration::from_millis(100));
        assert_eq!(log.next(), Some(7));
        assert_eq!(log.next(), None);
    }
}
