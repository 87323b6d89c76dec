//! Delivers to one receiver: in order where deliveries share a key, and concurrently otherwise.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::attempts::{Attempts, Job, Verdict};
use crate::endpoint::DeliveryError;
use crate::order::{Order, Turn};

/// Something that is delivered as it is, with the same id and the same body in all attempts.
pub trait Delivery: Send + Sync + 'static {
    /// What the order is about, such as a recipient.
    type Key: Hash + Eq + Clone + Send + Sync + 'static;

    /// Returns the keys. The delivery begins when all earlier ones with one of them have ended.
    fn keys(&self) -> Vec<Self::Key>;

    /// Returns the size in memory.
    fn bytes(&self) -> usize;

    /// Returns whether no further attempt is wanted. The delivery then ends without a verdict.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Makes one attempt.
    fn attempt(&self) -> impl Future<Output = Result<(), DeliveryError>> + Send;
}

/// Delivers to one receiver.
pub struct Worker<D: Delivery> {
    shared: Arc<Shared<D>>,
    order: Order<D::Key>,
    runtime: Handle,
    tasks: JoinSet<()>,
}

/// What the tasks share.
struct Shared<D> {
    attempts: Arc<Attempts>,
    finished: Box<dyn Fn(Arc<D>, Verdict) + Send + Sync>,
    waiting: AtomicUsize,
    bytes: AtomicUsize,
}

impl<D: Delivery> Worker<D> {
    /// Returns a worker with nothing to deliver. Several workers may share the attempts of a receiver, if
    /// their deliveries have no order among each other. The tasks run on `runtime`. They call `finished` when a
    /// delivery has a verdict, which does not happen to what the shutdown postpones or what is cancelled.
    pub fn new(
        runtime: &Handle,
        attempts: Arc<Attempts>,
        finished: impl Fn(Arc<D>, Verdict) + Send + Sync + 'static,
    ) -> Self {
        let shared = Shared {
            attempts,
            finished: Box::new(finished),
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        };
        Self {
            shared: Arc::new(shared),
            order: Order::default(),
            runtime: runtime.clone(),
            tasks: JoinSet::new(),
        }
    }

    /// Returns the number of deliveries without a verdict.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Returns their size in memory.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Takes a delivery, which comes after all earlier ones with one of its keys.
    pub fn push(&mut self, delivery: Arc<D>) {
        // Removes the tasks that have ended, so that their number does not grow.
        while self.tasks.try_join_next().is_some() {}
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.shared.bytes.fetch_add(delivery.bytes(), Ordering::Relaxed);
        let turn = self.order.enter(delivery.keys());
        let shared = Arc::clone(&self.shared);
        self.tasks.spawn_on(async move { shared.deliver(delivery, turn).await }, &self.runtime);
    }

    /// Waits for the attempts in progress. Call it after the shutdown was requested, which prevents new
    /// attempts.
    pub async fn stop(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Ends all deliveries, also in the middle of an attempt. None of them gets a verdict.
    pub fn abort(mut self) {
        self.tasks.abort_all();
    }
}

impl<D: Delivery> Shared<D> {
    async fn deliver(&self, delivery: Arc<D>, mut turn: Turn<D::Key>) {
        turn.wait().await;
        let ended = self.attempts.deliver(&AsItIs(&*delivery)).await;
        if let Ok(Some(((), verdict))) = ended {
            (self.finished)(Arc::clone(&delivery), verdict);
        }
        // After the caller knows the verdict, so that `waiting` never leaves out an unknown one.
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(delivery.bytes(), Ordering::Relaxed);
        drop(turn);
    }
}

/// The job of a delivery.
struct AsItIs<'d, D>(&'d D);

impl<D: Delivery> Job for AsItIs<'_, D> {
    type Message = ();

    fn message(&self) -> Option<()> {
        (!self.0.is_cancelled()).then_some(())
    }

    async fn attempt(&self, (): &()) -> Result<(), DeliveryError> {
        self.0.attempt().await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use service::Shutdown;

    use super::*;
    use crate::{AttemptSettings, BreakerChange, BreakerSettings, Observer, Retry};

    /// Fails until it is cancelled, which its first attempt does, unless it succeeds.
    struct Letter {
        name: &'static str,
        succeeds: bool,
        is_cancelled: AtomicBool,
    }

    impl Delivery for Letter {
        type Key = u8;

        fn keys(&self) -> Vec<u8> {
            vec![1]
        }

        fn bytes(&self) -> usize {
            1
        }

        fn is_cancelled(&self) -> bool {
            self.is_cancelled.load(Ordering::Relaxed)
        }

        async fn attempt(&self) -> Result<(), DeliveryError> {
            self.is_cancelled.store(true, Ordering::Relaxed);
            if self.succeeds { Ok(()) } else { Err(DeliveryError::Unreachable("away".into())) }
        }
    }

    struct Nobody;

    impl Observer for Nobody {
        fn attempted(&self, _: Duration, _: &Result<(), DeliveryError>) {}

        fn circuit_changed(&self, _: BreakerChange) {}
    }

    #[tokio::test]
    async fn a_cancelled_delivery_has_no_verdict_and_holds_up_nobody() {
        let settings = AttemptSettings {
            retry: Retry::exponential(
                Duration::from_millis(1),
                Duration::from_millis(1),
                Duration::from_secs(3600),
            ),
            breaker: BreakerSettings::default(),
            concurrent: 1,
            max_per_minute: None,
        };
        let attempts = Arc::new(Attempts::new(settings, Nobody, Shutdown::new()));
        let ended = Arc::new(Mutex::new(Vec::new()));
        let finished = Arc::clone(&ended);
        let finished = move |letter: Arc<Letter>, verdict| {
            finished.lock().unwrap().push((letter.name, verdict));
        };
        let mut worker = Worker::new(&Handle::current(), attempts, finished);
        for (name, succeeds) in [("cancelled", false), ("next", true)] {
            let is_cancelled = AtomicBool::new(false);
            worker.push(Arc::new(Letter { name, succeeds, is_cancelled }));
        }
        worker.stop().await;
        assert_eq!(*ended.lock().unwrap(), [("next", Verdict::Delivered)]);
    }
}
