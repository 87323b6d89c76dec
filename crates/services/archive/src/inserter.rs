//! Inserts batches into ClickHouse and writes their dead letters to Kafka. Retries until both have
//! succeeded.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka::ranges::Range;
use kafka::{DeadLetterWriter, FailedRecord, Offset, TopicPartition};

use crate::batch::Batch;
use crate::clickhouse_error::ClickHouseError;
use crate::event_key::EventKey;
use crate::meters;
use crate::rollup::{self, Extent};
use crate::server::{Server, StoredRows};
use crate::settings::ArchiveSettings;
use crate::tables::Table;

/// The number of events that one query looks for. Its text stays below ClickHouse's limit (256 KiB).
const LOOKUP_KEYS: usize = 1_000;

/// Work that runs concurrently with the loop. Each partition has at most one task.
#[derive(Debug)]
pub(crate) enum Task {
    /// Find out which rows of a range are stored.
    FindStored(Table, TopicPartition, Range),
    /// Insert the rows, then write the dead letters.
    Insert(Arc<Batch>),
    /// Write the dead letters, and one more for the only row of the batch, which ClickHouse
    /// rejected with this message.
    DeadLetterRow(Arc<Batch>, String),
}

/// The result of a task.
#[derive(Debug)]
pub(crate) enum TaskResult {
    /// The rows of the range that are stored.
    Stored(StoredRows),
    /// ClickHouse deduplicated the insert although rows are missing. Contains the stored rows.
    RowsMissing(StoredRows),
    /// The events at these offsets of the batch are in the table from smaller offsets. Nothing was
    /// inserted.
    EventsRepeated(Vec<Offset>),
    /// All rows are stored, and all dead letters are durable.
    Inserted,
    /// ClickHouse rejected a row with this message. No row of the batch was stored.
    RowRejected(String),
    /// The rejected row and all other dead letters are durable.
    RowDeadLettered,
}

/// The result of inserting the rows of a batch.
enum InsertOutcome {
    /// All rows are stored.
    Stored,
    /// ClickHouse rejected a row with this message. No row of the batch was stored.
    RowRejected(String),
    /// Some rows are stored, and ClickHouse would not deduplicate them any more.
    TokenForgotten(StoredRows),
    /// ClickHouse deduplicated the insert although not all of its rows are stored.
    RowsMissing(StoredRows),
}

/// Whether the rollups of a range can differ from its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sums {
    /// The insert that stores the rows also stores their sums.
    WithRows,
    /// An insert was repeated, so ClickHouse may have stored the rows without their sums, or the
    /// sums without the rows.
    Doubtful,
}

/// The reason why a task is retrying, and its partition is held.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) code: &'static str,
    pub(crate) detail: String,
}

/// The parts that all tasks share.
pub(crate) struct Inserter {
    pub(crate) server: Server,
    pub(crate) dead_letters: DeadLetterWriter,
    pub(crate) settings: ArchiveSettings,
    /// The partitions of which the rollups contain the rows of earlier releases.
    pub(crate) filled: Mutex<HashSet<i32>>,
}

impl Inserter {
    /// Runs a task until it has a result. Calls `on_retry` after each failed attempt.
    pub(crate) async fn run(&self, task: Task, on_retry: &(impl Fn(Hold) + Sync)) -> TaskResult {
        match task {
            Task::FindStored(table, partition, range) => {
                let stored =
                    self.find_stored(table, &partition, range, Sums::WithRows, on_retry).await;
                tracing::info!(
                    %partition,
                    range = range.to_metadata(),
                    rows = stored.offsets.len(),
                    still_deduplicated = stored.still_deduplicated,
                    "checked which rows of the pending range are stored"
                );
                TaskResult::Stored(stored)
            }
            Task::Insert(batch) => {
                self.fill_rollups(&batch, on_retry).await;
                let repeated = self.find_repeated(&batch, on_retry).await;
                if !repeated.is_empty() {
                    return TaskResult::EventsRepeated(repeated);
                }
                // Dead letters are written last: a batch with a rejected row is divided and read
                // again, and would write them twice.
                if batch.block.rows > 0 {
                    match self.insert(&batch, on_retry).await {
                        InsertOutcome::Stored => {}
                        InsertOutcome::RowRejected(message) => {
                            return TaskResult::RowRejected(message);
                        }
                        InsertOutcome::TokenForgotten(stored) => return TaskResult::Stored(stored),
                        InsertOutcome::RowsMissing(stored) => {
                            return TaskResult::RowsMissing(stored);
                        }
                    }
                }
                self.write_dead_letters(&batch.dead_letters, on_retry).await;
                TaskResult::Inserted
            }
            Task::DeadLetterRow(batch, message) => {
                let row = batch.rejected_row(&message);
                let all: Vec<FailedRecord> =
                    batch.dead_letters.iter().cloned().chain(row).collect();
                self.write_dead_letters(&all, on_retry).await;
                TaskResult::RowDeadLettered
            }
        }
    }

