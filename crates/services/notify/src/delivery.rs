//! One task per channel. It retries each transition until the channel accepts it, rejects it for
//! good, or `give_up_after` is over. Episodes do not wait for each other, but the transitions
//! of an episode are delivered in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kafka::{DeadLetterWriter, FailedRecord};
use service::Shutdown;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use window::EpisodeId;

use crate::backoff::{Backoff, Retry};
use crate::channel::Channel;
use crate::endpoint::DeliveryError;
use crate::progress::Position;
use crate::transition::Transition;

/// The maximum number of concurrent attempts of one channel. After an outage of the receiver, many
/// transitions are due at the same time.
const MAX_CONCURRENT_ATTEMPTS: usize = 8;

/// The number of deliveries that may wait for one channel. Further ones are given up for this channel:
/// a channel that fails for long must not stop the others.
const MAX_WAITING: usize = 5_000;

/// The pause after a failed attempt to write a dead letter.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(1);

/// A transition to deliver and the position of its record.
#[derive(Debug)]
pub struct Delivery {
    /// The position that each channel reports when it has finished the delivery.
    pub position: Position,
    /// What to deliver.
    pub transition: Transition,
}

/// Delivers transitions to all channels. Its queues are unbounded: the caller limits the number of
/// pending transitions.
pub struct Deliveries {
    queues: Vec<UnboundedSender<Arc<Delivery>>>,
    finish: Sender<Position>,
    finished: Receiver<Position>,
    /// The result of [`Deliveries::await_finished`], returned by the next
    /// [`Deliveries::next_finished`].
    peeked: Option<Position>,
    shutdown: Shutdown,
    tasks: JoinSet<()>,
    runtime: Runtime,
}

impl Deliveries {
    /// Starts one task per channel. All tasks share one thread.
    ///
    /// # Errors
    /// Fails if the thread cannot be started.
    pub fn start(
        channels: Vec<Channel>,
        retry: Retry,
        shutdown: Shutdown,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("deliveries")
            .enable_all()
            .build()?;
        let (finish, finished) = channel();
        let mut tasks = JoinSet::new();
        let queues = channels
            .into_iter()
            .map(|channel| {
                let (sender, queue) = unbounded_channel();
                let worker = Arc::new(Worker::new(channel, retry, shutdown.clone()));
                tasks.spawn_on(run(worker, queue, finish.clone()), runtime.handle());
                sender
            })
            .collect();
        Ok(Self { queues, finish, finished, peeked: None, shutdown, tasks, runtime })
    }

    /// Returns how many channels finish each delivery.
    pub fn channels(&self) -> usize {
        self.queues.len()
    }

    /// Passes the delivery to every channel.
    pub fn send(&self, delivery: &Arc<Delivery>) {
        for queue in &self.queues {
            // This never fails, because a task runs until `stop`.
            let _ = queue.send(Arc::clone(delivery));
        }
    }

    /// Writes a dead letter in the background. Its position is finished once the dead letter is
    /// durable.
    pub fn send_dead_letter(
        &mut self,
        writer: &Arc<DeadLetterWriter>,
        position: Position,
        failed: FailedRecord,
    ) {
        // Removes the tasks that have ended, so that their number does not grow.
        while self.tasks.try_join_next().is_some() {}
        let (writer, finish) = (Arc::clone(writer), self.finish.clone());
        let shutdown = self.shutdown.clone();
        let write = async move {
            if write_dead_letter(&writer, &failed, &shutdown).await {
                let _ = finish.send(position);
            }
        };
        self.tasks.spawn_on(write, self.runtime.handle());
    }

    /// Returns a position that one channel has finished, if there is one. Each position is returned
    /// once per channel.
    pub fn next_finished(&mut self) -> Option<Position> {
        self.peeked.take().or_else(|| self.finished.try_recv().ok())
    }

    /// Waits until [`next_finished`](Self::next_finished) returns a position, but at most for
    /// `timeout`.
    pub fn await_finished(&mut self, timeout: Duration) {
        if self.peeked.is_none() {
            self.peeked = self.finished.recv_timeout(timeout).ok();
        }
    }

    /// Waits for the attempts in progress. Call it after the shutdown was requested, which prevents
    /// new attempts.
    pub fn stop(&mut self) {
        self.queues.clear();
        let tasks = &mut self.tasks;
        self.runtime.block_on(async { while tasks.join_next().await.is_some() {} });
    }
}

/// Writes a dead letter and retries until it is durable. Returns false if the shutdown was requested
/// before that; the next process then reads the record again.
async fn write_dead_letter(
    writer: &DeadLetterWriter,
    failed: &FailedRecord,
    shutdown: &Shutdown,
) -> bool {
    let write = async {
        while let Err(error) = writer.write(std::slice::from_ref(failed)).await {
            let origin = failed.record.origin();
            tracing::error!(%error, %origin, "cannot write a dead letter; retrying");
            tokio::time::sleep(DEAD_LETTER_RETRY).await;
        }
    };
    // While Kafka is away, one attempt takes longer than a process may take to stop.
    tokio::select! {
        () = write => true,
        () = shutdown.wait() => false,
    }
}

/// Delivers to one channel.
struct Worker {
    channel: Channel,
    retry: Retry,
    shutdown: Shutdown,
    attempts: Semaphore,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeliveryOutcome {
    Delivered,
    /// The channel rejected it for good.
    Rejected,
    /// The channel did not accept it in time.
    GaveUp,
    /// The process stops. The next process delivers it.
    Postponed,
}

impl DeliveryOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
            Self::GaveUp => "gave_up",
            Self::Postponed => "postponed",
        }
    }
}

