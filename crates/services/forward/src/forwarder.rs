//! The thread of one forward: reads records, commits the cuts of batches, and passes them to the courier.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver as DoneQueue, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use courier::{AttemptSettings, Attempts, Worker};
use event::Event;
use jiff::Timestamp;
use kafka::TopicPartition;
use kafka::cuts::{Change, Commit, Cuts};
use kafka::feed::Item;
use record::Stage;
use tokio::runtime::Handle;

use crate::batch::{Batch, MatchingEvent, Receiver};
use crate::forwards::Context;
use crate::observer::ForwardObserver;
use crate::outcome::{Done, FORWARD, Outcomes};
use crate::partition::PartitionBatches;
use crate::settings::Forward;

/// How long to wait for a record if nothing else is to be done.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// The same while batches are being sent, because they may be done at any time.
const BUSY_POLL_TIMEOUT: Duration = Duration::from_millis(10);
/// The greatest number of records that are read before cuts are committed.
const MAX_RECORDS: usize = 1_000;
/// How often offsets are committed that are done while no batch is formed.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// The memory of the events of all forwards, in bytes. While those of a forward take more than its part, it
/// reads nothing. Their bodies take as much again.
const MAX_MEMORY: usize = 96 << 20;
/// The part of one forward, even if there are fewer.
const LEAST_PARTS: usize = 4;
/// How long a process that ends waits for attempts.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// What the thread reports to the main thread.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<(Option<Instant>, Option<String>)>>);

