use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How old the last [`Health::beat`] may be before `/livez` says the process is stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);

/// What a process says about itself on `/readyz` and `/livez`. All clones are one.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    readiness: Mutex<Readiness>,
    started: Instant,
    /// Milliseconds from `started` to the last beat, plus one; 0 before the first.
    beat: AtomicU64,
}

/// Whether the process does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet.
    Starting,
    /// Yes.
    Ready,
    /// It runs, and something keeps it from working.
    Held(String),
    /// It was told to stop and finishes what it has.
    Draining,
}

/// Whether the process's main loop moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It does, or never beat and so is not watched.
    Alive,
    /// The last beat is this old, more than [`STUCK_AFTER`].
    Stuck(Duration),
}

impl Health {
    /// A process that is starting.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            readiness: Mutex::new(Readiness::Starting),
            started: Instant::now(),
            beat: AtomicU64::new(0),
        }))
    }

    /// Work goes on. Ends a hold.
    pub fn ready(&self) {
        self.change(Readiness::Ready);
    }

    /// Work waits for something that may pass, such as "ClickHouse is away: connection refused".
    /// The process stays up and is not ready until [`Health::ready`].
    pub fn hold(&self, reason: impl Into<String>) {
        self.change(Readiness::Held(reason.into()));
    }

    /// For the loop of a consumer group's member, once a round: it moves, and it has partitions to
    /// work on or not. Starting until the first are assigned; held when all are lost.
    pub fn report(&self, is_assigned: bool) {
        self.beat();
        if is_assigned {
            self.ready();
        } else if self.readiness() != Readiness::Starting {
            self.hold("no partition is assigned to this member");
        }
    }

    /// The process is ending. Final.
    pub fn draining(&self) {
        self.change(Readiness::Draining);
    }

    /// What `/readyz` says.
    pub fn readiness(&self) -> Readiness {
        self.0.readiness.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The main loop moves. From the first beat on it is watched: see [`STUCK_AFTER`].
    pub fn beat(&self) {
        let elapsed = self.0.started.elapsed().as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX - 1);
        self.0.beat.store(elapsed + 1, Ordering::Relaxed);
    }

    /// What `/livez` says.
    pub fn liveness(&self) -> Liveness {
        self.liveness_at(self.0.started.elapsed())
    }

    fn liveness_at(&self, since_start: Duration) -> Liveness {
        let Some(beat) = self.0.beat.load(Ordering::Relaxed).checked_sub(1) else {
            return Liveness::Alive;
        };
        let age = since_start.saturating_sub(Duration::from_millis(beat));
        if age > STUCK_AFTER { Liveness::Stuck(age) } else { Liveness::Alive }
    }

    fn change(&self, to: Readiness) {
        let mut readiness = self.0.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        if *readiness == to || *readiness == Readiness::Draining {
            return;
        }
        match &to {
            Readiness::Held(reason) => tracing::warn!(reason, "not ready"),
            Readiness::Starting | Readiness::Ready => tracing::info!("ready"),
            Readiness::Draining => tracing::info!("draining"),
        }
        *readiness = to;
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_ends_and_draining_does_not() {
        let health = Health::new();
        health.report(false);
        assert_eq!(health.readiness(), Readiness::Starting);
        health.report(true);
        assert_eq!(health.readiness(), Readiness::Ready);
        health.report(false);
        assert!(matches!(health.readiness(), Readiness::Held(_)));
        health.hold("Kafka is away");
        assert_eq!(health.readiness(), Readiness::Held("Kafka is away".into()));
        health.ready();
        assert_eq!(health.readiness(), Readiness::Ready);
        health.draining();
        health.ready();
        assert_eq!(health.readiness(), Readiness::Draining);
    }

    #[test]
    fn only_a_loop_that_beat_once_can_be_stuck() {
        let health = Health::new();
        let later = STUCK_AFTER * 10;
        assert_eq!(health.liveness_at(later), Liveness::Alive);
        health.beat();
        assert_eq!(health.liveness_at(STUCK_AFTER), Liveness::Alive);
        assert!(matches!(health.liveness_at(later), Liveness::Stuck(age) if age > STUCK_AFTER));
    }
}
