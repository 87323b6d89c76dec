use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// `/livez` reports a process as stuck if its last [`Health::mark_alive`] is older than this.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);

/// The state behind `/readyz` and `/livez`. Clones share it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    readiness: Mutex<Readiness>,
    started: Instant,
    /// Milliseconds from `started` to the last `mark_alive`, plus one; 0 before the first call.
    alive_at: AtomicU64,
}

/// Whether the process can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The process has not started its work yet.
    Starting,
    /// The process does its work.
    Ready,
    /// The process runs but cannot work, for this reason.
    Held(String),
    /// The process finishes what it has begun and then ends.
    Draining,
}

/// Whether the process's main loop makes progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// The main loop makes progress, or never called [`Health::mark_alive`].
    Alive,
    /// The last [`Health::mark_alive`] is this old, which is more than [`STUCK_AFTER`].
    Stuck(Duration),
}

impl Health {
    /// Returns the state of a process that is starting.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            readiness: Mutex::new(Readiness::Starting),
            started: Instant::now(),
            alive_at: AtomicU64::new(0),
        }))
    }

    /// Makes the process ready. Ends a hold.
    pub fn ready(&self) {
        self.change(Readiness::Ready);
    }

    /// Makes the process not ready until [`Health::ready`], because it waits for something such as
    /// "ClickHouse is away: connection refused". The process keeps running.
    pub fn hold(&self, reason: impl Into<String>) {
        self.change(Readiness::Held(reason.into()));
    }

    /// Call it once per iteration of a consumer loop. Marks the loop alive, and makes the process ready
    /// if partitions are assigned to it. A process without partitions is starting until it gets the
    /// first one, and held after it loses the last one.
    pub fn report_assignment(&self, has_partitions: bool) {
        self.mark_alive();
        if has_partitions {
            self.ready();
        } else if self.readiness() != Readiness::Starting {
            self.hold("no partition is assigned to this member");
        }
    }

    /// Makes the process not ready for good, because it is ending.
    pub fn draining(&self) {
        self.change(Readiness::Draining);
    }

    /// Returns the state that `/readyz` reports.
    pub fn readiness(&self) -> Readiness {
        self.0.readiness.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that the main loop makes progress. After the first call `/livez` reports the process
    /// as stuck if calls stop for [`STUCK_AFTER`].
    pub fn mark_alive(&self) {
        let elapsed = self.0.started.elapsed().as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX - 1);
        self.0.alive_at.store(elapsed + 1, Ordering::Relaxed);
    }

    /// Returns the state that `/livez` reports.
    pub fn liveness(&self) -> Liveness {
        self.liveness_at(self.0.started.elapsed())
    }

    fn liveness_at(&self, since_start: Duration) -> Liveness {
        let Some(alive_at) = self.0.alive_at.load(Ordering::Relaxed).checked_sub(1) else {
            return Liveness::Alive;
        };
        let age = since_start.saturating_sub(Duration::from_millis(alive_at));
        if age > STUCK_AFTER { Liveness::Stuck(age) } else { Liveness::Alive }
    }

    fn change(&self, to: Readiness) {
        let mut readiness = self.0.readiness.lock().unwrap_or_else(PoisonError::into_inner);
        if *readiness == to || *readiness == Readiness::Draining {
            return;
        }
        match &to {
            Readiness::Held(reason) => tracing::warn!(reason, "service is not ready"),
            Readiness::Starting | Readiness::Ready => tracing::info!("service is ready"),
            Readiness::Draining => tracing::info!("service is draining"),
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
        health.report_assignment(false);
        assert_eq!(health.readiness(), Readiness::Starting);
        health.report_assignment(true);
        assert_eq!(health.readiness(), Readiness::Ready);
        health.report_assignment(false);
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
    fn only_a_loop_that_was_alive_once_can_be_stuck() {
        let health = Health::new();
        let later = STUCK_AFTER * 10;
        assert_eq!(health.liveness_at(later), Liveness::Alive);
        health.mark_alive();
        assert_eq!(health.liveness_at(STUCK_AFTER), Liveness::Alive);
        assert!(matches!(health.liveness_at(later), Liveness::Stuck(age) if age > STUCK_AFTER));
    }
}
