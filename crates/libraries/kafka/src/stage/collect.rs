//! Collects the records of a batch.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;

use super::Stage;
use super::alignment::{Alignment, NO_TIME, Next, Siblings, Source};
use super::batch::Batch;
use super::batch_loop::Member;
use super::partition::OwnedPartition;
use super::unfit::SUSPECT_BATCH;
use crate::error::is_transient;
use crate::group::{Group, GroupContext, is_out_of_range};
use crate::{Error, Record, TopicPartition};

/// How many records of one partition number are taken in a row.
const ALIGNED_RUN: usize = 500;
/// How long to wait if no partition has a record that can be taken.
const ALIGNED_PAUSE: Duration = Duration::from_millis(2);

/// The most that a batch may still take.
struct Room {
    records: usize,
    bytes: usize,
}

impl Room {
    /// Counts a record. Returns whether there is room for another one.
    fn take(&mut self, message: &BorrowedMessage<'_>) -> bool {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(message.payload_len() + message.key_len());
        self.has_more()
    }

    const fn has_more(&self) -> bool {
        self.records > 0 && self.bytes > 0
    }
}

impl<'c, S: Stage> Member<'c, S> {
    /// Collects up to the maximum number of records and bytes within the configured wait. Returns earlier if
    /// the owned partitions change.
    pub(super) fn collect(&mut self, stop: &dyn Fn() -> bool) -> Result<Batch<'c>, Error> {
        self.group.check_progress()?;
        let mut room =
            Room { records: self.settings.batch.records, bytes: self.settings.batch.bytes };
        if self.unfit.has_suspects() {
            room.records = room.records.min(SUSPECT_BATCH);
        }
        match self.aligned.take() {
            None => self.collect_as_polled(room, stop),
            Some(mut aligned) => {
                aligned.set_read(&self.owned);
                let collected = self.collect_aligned(&mut aligned, room, stop);
                self.aligned = Some(aligned);
                collected
            }
        }
    }

    /// Collects records in the order in which they arrive.
    fn collect_as_polled(
        &self,
        mut room: Room,
        stop: &dyn Fn() -> bool,
    ) -> Result<Batch<'c>, Error> {
        let mut batch = Batch::default();
        let deadline = Instant::now() + self.settings.batch.wait;
        while room.has_more() && !stop() {
            match self.next(deadline) {
                Some(Ok(message)) => {
                    room.take(&message);
                    batch.messages.push(message);
                }
                Some(Err(KafkaError::PartitionEOF(number))) => {
                    batch.end_reached(number);
                }
                Some(Err(error)) if Self::ends_batch(&error, &mut batch)? => break,
                Some(Err(_)) => {}
                None => break,
            }
        }
        Ok(batch)
    }

    /// Collects records in the order of the [`Alignment`].
    fn collect_aligned(
        &self,
        aligned: &mut Aligned<'c>,
        mut room: Room,
        stop: &dyn Fn() -> bool,
    ) -> Result<Batch<'c>, Error> {
        let mut batch = Batch::default();
        let deadline = Instant::now() + self.settings.batch.wait;
        let mut pause = Duration::ZERO;
        while room.has_more() && !stop() {
            // This returns no records: it reports changes of ownership and errors of the client.
            match self.group.poll(pause) {
                Some(Ok(message)) => {
                    let name = super::batch::partition_of(&message);
                    return Err(Error::state(format!("a record of {name} has no queue")));
                }
                Some(Err(error)) if Self::ends_batch(&error, &mut batch)? => break,
                Some(Err(_)) | None => {}
            }
            if self.group.has_changed() {
                break;
            }
            match aligned.take(Self::COMPONENT, &mut room, &mut batch) {
                Ok(0) if Instant::now() >= deadline => break,
                Ok(0) => pause = ALIGNED_PAUSE,
                Ok(_) => pause = Duration::ZERO,
                Err(error) if Self::ends_batch(&error, &mut batch)? => break,
                Err(_) => {}
            }
        }
        Ok(batch)
    }

    /// Handles an error of a poll. Returns whether the batch ends there.
    fn ends_batch(error: &KafkaError, batch: &mut Batch<'_>) -> Result<bool, Error> {
        if is_out_of_range(error) {
            batch.is_out_of_range = true;
            return Ok(true);
        }
        if !is_transient(error) {
            return Err(error.clone().into());
        }
        tracing::warn!(component = Self::COMPONENT, %error, "Kafka poll failed; retrying");
        Ok(false)
    }

    /// Returns the next record or event, or `None` at the deadline or after a change of ownership.
    /// Reads the clock only if it has to wait: for every record that would be a sixth of the work of
    /// a fast stage.
    fn next(&self, deadline: Instant) -> Option<KafkaResult<BorrowedMessage<'c>>> {
        loop {
            if let Some(available) = self.group.poll(Duration::ZERO) {
                return Some(available);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.group.has_changed() {
                return None;
            }
            if let Some(polled) = self.group.poll(left) {
                return Some(polled);
            }
        }
    }
}

