//! Refusals that have become the rule: then it is not the records that are bad. A release of ours
//! that reads them wrongly, or a provider's new format, would empty whole topics into the dead
//! letters; so the partition is held instead, and tried again now and then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use metrics::gauge;

use crate::TopicPartition;

/// How long a partition is held before it is tried again.
const HOLD: Duration = Duration::from_secs(60);

/// Counts refusals in a row, by partition.
pub(crate) struct Guard {
    job: &'static str,
    limit: u32,
    in_a_row: HashMap<TopicPartition, u32>,
    /// As it was when the round began.
    before: HashMap<TopicPartition, u32>,
    held: HashMap<TopicPartition, Instant>,
}

impl Guard {
    /// `limit` refusals in a row hold a partition; 0 for no limit.
    pub(crate) fn new(job: &'static str, limit: u32) -> Self {
        let (in_a_row, before, held) = Default::default();
        Self { job, limit, in_a_row, before, held }
    }

    /// A round begins.
    pub(crate) fn begin(&mut self) {
        self.before.clone_from(&self.in_a_row);
    }

    /// The round did not happen.
    pub(crate) fn undo(&mut self) {
        self.in_a_row.clone_from(&self.before);
    }

    /// A record was not refused.
    pub(crate) fn taken(&mut self, partition: impl FnOnce() -> TopicPartition) {
        // Nearly always there is nothing to forget, and no name to be put together.
        if !self.in_a_row.is_empty() {
            self.in_a_row.remove(&partition());
        }
    }

    /// A record was refused. Returns the number in a row when the partition is to be held.
    pub(crate) fn refused(&mut self, partition: &TopicPartition) -> Option<u32> {
        let in_a_row = self.in_a_row.entry(partition.clone()).or_default();
        *in_a_row += 1;
        (self.limit > 0 && *in_a_row >= self.limit).then_some(*in_a_row)
    }

    /// The partition is held from now on.
    pub(crate) fn hold(&mut self, partition: TopicPartition) {
        self.show(&partition, 1.0);
        self.held.insert(partition, Instant::now());
    }

    /// A partition that was held long enough and is to be tried again.
    pub(crate) fn release(&mut self) -> Option<TopicPartition> {
        let due = self.held.iter().find(|(_, since)| since.elapsed() >= HOLD);
        let partition = due.map(|(partition, _)| partition.clone())?;
        self.held.remove(&partition);
        self.show(&partition, 0.0);
        Some(partition)
    }

    /// The partition is ours no longer.
    pub(crate) fn forget(&mut self, partition: &TopicPartition) {
        self.in_a_row.remove(partition);
        if self.held.remove(partition).is_some() {
            self.show(partition, 0.0);
        }
    }

    fn show(&self, TopicPartition { topic, partition }: &TopicPartition, held: f64) {
        gauge!("mailpulse_partition_held",
            "job" => self.job, "topic" => topic.clone(), "partition" => partition.to_string())
        .set(held);
    }
}