/// Runs the task of one channel. Each episode has at most one delivery in progress; its later
/// transitions wait in a queue.
async fn run(
    worker: Arc<Worker>,
    mut queue: UnboundedReceiver<Arc<Delivery>>,
    finish: Sender<Position>,
) {
    let mut waiting: HashMap<EpisodeId, VecDeque<Arc<Delivery>>> = HashMap::new();
    let mut in_progress = JoinSet::new();
    // The deliveries in progress and those that wait for them.
    let mut unfinished = 0;
    let start = |in_progress: &mut JoinSet<_>, delivery: Arc<Delivery>| {
        let worker = Arc::clone(&worker);
        in_progress.spawn(async move { (worker.deliver(&delivery.transition).await, delivery) });
    };
    loop {
        tokio::select! {
            Some(delivery) = queue.recv() => {
                if unfinished >= MAX_WAITING {
                    worker.report(&delivery.transition, DeliveryOutcome::GaveUp);
                    let _ = finish.send(delivery.position);
                    continue;
                }
                unfinished += 1;
                match waiting.get_mut(&delivery.transition.episode()) {
                    Some(later) => later.push_back(delivery),
                    None => {
                        waiting.insert(delivery.transition.episode(), VecDeque::new());
                        start(&mut in_progress, delivery);
                    }
                }
            }
            Some(Ok((outcome, delivery))) = in_progress.join_next() => {
                unfinished -= 1;
                if outcome != DeliveryOutcome::Postponed {
                    let _ = finish.send(delivery.position);
                }
                let episode = delivery.transition.episode();
                match waiting.get_mut(&episode).and_then(VecDeque::pop_front) {
                    Some(next) if outcome != DeliveryOutcome::Postponed => {
                        start(&mut in_progress, next);
                    }
                    // The queue is empty, or the process stops. In the second case the later
                    // transitions must not be delivered before the postponed one.
                    _ => unfinished -= waiting.remove(&episode).map_or(0, |later| later.len()),
                }
            }
            else => return,
        }
    }
}

impl Worker {
    const fn new(channel: Channel, retry: Retry, shutdown: Shutdown) -> Self {
        let attempts = Semaphore::const_new(MAX_CONCURRENT_ATTEMPTS);
        Self { channel, retry, shutdown, attempts }
    }

    /// Makes attempts until the delivery has an outcome.
    async fn deliver(&self, transition: &Transition) -> DeliveryOutcome {
        let started = Instant::now();
        let mut backoff = Backoff::new(self.retry);
        let outcome = loop {
            let error = match self.attempt(transition).await {
                None => break DeliveryOutcome::Postponed,
                Some(Ok(())) => break DeliveryOutcome::Delivered,
                Some(Err(error)) if error.is_final() => break DeliveryOutcome::Rejected,
                Some(Err(error)) => error,
            };
            let pause = backoff.next(started.elapsed(), rand::random(), error.retry_after());
            let Some(pause) = pause else { break DeliveryOutcome::GaveUp };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.wait() => {}
            }
        };
        self.report(transition, outcome);
        outcome
    }

    /// Waits for a permit and makes one attempt. Returns `None` if the process stops.
    #[expect(clippy::disallowed_methods, reason = "an attempt has the time of its delivery")]
    async fn attempt(&self, transition: &Transition) -> Option<Result<(), DeliveryError>> {
        // The semaphore is never closed. If it were, the attempt would be made without a permit.
        let _permit = self.attempts.acquire().await.ok();
        if self.shutdown.requested() {
            return None;
        }
        let (started, channel) = (Instant::now(), &self.channel.name);
        let result = self.channel.send(transition, Timestamp::now()).await;
        metrics::histogram!(
            "mailpulse_notify_attempt_duration_seconds", "channel" => channel.clone()
        )
        .record(started.elapsed());
        if let Err(error) = &result {
            let code = error.code();
            metrics::counter!(
                "mailpulse_notify_failed_attempts_total",
                "channel" => channel.clone(),
                "code" => code
            )
            .increment(1);
            let episode = transition.episode();
            tracing::warn!(channel, code, %episode, %error, "delivery attempt failed");
        }
        Some(result)
    }

    /// Counts the outcome, and logs an error if the transition is lost for this channel.
    #[expect(clippy::disallowed_methods, reason = "the metric is the age by the wall clock")]
    fn report(&self, transition: &Transition, outcome: DeliveryOutcome) {
        let channel = &self.channel.name;
        metrics::counter!(
            "mailpulse_notify_deliveries_total",
            "channel" => channel.clone(),
            "outcome" => outcome.as_str()
        )
        .increment(1);
        match outcome {
            DeliveryOutcome::Delivered => {
                let age = Timestamp::now().duration_since(transition.at).as_secs_f64();
                metrics::histogram!(
                    "mailpulse_notify_alert_age_seconds", "channel" => channel.clone()
                )
                .record(age.max(0.0));
            }
            DeliveryOutcome::Rejected | DeliveryOutcome::GaveUp => tracing::error!(
                channel,
                outcome = outcome.as_str(),
                change = transition.change().as_str(),
                episode = %transition.episode(),
                summary = transition.alert.summary,
                "alert was not delivered and will not be retried"
            ),
            DeliveryOutcome::Postponed => {}
        }
    }
}
