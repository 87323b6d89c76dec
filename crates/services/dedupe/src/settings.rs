use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use record::Topics;
use serde::Deserialize;
use kafka::TopicSettings;
use kafka::step::StepSettings;

use crate::heuristics::Heuristics;

const HOUR: Duration = Duration::from_secs(3600);

/// `[dedupe]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DedupeSettings {
    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub admin: SocketAddr,
    /// Records per transaction at most.
    batch_records: usize,
    /// How long to wait for them.
    #[serde(with = "service::units::duration")]
    batch_wait: Duration,
    /// After so many dead letters in a row a partition is held.
    refusals_to_hold: u32,
    /// How far back, in event time, a repeat is recognised.
    #[serde(with = "service::units::duration")]
    horizon: Duration,
    /// Of the local copy of the ids seen; this member's alone.
    pub directory: PathBuf,
    /// An open or click sooner after the delivery is held to be a machine's.
    #[serde(with = "service::units::duration")]
    immediate: Duration,
    /// So many different links of a message followed within `burst_within` are held to be too.
    burst_links: u32,
    #[serde(with = "service::units::duration")]
    burst_within: Duration,
}

impl DedupeSettings {
    /// The horizon in whole hours, rounded up: ids are kept by the hour.
    pub fn horizon_hours(&self) -> u32 {
        u32::try_from(self.horizon.as_secs().div_ceil(HOUR.as_secs())).unwrap_or(u32::MAX)
    }

    /// What gives a machine away.
    pub fn heuristics(&self) -> Heuristics {
        Heuristics::new(self.immediate, self.burst_links, self.burst_within)
    }

    /// What the loop reads.
    pub fn step(&self, topics: &Topics, layout: TopicSettings) -> StepSettings {
        StepSettings {
            job: "dedupe",
            group: topics.group("dedupe"),
            inputs: vec![topics.enriched.clone()],
            input_partitions: usize::try_from(layout.recipient_partitions).unwrap_or(1),
            dead_letters: topics.dead_letters.clone(),
            batch_records: self.batch_records,
            batch_wait: self.batch_wait,
            refusals_to_hold: self.refusals_to_hold,
        }
    }
}
