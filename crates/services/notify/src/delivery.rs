//! One task per channel: it tries each transition until the channel takes it, refuses it for good,
//! or time is up. Episodes do not wait for each other; the transitions of one stay in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use service::Shutdown;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use window::EpisodeId;

use crate::backoff::{Backoff, Retry};
use crate::channel::Channel;
use crate::endpoint::Failure;
use crate::progress::Ticket;
use crate::transition::Transition;

/// Tries of one channel at once: after an outage all that waited comes back, and should not be a
/// flood.
const TRIES_AT_ONCE: usize = 8;

/// A transition and the record it came in.
#[derive(Debug)]
pub struct Parcel {
    /// The record.
    pub ticket: Ticket,
    /// What to tell.
    pub transition: Transition,
}

/// All channels at work. Queues are unbounded here; who sends bounds what is under way.
pub struct Deliveries {
    inboxes: Vec<UnboundedSender<Arc<Parcel>>>,
    finished: Receiver<Ticket>,
    /// The one that was waited for.
    peeked: Option<Ticket>,
    tasks: JoinSet<()>,
    runtime: Runtime,
}

impl Deliveries {
    /// Starts a task for each channel on a thread of their own.
    ///
    /// # Errors
    /// When the thread cannot be started.
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
        let inboxes = channels
            .into_iter()
            .map(|channel| {
                let (send, inbox) = unbounded_channel();
                let courier = Arc::new(Courier::new(channel, retry, shutdown.clone()));
                tasks.spawn_on(run(courier, inbox, finish.clone()), runtime.handle());
                send
            })
            .collect();
        Ok(Self { inboxes, finished, peeked: None, tasks, runtime })
    }

    /// How many channels will finish each parcel.
    pub fn channels(&self) -> usize {
        self.inboxes.len()
    }

    /// Gives a parcel to every channel.
    pub fn send(&self, parcel: &Arc<Parcel>) {
        for inbox in &self.inboxes {
            // A task ends only after `stop`.
            let _ = inbox.send(Arc::clone(parcel));
        }
    }

    /// A parcel some channel is through with, if there is one: once for each channel.
    pub fn next_finished(&mut self) -> Option<Ticket> {
        self.peeked.take().or_else(|| self.finished.try_recv().ok())
    }

    /// Waits until there is a [`next_finished`](Self::next_finished), at most for `timeout`.
    pub fn await_finished(&mut self, timeout: Duration) {
        if self.peeked.is_none() {
            self.peeked = self.finished.recv_timeout(timeout).ok();
        }
    }

    /// After the shutdown was requested: waits for the tries under way. Nothing is tried again.
    pub fn stop(&mut self) {
        self.inboxes.clear();
        let tasks = &mut self.tasks;
        self.runtime.block_on(async { while tasks.join_next().await.is_some() {} });
    }
}

/// What the task of one channel works with.
struct Courier {
    channel: Channel,
    retry: Retry,
    shutdown: Shutdown,
    turns: Semaphore,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Delivered,
    /// Refused for good.
    Refused,
    /// Not taken in time.
    GaveUp,
    /// The process stops: the next start delivers it.
    Postponed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::GaveUp => "gave_up",
            Self::Postponed => "postponed",
        }
    }
}

/// A channel's task. Each episode with something to tell has one delivery under way and a queue of
/// those behind it.
async fn run(
    courier: Arc<Courier>,
    mut inbox: UnboundedReceiver<Arc<Parcel>>,
    finish: Sender<Ticket>,
) {
    let mut queues: HashMap<EpisodeId, VecDeque<Arc<Parcel>>> = HashMap::new();
    let mut under_way = JoinSet::new();
    let start = |under_way: &mut JoinSet<_>, parcel: Arc<Parcel>| {
        let courier = Arc::clone(&courier);
        under_way.spawn(async move { (courier.deliver(&parcel.transition).await, parcel) });
    };
    loop {
        tokio::select! {
            Some(parcel) = inbox.recv() => match queues.get_mut(&parcel.transition.episode()) {
                Some(queue) => queue.push_back(parcel),
                None => {
                    queues.insert(parcel.transition.episode(), VecDeque::new());
                    start(&mut under_way, parcel);
                }
            },
            Some(Ok((outcome, parcel))) = under_way.join_next() => {
                if outcome != Outcome::Postponed {
                    let _ = finish.send(parcel.ticket);
                }
                let episode = parcel.transition.episode();
                match queues.get_mut(&episode).and_then(VecDeque::pop_front) {
                    Some(next) if outcome != Outcome::Postponed => start(&mut under_way, next),
                    // Nothing more of this episode, or not now: the order would suffer.
                    _ => drop(queues.remove(&episode)),
                }
            },
            else => return,
        }
    }
}

impl Courier {
    const fn new(channel: Channel, retry: Retry, shutdown: Shutdown) -> Self {
        Self { channel, retry, shutdown, turns: Semaphore::const_new(TRIES_AT_ONCE) }
    }

    /// Tries until it is over.
    async fn deliver(&self, transition: &Transition) -> Outcome {
        let began = Instant::now();
        let mut backoff = Backoff::new(self.retry);
        let outcome = loop {
            let failure = match self.attempt(transition).await {
                None => break Outcome::Postponed,
                Some(Ok(())) => break Outcome::Delivered,
                Some(Err(failure)) if failure.is_final() => break Outcome::Refused,
                Some(Err(failure)) => failure,
            };
            let pause = backoff.next(began.elapsed(), rand::random(), failure.retry_after());
            let Some(pause) = pause else { break Outcome::GaveUp };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.wait() => {}
            }
        };
        self.report(transition, outcome);
        outcome
    }

    /// Tries once, when it is its turn; `None` when the process stops.
    async fn attempt(&self, transition: &Transition) -> Option<Result<(), Failure>> {
        // Nobody closes the semaphore; without a turn the try would still be right.
        let _turn = self.turns.acquire().await.ok();
        if self.shutdown.requested() {
            return None;
        }
        let (began, channel) = (Instant::now(), &self.channel.name);
        let result = self.channel.send(transition, Timestamp::now()).await;
        metrics::histogram!("mailpulse_notify_try_seconds", "channel" => channel.clone())
            .record(began.elapsed());
        if let Err(failure) = &result {
            let code = failure.code();
            metrics::counter!(
                "mailpulse_notify_failed_tries_total", "channel" => channel.clone(), "code" => code
            )
            .increment(1);
            let episode = transition.episode();
            tracing::warn!(channel, code, %episode, error = %failure, "a try failed");
        }
        Some(result)
    }

    /// Counts how it ended, and says so where a page is lost.
    fn report(&self, transition: &Transition, outcome: Outcome) {
        let channel = &self.channel.name;
        metrics::counter!(
            "mailpulse_notify_deliveries_total",
            "channel" => channel.clone(),
            "outcome" => outcome.as_str()
        )
        .increment(1);
        match outcome {
            Outcome::Delivered => {
                let age = Timestamp::now().duration_since(transition.at).as_secs_f64();
                metrics::histogram!("mailpulse_notify_age_seconds", "channel" => channel.clone())
                    .record(age.max(0.0));
            }
            Outcome::Refused | Outcome::GaveUp => tracing::error!(
                channel,
                outcome = outcome.as_str(),
                step = transition.step().as_str(),
                episode = %transition.episode(),
                summary = transition.alert.summary,
                "not delivered"
            ),
            Outcome::Postponed => {}
        }
    }
}
