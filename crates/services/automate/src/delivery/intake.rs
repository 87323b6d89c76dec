//! Reads `mail.actions`, passes each action to the worker of its receiver, and commits what is finished.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::mpsc::{Receiver as Finishes, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use automation::{ActionRecord, RuleSet};
use courier::{
    Admission, Attempts, BreakerChange, DeliveryError, Observer, Position, Verdict, Worker,
    write_dead_letters,
};
use erasure::Erased;
use kafka::feed::{Feed, Item};
use kafka::{DeadLetterWriter, FailedRecord};
use record::{Reason, Stage};
use service::{Service, Shutdown};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::outgoing::Outgoing;
use super::partition::{MOST_FINISHED_BEHIND, Partition};
use super::receiver::{ActionPlace, Receivers};
use super::suppressions::Suppressions;
use crate::settings::AutomateSettings;

const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// The greatest number of actions that are read and not finished. Nothing more is read until there are a tenth less.
const MOST_UNFINISHED: usize = 100_000;
/// The greatest number of actions whose offsets are not committed: the unfinished ones and those that are finished behind
/// them.
const MOST_TRACKED: usize = 500_000;
/// How often actions are looked for that wait for too long.
const OVERDUE_CHECK: Duration = Duration::from_millis(100);
/// How long a process that ends waits for attempts.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Why this member does not deliver, for the health of the service.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Option<String>>>);