    /// Fills the rollups of a partition from the rows of earlier releases, before its first insert.
    async fn fill_rollups(&self, batch: &Batch, on_retry: &(impl Fn(Hold) + Sync)) {
        let partition = batch.partition.partition;
        let is_filled = |filled: &HashSet<i32>| filled.contains(&partition);
        if batch.table != Table::Events
            || is_filled(&self.filled.lock().unwrap_or_else(PoisonError::into_inner))
        {
            return;
        }
        let mut pauses = self.settings.pauses();
        while let Err(error) = rollup::fill(&self.server, partition).await {
            meters::retried(error.code());
            on_retry(error.into());
            sleep_for(pauses.next()).await;
        }
        self.filled.lock().unwrap_or_else(PoisonError::into_inner).insert(partition);
    }

    /// Returns the offsets of a batch whose events have a smaller offset too, in the table or in the
    /// batch. Only events that dedupe could not judge are looked for. The rows at smaller offsets do not
    /// change, so every repetition of the batch has the same answer.
    async fn find_repeated(&self, batch: &Batch, on_retry: &(impl Fn(Hold) + Sync)) -> Vec<Offset> {
        let mut seen = HashSet::new();
        let (again, once): (Vec<_>, Vec<_>) =
            batch.unjudged.iter().partition(|(_, key)| !seen.insert(&key.event_id));
        let mut repeated: Vec<Offset> = again.into_iter().map(|&(offset, _)| offset).collect();
        for chunk in once.chunks(LOOKUP_KEYS) {
            let keys: Vec<&EventKey> = chunk.iter().map(|(_, key)| key).collect();
            let mut pauses = self.settings.pauses();
            let stored = loop {
                match self.server.stored_events(&keys, &batch.partition, batch.range.first).await {
                    Ok(stored) => break stored,
                    Err(error) => on_retry(error.into()),
                }
                sleep_for(pauses.next()).await;
            };
            let stored = chunk.iter().filter(|(_, key)| stored.contains(&key.event_id));
            repeated.extend(stored.map(|&&(offset, _)| offset));
        }
        repeated
    }

    /// Returns the stored rows of a range. Repairs the rollups if they can be wrong.
    async fn find_stored(
        &self,
        table: Table,
        partition: &TopicPartition,
        range: Range,
        sums: Sums,
        on_retry: &(impl Fn(Hold) + Sync),
    ) -> StoredRows {
        let mut pauses = self.settings.pauses();
        loop {
            match self.try_find_stored(table, partition, range, sums).await {
                Ok(stored) => return stored,
                Err(error) => on_retry(error.into()),
            }
            sleep_for(pauses.next()).await;
        }
    }

    async fn try_find_stored(
        &self,
        table: Table,
        partition: &TopicPartition,
        range: Range,
        sums: Sums,
    ) -> Result<StoredRows, ClickHouseError> {
        let stored = self.server.stored_rows(table, partition, range).await?;
        // These rows are never inserted again, so no insert would add their missing sums.
        let will_be_skipped = !stored.still_deduplicated && !stored.offsets.is_empty();
        // Only events have sums.
        if table == Table::Events && (sums == Sums::Doubtful || will_be_skipped) {
            rollup::repair(&self.server, partition.partition, Extent::Rows(range)).await?;
        }
        Ok(stored)
    }

