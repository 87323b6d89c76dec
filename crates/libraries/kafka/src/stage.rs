//! Exactly-once processing: consume, process, produce and commit in one Kafka transaction.
//!
//! A loop runs on one thread with one consumer and one transactional producer. It collects a batch,
//! passes every record to the [`Stage`], and commits the outputs and the input offsets in one
//! transaction. The batch is complete before its transaction begins, so a rebalance never meets an
//! open transaction: records of a partition that moved away are removed from the batch, and the new
//! owner reads them.
//!
//! After any failure the producer is rebuilt under the same transactional id, which ends the old
//! transaction. The committed offset then tells whether the commit succeeded; if not, the batch is
//! read again. If the stage's own state fails, the process ends; when it starts again, it restores the
//! state from Kafka. A partition whose records become dead letters one after the other is held, if they
//! come from several sources, while the other partitions continue. A record whose outputs Kafka does not accept, because they are too
//! large, becomes a dead letter (`stage/unfit.rs`).

mod alignment;
mod batch;
mod batch_loop;
mod collect;
mod counters;
mod output;
mod ownership;
mod partition;
mod partition_run;
mod positions;
mod refusal_limit;
mod run;
mod unfit;

use std::time::Duration;

pub use alignment::{Alignment, Lead};
pub use counters::CommittedCounter;
pub(crate) use counters::{PendingCounts, count_dead_letters, count_source_refusals};
pub(crate) use output::owned_headers;
pub use output::{Kept, Outgoing, Output};
pub use run::{LoopSettings, run, run_all, run_two, run_until};
pub(crate) use unfit::SMALLER_DEAD_LETTERS;

use crate::{Error, Record, Restore, TopicPartition};

/// What a service does with its records. All methods are called on the thread of the loop.
///
/// `restore` is called before the first record of a partition. Then, for each batch: `idle` for
/// partitions without unread records, `prepare`, `process` for each record, `finish`, and then either
/// `committed` or `rolled_back`. What a batch changes must not become permanent before `committed`.
pub trait Stage {
    /// The name of the stage in consumer groups, client ids, metrics and dead letters.
    const STAGE: record::Stage;

    /// What the stage reads.
    fn inputs(&self) -> Inputs;

    /// How the records of partitions with the same number are put into one order. `None` takes them in the
    /// order in which they arrive.
    fn alignment(&self) -> Option<Alignment> {
        None
    }

    /// Restores the state that the previous owner of the partition had.
    ///
    /// # Errors
    /// An error ends the process.
    fn restore(&mut self, _: &TopicPartition, _: &Restore<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Forgets a partition that moved to another member. Nothing of it is uncommitted.
    fn release(&mut self, _: &TopicPartition) {}

    /// Called before each batch for every partition that has had no unread record for `duration`.
    fn idle(&mut self, _: &TopicPartition, _duration: Duration) {}

    /// Receives all records of the batch before its transaction begins, to start slow look-ups for
    /// all of them at once. Also called for empty batches.
    fn prepare(&mut self, _: &mut dyn Iterator<Item = Record<'_>>) {}

    /// Processes one record. Records of a partition arrive in order.
    ///
    /// # Errors
    /// [`Error::State`] ends the process. After any other error the batch is rolled back and retried.
    fn process(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<Outcome, Error>;

    /// Returns what a dead letter keeps of a record whose outputs Kafka does not accept. Stages whose records name
    /// recipients leave out those who were erased.
    fn kept<'r>(&self, record: &Record<'r>) -> Kept<'r> {
        Kept::all(record)
    }

    /// Emit per-transaction outputs here. Also called for empty batches. These outputs belong to no
    /// input record, so they must be far smaller than `kafka.max_message_bytes` for every batch: if
    /// Kafka rejects one, the process ends.
    ///
    /// # Errors
    /// As [`Stage::process`].
    fn finish(&mut self, _: &mut Output<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Returns the text that is committed with the partition's offset, for [`Restore::metadata`].
    fn offset_metadata(&self, _: &TopicPartition) -> String {
        String::new()
    }

    /// The batch is durable and visible.
    ///
    /// # Errors
    /// An error ends the process.
    fn committed(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// The batch had no effect, and its records will be read again. Discard what it changed.
    fn rolled_back(&mut self) -> AfterRollback {
        AfterRollback::Keep
    }
}

/// What a stage reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    pub topics: Vec<String>,
    /// The number of partitions of all topics together. It bounds how much is fetched ahead.
    pub partitions: usize,
}

/// What a stage did with a record.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was passed to the next topic.
    Passed,
    /// It ends here: a duplicate, for example.
    Dropped,
    /// It became part of a sum.
    Counted,
    /// It is a [time record](record::TimeRecord) and not an event, so no ledger and no metric counts it.
    TimeRecord,
    /// It became a dead letter. Only [`Output::dead_letter`] returns this.
    DeadLettered(DeadLettered),
}

/// Proof that a dead letter was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLettered(());

/// What the loop does with the state of a stage after a rollback.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRollback {
    /// The state is as it was before the batch.
    Keep,
    /// The stage changed its state in place. `restore` is called again for every owned partition.
    Restore,
}

/// The size of a transaction, and the refusal limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSettings {
    /// The maximum number of records per transaction.
    pub records: usize,
    /// The size of keys and values in bytes at which a transaction is full. It has at least one record.
    pub bytes: usize,
    /// How long to wait for a batch to fill.
    pub wait: Duration,
    /// The number of dead letters in a row, of at least three sources, after which a partition is held;
    /// see [`crate::Refusals`]. Zero means no limit.
    pub refusal_limit: u32,
}
