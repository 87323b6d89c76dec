//! The pauses between the attempts of a delivery.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

/// The longest pause that a receiver may request with `Retry-After`, if the pauses of the settings are
/// shorter.
const MAX_REQUESTED: Duration = Duration::from_secs(5 * 60);
/// The greatest number of intervals in a list.
const MAX_INTERVALS: usize = 100;

/// How long and how often a delivery is retried.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    pauses: Pauses,
    /// The part of each pause that is random, from 0 to 1: a pause is uniformly distributed between
    /// `(1 - jitter) · pause` and `pause`. Deliveries that failed at the same time are therefore not
    /// retried at the same time.
    jitter: f64,
    /// The time after the first attempt at which the last attempt is made. `None`: after the last
    /// interval of the list.
    give_up_after: Option<Duration>,
    /// The longest pause that a receiver may request.
    max_requested: Duration,
}

/// How long the n-th pause is, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pauses {
    /// `min(max, min · 2ⁿ)`.
    Exponential { min: Duration, max: Duration },
    /// Always the same.
    Fixed(Duration),
    /// The n-th of these. After the last one, the delivery is given up.
    List(Arc<[Duration]>),
}

impl Retry {
    /// Returns exponential backoff with full jitter: the n-th pause is uniformly distributed between 0
    /// and `min(max, min · 2ⁿ)`. Pauses that receivers request are limited to `max`.
    pub const fn exponential(min: Duration, max: Duration, give_up_after: Duration) -> Self {
        Self {
            pauses: Pauses::Exponential { min, max },
            jitter: 1.0,
            give_up_after: Some(give_up_after),
            max_requested: max,
        }
    }

    /// Returns the time left for attempts, `elapsed` after the first one. `None` if it is not limited.
    pub fn left(&self, elapsed: Duration) -> Option<Duration> {
        self.give_up_after.map(|all| all.saturating_sub(elapsed))
    }

    fn pause(&self, number: u32) -> Option<Duration> {
        match &self.pauses {
            Pauses::Exponential { min, max } => {
                let factor = 2_u32.saturating_pow(number);
                Some(min.saturating_mul(factor).min(*max))
            }
            Pauses::Fixed(every) => Some(*every),
            Pauses::List(intervals) => intervals.get(usize::try_from(number).ok()?).copied(),
        }
    }
}

/// The settings of [`Retry`], such as `{ backoff = "fixed", every = "30s", give_up_after = "1h" }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "backoff", rename_all = "lowercase", deny_unknown_fields)]
pub enum RetrySettings {
    /// The pauses double, from `min` up to `max`.
    Exponential {
        #[serde(with = "service::units::duration")]
        min: Duration,
        #[serde(with = "service::units::duration")]
        max: Duration,
        #[serde(default = "full_jitter")]
        jitter: f64,
        #[serde(with = "service::units::duration")]
        give_up_after: Duration,
    },
    /// All pauses have the same length.
    Fixed {
        #[serde(with = "service::units::duration")]
        every: Duration,
        #[serde(default = "some_jitter")]
        jitter: f64,
        #[serde(with = "service::units::duration")]
        give_up_after: Duration,
    },
    /// One pause after another. After the last one and one more attempt, the delivery is given up.
    List {
        intervals: Vec<Interval>,
        #[serde(default = "some_jitter")]
        jitter: f64,
    },
}

/// A pause in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Interval(#[serde(with = "service::units::duration")] Duration);

const fn full_jitter() -> f64 {
    1.0
}

const fn some_jitter() -> f64 {
    0.1
}

impl RetrySettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// The key that cannot be used, and the problem.
    pub fn read(&self) -> Result<Retry, (&'static str, String)> {
        let (pauses, jitter, give_up_after) = match self {
            Self::Exponential { min, max, jitter, give_up_after } => {
                if min.is_zero() {
                    return Err(("min", "must be at least 1ms".to_owned()));
                }
                if max < min {
                    return Err(("max", "must be at least min".to_owned()));
                }
                let pauses = Pauses::Exponential { min: *min, max: *max };
                (pauses, *jitter, Some(*give_up_after))
            }
            Self::Fixed { every, jitter, give_up_after } => {
                if every.is_zero() {
                    return Err(("every", "must be at least 1ms".to_owned()));
                }
                (Pauses::Fixed(*every), *jitter, Some(*give_up_after))
            }
            Self::List { intervals, jitter } => {
                let intervals: Arc<[Duration]> = intervals.iter().map(|one| one.0).collect();
                if !(1..=MAX_INTERVALS).contains(&intervals.len())
                    || intervals.iter().any(Duration::is_zero)
                {
                    let problem =
                        format!("must have 1 to {MAX_INTERVALS} intervals of at least 1ms");
                    return Err(("intervals", problem));
                }
                (Pauses::List(intervals), *jitter, None)
            }
        };
        if !(0.0..=1.0).contains(&jitter) {
            return Err(("jitter", "must be between 0.0 and 1.0".to_owned()));
        }
        let longest = match &pauses {
            Pauses::Exponential { max: longest, .. } | Pauses::Fixed(longest) => *longest,
            Pauses::List(intervals) => intervals.iter().copied().max().unwrap_or_default(),
        };
        let max_requested = longest.max(MAX_REQUESTED);
        Ok(Retry { pauses, jitter, give_up_after, max_requested })
    }
}

