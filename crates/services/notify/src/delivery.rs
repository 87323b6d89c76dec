//! Passes incidents to the workers of the channels, and collects what they have finished.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use courier::{Position, write_dead_letters};
use jiff::Timestamp;
use kafka::{DeadLetterWriter, FailedRecord};
use service::Shutdown;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::channel::Channel;
use crate::explainer::Explainer;
use crate::message::Delivery;
use crate::open_incidents::Identity;
use crate::preparation::Preparation;
use crate::received::Received;
use crate::worker::{Worker, WorkerContext};
use alerting::page::PageSettings;

/// Returns the current time. Tests have their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How long and how often a delivery is retried: the settings of [`courier::Retry::exponential`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The maximum length of the first pause.
    pub min: Duration,
    /// The maximum length of every pause.
    pub max: Duration,
    /// The time after the first attempt at which the last attempt is made.
    pub give_up_after: Duration,
}

/// How incidents are delivered.
#[derive(Clone)]
pub struct DeliverySettings {
    /// How failed attempts are repeated.
    pub retry: Retry,
    /// How long a new incident waits for newer records of it.
    pub gather: Duration,
    /// How pages are written.
    pub pages: PageSettings,
    /// The wall clock.
    pub clock: Clock,
}

/// What a worker is told.
#[derive(Debug, Clone)]
pub enum Command {
    /// Deliver changes of one incident.
    Deliver(Arc<[Delivery]>),
    /// An earlier process has delivered this record, which is the newest of its incident. The identity is
    /// that of its first record.
    Restore(Arc<Received>, Identity),
    /// Only these partitions belong to this process.
    Retain(Arc<BTreeSet<i32>>),
}

/// What one channel has finished.
#[derive(Debug)]
pub enum Finished {
    /// The channel needs to do nothing more for the record at this position.
    Done(Position),
    /// The channel did not accept the incident. The positions are finished once the dead letter is
    /// durable.
    Undeliverable {
        /// The positions of the records.
        positions: Vec<Position>,
        /// The newest record, and why it was not delivered.
        failed: FailedRecord,
    },
}

/// Delivers incidents to all channels. Its queues are unbounded: the caller limits the number of
/// pending records.
pub struct Deliveries {
    preparation: Option<UnboundedSender<Arc<Received>>>,
    queues: Vec<UnboundedSender<Command>>,
    finish: Sender<Finished>,
    finished: Receiver<Finished>,
    /// The result of [`Deliveries::await_finished`], returned by the next
    /// [`Deliveries::next_finished`].
    peeked: Option<Finished>,
    shutdown: Shutdown,
    tasks: JoinSet<()>,
    runtime: Runtime,
}

impl Deliveries {
    /// Starts one task per channel. All tasks share one thread. Without an explainer, pages have no
    /// explanation.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn start(
        channels: Vec<Channel>,
        settings: DeliverySettings,
        explainer: Option<Explainer>,
        shutdown: Shutdown,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("deliveries")
            .enable_all()
            .build()?;
        let (finish, finished) = channel();
        let mut tasks = JoinSet::new();
        let context = WorkerContext {
            retry: settings.retry,
            pages: settings.pages,
            clock: settings.clock,
            finish: finish.clone(),
            shutdown: shutdown.clone(),
        };
        let queues: Vec<_> = channels
            .into_iter()
            .map(|channel| {
                let (sender, queue) = unbounded_channel();
                // The worker creates timers, which need the runtime.
                let worker = Arc::new(Worker::new(channel, context.clone()));
                tasks.spawn_on(worker.run(queue), runtime.handle());
                sender
            })
            .collect();
        let (preparation, incoming) = unbounded_channel();
        let prepare = Preparation::new(settings.gather, explainer, queues.clone());
        tasks.spawn_on(prepare.run(incoming, shutdown.clone()), runtime.handle());
        let preparation = Some(preparation);
        Ok(Self { preparation, queues, finish, finished, peeked: None, shutdown, tasks, runtime })
    }

    /// Returns how many channels finish each delivery.
    pub fn channels(&self) -> usize {
        self.queues.len()
    }

    /// Passes a record to every channel.
    pub fn send(&self, received: Arc<Received>) {
        // This never fails, because the task runs until `stop`.
        let _ = self.preparation.as_ref().map(|queue| queue.send(received));
    }

    /// Tells every channel the newest record of an incident, which an earlier process has delivered.
    pub fn restore(&self, received: &Arc<Received>, identity: &Identity) {
        self.tell(&Command::Restore(Arc::clone(received), identity.clone()));
    }

    /// Tells every channel which partitions this process owns.
    pub fn retain(&self, partitions: &BTreeSet<i32>) {
        self.tell(&Command::Retain(Arc::new(partitions.clone())));
    }

    fn tell(&self, command: &Command) {
        for queue in &self.queues {
            let _ = queue.send(command.clone());
        }
    }

    /// Writes a dead letter in the background. The positions are finished once the dead letter is
    /// durable.
    pub fn send_dead_letter(
        &mut self,
        writer: &Arc<DeadLetterWriter>,
        positions: Vec<Position>,
        failed: FailedRecord,
    ) {
        // Removes the tasks that have ended, so that their number does not grow.
        while self.tasks.try_join_next().is_some() {}
        let (writer, finish) = (Arc::clone(writer), self.finish.clone());
        let shutdown = self.shutdown.clone();
        let write = async move {
            if write_dead_letters(&writer, std::slice::from_ref(&failed), &shutdown).await {
                for position in positions {
                    let _ = finish.send(Finished::Done(position));
                }
            }
        };
        self.tasks.spawn_on(write, self.runtime.handle());
    }

    /// Returns what one channel has finished, if there is something. Each position is returned once per
    /// channel.
    pub fn next_finished(&mut self) -> Option<Finished> {
        self.peeked.take().or_else(|| self.finished.try_recv().ok())
    }

    /// Waits until [`next_finished`](Self::next_finished) returns something, but at most for `timeout`.
    pub fn await_finished(&mut self, timeout: Duration) {
        if self.peeked.is_none() {
            self.peeked = self.finished.recv_timeout(timeout).ok();
        }
    }

    /// Waits for the attempts in progress. Call it after the shutdown was requested, which prevents
    /// new attempts.
    pub fn stop(&mut self) {
        self.preparation = None;
        self.queues.clear();
        let tasks = &mut self.tasks;
        self.runtime.block_on(async { while tasks.join_next().await.is_some() {} });
    }
}
