//! Consume, process, produce, commit: exactly once, in Kafka transactions.
//!
//! One thread, one consumer, one transactional producer. A round is: collect a batch, hand every
//! record to the [`Step`], commit its outputs and the input offsets in one transaction. The batch is
//! collected before the transaction begins, so a rebalance never meets an open one: records of a
//! partition that was taken away are dropped from the batch and read by their new owner.
//!
//! Failure: whatever Kafka says, the producer is rebuilt under the same transactional id (which
//! ends the old transaction), the committed offset is read back to learn whether the commit had
//! happened after all, and if not the batch is read again. A step whose own state fails ends the
//! process: its supervisor starts it anew from what Kafka has. A partition whose records are refused
//! one and all is held, and the others go on.

mod batch;
mod member;

use std::time::{Duration, Instant};

use member::Member;

use crate::changelog::Restore;
use crate::{Connection, Output, Record, StreamError, TopicPartition};

/// What a binary does with its records. All methods run on the loop's thread.
///
/// The order of calls: `assigned` before a partition's first record; then per round `quiet` for
/// partitions at their end, `before_round`, `record` for each, `end_of_round`, and exactly one of
/// `committed` and `rolled_back`. State touched by a round must stay an overlay until `committed`.
pub trait Step {
    /// A partition is ours from now on: restore what its predecessor knew.
    fn assigned(
        &mut self,
        partition: &TopicPartition,
        restore: &Restore<'_>,
    ) -> Result<(), StreamError>;

    /// A partition is ours no longer; nothing of it is uncommitted.
    fn revoked(&mut self, partition: &TopicPartition);

    /// All records of the round that begins, no transaction being open yet: for asking in one go for
    /// what takes time to answer. Also called for rounds without records.
    fn before_round(&mut self, _records: &mut dyn Iterator<Item = Record<'_>>) {}

    /// One record, in the order of its partition.
    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError>;

    /// A partition whose end was reached and that has had no record for this long.
    fn quiet(&mut self, _partition: &TopicPartition, _since: Duration) {}

    /// All records of the round were handed over; what is to be said once per commit is said here.
    /// Also called for rounds without records.
    fn end_of_round(&mut self, _out: &mut Output<'_>) -> Result<(), StreamError> {
        Ok(())
    }

    /// Text committed with the partition's offset, returned by [`Restore::metadata`].
    fn offset_metadata(&self, _partition: &TopicPartition) -> String {
        String::new()
    }

    /// The round is durable and visible.
    fn committed(&mut self) -> Result<(), StreamError>;

    /// The round did not happen; its records come again.
    fn rolled_back(&mut self);

    /// Whether `rolled_back` keeps nothing: then `assigned` follows for every partition we own.
    /// For steps that change their state in place and would rather read it back than undo.
    fn restores_after_rollback(&self) -> bool {
        false
    }
}

/// What a loop reads, and in what portions.
#[derive(Debug, Clone)]
pub struct StepSettings {
    /// The binary's name (and half), for client ids, metrics and dead letters.
    pub job: &'static str,
    /// Consumer group; also the stem of the transactional id.
    pub group: String,
    /// Topics to read.
    pub inputs: Vec<String>,
    /// Partitions of all inputs together: bounds what is fetched ahead.
    pub input_partitions: usize,
    /// Where records go that cannot be processed.
    pub dead_letters: String,
    /// Records per transaction at most.
    pub batch_records: usize,
    /// How long to wait for them.
    pub batch_wait: Duration,
    /// After so many dead letters in a row a partition is held, and tried again once a minute: it
    /// must be our fault. 0 for no limit.
    pub refusals_to_hold: u32,
}

/// How often the tallies are exported.
const REPORT: Duration = Duration::from_secs(1);

/// Runs the step until `stop` says so; the round under way is finished first.
///
/// `beat` is called once a round with whether partitions are assigned and restored.
pub fn run(
    connection: &Connection,
    settings: &StepSettings,
    step: &mut impl Step,
    stop: &dyn Fn() -> bool,
    beat: &dyn Fn(bool),
) -> Result<(), StreamError> {
    let consumer = member::subscribe(connection, settings)?;
    let mut member = Member::new(connection, settings, &consumer)?;
    let mut reported = Instant::now();
    while !stop() {
        let batch = member.collect(stop)?;
        let batch = member.settle_ownership(step, batch)?;
        member.process(step, &batch)?;
        beat(member.has_partitions());
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            member.report();
        }
    }
    tracing::info!(job = settings.job, "stopped after the last commit");
    Ok(())
}
