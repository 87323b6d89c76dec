//! When to try again.

use std::time::Duration;

/// How patient a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The first pause is at most this long.
    pub min: Duration,
    /// No pause is longer than this.
    pub max: Duration,
    /// After this much time since the first try there is none more.
    pub give_up_after: Duration,
}

/// Exponential backoff with full jitter: the n-th pause (from 0) is uniform between nothing and
/// `min(max, min · 2ⁿ)`, so that many deliveries that failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    retry: Retry,
    /// The longest the next pause may be.
    ceiling: Duration,
}

impl Backoff {
    /// Before the first failure.
    pub const fn new(retry: Retry) -> Self {
        Self { retry, ceiling: retry.min }
    }

    /// The pause after a failure, or `None` to give up.
    ///
    /// `elapsed` is the time since the first try; `random` is uniform in `0.0..1.0`; `asked` is the
    /// pause the other side asked for (`Retry-After`), honoured up to [`Retry::max`].
    pub fn next(
        &mut self,
        elapsed: Duration,
        random: f64,
        asked: Option<Duration>,
    ) -> Option<Duration> {
        let left = self.retry.give_up_after.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        let ceiling = self.ceiling.min(self.retry.max);
        self.ceiling = ceiling.saturating_mul(2);
        let asked = asked.unwrap_or_default().min(self.retry.max);
        // The last pause ends with the time, so that the last try is made then.
        Some(ceiling.mul_f64(random).max(asked).min(left))
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
    fn ceilings_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(RETRY);
        let ceilings: Vec<_> =
            (0..8).map(|_| backoff.next(ms(0), 1.0, None).unwrap().as_millis()).collect();
        assert_eq!(ceilings, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn the_jitter_is_full() {
        let pause = |random| Backoff::new(RETRY).next(ms(0), random, None).unwrap();
        assert_eq!(pause(0.0), ms(0));
        assert_eq!(pause(0.5), ms(250));
    }

    #[test]
    fn the_other_sides_wish_is_honoured_within_reason() {
        let pause = |asked| Backoff::new(RETRY).next(ms(0), 0.0, Some(asked)).unwrap();
        assert_eq!(pause(ms(7_000)), ms(7_000));
        assert_eq!(pause(ms(3_600_000)), ms(30_000));
    }

    #[test]
    fn the_last_try_is_when_time_is_up_and_then_it_gives_up() {
        let mut backoff = Backoff::new(RETRY);
        assert_eq!(backoff.next(ms(59_900), 1.0, None), Some(ms(100)));
        assert_eq!(backoff.next(ms(60_000), 1.0, None), None);
    }
}