    /// Inserts the rows. Retries until the outcome is certain.
    async fn insert(&self, batch: &Batch, on_retry: &(impl Fn(Hold) + Sync)) -> InsertOutcome {
        let token = batch.token();
        let mut pauses = self.settings.pauses();
        let mut stored_before = batch.stored_before;
        let mut is_repeated = batch.pending.is_some();
        loop {
            let started = Instant::now();
            let Err(error) = self.server.insert(batch.table, &token, &batch.block).await else {
                if is_repeated && let Some(stored) = self.verify_insert(batch, on_retry).await {
                    return InsertOutcome::RowsMissing(stored);
                }
                meters::inserted(batch.table, batch.block.rows, batch.block.bytes(), started);
                meters::event_age(&batch.received, batch.block.rows, now_micros());
                return InsertOutcome::Stored;
            };
            is_repeated = true;
            if !matches!(error, ClickHouseError::Row(_)) {
                meters::retried(error.code());
                on_retry(error.clone().into());
                sleep_for(pauses.next()).await;
            }
            // After any error the insert may still have happened, and its token may have left the
            // deduplication window by now.
            let (partition, range) = (&batch.partition, batch.recorded());
            let stored =
                self.find_stored(batch.table, partition, range, Sums::WithRows, on_retry).await;
            let stored_now = stored.count_in(batch.range);
            match error {
                ClickHouseError::Row(message) if stored_now <= stored_before => {
                    return InsertOutcome::RowRejected(message);
                }
                ClickHouseError::Row(detail) => {
                    // The table stored the rows and then a view rejected them. The batch must not
                    // be divided: the table would store the rows again under the tokens of the
                    // parts.
                    meters::retried("partly_inserted");
                    on_retry(Hold { code: "partly_inserted", detail });
                    sleep_for(pauses.next()).await;
                }
                _ if stored_now > 0 && !stored.still_deduplicated => {
                    return InsertOutcome::TokenForgotten(stored);
                }
                _ => stored_before = stored_now,
            }
        }
    }

    /// Verifies that the rows of a batch exist after its insert was repeated successfully. If rows
    /// are missing, returns those that are stored.
    ///
    /// ClickHouse registers the token of an insert before it moves the part into place. If it is
    /// killed in between, it has the token without the rows and deduplicates every repeated insert.
    /// Both steps happen under one lock, so once a repeated insert is answered, the rows of the
    /// first one are stored or never will be. The same can happen to the part of the view,
    /// so the sums are always repaired.
    async fn verify_insert(
        &self,
        batch: &Batch,
        on_retry: &(impl Fn(Hold) + Sync),
    ) -> Option<StoredRows> {
        let (partition, range) = (&batch.partition, batch.recorded());
        let stored =
            self.find_stored(batch.table, partition, range, Sums::Doubtful, on_retry).await;
        if stored.count_in(batch.range) >= batch.block.rows + batch.skipped {
            return None;
        }
        // A newer row may have replaced the missing one, and would replace it again.
        if batch.table.replaces_rows() && batch.attempt > 0 {
            return None;
        }
        let token = batch.token();
        tracing::warn!(token, "insert was deduplicated but rows are missing; re-inserting");
        meters::retried("not_kept");
        Some(StoredRows { still_deduplicated: false, ..stored })
    }

    async fn write_dead_letters(
        &self,
        dead_letters: &[FailedRecord],
        on_retry: &(impl Fn(Hold) + Sync),
    ) {
        let mut rest = dead_letters;
        let mut pauses = self.settings.pauses();
        while !rest.is_empty() {
            match self.dead_letters.write(rest).await {
                Ok(written) => rest = &rest[written..],
                Err(error) => {
                    meters::retried(error.code());
                    on_retry(Hold { code: error.code(), detail: error.to_string() });
                    sleep_for(pauses.next()).await;
                }
            }
        }
    }
}

/// Sleeps for the next pause. [`ArchiveSettings::pauses`] never ends, so there is always one.
async fn sleep_for(pause: Option<Duration>) {
    tokio::time::sleep(pause.unwrap_or_default()).await;
}

impl From<ClickHouseError> for Hold {
    fn from(error: ClickHouseError) -> Self {
        Self { code: error.code(), detail: error.to_string() }
    }
}

/// Reads the wall clock, for the metric of the event age.
#[expect(clippy::disallowed_methods, reason = "it does not affect what is stored")]
fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