/// The pauses of one delivery.
#[derive(Debug, Clone)]
pub struct Backoff {
    retry: Retry,
    failures: u32,
}

impl Backoff {
    /// Returns the state before the first failure.
    pub const fn new(retry: Retry) -> Self {
        Self { retry, failures: 0 }
    }

    /// Returns the pause after a failure, or `None` if the delivery must be given up.
    ///
    /// `elapsed` is the time since the first attempt. `random` is a random number in `0.0..1.0`.
    /// `requested` is the pause that the receiver requested with `Retry-After`, which is limited.
    pub fn next(
        &mut self,
        elapsed: Duration,
        random: f64,
        requested: Option<Duration>,
    ) -> Option<Duration> {
        let left = match self.retry.left(elapsed) {
            Some(left) if left.is_zero() => return None,
            left => left.unwrap_or(Duration::MAX),
        };
        let pause = self.retry.pause(self.failures)?;
        self.failures = self.failures.saturating_add(1);
        let pause = pause.mul_f64(1.0 - self.retry.jitter * (1.0 - random));
        let requested = requested.unwrap_or_default().min(self.retry.max_requested);
        // The last pause is shortened, so that the last attempt is made when the time is over.
        Some(pause.max(requested).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    const RETRY: Retry = Retry::exponential(ms(500), ms(30_000), ms(60_000));

    fn read(toml: &str) -> Result<Retry, (&'static str, String)> {
        toml::from_str::<RetrySettings>(toml).unwrap().read()
    }

    /// Returns the pauses in milliseconds until the delivery is given up, or the first eight.
    fn pauses(retry: &Retry, random: f64) -> Vec<u128> {
        let mut backoff = Backoff::new(retry.clone());
        let next = |_| backoff.next(ms(0), random, None).map(|pause| pause.as_millis());
        (0..8).map_while(next).collect()
    }

    #[test]
    fn the_longest_pause_doubles_up_to_the_maximum() {
        let expected = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000];
        assert_eq!(pauses(&RETRY, 1.0), expected);
        let mut backoff = Backoff::new(RETRY);
        for _ in 0..100 {
            assert!(backoff.next(ms(0), 1.0, None).unwrap() <= ms(30_000));
        }
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

    #[test]
    fn the_three_forms_are_read() {
        let exponential =
            "backoff = \"exponential\"\nmin = \"1s\"\nmax = \"3s\"\ngive_up_after = \"1h\"";
        assert_eq!(pauses(&read(exponential).unwrap(), 1.0)[..3], [1000, 2000, 3000]);
        let fixed = "backoff = \"fixed\"\nevery = \"2s\"\njitter = 0.5\ngive_up_after = \"1h\"";
        assert_eq!(pauses(&read(fixed).unwrap(), 0.0), [1000; 8], "half of each pause is random");
        assert_eq!(pauses(&read(fixed).unwrap(), 1.0), [2000; 8]);
        let list = "backoff = \"list\"\nintervals = [\"1s\", \"5s\", \"1m\"]\njitter = 0.0";
        assert_eq!(pauses(&read(list).unwrap(), 0.3), [1000, 5000, 60_000], "then it gives up");
    }

    #[test]
    fn what_cannot_work_is_an_error_that_names_the_key() {
        for (toml, key) in [
            (
                "backoff = \"exponential\"\nmin = \"0s\"\nmax = \"3s\"\ngive_up_after = \"1h\"",
                "min",
            ),
            (
                "backoff = \"exponential\"\nmin = \"4s\"\nmax = \"3s\"\ngive_up_after = \"1h\"",
                "max",
            ),
            ("backoff = \"fixed\"\nevery = \"0ms\"\ngive_up_after = \"1h\"", "every"),
            ("backoff = \"list\"\nintervals = []", "intervals"),
            ("backoff = \"list\"\nintervals = [\"1s\", \"0s\"]", "intervals"),
            ("backoff = \"list\"\nintervals = [\"1s\"]\njitter = 1.5", "jitter"),
            ("backoff = \"list\"\nintervals = [\"1s\"]\njitter = nan", "jitter"),
        ] {
            assert_eq!(read(toml).unwrap_err().0, key, "{toml}");
        }
        for toml in
            ["backoff = \"none\"", "backoff = \"list\"\nintervals = [\"1\"]", "every = \"1s\""]
        {
            assert!(toml::from_str::<RetrySettings>(toml).is_err(), "{toml}");
        }
    }
}
