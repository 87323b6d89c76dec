//! The `[monitor]` section.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use window::Rule;

/// `[monitor]`; each key is explained in `deploy/mailpulse.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MonitorSettings {
    pub(crate) admin: SocketAddr,
    pub(crate) batch_records: usize,
    #[serde(with = "service::units::duration")]
    pub(crate) batch_wait: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) out_of_orderness: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) allowed_lateness: Duration,
    #[serde(with = "service::units::duration")]
    pub(crate) idle_after: Duration,
    pub(crate) rule: Vec<Rule>,
}

/// A duration of event time in microseconds.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
