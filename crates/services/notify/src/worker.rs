//! The task of one channel. Incidents do not wait for each other, but the changes of an incident are
//! delivered in order: each incident has a *lane*, which has at most one attempt in progress.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alerting::IncidentId;
use courier::{AttemptSettings, Attempts, BreakerSettings};
use jiff::Timestamp;
use service::Shutdown;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::channel::Channel;
use crate::delivery::{Clock, Command, Finished, Retry};
use crate::message::Delivery;
use crate::open_incidents::Identity;
use alerting::page::PageSettings;

mod attempt;
mod lane;
mod outcome;
mod quiet;
mod resending;

use attempt::ChannelObserver;
use outcome::Outcome;
use resending::Resending;

/// The maximum number of concurrent attempts of one channel. After an outage of the receiver, many
/// messages are due at the same time.
const MAX_CONCURRENT_ATTEMPTS: usize = 8;

/// When the attempts of a channel pause.
const BREAKER: BreakerSettings = BreakerSettings::DEFAULT;

/// The number of changes that may wait for one channel. Further ones become dead letters for this channel:
/// a channel that fails for long must not stop the others.
pub const MAX_WAITING: usize = 1_000;

/// The bytes of the records that may wait for one channel.
const MAX_WAITING_BYTES: usize = 8 << 20;

/// How often the worker looks whether quiet hours are over and whether alerts must be sent again.
const TICK: Duration = Duration::from_millis(200);

/// What a worker needs besides its channel.
#[derive(Clone)]
pub struct WorkerContext {
    pub retry: Retry,
    pub pages: PageSettings,
    pub clock: Clock,
    pub finish: Sender<Finished>,
    pub shutdown: Shutdown,
}

/// Delivers to one channel.
pub struct Worker {
    channel: Channel,
    context: WorkerContext,
    attempts: Attempts,
    lanes: Mutex<HashMap<Lane, VecDeque<Delivery>>>,
    /// The number of deliveries in all lanes.
    waiting: AtomicUsize,
    /// The bytes of their records.
    waiting_bytes: AtomicUsize,
    /// The incidents that wait for the end of the quiet hours. Their records are finished.
    held_back: Mutex<BTreeMap<IncidentId, Delivery>>,
    resending: Mutex<Resending>,
}

/// What is delivered in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Incident(IncidentId),
    /// The digest of the quiet hours that ended at this time.
    QuietHours(Timestamp),
}

impl Worker {
    /// Returns a worker with nothing to deliver.
    pub fn new(channel: Channel, context: WorkerContext) -> Self {
        let Retry { min, max, give_up_after } = context.retry;
        let settings = AttemptSettings {
            retry: courier::Retry::exponential(min, max, give_up_after),
            breaker: BREAKER,
            concurrent: MAX_CONCURRENT_ATTEMPTS,
            max_per_minute: channel.max_per_minute,
        };
        let observer = ChannelObserver { channel: channel.name.clone() };
        Self {
            attempts: Attempts::new(settings, observer, context.shutdown.clone()),
            channel,
            context,
            lanes: Mutex::default(),
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            held_back: Mutex::default(),
            resending: Mutex::new(Resending::new(Instant::now())),
        }
    }

    /// Runs until the queue is closed and the attempts in progress have ended.
    pub async fn run(self: Arc<Self>, mut queue: UnboundedReceiver<Command>) {
        let mut tasks = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                command = queue.recv() => match command {
                    Some(command) => self.take(command, &mut tasks),
                    None => break,
                },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                _ = tick.tick() => {
                    self.end_quiet_hours(&mut tasks);
                    self.send_again_if_due(&mut tasks);
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    fn take(self: &Arc<Self>, command: Command, tasks: &mut JoinSet<()>) {
        match command {
            Command::Deliver(changes) => {
                let changes: Vec<_> =
                    changes.iter().filter_map(|delivery| self.admit(delivery)).collect();
                let Some(first) = changes.first() else { return };
                let id = first.received.id();
                // What was held back of the incident is not delivered separately any more.
                let held_back = lock(&self.held_back).remove(&id);
                self.push(Lane::Incident(id), held_back.into_iter().chain(changes), tasks);
            }
            Command::Restore(received, identity) => self.restore(&received, identity),
            Command::Retain(partitions) => {
                let is_ours = |one: &Delivery| partitions.contains(&one.received.record.partition);
                lock(&self.held_back).retain(|_, delivery| is_ours(delivery));
                if let Some(alertmanager) = self.channel.target.alertmanager() {
                    alertmanager.open().retain(&partitions);
                }
            }
        }
    }

    /// Returns the delivery if it must be delivered now. Otherwise it is finished.
    fn admit(&self, delivery: &Delivery) -> Option<Delivery> {
        let received = &delivery.received;
        let is_for_us = received.only_channel().is_none_or(|only| only == self.channel.name);
        let is_routed = is_for_us && self.channel.route.matches(&received.incident);
        if is_routed {
            self.remember_open(delivery, Identity::of(&received.incident));
        }
        let is_wanted = is_routed
            && self.channel.target.wants(delivery.change, &received.incident)
            && !self.is_covered_by_resending(delivery);
        if !is_wanted || self.hold_back(delivery) {
            self.finish(delivery);
            return None;
        }
        Some(delivery.clone())
    }

    /// Adds deliveries to a lane, and starts its task if it has none.
    fn push(
        self: &Arc<Self>,
        lane: Lane,
        changes: impl Iterator<Item = Delivery>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut lanes = lock(&self.lanes);
        let is_new = !lanes.contains_key(&lane);
        for delivery in changes {
            let bytes = self.waiting_bytes.load(Ordering::Relaxed);
            if self.waiting.load(Ordering::Relaxed) >= MAX_WAITING || bytes >= MAX_WAITING_BYTES {
                self.give_up(&delivery, "too many changes wait for the channel");
                self.report(std::slice::from_ref(&delivery), Outcome::GaveUp);
            } else {
                self.waiting.fetch_add(1, Ordering::Relaxed);
                self.waiting_bytes.fetch_add(delivery.received.bytes(), Ordering::Relaxed);
                lanes.entry(lane).or_default().push_back(delivery);
            }
        }
        if is_new && lanes.contains_key(&lane) {
            let worker = Arc::clone(self);
            tasks.spawn(async move { worker.run_lane(lane).await });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
