use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use kafka::BatchSettings;
use serde::Deserialize;
use state::Horizons;

use crate::heuristics::Heuristics;

const HOUR: Duration = Duration::from_secs(3600);

/// The section `[dedupe]`. `deploy/mailpulse.toml` explains the keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DedupeSettings {
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// The maximum number of records per transaction.
    batch_records: usize,
    /// The size of a transaction in bytes.
    batch_bytes: usize,
    /// The maximum time to wait until a batch is full.
    #[serde(with = "service::units::duration")]
    batch_wait: Duration,
    /// After this many dead letters in a row a partition is held; 0 means never.
    refusal_limit: u32,
    /// How far back, in event time, a duplicate is recognised.
    #[serde(with = "service::units::duration")]
    horizon: Duration,
    /// How far back, in event time, the events of a message are remembered.
    #[serde(with = "service::units::duration")]
    remember: Duration,
    /// The directory of the local state. Each process needs its own.
    pub directory: PathBuf,
    /// An open or click that follows the delivery sooner than this counts as a machine's.
    #[serde(with = "service::units::duration")]
    immediate_within: Duration,
    /// This many different links of a message, followed within `link_burst_within`, count as a
    /// machine's.
    link_burst_links: u32,
    #[serde(with = "service::units::duration")]
    link_burst_within: Duration,
}

impl DedupeSettings {
    /// Returns the horizons in whole hours, rounded up, because the state expires by the hour.
    pub fn horizons(&self) -> Horizons {
        let hours = |duration: Duration| {
            u32::try_from(duration.as_secs().div_ceil(HOUR.as_secs())).unwrap_or(u32::MAX)
        };
        Horizons::new(hours(self.horizon), hours(self.remember))
    }

    /// Returns the limits for recognising machines.
    pub fn heuristics(&self) -> Heuristics {
        Heuristics::new(self.immediate_within, self.link_burst_links, self.link_burst_within)
    }

    /// Returns the size of a transaction and the refusal limit.
    pub const fn batch(&self) -> BatchSettings {
        BatchSettings {
            records: self.batch_records,
            bytes: self.batch_bytes,
            wait: self.batch_wait,
            refusal_limit: self.refusal_limit,
        }
    }
}
