//! The `[monitor]` section.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use window::Rule;

/// An event partition that has been silent for this many times `idle_after` is waited for no more.
/// A minute with the default: what a crashed feeder of the partition takes until it is missed, its
/// transaction is ended and another has taken over.
const GONE_AFTER_IDLE: u32 = 12;

/// `[monitor]`; each key is explained in `deploy/mailpulse.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MonitorSettings {
    pub(crate) admin: SocketAddr,
    pub(crate) batch_records: usize,
    #[serde(with = "service::units::duration")]
    pub(crate) batch_wait: Duration,
    pub(crate) refusals_to_hold: u32,
    #[serde(with = "service::units::duration")]
    out_of_orderness: Duration,
    #[serde(with = "service::units::duration")]
    allowed_lateness: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) idle_after: Duration,
    pub(crate) rule: Vec<Rule>,
}

impl MonitorSettings {
    /// How much older than the newest event of its partition an event may be and still be in time,
    /// microseconds of event time.
    pub(crate) fn out_of_orderness(&self) -> i64 {
        micros(self.out_of_orderness)
    }

    /// How much older than its partition's watermark an event may be and still count, microseconds
    /// of event time. Fold decides by it.
    pub(crate) fn allowed_lateness(&self) -> i64 {
        micros(self.allowed_lateness)
    }

    /// After how much silence an event partition is waited for no more.
    pub(crate) fn gone_after(&self) -> Duration {
        self.idle_after.saturating_mul(GONE_AFTER_IDLE)
    }

    /// How far, in microseconds of event time, a quiet partition may be left behind. In live
    /// traffic it is never as far behind as it has been silent.
    pub(crate) fn slack(&self) -> i64 {
        self.allowed_lateness().max(micros(self.gone_after()))
    }

    /// How long after its end a pane takes deltas, microseconds of event time: so long that rate
    /// takes all that fold let pass, even from a partition left behind by the slack. Only one that
    /// nobody waits for any more can bring what is too late here.
    pub(crate) fn pane_lateness(&self) -> i64 {
        self.allowed_lateness().saturating_add(self.slack())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