impl Status {
    /// Returns when the thread made progress last, and why it cannot work, if it cannot.
    pub fn read(&self) -> (Option<Instant>, Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn report(&self, held: Option<String>) {
        let report = (Some(Instant::now()), held);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}

/// A partition that this member owns.
struct Owned {
    /// Distinguishes this assignment of the partition from others.
    assignment: u64,
    batches: PartitionBatches<MatchingEvent>,
    worker: Worker<Batch>,
    is_paused: bool,
    /// The memory of the events that were read and are not done, in bytes.
    memory: usize,
    /// Their number.
    events: usize,
}

/// Sends the events of one forward.
pub struct Forwarder {
    forward: Forward,
    cuts: Cuts,
    receiver: Arc<Receiver>,
    attempts: Arc<Attempts>,
    outcomes: Arc<Outcomes>,
    done: DoneQueue<Done>,
    owned: BTreeMap<TopicPartition, Owned>,
    /// The sum of their memory.
    memory: usize,
    max_memory: usize,
    /// The number of assignments so far.
    assignments: u64,
    committed_at: Instant,
    runtime: Handle,
    service: service::Shutdown,
    status: Status,
}

impl Forwarder {
    /// Joins the group of the forward. `forwards` is the number of forwards of the process.
    ///
    /// # Errors
    /// [`kafka::Error::Settings`] or [`kafka::Error::Kafka`].
    pub fn open(
        forward: Forward,
        forwards: usize,
        context: &Context,
        runtime: &Handle,
        status: Status,
    ) -> Result<Self, kafka::Error> {
        let name = &forward.name;
        let stage = format!("{}-{name}", Stage::Forward.code());
        let group = context.cluster.topics.group(&stage);
        // The labels of metrics live as long as the process, and there are few forwards.
        let component: &'static str = Box::leak(stage.into_boxed_str());
        let topic = &context.cluster.topics.events;
        let cuts = Cuts::open(&context.cluster, component, &group, topic, forwards, forward.start)?;
        let (sender, done) = channel();
        let outcomes = Outcomes {
            forward: name.clone(),
            dead_letters: Arc::clone(&context.dead_letters),
            erased: Arc::clone(&context.erased),
            done: sender,
            clock: now,
            runtime: runtime.clone(),
            shutdown: context.shutdown.clone(),
        };
        let settings = AttemptSettings {
            retry: forward.retry.clone(),
            breaker: forward.breaker,
            concurrent: forward.concurrent,
            max_per_minute: None,
        };
        let observer = ForwardObserver::new(name, forward.breaker);
        let receiver = Receiver {
            forward: name.clone(),
            endpoint: Arc::clone(&forward.endpoint),
            keys: forward.keys.clone(),
            bodies: forward.bodies.clone(),
            erased: Arc::clone(&context.erased),
            clock: now,
        };
        Ok(Self {
            cuts,
            receiver: Arc::new(receiver),
            attempts: Arc::new(Attempts::new(settings, observer, context.shutdown.clone())),
            outcomes: Arc::new(outcomes),
            done,
            owned: BTreeMap::new(),
            memory: 0,
            max_memory: MAX_MEMORY / forwards.max(LEAST_PARTS),
            assignments: 0,
            committed_at: Instant::now(),
            runtime: runtime.clone(),
            service: context.shutdown.clone(),
            status,
            forward,
        })
    }

    /// Runs until the shutdown is requested, then waits for the attempts in progress. The next process sends
    /// what is not done.
    ///
    /// # Errors
    /// Returns errors of Kafka from which only a new process recovers.
    pub fn run(mut self) -> Result<(), kafka::Error> {
        while !self.service.requested() {
            self.status.report(self.held());
            self.read()?;
            self.take_done();
            self.send_ready();
            self.limit_reading()?;
            self.export();
        }
        let until = Instant::now() + STOP_TIMEOUT;
        for owned in std::mem::take(&mut self.owned) {
            let (partition, Owned { worker, batches, assignment, .. }) = owned;
            let left = until.saturating_duration_since(Instant::now());
            // What has not ended by then is sent again by the next process.
            let _ =
                self.runtime.block_on(async { tokio::time::timeout(left, worker.stop()).await });
            self.finish_last(&partition, batches, assignment);
        }
        self.cuts.close()
    }

    fn held(&self) -> Option<String> {
        let not_current =
            (!self.receiver.erased.is_current()).then(|| erasure::NOT_CURRENT.to_owned());
        self.cuts.held().or(not_current)
    }

    /// Reads some records.
    fn read(&mut self) -> Result<(), kafka::Error> {
        let mut timeout = self.poll_timeout();
        for _ in 0..MAX_RECORDS {
            let (changes, item) = self.cuts.next(timeout)?;
            changes.into_iter().try_for_each(|change| self.change(change))?;
            let Some(item) = item else { break };
            if self.take(item) {
                self.limit_reading()?;
            }
            timeout = Duration::ZERO;
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Duration {
        if self.owned.values().any(|owned| owned.batches.has_ready()) {
            return Duration::ZERO;
        }
        let is_busy = self.owned.values().any(|owned| owned.batches.unfinished() > 0);
        let longest = if is_busy { BUSY_POLL_TIMEOUT } else { POLL_TIMEOUT };
        let due = self.owned.values().filter_map(|owned| owned.batches.due_at()).min();
        due.map_or(longest, |due| longest.min(due.saturating_duration_since(Instant::now())))
    }

    fn change(&mut self, change: Change) -> Result<(), kafka::Error> {
        match change {
            Change::Assigned { partition, next, cuts } => {
                // librdkafka remembers that it was paused in an earlier assignment.
                self.cuts.resume(&partition)?;
                self.assignments += 1;
                let assignment = self.assignments;
                let owned = Owned {
                    assignment,
                    batches: PartitionBatches::new(self.forward.batch, next, cuts),
                    worker: self.worker(&partition),
                    is_paused: false,
                    memory: 0,
                    events: 0,
                };
                let before = self.owned.insert(partition, owned);
                self.release(before);
            }
            Change::Revoked(partition) => {
                let before = self.owned.remove(&partition);
                self.release(before);
            }
        }
        Ok(())
    }

    /// Ends the attempts of a partition: its next owner sends these batches, and must not be overtaken.
    fn release(&mut self, owned: Option<Owned>) {
        if let Some(Owned { worker, memory, .. }) = owned {
            worker.abort();
            self.memory = self.memory.saturating_sub(memory);
        }
    }

    /// Returns the worker of a partition. Recipients of different partitions are different, so their batches
    /// do not wait for each other.
    fn worker(&self, partition: &TopicPartition) -> Worker<Batch> {
        let (outcomes, partition) = (Arc::clone(&self.outcomes), partition.clone());
        // The window and the memory are limited by what is read.
        let attempts = Arc::clone(&self.attempts);
        Worker::new(&self.runtime, attempts, move |batch: Arc<Batch>, verdict| {
            let done = Done {
                partition: partition.clone(),
                assignment: batch.assignment,
                end: batch.end,
                memory: batch.memory(),
                events: batch.events.len(),
            };
            outcomes.end(done, &batch, &verdict);
        })
    }

    /// Takes a record. Returns whether enough of its partition, or of all, was read.
    fn take(&mut self, item: Item) -> bool {
        let partition = TopicPartition { topic: item.topic.clone(), partition: item.partition };
        let Some(owned) = self.owned.get_mut(&partition) else { return false };
        let (offset, now) = (item.offset, Instant::now());
        match matching(&self.forward, item) {
            Ok(event) => {
                let memory = event.as_ref().map_or(0, MatchingEvent::memory);
                owned.events += usize::from(event.is_some());
                owned.memory += memory;
                self.memory += memory;
                owned.batches.read(offset, event, now);
            }
            Err((item, error)) => {
                if owned.batches.read_faulty(offset) {
                    let (assignment, end) = (owned.assignment, offset.next());
                    let done = Done { partition, assignment, end, memory: 0, events: 0 };
                    self.outcomes.reject(done, item, &error);
                }
            }
        }
        let is_over = owned.batches.unfinished() >= self.forward.in_flight;
        !owned.is_paused && (is_over || self.memory >= self.max_memory)
    }

    fn take_done(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            let owned = self.owned.get_mut(&done.partition);
            if let Some(owned) = owned.filter(|owned| owned.assignment == done.assignment) {
                owned.memory = owned.memory.saturating_sub(done.memory);
                self.memory = self.memory.saturating_sub(done.memory);
                owned.events = owned.events.saturating_sub(done.events);
                owned.batches.finish(done.end);
            }
        }
    }

    /// Forms the batches that are due, commits their cuts, and then passes them on.
    fn send_ready(&mut self) {
        let now = Instant::now();
        for owned in self.owned.values_mut() {
            if owned.batches.unfinished() < self.forward.in_flight {
                owned.batches.close_if_due(now);
            }
        }
        let is_due = self.committed_at.elapsed() >= COMMIT_INTERVAL;
        let commits: Vec<Commit> = self
            .owned
            .iter()
            .filter(|(_, owned)| is_due || owned.batches.has_ready())
            .filter_map(|(partition, owned)| owned.batches.uncommitted(partition))
            .collect();
        if let Err(error) = self.cuts.commit(&commits) {
            // Kafka is away, or the group is rebalancing. No batch may be sent before its cut is committed.
            let forward = &self.forward.name;
            tracing::warn!(forward, %error, "committing offsets failed; retrying");
            return;
        }
        if is_due {
            self.committed_at = now;
        }
        for commit in commits {
            if let Some(owned) = self.owned.get_mut(&commit.partition) {
                owned.batches.committed(commit);
            }
        }
        // The cuts of all of them are committed, by this process or by the previous owner.
        for owned in self.owned.values_mut() {
            for events in owned.batches.take_ready() {
                if let Some(batch) = Batch::new(events, owned.assignment, &self.receiver) {
                    owned.worker.push(Arc::new(batch));
                }
            }
        }
    }

    /// Pauses the partitions of which enough is in flight, or all of them if the memory is used up.
    ///
    /// While nothing is in flight, the memory does not stop reading: after a restart, a batch may have to reach its
    /// committed end before it can be sent, and only then it can free memory.
    fn limit_reading(&mut self) -> Result<(), kafka::Error> {
        let is_idle = self.owned.values().all(|owned| owned.batches.unfinished() == 0);
        let is_full = !is_idle && self.memory >= self.max_memory;
        let has_room = is_idle || self.memory < self.max_memory / 2;
        let window = self.forward.in_flight;
        for (partition, owned) in &mut self.owned {
            let unfinished = owned.batches.unfinished();
            if !owned.is_paused && (unfinished >= window || is_full) {
                self.cuts.pause(partition)?;
                owned.is_paused = true;
            } else if owned.is_paused && unfinished <= window / 2 && has_room {
                self.cuts.resume(partition)?;
                owned.is_paused = false;
            }
        }
        Ok(())
    }

    fn export(&self) {
        let events: usize = self.owned.values().map(|owned| owned.events).sum();
        metrics::gauge!(
            "mailpulse_forward_pending_events", "forward" => self.forward.name.clone()
        )
        .set(events as f64);
    }

    /// Commits what was done while the process ended.
    fn finish_last(
        &mut self,
        partition: &TopicPartition,
        mut batches: PartitionBatches<MatchingEvent>,
        assignment: u64,
    ) {
        let all: Vec<_> = self.done.try_iter().collect();
        for done in all {
            if done.partition == *partition && done.assignment == assignment {
                batches.finish(done.end);
            } else {
                // It belongs to a partition that comes later.
                let _ = self.outcomes.done.send(done);
            }
        }
        let commit = batches.uncommitted(partition).filter(|_| !batches.has_ready());
        let commits: Vec<_> = commit.into_iter().collect();
        if let Err(error) = self.cuts.commit(&commits) {
            let forward = &self.forward.name;
            tracing::warn!(
                forward, %error,
                "the last offsets could not be committed; the next process sends some batches again"
            );
        }
    }
}

/// Returns the event of a record, if the forward sends it.
fn matching(
    forward: &Forward,
    item: Item,
) -> Result<Option<MatchingEvent>, (Item, serde_json::Error)> {
    let Some(value) = item.value.as_deref().filter(|value| !value.is_empty()) else {
        return Ok(None); // a time record
    };
    let is_redriven = match item.redriven_for() {
        Some(stage) => {
            let is_ours = stage == Stage::Forward.code().as_bytes()
                && item.header(FORWARD) == Some(forward.name.as_bytes());
            if !is_ours {
                return Ok(None);
            }
            true
        }
        None => false,
    };
    let found = serde_json::from_slice(value).map(|event: Event<'_>| {
        // What was redriven has matched before.
        let is_matching = is_redriven || forward.filter.matches(&event);
        is_matching.then_some((event.event_id, event.received_at))
    });
    match found {
        Ok(found) => Ok(found.map(|(event_id, received_at)| MatchingEvent {
            record: item,
            event_id,
            received_at,
        })),
        Err(error) => Err((item, error)),
    }
}

#[expect(clippy::disallowed_methods, reason = "a signature has the time of the attempt")]
fn now() -> Timestamp {
    Timestamp::now()
}
