//! The attempts of one receiver: how many are made at the same time, when they are made, and when they
//! end.

use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use service::Shutdown;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::backoff::{Backoff, Retry};
use crate::breaker::{Admitted, Breaker, BreakerChange, BreakerSettings};
use crate::endpoint::DeliveryError;

/// The shortest time that the last attempt of a delivery waits for its turn.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// How often a message that waits because of the rate limit looks whether it has become urgent.
const URGENCY_CHECK: Duration = Duration::from_secs(1);

/// How attempts are made.
#[derive(Debug, Clone)]
pub struct AttemptSettings {
    /// How failed attempts are repeated.
    pub retry: Retry,
    /// When all attempts pause.
    pub breaker: BreakerSettings,
    /// The maximum number of concurrent attempts. After an outage of the receiver, many messages are due
    /// at the same time.
    pub concurrent: usize,
    /// The greatest number of attempts per minute. Urgent messages are counted, but do not wait.
    pub max_per_minute: Option<NonZeroU32>,
}

/// What happens to attempts, for the metrics and the log of the service.
pub trait Observer: Send + Sync + 'static {
    /// An attempt has ended.
    fn attempted(&self, took: Duration, result: &Result<(), DeliveryError>);

    /// The circuit breaker has opened or closed.
    fn circuit_changed(&self, change: BreakerChange);
}

/// Something to deliver to the receiver.
pub trait Job: Sync {
    /// What one attempt sends.
    type Message: Send + Sync;

    /// Returns what the next attempt sends. It may have changed since the last attempt, because more has
    /// arrived. `None` ends the delivery.
    fn message(&self) -> Option<Self::Message>;

    /// Returns whether the rate limit does not apply.
    fn is_urgent(&self) -> bool {
        false
    }

    /// Makes one attempt.
    fn attempt(
        &self,
        message: &Self::Message,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send;
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver accepted it.
    Delivered,
    /// The receiver rejected it for good, with this answer.
    Rejected(String),
    /// The receiver did not accept it in time. The text is the last error.
    GaveUp(String),
}

/// The process stops. The next process delivers what is pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postponed;

/// The permission to make one attempt.
struct Turn<'a> {
    attempts: &'a Attempts,
    admitted: Admitted,
    /// Whether the circuit breaker knows how the attempt ended.
    has_result: bool,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Drop for Turn<'_> {
    /// Lets another attempt probe the receiver if this one was cancelled.
    fn drop(&mut self) {
        if self.admitted == Admitted::AsProbe && !self.has_result {
            self.attempts.breaker().abandon();
        }
    }
}

/// The attempts of one receiver.
pub struct Attempts {
    retry: Retry,
    permits: Semaphore,
    limiter: Option<DefaultDirectRateLimiter>,
    breaker: Mutex<Breaker>,
    observer: Box<dyn Observer>,
    shutdown: Shutdown,
}

impl Attempts {
    /// Returns the attempts of a receiver with a closed circuit. No attempt begins after the shutdown was
    /// requested.
    pub fn new(settings: AttemptSettings, observer: impl Observer, shutdown: Shutdown) -> Self {
        let AttemptSettings { retry, breaker, concurrent, max_per_minute } = settings;
        Self {
            retry,
            permits: Semaphore::new(concurrent),
            limiter: max_per_minute.map(|max| RateLimiter::direct(Quota::per_minute(max))),
            breaker: Mutex::new(Breaker::new(breaker)),
            observer: Box::new(observer),
            shutdown,
        }
    }

    /// Makes attempts until the message of the job has a verdict. Returns the message of the last
    /// attempt, or `None` if there is nothing to deliver any more.
    ///
    /// # Errors
    /// [`Postponed`] if the shutdown was requested before that.
    pub async fn deliver<J: Job>(
        &self,
        job: &J,
    ) -> Result<Option<(J::Message, Verdict)>, Postponed> {
        let (started, mut backoff) = (Instant::now(), Backoff::new(self.retry.clone()));
        let mut last_error = "no attempt was made".to_owned();
        loop {
            let turn = tokio::select! {
                // A process that stops makes no new attempt.
                biased;
                () = self.shutdown.wait() => return Err(Postponed),
                turn = self.await_turn_until(started, || job.is_urgent()) => turn,
            };
            let Some(message) = job.message() else { return Ok(None) };
            let Some(mut turn) = turn else {
                let problem = format!("the time for attempts is over; {last_error}");
                return Ok(Some((message, Verdict::GaveUp(problem))));
            };
            let result = self.attempt(job, &message).await;
            turn.has_result = true;
            let error = match result {
                Ok(()) => return Ok(Some((message, Verdict::Delivered))),
                Err(error) if error.is_final() => {
                    return Ok(Some((message, Verdict::Rejected(error.to_string()))));
                }
                Err(error) => error,
            };
            drop(turn);
            let pause = backoff.next(started.elapsed(), rand::random(), error.retry_after());
            last_error = error.to_string();
            let Some(pause) = pause else {
                return Ok(Some((message, Verdict::GaveUp(last_error))));
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.wait() => {}
            }
        }
    }

    async fn attempt<J: Job>(&self, job: &J, message: &J::Message) -> Result<(), DeliveryError> {
        let started = Instant::now();
        let result = job.attempt(message).await;
        self.observer.attempted(started.elapsed(), &result);
        self.note(&result);
        result
    }

    /// Tells the circuit breaker how a request to the receiver ended that was not made by
    /// [`Attempts::deliver`].
    pub fn note(&self, result: &Result<(), DeliveryError>) {
        // A receiver that rejects a message works.
        let is_well = result.as_ref().err().is_none_or(DeliveryError::is_final);
        let change = {
            let mut breaker = self.breaker();
            if is_well { breaker.succeed() } else { breaker.fail(Instant::now()) }
        };
        if change != BreakerChange::None {
            self.observer.circuit_changed(change);
        }
    }

    /// Waits for the turn as long as there is time for attempts. Returns `None` if the time is over.
    async fn await_turn_until(
        &self,
        started: Instant,
        is_urgent: impl Fn() -> bool + Send,
    ) -> Option<Turn<'_>> {
        let turn = self.await_turn(is_urgent);
        match self.retry.left(started.elapsed()) {
            Some(left) => tokio::time::timeout(left.max(LAST_WAIT), turn).await.ok(),
            None => Some(turn.await),
        }
    }

    /// Returns when the rate limit, the other attempts and the circuit breaker allow an attempt.
    async fn await_turn(&self, is_urgent: impl Fn() -> bool + Send) -> Turn<'_> {
        if let Some(limiter) = &self.limiter {
            while let Err(not_until) = limiter.check() {
                if is_urgent() {
                    break;
                }
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                tokio::time::sleep(wait.min(URGENCY_CHECK)).await;
            }
        }
        // The semaphore is never closed. If it were, the attempt would be made without a permit.
        let permit = self.permits.acquire().await.ok();
        loop {
            // The lock must not be held during the pause.
            let admitted = self.breaker().admit(Instant::now());
            match admitted {
                Ok(admitted) => {
                    return Turn { attempts: self, admitted, has_result: false, _permit: permit };
                }
                Err(pause) => tokio::time::sleep(pause).await,
            }
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