impl Held {
    /// Returns the reason, if there is one.
    pub(crate) fn read(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn report(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Reads and delivers.
pub(crate) struct Intake {
    feed: Feed,
    topic: String,
    rules: Arc<RuleSet>,
    receivers: Receivers,
    suppressions: Option<Arc<Suppressions>>,
    erased: Arc<Erased>,
    dead_letters: Arc<DeadLetterWriter>,
    /// The attempts of each receiver.
    attempts: HashMap<ActionPlace, Arc<Attempts>>,
    /// The partitions that this member owns.
    owned: BTreeMap<i32, Partition>,
    /// The number of assignments so far.
    assignments: u64,
    is_paused: bool,
    overdue_checked: Instant,
    finish: Sender<Finished>,
    finished: Finishes<Finished>,
    automate: AutomateSettings,
    shutdown: Shutdown,
    held: Held,
    /// Dead letters that are being written.
    writing: JoinSet<()>,
    runtime: Runtime,
}

/// What is no longer to be delivered.
struct Finished {
    position: Position,
    /// In which the record was read.
    assignment: u64,
    end: End,
}

enum End {
    Done,
    Failed(FailedRecord),
}

/// Why an action cannot be delivered.
struct Failure(Reason, String);

impl Intake {
    /// Starts the thread of the deliveries.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn new(
        (feed, topic): (Feed, String),
        dead_letters: DeadLetterWriter,
        erased: Arc<Erased>,
        (rules, receivers, suppressions): (Arc<RuleSet>, Receivers, Option<Arc<Suppressions>>),
        (automate, service): (AutomateSettings, &Service),
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("deliveries")
            .enable_all()
            .build()?;
        let (finish, finished) = channel();
        Ok(Self {
            feed,
            topic,
            rules,
            receivers,
            suppressions,
            erased,
            dead_letters: Arc::new(dead_letters),
            attempts: HashMap::new(),
            owned: BTreeMap::new(),
            assignments: 0,
            is_paused: false,
            overdue_checked: Instant::now(),
            finish,
            finished,
            automate,
            shutdown: service.shutdown.clone(),
            held: Held::default(),
            writing: JoinSet::new(),
            runtime,
        })
    }

    /// Returns where the intake reports why it does not deliver.
    pub(crate) fn held(&self) -> Held {
        self.held.clone()
    }

    /// Runs until the shutdown is requested, then waits for the attempts in progress. The next start delivers what is
    /// still pending.
    ///
    /// # Errors
    /// Errors of Kafka from which only a new process recovers.
    pub(crate) fn run(mut self) -> Result<(), kafka::Error> {
        while !self.shutdown.requested() {
            let item = self.feed.next(POLL_TIMEOUT)?;
            self.follow_ownership()?;
            if let Some(item) = item {
                self.dispatch(item)?;
            }
            while let Ok(finished) = self.finished.try_recv() {
                self.end(finished)?;
            }
            self.give_up_overdue();
            self.limit_reading()?;
            self.report();
        }
        let owned = self.owned.values_mut();
        let workers: Vec<_> = owned.flat_map(|partition| partition.workers.drain()).collect();
        let writing = &mut self.writing;
        let stop = async {
            for (_, worker) in workers {
                worker.stop().await;
            }
            while writing.join_next().await.is_some() {}
        };
        // What has not ended by then is delivered by the next process.
        let _ = self.runtime.block_on(async { tokio::time::timeout(STOP_TIMEOUT, stop).await });
        while let Ok(finished) = self.finished.try_recv() {
            if let End::Done = finished.end {
                self.end(finished)?;
            }
        }
        self.feed.close()
    }

    /// Forgets the partitions that were lost, and ends their deliveries: the next owner makes them, and must not be
    /// overtaken.
    fn follow_ownership(&mut self) -> Result<(), kafka::Error> {
        let names = self.feed.owned();
        if names.map(|name| name.partition).eq(self.owned.keys().copied()) {
            return Ok(());
        }
        let names: BTreeSet<i32> = self.feed.owned().map(|name| name.partition).collect();
        let lost: Vec<_> = self.owned.extract_if(.., |name, _| !names.contains(name)).collect();
        for (_, partition) in lost {
            partition.abort();
        }
        for name in names {
            self.owned.entry(name).or_insert_with(|| {
                self.assignments += 1;
                Partition::new(self.assignments)
            });
        }
        // librdkafka remembers that a partition was paused in an earlier assignment.
        self.feed.set_paused(self.is_paused)
    }

    /// Stops to read while too much is unfinished. The member goes on polling, so that it stays in its group.
    fn limit_reading(&mut self) -> Result<(), kafka::Error> {
        let (unfinished, tracked) = (self.unfinished(), self.tracked());
        let is_full = unfinished >= MOST_UNFINISHED || tracked >= MOST_TRACKED;
        let has_room = unfinished <= MOST_UNFINISHED / 10 * 9 && tracked <= MOST_TRACKED / 10 * 9;
        if (is_full && !self.is_paused) || (has_room && self.is_paused) {
            self.is_paused = is_full;
            self.feed.set_paused(is_full)?;
        }
        Ok(())
    }

    fn unfinished(&self) -> usize {
        self.owned.values().map(|partition| partition.progress.unfinished()).sum()
    }

    fn tracked(&self) -> usize {
        self.owned.values().map(|partition| partition.progress.tracked()).sum()
    }

    fn report(&self) {
        let not_current = || (!self.erased.is_current()).then(|| erasure::NOT_CURRENT.to_owned());
        let full =
            || self.is_paused.then(|| "too many actions wait for their receivers".to_owned());
        self.held.report(self.feed.held().or_else(not_current).or_else(full));
        metrics::gauge!("mailpulse_automate_pending_actions").set(self.unfinished() as f64);
    }

    fn dispatch(&mut self, item: Item) -> Result<(), kafka::Error> {
        let position = Position::of(&item);
        let Some(partition) = self.owned.get_mut(&position.partition) else { return Ok(()) };
        let assignment = partition.assignment;
        match partition.progress.start(position, 1) {
            Admission::Delivered => return self.feed.done(&item),
            Admission::Pending => return Ok(()),
            Admission::Deliver => {}
        }
        match self.deliver(&item, assignment) {
            Ok(true) => Ok(()),
            Ok(false) => self.end(Finished { position, assignment, end: End::Done }),
            Err(Failure(reason, detail)) => {
                self.give_up(FailedRecord { record: item, reason, detail }, assignment);
                Ok(())
            }
        }
    }

    /// Passes an action to its worker. Returns false if there is nothing to deliver.
    fn deliver(&mut self, item: &Item, assignment: u64) -> Result<bool, Failure> {
        let own = Stage::AutomateDeliver.code().as_bytes();
        if item.redriven_for().is_some_and(|stage| stage != own) {
            return Ok(false);
        }
        let record: ActionRecord =
            serde_json::from_slice(item.value.as_deref().unwrap_or_default())
                .map_err(|error| Failure(Reason::of_json(&error), error.to_string()))?;
        let is_erased = |address| self.erased.eraser().pseudonym(address).is_some();
        if record.subject.recipient().is_some_and(is_erased) {
            return Ok(false);
        }
        let place = (record.rule.clone(), record.index.clone());
        let action = self.rules.rule(&record.rule).and_then(|rule| rule.action(&record.index));
        let action = action.filter(|action| action.name() == record.action);
        if action.is_some_and(|action| !action.is_delivered()) {
            return Ok(false);
        }
        let receiver = action.and_then(|_| self.receivers.0.get(&place)).ok_or_else(|| {
            let ActionRecord { rule, index, action, .. } = &record;
            let problem =
                format!("the settings no longer have action {index} ({action}) of rule {rule}");
            Failure(Reason::Undeliverable, problem)
        })?;
        let known = (self.suppressions.as_ref(), &self.erased);
        let outgoing = Outgoing::new((item.clone(), assignment), record, receiver, known)
            .map_err(|error| Failure(Reason::Undeliverable, error.to_string()))?;
        let attempts = self.attempts.entry(place.clone()).or_insert_with_key(|(rule, index)| {
            let (rule, index, action) = (rule.clone(), index.clone(), receiver.action);
            let observer = Meter { rule, index, action };
            let settings = self.automate.attempts();
            Arc::new(Attempts::new(settings, observer, self.shutdown.clone()))
        });
        let workers = self.owned.values().filter_map(|partition| partition.workers.get(&place));
        let (waiting, bytes) = workers.fold((0, 0), |(waiting, bytes), worker| {
            (waiting + worker.waiting(), bytes + worker.bytes())
        });
        let limits = self.automate.limits();
        if waiting >= limits.waiting || bytes >= limits.bytes {
            let problem = format!(
                "{waiting} actions wait for the receiver, which is too slow or away; redrive when it works"
            );
            return Err(Failure(Reason::Undeliverable, problem));
        }
        let Some(partition) = self.owned.get_mut(&item.partition) else { return Ok(true) };
        let worker = partition.workers.entry(place).or_insert_with(|| {
            let finish = self.finish.clone();
            let finished = move |outgoing: Arc<Outgoing>, verdict| {
                let _ = finish.send(Finished::of(&outgoing, verdict));
            };
            // All partitions together are limited above.
            Worker::new(self.runtime.handle(), Arc::clone(attempts), finished)
        });
        let outgoing = Arc::new(outgoing);
        partition.deliveries.insert(item.offset, Arc::clone(&outgoing));
        worker.push(outgoing);
        Ok(true)
    }

    /// Ends the delivery of a record, unless its partition has moved since.
    fn end(&mut self, finished: Finished) -> Result<(), kafka::Error> {
        let Finished { position, assignment, end } = finished;
        let partition = self.owned.get_mut(&position.partition);
        let Some(partition) = partition.filter(|it| it.assignment == assignment) else {
            return Ok(());
        };
        let was_delivering = partition.deliveries.remove(&position.offset).is_some();
        match end {
            End::Done => self.done(position),
            End::Failed(failed) => {
                // Otherwise a dead letter is being written already.
                if was_delivering {
                    self.give_up(failed, assignment);
                }
                Ok(())
            }
        }
    }

    /// Gives up the actions that keep too many finished ones from being committed.
    fn give_up_overdue(&mut self) {
        if self.overdue_checked.elapsed() < OVERDUE_CHECK {
            return;
        }
        self.overdue_checked = Instant::now();
        let overdue: Vec<_> = self.owned.values_mut().flat_map(Partition::take_overdue).collect();
        for outgoing in overdue {
            let detail = format!(
                "it waited for the receiver while {MOST_FINISHED_BEHIND} later actions were finished; redrive when \
                 the receiver works"
            );
            let (record, reason) = (outgoing.item.clone(), Reason::Undeliverable);
            self.give_up(FailedRecord { record, reason, detail }, outgoing.assignment);
        }
    }

    /// Writes a dead letter in the background. The record is finished when that is durable.
    fn give_up(&mut self, failed: FailedRecord, assignment: u64) {
        while self.writing.try_join_next().is_some() {}
        tracing::warn!(
            origin = %failed.record.origin(), reason = failed.reason.code(),
            "an action is not delivered; writing a dead letter"
        );
        let eraser = self.erased.eraser();
        let record = erasure::erase_record(&eraser, failed.record);
        let detail = eraser.erase_body(failed.detail.as_bytes());
        let detail = String::from_utf8_lossy(&detail).into_owned();
        let position = Position::of(&record);
        let failed = FailedRecord { record, reason: failed.reason, detail };
        let (writer, finish) = (Arc::clone(&self.dead_letters), self.finish.clone());
        let shutdown = self.shutdown.clone();
        let write = async move {
            if write_dead_letters(&writer, std::slice::from_ref(&failed), &shutdown).await {
                let _ = finish.send(Finished { position, assignment, end: End::Done });
            }
        };
        self.writing.spawn_on(write, self.runtime.handle());
    }

    fn done(&mut self, position: Position) -> Result<(), kafka::Error> {
        let partition = self.owned.get_mut(&position.partition);
        match partition.and_then(|partition| partition.progress.finish(position)) {
            Some(Position { partition, offset }) => {
                self.feed.done_at(&self.topic, partition, offset)
            }
            None => Ok(()),
        }
    }
}

impl Finished {
    fn of(outgoing: &Outgoing, verdict: Verdict) -> Self {
        let end = match verdict {
            Verdict::Delivered => End::Done,
            Verdict::Rejected(detail) | Verdict::GaveUp(detail) => End::Failed(FailedRecord {
                record: outgoing.item.clone(),
                reason: Reason::Undeliverable,
                detail,
            }),
        };
        let position = Position::of(&outgoing.item);
        Self { position, assignment: outgoing.assignment, end }
    }
}

/// The metrics and log lines of one receiver.
struct Meter {
    rule: String,
    index: String,
    action: &'static str,
}

impl Observer for Meter {
    fn attempted(&self, took: Duration, result: &Result<(), DeliveryError>) {
        let result = result.as_ref().map_or_else(DeliveryError::code, |()| "delivered");
        let labels = [("type", self.action), ("result", result)];
        metrics::histogram!("mailpulse_automate_attempt_duration_seconds", &labels)
            .record(took.as_secs_f64());
    }

    fn circuit_changed(&self, change: BreakerChange) {
        let (rule, index) = (self.rule.clone(), self.index.clone());
        let gauge =
            metrics::gauge!("mailpulse_automate_circuit_open", "rule" => rule, "index" => index);
        let (rule, index) = (&self.rule, &self.index);
        match change {
            BreakerChange::Opened => {
                gauge.set(1.0);
                tracing::warn!(rule, index, "a receiver fails; its attempts pause");
            }
            BreakerChange::Closed => {
                gauge.set(0.0);
                tracing::info!(rule, index, "a receiver works again");
            }
            BreakerChange::None => {}
        }
    }
}
