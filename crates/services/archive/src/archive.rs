//! The loop: polls, builds batches, records their ranges, sends them off, hears of them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use record::Topics;
use service::{Health, Shutdown};
use kafka::ranges::{Assignment, Polled, Ranges};
use kafka::tally;
use kafka::{Record, StreamError, TopicPartition};
use tokio::task::AbortHandle;

use crate::deliver::{Courier, Errand, Hold, News, STAGE};
use crate::meters;
use crate::partition::{AfterRefusal, Arrived, Limits, Partition};
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

/// News of one partition, as it was owned when the errand began.
struct Told {
    name: TopicPartition,
    epoch: u64,
    news: News,
}

/// A member of the group `archive`.
pub(crate) struct Archive<'a> {
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
        let mut timeout =
            due.map_or(TICK, |due| TICK.min(due.saturating_duration_since(Instant::now())));
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
        let is_its = |owned: &Owned| {
            owned.partition.name.partition == record.partition()
                && owned.partition.name.topic == record.topic()
        };
        if !self.partitions.get(*current).is_some_and(is_its) {
            let Some(index) = self.partitions.iter().position(is_its) else { return };
            *current = index;
        }
        let partition = &mut self.partitions[*current].partition;
        let arrived = Arrived {
            offset: record.offset(),
            bytes: record.value().map_or(0, <[u8]>::len),
            again: record.is_again_for(STAGE),
        };
        let going =
            partition.record(arrived, self.limits, |rows| rows.push(record), || record.to_owned());
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
                self.spawn(self.partitions.len() - 1, Errand::Look(table, name, range));
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

    fn spawn(&mut self, index: usize, errand: Errand) {
        let owned = &mut self.partitions[index];
        let (name, epoch) = (owned.partition.name.clone(), owned.partition.epoch);
        let (courier, sender) = (Arc::clone(&self.courier), self.tell.clone());
        let tell = move |news| {
            // Nobody listens any more only when the process ends.
            let _ = sender.send(Told { name: name.clone(), epoch, news });
        };
        let task = self.runtime.spawn(async move {
            let news = courier.run(errand, &|hold| tell(News::Held(hold))).await;
            tell(news);
        });
        owned.task = Some(task.abort_handle());
    }

    /// Hears all there is to hear, waiting for the first for so long.
    fn hear(&mut self, wait: Duration) {
        let mut told = self.told.recv_timeout(wait).ok();
        while let Some(Told { name, epoch, news }) = told {
            let is_its =
                |owned: &Owned| owned.partition.epoch == epoch && owned.partition.name == name;
            if let Some(index) = self.partitions.iter().position(is_its) {
                self.take_in(index, news);
            }
            told = self.told.try_recv().ok();
        }
    }

    fn take_in(&mut self, index: usize, news: News) {
        let partition = &mut self.partitions[index].partition;
        if let News::Held(Hold { code, detail }) = news {
            if partition.held != Some(code) {
                tracing::warn!(partition = ?partition.name, code, detail, "held");
            }
            return self.set_held(index, Some(code));
        }
        match news {
            News::Held(_) => {}
            News::Looked(found) => partition.looked(found),
            News::Unkept(found) => partition.unkept(found),
            News::Delivered => {
                partition.refused_in_a_row = 0;
                partition.landed();
            }
            News::GivenUp => partition.given_up(),
            News::Refused(detail) => return self.refused(index, detail),
        }
        if !partition.is_stopped() {
            self.set_held(index, None);
        }
    }

    fn refused(&mut self, index: usize, detail: String) {
        let partition = &mut self.partitions[index].partition;
        meters::refused(partition.table);
        match partition.refused() {
            None => {}
            Some(AfterRefusal::Halved) => {
                tracing::debug!(partition = ?partition.name, detail, "refused, halving");
            }
            Some(AfterRefusal::OneRow(batch)) => {
                let token = batch.token();
                tracing::warn!(token, detail, "row refused");
                if partition.table == Table::DeadLetters {
                    self.hold_for_good(index, "dead_letter_refused", &detail);
                } else if partition.refused_in_a_row >= self.limits.bad_in_a_row {
                    self.hold_for_good(index, "refusals", &detail);
                } else {
                    self.spawn(index, Errand::GiveUp(batch, detail));
                }
            }
        }
    }

    /// Nothing more is read of a partition until the process starts anew: it is a bug of ours or a
    /// changed table, and a person has to look.
    fn hold_for_good(&mut self, index: usize, code: &'static str, detail: &str) {
        let partition = &mut self.partitions[index].partition;
        tracing::error!(partition = ?partition.name, code, detail, "held until restarted");
        partition.stop();
        self.set_held(index, Some(code));
    }

    fn set_held(&mut self, index: usize, code: Option<&'static str>) {
        let partition = &mut self.partitions[index].partition;
        if partition.held == code {
            return;
        }
        if let Some(over) = std::mem::replace(&mut partition.held, code) {
            meters::held(&partition.name, over, false);
        }
        if let Some(begun) = code {
            meters::held(&partition.name, begun, true);
        }
    }

    /// Puts the consumer where partitions want to be read from.
    fn seek(&mut self) {
        for Owned { partition, .. } in &mut self.partitions {
            let Some(offset) = partition.to_seek() else { continue };
            match self.ranges.seek(&partition.name, offset) {
                Ok(()) => partition.sought(),
                // Not fetching yet after an assignment; soon.
                Err(error) => tracing::debug!(%error, partition = ?partition.name, "not sought"),
            }
        }
    }

    fn close_due(&mut self) {
        let (wait, now) = (self.courier.settings.batch_wait, Instant::now());
        for Owned { partition, .. } in &mut self.partitions {
            partition.close_if_due(wait, now);
        }
    }

    /// Records the ranges of all batches that are ready, in one commit, and sends them off.
    fn send_off(&mut self) {
        let mut ready = Vec::new();
        for (index, Owned { partition, .. }) in self.partitions.iter_mut().enumerate() {
            if let Some(batch) = partition.next_batch() {
                let to_record = batch.pending.is_none().then_some(batch.range);
                let to_record = to_record.map(|range| (range, partition.tally()));
                ready.push((index, partition.name.clone(), to_record));
            }
        }
        let marks = ready.iter().filter_map(|(_, name, mark)| {
            let (range, tally) = (*mark)?;
            Some((name, range, tally))
        });
        if let Err(error) = self.ranges.mark_pending(marks) {
            // Kafka is away, or the group is dividing its partitions anew: nothing may be inserted
            // that is not recorded.
            tracing::warn!(%error, "ranges not recorded, trying again");
            ready.retain(|(_, _, mark)| mark.is_none());
        }
        for (index, ..) in ready {
            if let Some(batch) = self.partitions[index].partition.take_off() {
                self.spawn(index, Errand::Deliver(batch));
            }
        }
    }

    /// Tells Kafka what is done, unless the next batch's mark is about to, and everybody how much.
    fn acknowledge(&mut self, every: Duration) {
        if self.acknowledged_at.elapsed() < every {
            return;
        }
        self.acknowledged_at = Instant::now();
        self.report_tallies();
        let done: Vec<_> = self
            .partitions
            .iter()
            .filter_map(|Owned { partition, .. }| {
                Some((partition.name.clone(), partition.unacknowledged()?, partition.tally()))
            })
            .collect();
        let marks = done.iter().map(|(name, next, tally)| (name, *next, *tally));
        if let Err(error) = self.ranges.mark_done(marks) {
            tracing::warn!(%error, "not acknowledged, trying again");
            return;
        }
        for Owned { partition, .. } in &mut self.partitions {
            partition.acknowledged();
        }
    }

    fn report_tallies(&self) {
        let topics = Table::ALL.into_iter().map(|table| table.topic(self.topics));
        let tallies = self.partitions.iter().map(|owned| &owned.partition);
        let tallies = tallies.map(|partition| (&partition.name, partition.tally()));
        tally::report(STAGE, topics, tallies);
    }

    /// Stops reading what would only pile up, and goes on with what has room.
    fn make_room(&mut self) -> Result<(), StreamError> {
        if self.partitions.iter().any(|owned| self.must_wait(owned) && !owned.partition.paused) {
            if self.memory() > MEMORY {
                self.partitions.iter_mut().for_each(|owned| owned.partition.close_for_room());
                self.send_off();
            }
            self.hear(GRACE);
            self.send_off();
        }
        for index in 0..self.partitions.len() {
            let wait = self.must_wait(&self.partitions[index]);
            let partition = &mut self.partitions[index].partition;
            if wait && !partition.paused {
                self.ranges.pause(&partition.name)?;
            } else if !wait && partition.paused {
                self.ranges.resume(&partition.name)?;
            }
            partition.paused = wait;
        }
        Ok(())
    }

    fn must_wait(&self, Owned { partition, .. }: &Owned) -> bool {
        let memory = self.memory();
        // Not to and fro around one figure.
        let limit = if partition.paused { MEMORY / 4 * 3 } else { MEMORY };
        partition.is_stopped() || partition.is_full() || (memory > limit && !partition.must_read())
    }

    fn memory(&self) -> usize {
        self.partitions.iter().map(|owned| owned.partition.bytes()).sum()
    }

    fn report_health(&self) {
        meters::memory(self.memory());
        let held = self.partitions.iter().find_map(|owned| {
            let TopicPartition { topic, partition } = &owned.partition.name;
            Some(format!("{topic}/{partition} is held: {}", owned.partition.held?))
        });
        match held {
            Some(reason) => self.health.hold(reason),
            None => self.health.ready(),
        }
    }

    /// Lets inserts under way end, and tells Kafka.
    fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        let flying = |owned: &Owned| owned.partition.is_flying() && owned.partition.held.is_none();
        while self.partitions.iter().any(flying) && Instant::now() < until {
            self.hear(TICK);
        }
        self.acknowledge(Duration::ZERO);
        tracing::info!("stopped; what was not done is the next one's");
    }
}
