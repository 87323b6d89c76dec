use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use service::units::duration;

/// `[archive]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSettings {
    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub admin: SocketAddr,
    /// Rows per insert at most.
    pub batch_rows: usize,
    /// How long to wait for them.
    #[serde(with = "duration")]
    pub batch_wait: Duration,
    /// Whether `schemas/clickhouse` is applied at start.
    pub migrate: bool,
    /// The first pause between tries of what may yet succeed.
    #[serde(with = "duration")]
    pub retry_min: Duration,
    /// The longest.
    #[serde(with = "duration")]
    pub retry_max: Duration,
    /// This many refused rows in a row, and the partition is held.
    pub refusals_to_hold: u32,
}

impl ArchiveSettings {
    /// The pauses between tries: each twice the last, up to the longest.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        let longest = self.retry_max;
        std::iter::successors(Some(self.retry_min), move |&pause| Some(longest.min(pause * 2)))
    }
}