/// All partitions of a stage with an [`Alignment`], by number.
pub(super) struct Aligned<'c> {
    alignment: Alignment,
    numbers: BTreeMap<i32, Siblings<Queue<'c>>>,
    /// The number with which the next round begins, so that all get their turn.
    start: usize,
}

impl<'c> Aligned<'c> {
    pub(super) fn new(group: &'c Group, alignment: Alignment) -> Self {
        let mut numbers = BTreeMap::<i32, Vec<Queue<'c>>>::new();
        for (name, queue) in group.queues() {
            let time = alignment.time;
            numbers.entry(name.partition).or_default().push(Queue { name, queue, time });
        }
        let siblings = |(number, queues)| (number, Siblings::new(queues, alignment.lead));
        Self { alignment, numbers: numbers.into_iter().map(siblings).collect(), start: 0 }
    }

    /// Reads only the partitions that this member owns and does not hold.
    fn set_read(&mut self, owned: &HashMap<TopicPartition, OwnedPartition>) {
        for siblings in self.numbers.values_mut() {
            siblings.set_read(|queue| owned.get(queue.name).is_some_and(|it| !it.is_held()));
        }
    }

    /// Forgets what was read of a partition, which will be read again or by another member. Returns whether
    /// that was anything.
    pub(super) fn forget(&mut self, name: &TopicPartition) -> bool {
        let siblings = self.numbers.get_mut(&name.partition);
        siblings.is_some_and(|siblings| siblings.forget(|queue| queue.name == name))
    }

    /// Adds records of all numbers in turn to the batch. Returns how many.
    fn take(
        &mut self,
        component: &'static str,
        room: &mut Room,
        batch: &mut Batch<'c>,
    ) -> Result<usize, KafkaError> {
        let mut count = 0;
        let numbers = self.numbers.len();
        for _ in 0..numbers {
            let Some((number, siblings)) = self.numbers.iter_mut().nth(self.start % numbers) else {
                break;
            };
            let limit = ALIGNED_RUN.min(room.records);
            let receive = |message: BorrowedMessage<'c>| {
                let has_more = room.take(&message);
                batch.messages.push(message);
                has_more
            };
            let taken = siblings.take(limit, self.alignment.wait, receive)?;
            count += taken.records;
            if taken.left_out > 0 {
                report_left_out(component, *number, taken.left_out);
            }
            self.start = (self.start + 1) % numbers;
            if !room.has_more() {
                break;
            }
        }
        Ok(count)
    }
}

fn report_left_out(component: &'static str, number: i32, partitions: usize) {
    tracing::warn!(
        component,
        partition = number,
        partitions,
        "partitions delivered no record in time, so records of other topics are processed before theirs"
    );
    metrics::counter!("mailpulse_unaligned_partitions_total", "component" => component)
        .increment(partitions as u64);
}

/// The queue of one partition.
struct Queue<'c> {
    name: &'c TopicPartition,
    queue: &'c PartitionQueue<GroupContext>,
    time: fn(&Record<'_>) -> Option<i64>,
}

impl<'c> Source for Queue<'c> {
    type Record = BorrowedMessage<'c>;

    fn poll(&self) -> Next<Self::Record> {
        match self.queue.poll(Duration::ZERO) {
            None => Next::Nothing,
            Some(Ok(message)) => {
                let time = (self.time)(&Record(&message)).unwrap_or(NO_TIME);
                Next::Record(time, message)
            }
            Some(Err(KafkaError::PartitionEOF(_))) => Next::End,
            Some(Err(error)) => Next::Failed(error),
        }
    }
}

#[cfg(test)]
mod tests;
