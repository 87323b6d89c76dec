//! The circuit breaker of a receiver: while it is away, attempts of all messages pause together.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

/// How long other messages wait while that attempt is in progress, before they ask again.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// When a circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// The number of failures in a row after which the circuit opens.
    pub failures: NonZeroU32,
    /// How long it stays open before one attempt is made.
    #[serde(with = "service::units::duration")]
    pub open_for: Duration,
}

impl BreakerSettings {
    /// Five failures, and 30 s.
    pub const DEFAULT: Self =
        Self { failures: NonZeroU32::MIN.saturating_add(4), open_for: Duration::from_secs(30) };
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The state of a circuit. *Closed* means that attempts are made.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    failures: u32,
    open_until: Option<Instant>,
    is_probing: bool,
}

/// How an attempt was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// The circuit is closed.
    Normally,
    /// The circuit is open, and this attempt decides whether it closes.
    AsProbe,
}

/// What the result of an attempt changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerChange {
    /// Nothing.
    None,
    /// The circuit is open now; no attempt is made for [`BreakerSettings::open_for`].
    Opened,
    /// The circuit is closed again.
    Closed,
}

impl Breaker {
    /// Returns a closed circuit.
    pub const fn new(settings: BreakerSettings) -> Self {
        Self { settings, failures: 0, open_until: None, is_probing: false }
    }

    /// Returns `Ok` if an attempt may be made now. The caller must then report its result, or
    /// [abandon](Self::abandon) a probe. Otherwise returns how long to wait before asking again.
    ///
    /// # Errors
    /// The pause, while the circuit is open.
    pub fn admit(&mut self, now: Instant) -> Result<Admitted, Duration> {
        match self.open_until {
            None => Ok(Admitted::Normally),
            Some(until) if now < until => Err(until - now),
            Some(_) if self.is_probing => Err(PROBE_PAUSE),
            Some(_) => {
                self.is_probing = true;
                Ok(Admitted::AsProbe)
            }
        }
    }

    /// Records that an attempt that was admitted as a probe was not made to its end.
    pub const fn abandon(&mut self) {
        self.is_probing = false;
    }

    /// Records that the receiver has answered, even if it rejected the message.
    pub fn succeed(&mut self) -> BreakerChange {
        let was_open = self.open_until.is_some();
        *self = Self::new(self.settings);
        if was_open { BreakerChange::Closed } else { BreakerChange::None }
    }

    /// Records that the receiver did not answer or could not accept the message.
    pub fn fail(&mut self, now: Instant) -> BreakerChange {
        self.failures = self.failures.saturating_add(1);
        let was_open = self.open_until.is_some();
        if self.failures < self.settings.failures.get() || (was_open && !self.is_probing) {
            return BreakerChange::None;
        }
        self.is_probing = false;
        self.open_until = Some(now + self.settings.open_for);
        if was_open { BreakerChange::None } else { BreakerChange::Opened }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES: u32 = 5;
    const OPEN_FOR: Duration = Duration::from_secs(30);

    #[test]
    fn the_fifth_failure_opens_it_and_one_attempt_decides_after_the_pause() {
        let (mut breaker, start) = (Breaker::new(BreakerSettings::default()), Instant::now());
        for _ in 1..FAILURES {
            assert_eq!(breaker.admit(start), Ok(Admitted::Normally));
            assert_eq!(breaker.fail(start), BreakerChange::None);
        }
        assert_eq!(breaker.fail(start), BreakerChange::Opened);
        assert_eq!(breaker.admit(start), Err(OPEN_FOR));
        // An attempt that began before the circuit opened changes nothing.
        assert_eq!(breaker.fail(start + OPEN_FOR / 2), BreakerChange::None);
        let later = start + OPEN_FOR;
        assert_eq!(breaker.admit(later), Ok(Admitted::AsProbe));
        assert_eq!(breaker.admit(later), Err(PROBE_PAUSE), "one attempt only");
        breaker.abandon();
        assert_eq!(breaker.admit(later), Ok(Admitted::AsProbe), "the first one did not end");
        assert_eq!(breaker.fail(later), BreakerChange::None);
        assert_eq!(breaker.admit(later), Err(OPEN_FOR));
        assert_eq!(breaker.admit(later + OPEN_FOR), Ok(Admitted::AsProbe));
        assert_eq!(breaker.succeed(), BreakerChange::Closed);
        assert_eq!(breaker.admit(later), Ok(Admitted::Normally));
        assert_eq!(breaker.fail(later), BreakerChange::None, "it counts from 0 again");
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let (mut breaker, now) = (Breaker::new(BreakerSettings::default()), Instant::now());
        for _ in 0..10 {
            for _ in 1..FAILURES {
                assert_eq!(breaker.fail(now), BreakerChange::None);
            }
            assert_eq!(breaker.succeed(), BreakerChange::None);
        }
    }
}
