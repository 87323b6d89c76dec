//! The loop: polls, builds batches, records their ranges, sends them off, hears of them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use record::Topics;
use service::{Health, Shutdown};
use stream::ranges::{Assignment, Polled, Range, Ranges};
use stream::{Record, StreamError, TopicPartition};
use tokio::task::AbortHandle;

use crate::batch::Batch;
use crate::deliver::{Courier, Hold, Outcome};
use crate::meters;
use crate::partition::{AfterRefusal, Limits, Partition};
use crate::server::Found;
use crate::tables::Table;

/// Rows in memory, all partitions together, from which on nothing more is read.
const MEMORY: usize = 96 << 20;
/// A batch is full at this size whatever its rows.
const BATCH_BYTES: usize = 12 << 20;
/// Records taken between two looks at everything else.
const BURST: usize = 1000;
/// The longest a poll waits, and the longest one waits for an insert to make room before partitions
/// are paused, which costs what librdkafka has fetched of them.
const TICK: Duration = Duration::from_millis(20);
const GRACE: Duration = Duration::from_millis(250);
/// What is done and has no successor to say so is acknowledged this often.
const ACKNOWLEDGE: Duration = Duration::from_millis(500);
/// Inserts under way get this long when the process is told to stop; what is not done by then is
/// done by whoever comes next.
const DRAIN: Duration = Duration::from_secs(10);

/// What a delivery has to tell.
enum News {
    Looked(Found),
    Held(Hold),
    Ended(Outcome),
    GivenUp,
}

struct Told {
    partition: TopicPartition,
    epoch: u64,
    news: News,
}

/// A member of the group `archive`.
pub struct Archive<'a> {
    ranges: &'a Ranges,
    topics: &'a Topics,
    courier: Arc<Courier>,
    runtime: tokio::runtime::Handle,
    health: &'a Health,
    limits: Limits,
    partitions: Vec<Owned>,
    epochs: u64,
    tell: Sender<Told>,
    told: Receiver<Told>,
    acknowledged_at: Instant,
}

struct Owned {
    partition: Partition,
    task: Option<AbortHandle>,
}

impl<'a> Archive<'a> {
    /// Nothing is read before [`Self::run`].
    pub(crate) fn new(
        ranges: &'a Ranges,
        topics: &'a Topics,
        courier: Courier,
        runtime: tokio::runtime::Handle,
        health: &'a Health,
    ) -> Self {
        let limits = Limits {
            rows: courier.settings.batch_rows,
            bytes: BATCH_BYTES,
            bad_in_a_row: courier.settings.refusals_to_hold,
        };
        let (tell, told) = channel();
        Self {
            ranges,
            topics,
            courier: Arc::new(courier),
            runtime,
            health,
            limits,
            partitions: Vec::new(),
            epochs: 0,
            tell,
            told,
            acknowledged_at: Instant::now(),
        }
    }

    /// Works until told to stop.
    ///
    /// # Errors
    /// When Kafka says something that no retry mends.
    pub(crate) fn run(mut self, shutdown: &Shutdown) -> Result<(), StreamError> {
        while !shutdown.requested() {
            self.health.beat();
            self.read()?;
            self.hear(Duration::ZERO);
            self.seek();
            self.close_due();
            self.send_off();
            self.acknowledge(ACKNOWLEDGE);
            self.make_room()?;
            self.report_health();
        }
        self.health.draining();
        self.drain();
        Ok(())
    }

    /// Takes what has come: ownership and a burst of records.
    fn read(&mut self) -> Result<(), StreamError> {
        let wait = self.courier.settings.batch_wait;
        let due = self.partitions.iter().filter_map(|owned| owned.partition.due(wait)).min();
        let mut timeout = due.map_or(TICK, |due| TICK.min(due.saturating_duration_since(Instant::now())));
        let (mut taken, mut bytes, mut current) = (0, 0, 0);
        let ranges = self.ranges;
        while taken < BURST && bytes < BATCH_BYTES {
            let before = taken;
            ranges.poll(timeout, |polled| -> Result<(), StreamError> {
                match polled {
                    Polled::Assigned(assignments) => self.assigned(assignments),
                    Polled::Revoked(partitions) => self.revoked(&partitions),
                    Polled::Record(record) => {
                        taken += 1;
                        bytes += record.value().map_or(0, <[u8]>::len);
                        self.record(record, &mut current);
                    }
                }
                Ok(())
            })?;
            if taken == before {
                break;
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    /// `current` remembers where the record before it went: mostly to the same partition.
    fn record(&mut self, record: &Record<'_>, current: &mut usize) {
        let is_its =
            |owned: &Owned| owned.partition.name.partition == record.partition()
                && owned.partition.name.topic == record.topic();
        if !self.partitions.get(*current).is_some_and(is_its) {
            let Some(index) = self.partitions.iter().position(is_its) else { return };
            *current = index;
        }
        let partition = &mut self.partitions[*current].partition;
        let size = record.value().map_or(0, <[u8]>::len);
        let going = partition.record(
            (record.offset(), size),
            self.limits,
            |rows| rows.push(record),
            || record.to_owned(),
        );
        if !going {
            let detail = format!("{} cannot be read, nor could many before", record.origin());
            self.hold_for_good(*current, "refusals", &detail);
        }
    }

    fn assigned(&mut self, assignments: Vec<Assignment>) {
        for assignment in assignments {
            let name = assignment.partition.clone();
            let Some(table) = Table::of_topic(self.topics, &name.topic) else { continue };
            self.revoked(std::slice::from_ref(&name));
            self.epochs += 1;
            tracing::info!(?assignment, "assigned");
            let partition = Partition::new(assignment, table, self.epochs);
            let look = partition.to_look_at();
            self.partitions.push(Owned { partition, task: None });
            if let Some(range) = look {
                self.look(self.partitions.len() - 1, range);
            }
        }
    }

    /// What is under way for a partition that is gone is its new owner's to repeat.
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
                meters::held(&partition.name, reason, false);
            }
            tracing::info!(partition = ?partition.name, "revoked");
            false
        });
    }

    fn look(&mut self, index: usize, range: Range) {
        let partition = &self.partitions[index].partition;
        let (table, name) = (partition.table, partition.name.clone());
        self.spawn(index, async move |courier, tell| {
            let found = courier.look(table, &name, range, &|hold| tell(News::Held(hold))).await;
            tracing::info!(partition = ?name, ?range, rows = found.offsets.len(),
                recognised = found.recognised, "looked for the pending range");
            News::Looked(found)
        });
    }

    fn spawn<F>(&mut self, index: usize, work: F)
    where
        F: AsyncTask,
    {
        let owned = &mut self.partitions[index];
        let (partition, epoch) = (owned.partition.name.clone(), owned.partition.epoch);
        let (courier, sender) = (Arc::clone(&self.courier), self.tell.clone());
        let tell = move |news| {
            // Nobody listens any more only when the process ends.
            let _ = sender.send(Told { partition: partition.clone(), epoch, news });
        };
        owned.task = Some(self.runtime.spawn(work.run(courier, tell)).abort_handle());
    }
}
