//! Starts tasks for partitions and applies their results.

use std::sync::Arc;
use std::time::Duration;

use kafka::TopicPartition;

use super::{Archive, Owned};
use crate::inserter::{Hold, Task, TaskResult};
use crate::meters;
use crate::partition::AfterRejection;
use crate::tables::Table;

/// A message from a task to the loop.
pub(super) struct Update {
    partition: TopicPartition,
    /// The epoch of the partition when the task started.
    epoch: u64,
    state: TaskState,
}

enum TaskState {
    /// An attempt failed, and the task tries again.
    Retrying(Hold),
    Finished(TaskResult),
}

impl Archive<'_> {
    pub(super) fn spawn(&mut self, index: usize, task: Task) {
        let owned = &mut self.partitions[index];
        let (partition, epoch) = (owned.partition.name.clone(), owned.partition.epoch);
        let (inserter, sender) = (Arc::clone(&self.inserter), self.update_sender.clone());
        let send = move |state| {
            // The receiver is dropped only when the process ends.
            let _ = sender.send(Update { partition: partition.clone(), epoch, state });
        };
        let task = self.runtime.spawn(async move {
            let result = inserter.run(task, &|hold| send(TaskState::Retrying(hold))).await;
            send(TaskState::Finished(result));
        });
        owned.task = Some(task.abort_handle());
    }

    /// Applies all updates that have arrived. Waits up to `wait` for the first one.
    pub(super) fn apply_updates(&mut self, wait: Duration) {
        let mut update = self.updates.recv_timeout(wait).ok();
        while let Some(Update { partition, epoch, state }) = update {
            let is_sender =
                |owned: &Owned| owned.partition.epoch == epoch && owned.partition.name == partition;
            if let Some(index) = self.partitions.iter().position(is_sender) {
                match state {
                    TaskState::Retrying(hold) => self.hold_while_retrying(index, hold),
                    TaskState::Finished(result) => self.apply_result(index, result),
                }
            }
            update = self.updates.try_recv().ok();
        }
    }

    fn apply_result(&mut self, index: usize, result: TaskResult) {
        let partition = &mut self.partitions[index].partition;
        match result {
            TaskResult::Stored(stored) => partition.set_stored_rows(stored),
            TaskResult::RowsMissing(stored) => partition.rows_missing(stored),
            TaskResult::EventsRepeated(offsets) => partition.events_repeated(offsets),
            TaskResult::Inserted => partition.inserted(),
            TaskResult::RowDeadLettered => partition.dead_lettered(),
            TaskResult::RowRejected(message) => return self.row_rejected(index, message),
        }
        if !partition.is_stopped() {
            self.set_held(index, None);
        }
    }

    fn row_rejected(&mut self, index: usize, message: String) {
        let partition = &mut self.partitions[index].partition;
        meters::insert_rejected(partition.table);
        match partition.row_rejected() {
            None => {}
            Some(AfterRejection::Halved) => {
                let partition = &partition.name;
                tracing::debug!(%partition, detail = message, "ClickHouse rejected a row; halving the batch");
            }
            Some(AfterRejection::OneRow(batch)) => {
                tracing::warn!(
                    token = batch.token(),
                    detail = message,
                    "ClickHouse rejected a row"
                );
                if partition.table == Table::DeadLetters {
                    self.hold_until_restart(index, "dead_letter_refused", &message);
                } else if partition.count_rejected(&batch, self.limits).is_some() {
                    self.hold_until_restart(index, "refusals", &message);
                } else {
                    self.spawn(index, Task::DeadLetterRow(batch, message));
                }
            }
        }
    }

    fn hold_while_retrying(&mut self, index: usize, Hold { code, detail }: Hold) {
        let partition = &self.partitions[index].partition;
        if partition.held != Some(code) {
            tracing::warn!(partition = %partition.name, code, detail, "partition held; retrying");
        }
        self.set_held(index, Some(code));
    }

    /// Holds a partition and ignores its records until the process restarts. The cause is a bug or
    /// a changed table, which an operator must fix.
    pub(super) fn hold_until_restart(&mut self, index: usize, code: &'static str, detail: &str) {
        let partition = &mut self.partitions[index].partition;
        let name = &partition.name;
        tracing::error!(partition = %name, code, detail, "partition held until archive is restarted");
        partition.stop();
        self.set_held(index, Some(code));
    }

    fn set_held(&mut self, index: usize, code: Option<&'static str>) {
        let partition = &mut self.partitions[index].partition;
        if partition.held == code {
            return;
        }
        if let Some(ended) = std::mem::replace(&mut partition.held, code) {
            meters::partition_held(&partition.name, ended, false);
        }
        if let Some(started) = code {
            meters::partition_held(&partition.name, started, true);
        }
    }
}
