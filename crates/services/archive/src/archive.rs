//! The loop: polls Kafka, builds batches, records their ranges, and starts their inserts.

mod backpressure;
mod commits;
mod tasks;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use erasure::Erased;
use kafka::positions::Mismatch;
use kafka::ranges::{Assignment, Polled, Range, Ranges};
use kafka::{ManyRefusals, Offset, Record, TopicPartition};
use privacy::Eraser;
use record::Topics;
use service::{Health, Shutdown};
use tokio::task::AbortHandle;

use crate::event_key::EventKey;
use crate::inserter::{Inserter, Task};
use crate::meters;
use crate::partition::{Limits, Partition, RecordInfo};
use crate::tables::Table;
use tasks::Update;

/// The size in bytes at which a batch is full, even with few rows.
const BATCH_BYTES: usize = 12 << 20;
/// The maximum number of records per iteration of the loop.
const MAX_RECORDS: usize = 1000;
/// The longest time that a poll waits.
const POLL_TIMEOUT: Duration = Duration::from_millis(20);
/// How long inserts may take to finish during shutdown. The next owner of a partition repeats those
/// that do not finish.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A member of the consumer group.
pub(crate) struct Archive<'a> {
    ranges: &'a Ranges,
    topics: &'a Topics,
    inserter: Arc<Inserter>,
    erased: Erased,
    /// Removes the recipients that were erased as of the last poll.
    eraser: Eraser,
    runtime: tokio::runtime::Handle,
    health: &'a Health,
    limits: Limits,
    partitions: Vec<Owned>,
    /// The epoch of the latest assignment.
    epoch: u64,
    update_sender: Sender<Update>,
    updates: Receiver<Update>,
    committed_at: Instant,
}

/// A partition and the task that runs for it.
struct Owned {
    partition: Partition,
    task: Option<AbortHandle>,
}

impl<'a> Archive<'a> {
    /// Creates a member. It reads nothing before [`Self::run`].
    pub(crate) fn new(
        ranges: &'a Ranges,
        topics: &'a Topics,
        inserter: Inserter,
        erased: Erased,
        runtime: tokio::runtime::Handle,
        health: &'a Health,
    ) -> Self {
        let limits = Limits {
            rows: inserter.settings.batch_rows,
            bytes: BATCH_BYTES,
            refusals: inserter.settings.refusal_limit,
        };
        let (update_sender, updates) = channel();
        Self {
            ranges,
            topics,
            inserter: Arc::new(inserter),
            eraser: erased.eraser(),
            erased,
            runtime,
            health,
            limits,
            partitions: Vec::new(),
            epoch: 0,
            update_sender,
            updates,
            committed_at: Instant::now(),
        }
    }

    /// Runs until shutdown is requested.
    ///
    /// # Errors
    /// Fails if Kafka reports an error from which only a new process recovers.
    pub(crate) fn run(mut self, shutdown: &Shutdown) -> Result<(), kafka::Error> {
        while !shutdown.requested() {
            self.health.mark_alive();
            if self.erased.is_current() {
                self.eraser = self.erased.eraser();
                self.poll()?;
                self.apply_updates(Duration::ZERO);
            } else {
                self.apply_updates(POLL_TIMEOUT);
            }
            self.seek();
            self.close_due_batches();
            self.start_inserts();
            self.commit_if_due();
            self.pause_and_resume()?;
            self.report_health();
        }
        self.health.draining();
        self.drain();
        Ok(())
    }

