//! The pauses between the attempts of a delivery.

use std::time::Duration;

/// How long and how often a delivery is retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The maximum length of the first pause.
    pub min: Duration,
    /// The maximum length of every pause.
    pub max: Duration,
    /// The time after the first attempt at which the last attempt is made.
    pub give_up_after: Duration,
}

/// Exponential backoff with full jitter: the n-th pause (counted from 0) is uniformly distributed
/// between 0 and `min(max, min · 2ⁿ)`. Deliveries that failed at the same time are therefore not
/// retried at the same time.
#[derive(Debug, Clone)]
pub struct Backoff {
    retry: Retry,
    /// The maximum length of the next pause, before it is limited to [`Retry::max`].
    ceiling: Duration,
}

impl Backoff {
    /// Returns the state before the first failure.
    pub const fn new(retry: Retry) -> Self {
        Self { retry, ceiling: retry.min }
    }

    /// Returns the pause after a failure, or `None` if the delivery must be given up.
    ///
    /// `elapsed` is the time since the first attempt. `random` is a random number in `0.0..1.0`.
    /// `requested` is the pause that the receiver requested with `Retry-After`; it is limited to
    /// [`Retry::max`].
    pub fn next(
        &mut self,
        elapsed: Duration,
        random: f64,
        requested: Option<Duration>,
    ) -> Option<Duration> {
        let left = self.retry.give_up_after.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        let ceiling = self.ceiling.min(self.retry.max);
        self.ceiling = ceiling.saturating_mul(2);
        let requested = requested.unwrap_or_default().min(self.retry.max);
        // The last pause is shortened, so that the last attempt is made when the time is over.
        Some(ceiling.mul_f64(random).max(requested).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    const RETRY: Retry = Retry { min: ms(500), max: ms(30_000), give_up_after: ms(60_000) };

    #[test]
    fn the_longest_pause_doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(RETRY);
        let ceilings: Vec<_> =
            (0..8).map(|_| backoff.next(ms(0), 1.0, None).unwrap().as_millis()).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn the_pause_is_proportional_to_the_random_number() {
        let pause = |random| Backoff::new(RETRY).next(ms(0), random, None).unwrap();
        assert_eq!(pause(0.0), ms(0));
        assert_eq!(pause(0.5), ms(250));
    }

    #[test]
    fn a_requested_pause_is_honoured_up_to_the_maximum() {
        let pause = |requested| Backoff::new(RETRY).next(ms(0), 0.0, Some(requested)).unwrap();
        assert_eq!(pause(ms(7_000)), ms(7_000));
        assert_eq!(pause(ms(3_600_000)), ms(30_000));
    }

    #[test]
    fn the_last_attempt_is_made_when_the_time_is_over() {
        let mut backoff = Backoff::new(RETRY);
        assert_eq!(backoff.next(ms(59_900), 1.0, None), Some(ms(100)));
        assert_eq!(backoff.next(ms(60_000), 1.0, None), None);
    }
}
