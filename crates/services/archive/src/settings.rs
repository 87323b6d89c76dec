use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use service::units::duration;

use crate::retention::Retention;

/// The section `[archive]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSettings {
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// The maximum number of rows per insert.
    pub batch_rows: usize,
    /// The maximum time to wait until a batch is full.
    #[serde(with = "duration")]
    pub batch_wait: Duration,
    /// If true, the files of `schemas/clickhouse` are applied at start.
    pub migrate: bool,
    /// The pause before the first retry.
    #[serde(with = "duration")]
    pub retry_min: Duration,
    /// The maximum pause between retries.
    #[serde(with = "duration")]
    pub retry_max: Duration,
    /// After this many rejected rows in a row a partition is held; see [`kafka::Refusals`]. Zero means
    /// never.
    pub refusal_limit: u32,
    /// How long ClickHouse keeps rows.
    pub retention: Retention,
}

impl ArchiveSettings {
    /// Returns the pauses between retries, without end. Each is twice the last one, up to the
    /// maximum.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + use<> {
        let max = self.retry_max;
        std::iter::successors(Some(self.retry_min), move |&pause| Some(max.min(pause * 2)))
    }
}