    /// Reads changes of ownership and up to [`MAX_RECORDS`] records.
    fn poll(&mut self) -> Result<(), kafka::Error> {
        let wait = self.inserter.settings.batch_wait;
        let due = self.partitions.iter().filter_map(|owned| owned.partition.due(wait)).min();
        let mut timeout = due.map_or(POLL_TIMEOUT, |due| {
            POLL_TIMEOUT.min(due.saturating_duration_since(Instant::now()))
        });
        let (mut count, mut bytes, mut last_index) = (0, 0, 0);
        let ranges = self.ranges;
        while count < MAX_RECORDS && bytes < BATCH_BYTES {
            let count_before = count;
            ranges.poll(timeout, |polled| -> Result<(), kafka::Error> {
                match polled {
                    Polled::Assigned(assignments) => self.assigned(assignments)?,
                    Polled::Revoked(partitions) => self.revoked(&partitions),
                    Polled::Outside(partitions) => self.hold_outside(&partitions),
                    Polled::Record(record) => {
                        count += 1;
                        bytes += record.value().map_or(0, <[u8]>::len);
                        self.add_record(record, &mut last_index);
                    }
                }
                Ok(())
            })?;
            if count == count_before {
                break;
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    /// Adds a record to its partition. `last_index` is the index of the previous record's
    /// partition; most records belong to the same one.
    fn add_record(&mut self, record: &Record<'_>, last_index: &mut usize) {
        let has_record = |owned: &Owned| {
            owned.partition.name.partition == record.partition()
                && owned.partition.name.topic == record.topic()
        };
        if !self.partitions.get(*last_index).is_some_and(has_record) {
            let Some(index) = self.partitions.iter().position(has_record) else { return };
            *last_index = index;
        }
        let partition = &mut self.partitions[*last_index].partition;
        // `dedupe` has not passed it on, so that the ledgers would differ otherwise.
        let is_additional =
            partition.table == Table::Events && record.is_redriven_for_another(crate::STAGE);
        let info = RecordInfo {
            offset: record.offset(),
            bytes: record.value().map_or(0, <[u8]>::len),
            redriven: record.is_redriven_for(crate::STAGE) || is_additional,
            is_row: partition.table.takes(record),
            is_time: partition.table == Table::Events && record.time_record().is_some(),
            unjudged: EventKey::of_unjudged(record),
        };
        let eraser = &self.eraser;
        let push = |rows: &mut crate::tables::Rows| rows.push(record, eraser);
        let copy = || erasure::erase_record(eraser, record.to_owned());
        let many = partition.add_record(info, self.limits, push, copy);
        if let Some(ManyRefusals { in_a_row, sources }) = many {
            let last = record.origin();
            let detail = format!(
                "{in_a_row} records in a row of {sources} sources cannot become rows, the last at {last}"
            );
            self.hold_until_restart(*last_index, "refusals", &detail);
        }
    }

    fn assigned(&mut self, assignments: Vec<Assignment>) -> Result<(), kafka::Error> {
        for assignment in assignments {
            let name = assignment.partition.clone();
            let Some(table) = Table::of_topic(self.topics, &name.topic) else { continue };
            self.revoked(std::slice::from_ref(&name));
            self.epoch += 1;
            tracing::info!(
                partition = %name,
                next = assignment.next.map(|next| next.0),
                pending = assignment.pending.map(Range::to_metadata),
                "partition assigned"
            );
            let mismatch = assignment.mismatch;
            let partition = Partition::new(assignment, table, self.epoch);
            let range_to_check = partition.range_to_check();
            self.partitions.push(Owned { partition, task: None });
            let index = self.partitions.len() - 1;
            if let Some(mismatch) = mismatch {
                self.hold_for_mismatch(index, mismatch);
            } else if !self.is_held_for_newer_rows(index)?
                && let Some(range) = range_to_check
            {
                self.spawn(index, Task::FindStored(table, name, range));
            }
        }
        Ok(())
    }

    /// Holds a partition if its table has rows that were not archived yet according to the offset: Kafka
    /// has lost the offset, or somebody has set it back. Everything would be inserted again.
    fn is_held_for_newer_rows(&mut self, index: usize) -> Result<bool, kafka::Error> {
        let partition = &self.partitions[index].partition;
        let (table, number) = (partition.table, partition.name.partition);
        let next = partition.next_unrecorded();
        let newest = self.inserter.server.newest_row(table, number, next.map_or(0, |next| next.0));
        // This blocks the loop, but an index makes the query fast. If ClickHouse is away, the process
        // ends, and the next one waits for it.
        let newest = self.runtime.block_on(newest).map_err(kafka::Error::state)?;
        let Some(position) = newest.map(Offset::next) else { return Ok(false) };
        let mismatch = match next {
            None => Mismatch::OffsetLost { position },
            Some(committed) => Mismatch::WentBack { committed, position },
        };
        self.hold_for_mismatch(index, mismatch);
        Ok(true)
    }

    fn hold_for_mismatch(&mut self, index: usize, mismatch: Mismatch) {
        let detail = format!("{mismatch}; docs/runbooks.md#archive-held has the repair");
        self.hold_until_restart(index, mismatch.code(), &detail);
    }

    /// Holds partitions that lost the records at their offsets while they were read.
    fn hold_outside(&mut self, partitions: &[(TopicPartition, Mismatch)]) {
        for (name, mismatch) in partitions {
            let is_read =
                |owned: &Owned| owned.partition.name == *name && !owned.partition.is_stopped();
            if let Some(index) = self.partitions.iter().position(is_read) {
                self.hold_for_mismatch(index, *mismatch);
            }
        }
    }

    /// Drops partitions and aborts their inserts. The new owner repeats the inserts.
    fn revoked(&mut self, names: &[TopicPartition]) {
        self.partitions.retain(|owned| {
            let partition = &owned.partition;
            if !names.contains(&partition.name) {
                return true;
            }
            if let Some(task) = &owned.task {
                task.abort();
            }
            if let Some(reason) = partition.held {
                meters::partition_held(&partition.name, reason, false);
            }
            tracing::info!(partition = %partition.name, "partition revoked");
            false
        });
    }

    /// Moves the consumer to where partitions must be read again.
    fn seek(&mut self) {
        for Owned { partition, .. } in &mut self.partitions {
            let Some(offset) = partition.seek_target() else { continue };
            match self.ranges.seek(&partition.name, offset) {
                Ok(()) => partition.seek_done(),
                // A seek fails until librdkafka has started to fetch the partition.
                Err(error) => {
                    tracing::debug!(%error, partition = %partition.name, "Kafka seek failed; retrying");
                }
            }
        }
    }

    fn close_due_batches(&mut self) {
        let (wait, now) = (self.inserter.settings.batch_wait, Instant::now());
        for Owned { partition, .. } in &mut self.partitions {
            partition.close_if_due(wait, now);
        }
    }

    fn report_health(&self) {
        meters::buffer_bytes(self.memory());
        let held = self.partitions.iter().find_map(|Owned { partition, .. }| {
            Some(format!("{} is held: {}", partition.name, partition.held?))
        });
        match held {
            _ if !self.erased.is_current() => self.health.hold(erasure::NOT_CURRENT),
            Some(reason) => self.health.hold(reason),
            None => self.health.ready(),
        }
    }

    /// Waits for the inserts in flight and commits their offsets.
    fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let is_inserting =
            |owned: &Owned| owned.partition.is_in_flight() && owned.partition.held.is_none();
        while self.partitions.iter().any(is_inserting) && Instant::now() < deadline {
            self.apply_updates(POLL_TIMEOUT);
        }
        self.commit();
        tracing::info!(
            "archive stopped; the next owners of its partitions repeat unfinished inserts"
        );
    }
}
