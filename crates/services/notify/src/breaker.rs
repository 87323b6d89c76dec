//! The circuit breaker of a channel: while its receiver is away, attempts of all messages pause together.

use std::time::Duration;

use tokio::time::Instant;

/// The number of failures in a row after which the circuit opens.
const FAILURES: u32 = 5;
/// How long it stays open before one attempt is made.
pub const OPEN_FOR: Duration = Duration::from_secs(30);
/// How long other messages wait while that attempt is in progress, before they ask again.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// The state of a circuit. *Closed* means that attempts are made.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    is_probing: bool,
}

/// What the result of an attempt changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerChange {
    /// Nothing.
    None,
    /// The circuit is open now; no attempt is made for [`OPEN_FOR`].
    Opened,
    /// The circuit is closed again.
    Closed,
}

impl Breaker {
    /// Returns `Ok` if an attempt may be made now. The caller must then report its result. Otherwise
    /// returns how long to wait before asking again.
    ///
    /// # Errors
    /// The pause, while the circuit is open.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.open_until {
            None => Ok(()),
            Some(until) if now < until => Err(until - now),
            Some(_) if self.is_probing => Err(PROBE_PAUSE),
            Some(_) => {
                self.is_probing = true;
                Ok(())
            }
        }
    }

    /// Records that the receiver has answered, even if it rejected the message.
    pub fn succeed(&mut self) -> BreakerChange {
        let was_open = std::mem::take(self).open_until.is_some();
        if was_open { BreakerChange::Closed } else { BreakerChange::None }
    }

    /// Records that the receiver did not answer or could not accept the message.
    pub fn fail(&mut self, now: Instant) -> BreakerChange {
        self.failures = self.failures.saturating_add(1);
        let was_open = self.open_until.is_some();
        if self.failures < FAILURES || (was_open && !self.is_probing) {
            return BreakerChange::None;
        }
        self.is_probing = false;
        self.open_until = Some(now + OPEN_FOR);
        if was_open { BreakerChange::None } else { BreakerChange::Opened }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_failure_opens_it_and_one_attempt_decides_after_the_pause() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 1..FAILURES {
            assert_eq!(breaker.admit(start), Ok(()));
            assert_eq!(breaker.fail(start), BreakerChange::None);
        }
        assert_eq!(breaker.fail(start), BreakerChange::Opened);
        assert_eq!(breaker.admit(start), Err(OPEN_FOR));
        // An attempt that began before the circuit opened changes nothing.
        assert_eq!(breaker.fail(start + OPEN_FOR / 2), BreakerChange::None);
        let later = start + OPEN_FOR;
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.admit(later), Err(PROBE_PAUSE), "one attempt only");
        assert_eq!(breaker.fail(later), BreakerChange::None);
        assert_eq!(breaker.admit(later), Err(OPEN_FOR));
        assert_eq!(breaker.admit(later + OPEN_FOR), Ok(()));
        assert_eq!(breaker.succeed(), BreakerChange::Closed);
        assert_eq!(breaker.admit(later), Ok(()));
        assert_eq!(breaker.fail(later), BreakerChange::None, "it counts from 0 again");
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..10 {
            for _ in 1..FAILURES {
                assert_eq!(breaker.fail(now), BreakerChange::None);
            }
            assert_eq!(breaker.succeed(), BreakerChange::None);
        }
    }
}
