//! Reads `mail.incidents` and commits the offsets that every channel has finished.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use courier::{Admission, Position, Progress};
use kafka::feed::{Feed, Item};
use kafka::{Connection, DeadLetterWriter, FailedRecord, inspect};
use service::{Health, Shutdown};

use crate::delivery::{Deliveries, Finished};
use crate::newest::Newest;
use crate::received::{ReceiveError, Received};
use crate::worker::MAX_WAITING;

/// How long to wait for a record. A finished delivery is marked as done after at most this time.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// The maximum number of records that wait for one before them, of which only the offset is kept.
const MAX_TRACKED: usize = 500_000;

/// The topic has the incidents of 90 days, compacted; reading it takes seconds. The group waits longer for
/// the next poll.
const READ_TIMEOUT: Duration = Duration::from_secs(240);

/// Reads incidents and passes them to the channels.
pub struct Intake {
    feed: Feed,
    connection: Connection,
    /// The partitions that this process owns.
    owned: BTreeSet<i32>,
    deliveries: Deliveries,
    dead_letters: Arc<DeadLetterWriter>,
    progress: Progress,
    topic: String,
}

impl Intake {
    /// Reads the topic from `feed` and delivers with `deliveries`.
    pub fn new(
        feed: Feed,
        connection: Connection,
        topic: String,
        deliveries: Deliveries,
        dead_letters: DeadLetterWriter,
    ) -> Self {
        let dead_letters = Arc::new(dead_letters);
        let (owned, progress) = (BTreeSet::new(), Progress::default());
        Self { feed, connection, owned, deliveries, dead_letters, progress, topic }
    }

    /// Runs until the shutdown is requested, then waits for the attempts in progress. The next start
    /// delivers what is still pending.
    ///
    /// # Errors
    /// Returns errors of Kafka from which only a new process recovers.
    pub fn run(mut self, health: &Health, shutdown: &Shutdown) -> Result<(), kafka::Error> {
        while !shutdown.requested() {
            health.mark_alive();
            if self.has_room() {
                match self.feed.held() {
                    Some(reason) => health.hold(reason),
                    None => health.ready(),
                }
                let item = self.feed.next(POLL_TIMEOUT)?;
                self.follow_ownership()?;
                if let Some(item) = item {
                    self.dispatch(&item)?;
                }
            } else {
                health.hold("a channel does not accept incidents and too many are pending");
                self.deliveries.await_finished(POLL_TIMEOUT);
            }
            self.mark_finished()?;
            metrics::gauge!("mailpulse_notify_pending_transitions")
                .set(self.progress.unfinished() as f64);
        }
        self.deliveries.stop();
        self.mark_finished()?;
        self.feed.close()?;
        tracing::info!(pending = self.progress.unfinished(), "deliveries stopped");
        Ok(())
    }

    /// Tells the channels which incidents belong to this process after the group has changed. Only the
    /// owner of a partition sends its open incidents again: nobody else knows when they are over.
    fn follow_ownership(&mut self) -> Result<(), kafka::Error> {
        let owned: BTreeSet<i32> = self.feed.owned().map(|name| name.partition).collect();
        if owned == self.owned {
            return Ok(());
        }
        let gained: BTreeSet<i32> = owned.difference(&self.owned).copied().collect();
        if !gained.is_empty() {
            let mut newest = Newest::default();
            inspect::for_each_committed(&self.connection, &self.topic, READ_TIMEOUT, |record| {
                if gained.contains(&record.partition()) {
                    newest.add(&record.to_owned());
                }
            })?;
            tracing::info!(partitions = ?gained, incidents = newest.len(), "incidents were read");
            newest.restore(&self.deliveries);
        }
        self.deliveries.retain(&owned);
        self.owned = owned;
        Ok(())
    }

    /// Returns whether another record may be read. A channel that fails holds at most [`MAX_WAITING`]
    /// records, so it does not stop the others. If more are pending all the same, reading stops: the
    /// memory stays bounded, and the topic keeps the records. The group may then assign our partitions to
    /// another member until we read again; [`Progress`] recognises the records that we read twice.
    fn has_room(&self) -> bool {
        let limit = MAX_WAITING * (self.deliveries.channels() + 1);
        self.progress.unfinished() < limit && self.progress.tracked() < MAX_TRACKED
    }

    /// Passes a record to every channel, or to the dead letters if it is not a valid incident.
    fn dispatch(&mut self, item: &Item) -> Result<(), kafka::Error> {
        let position = Position::of(item);
        let received = Received::read(item);
        let finishers = match &received {
            Ok(Some(_)) => self.deliveries.channels(),
            Ok(None) | Err(_) => 1,
        };
        match (self.progress.start(position, finishers), received) {
            (Admission::Deliver, Ok(Some(received))) => self.deliveries.send(Arc::new(received)),
            (Admission::Deliver, Ok(None)) => self.finish(position)?,
            (Admission::Deliver, Err(error)) => self.reject(item, &error),
            (Admission::Delivered, _) => self.feed.done(item)?,
            (Admission::Pending, _) => {}
        }
        Ok(())
    }

    fn reject(&mut self, item: &Item, error: &ReceiveError) {
        let (origin, reason, detail) = (item.origin(), error.reason(), error.to_string());
        tracing::error!(
            %origin, reason = reason.code(), detail,
            "record is not a valid incident; writing a dead letter"
        );
        let failed = FailedRecord { record: item.clone(), reason, detail };
        let positions = vec![Position::of(item)];
        self.deliveries.send_dead_letter(&self.dead_letters, positions, failed);
    }

    /// Marks the records as done that every channel has finished.
    fn mark_finished(&mut self) -> Result<(), kafka::Error> {
        while let Some(finished) = self.deliveries.next_finished() {
            match finished {
                Finished::Done(position) => self.finish(position)?,
                Finished::Undeliverable { positions, failed } => {
                    self.deliveries.send_dead_letter(&self.dead_letters, positions, failed);
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, position: Position) -> Result<(), kafka::Error> {
        match self.progress.finish(position) {
            Some(Position { partition, offset }) => {
                self.feed.done_at(&self.topic, partition, offset)
            }
            None => Ok(()),
        }
    }
}
