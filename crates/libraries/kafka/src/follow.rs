//! Follows a topic of one partition without a consumer group, and tells how up to date it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset as Position, TopicPartitionList};

use crate::client::ReaderContext;
use crate::error::is_transient;
use crate::{Connection, Error};

/// The only partition of the topics that are followed.
const PARTITION: i32 = 0;
/// How long the first reading of the topic may take.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How often the end of the topic is asked for.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long one such request may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// A thread that applies the records of a topic in their order, from the first one on. It ends when this is
/// dropped.
#[derive(Debug)]
pub struct Follower(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    has_ended: AtomicBool,
    current_as_of: Mutex<Instant>,
}

impl Follower {
    /// Reads the whole topic and goes on in the background. Returns when every record that was written before
    /// this call is applied. `apply` gets key and value; a missing value is a deletion.
    ///
    /// # Errors
    /// [`Error::Settings`], [`Error::Kafka`], [`Error::RestoreTimeout`] if the topic could not be read in time, and
    /// the error of `apply`. A later error of `apply` ends the thread, so that [`Self::age`] grows.
    pub fn start(
        connection: &Connection,
        component: &'static str,
        topic: &str,
        apply: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), Error> + Send + 'static,
    ) -> Result<Self, Error> {
        let consumer: BaseConsumer<ReaderContext> = connection
            .reader(component, "mailpulse-follow")
            .create_with_context(ReaderContext)
            .map_err(|error| Error::settings(&error))?;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, PARTITION, Position::Beginning)?;
        consumer.assign(&assignment)?;
        let shared = Arc::new(Shared {
            has_ended: AtomicBool::new(false),
            current_as_of: Mutex::new(Instant::now()),
        });
        let (started, is_started) = sync_channel(1);
        let reading = Reading {
            consumer,
            topic: topic.to_owned(),
            apply,
            next: 0,
            shared: Arc::clone(&shared),
            started: Some(started),
        };
        std::thread::Builder::new()
            .name(format!("follow-{component}"))
            .spawn(move || reading.run())
            .map_err(Error::state)?;
        let follower = Self(shared);
        is_started.recv_timeout(START_TIMEOUT).unwrap_or_else(|_| {
            Err(Error::RestoreTimeout {
                topic: topic.to_owned(),
                partition: PARTITION,
                seconds: START_TIMEOUT.as_secs(),
            })
        })?;
        Ok(follower)
    }

    /// Returns how long ago it was certain that every record was applied: what was written earlier is known.
    pub fn age(&self) -> Duration {
        self.0.current_as_of.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Ordering::Relaxed);
    }
}

/// What the thread has.
struct Reading<F> {
    consumer: BaseConsumer<ReaderContext>,
    topic: String,
    apply: F,
    /// The offset of the next record.
    next: i64,
    shared: Arc<Shared>,
    /// Where the end of the first reading is reported.
    started: Option<SyncSender<Result<(), Error>>>,
}

impl<F: FnMut(&[u8], Option<&[u8]>) -> Result<(), Error>> Reading<F> {
    fn run(mut self) {
        let mut checked_at = None::<Instant>;
        while !self.shared.has_ended.load(Ordering::Relaxed) {
            if let Err(error) = self.poll() {
                match self.started.take() {
                    Some(started) => drop(started.send(Err(error))),
                    None => {
                        tracing::error!(%error, topic = self.topic, "a topic is no longer followed");
                    }
                }
                return;
            }
            if checked_at.is_none_or(|at| at.elapsed() >= CHECK_INTERVAL) {
                checked_at = Some(Instant::now());
                self.check();
            }
        }
    }

    /// Applies the records that are there.
    fn poll(&mut self) -> Result<(), Error> {
        let mut timeout = POLL_TIMEOUT;
        loop {
            match self.consumer.poll(timeout) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Ok(message)) => {
                    (self.apply)(message.key().unwrap_or_default(), message.payload())?;
                    self.next = message.offset() + 1;
                    timeout = Duration::ZERO;
                }
                Some(Err(error)) if is_transient(&error) => {
                    let topic = &self.topic;
                    tracing::warn!(%error, topic, "Kafka poll failed; retrying");
                    return Ok(());
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Asks where the topic ends. If it ends where we are, everything that was written before the question is
    /// applied.
    fn check(&mut self) {
        let asked_at = Instant::now();
        let offsets = self.consumer.fetch_watermarks(&self.topic, PARTITION, CHECK_TIMEOUT);
        let Ok((first, end)) = offsets else { return };
        // An empty topic may begin at any offset.
        if self.next >= end || first >= end {
            let mut as_of =
                self.shared.current_as_of.lock().unwrap_or_else(PoisonError::into_inner);
            *as_of = asked_at;
            if let Some(started) = self.started.take() {
                // Nobody listens if the first reading took too long.
                let _ = started.send(Ok(()));
            }
        }
    }
}
