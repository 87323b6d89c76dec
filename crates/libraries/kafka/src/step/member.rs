//! One member of a step's group: rounds, ownership, and what a failure asks for.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::batch::{Messages, Span, Spans, partition_of, spans_of};
use super::{Step, StepSettings};
use crate::changelog::{Readers, Restore, is_passing};
use crate::guard::Guard;
use crate::rebalance::{Change, Group};
use crate::tally::{self, Tally};
use crate::transaction::Transactions;
use crate::{Connection, Output, Record, StreamError, TopicPartition};

const CALL: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);

/// Joins the group.
pub(super) fn subscribe(
    connection: &Connection,
    settings: &StepSettings,
) -> Result<Group, StreamError> {
    let config = connection.consumer(settings.job, &settings.group, settings.input_partitions);
    let inputs: Vec<&str> = settings.inputs.iter().map(String::as_str).collect();
    Group::join(connection, config, settings.job, &settings.group, &inputs)
}

/// What one member of the group knows between rounds.
pub(super) struct Member<'c> {
    connection: &'c Connection,
    settings: &'c StepSettings,
    consumer: &'c Group,
    transactions: Transactions,
    /// Next offset of every partition we own, as last committed.
    positions: HashMap<TopicPartition, Offset>,
    /// Partitions whose end was reached, and since when.
    at_end: HashMap<TopicPartition, Instant>,
    /// What became of every record of the partitions we own, as last committed.
    tallies: HashMap<TopicPartition, Tally>,
    /// The same of the open round, in the order of its records.
    open: Vec<(TopicPartition, Tally)>,
    guard: Guard,
    meters: Meters,
}

impl<'c> Member<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        settings: &'c StepSettings,
        consumer: &'c Group,
    ) -> Result<Self, StreamError> {
        let id = format!("{}-{}", settings.group, connection.instance);
        Ok(Self {
            connection,
            settings,
            consumer,
            transactions: Transactions::open(connection.producer(settings.job), &id)?,
            positions: HashMap::new(),
            at_end: HashMap::new(),
            tallies: HashMap::new(),
            open: Vec::new(),
            guard: Guard::new(settings.job, settings.refusals_to_hold),
            meters: Meters::new(settings.job),
        })
    }

    /// Whether there is anything to read for it.
    pub(super) fn has_partitions(&self) -> bool {
        !self.positions.is_empty()
    }

    /// Up to `batch_records` records, waiting `batch_wait` at most once there is a first one; less
    /// when ownership changes.
    pub(super) fn collect(&mut self, stop: &dyn Fn() -> bool) -> Result<Messages<'c>, StreamError> {
        self.consumer.check()?;
        let mut batch = Messages::new();
        let until = Instant::now() + self.settings.batch_wait;
        while batch.len() < self.settings.batch_records && !stop() {
            match self.next(until) {
                Some(Ok(message)) => {
                    if !self.at_end.is_empty() {
                        self.at_end.remove(&partition_of(&message));
                    }
                    batch.push(message);
                }
                Some(Err(KafkaError::PartitionEOF(number))) => self.reached_end(number),
                Some(Err(error)) if is_passing(&error) => {
                    tracing::warn!(job = self.settings.job, %error, "consume");
                }
                Some(Err(error)) => return Err(error.into()),
                None => break,
            }
        }
        Ok(batch)
    }

    /// What is at hand, or what comes until then; nothing too when ownership has changed. Clocks are
    /// read only to wait: for every record they would be a sixth of a fast step's work.
    fn next(&self, until: Instant) -> Option<Result<BorrowedMessage<'c>, KafkaError>> {
        loop {
            if let Some(at_hand) = self.consumer.poll(Duration::ZERO) {
                return Some(at_hand);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.consumer.has_changed() {
                return None;
            }
            if let Some(came) = self.consumer.poll(left) {
                return Some(came);
            }
        }
    }

    /// librdkafka names only the partition's number; a step that cares has one input.
    fn reached_end(&mut self, number: i32) {
        let now = Instant::now();
        for partition in self.positions.keys().filter(|p| p.partition == number) {
            self.at_end.entry(partition.clone()).or_insert(now);
        }
    }

    /// Hands ownership changes to the step and drops records of partitions that are gone.
    pub(super) fn settle_ownership(
        &mut self,
        step: &mut impl Step,
        mut batch: Messages<'c>,
    ) -> Result<Messages<'c>, StreamError> {
        let readers = Readers::default();
        let mut dropped = BTreeSet::new();
        for change in self.consumer.changes() {
            match change {
                Change::Assigned(partitions) => {
                    for partition in partitions {
                        self.take_over(step, &partition, &readers)?;
                        if dropped.contains(&partition) {
                            // It went and came back within one batch: what was dropped may have
                            // been read after that.
                            self.rewind(&partition)?;
                        }
                    }
                }
                Change::Revoked(partitions) => {
                    let gone: BTreeSet<_> = partitions.into_iter().collect();
                    batch.retain(|message| {
                        let partition = partition_of(message);
                        let stays = !gone.contains(&partition);
                        if !stays {
                            dropped.insert(partition);
                        }
                        stays
                    });
                    for partition in &gone {
                        self.positions.remove(partition);
                        self.at_end.remove(partition);
                        self.tallies.remove(partition);
                        self.guard.forget(partition);
                        step.revoked(partition);
                        tracing::info!(job = self.settings.job, ?partition, "revoked");
                    }
                }
            }
        }
        Ok(batch)
    }

    fn take_over(
        &mut self,
        step: &mut impl Step,
        partition: &TopicPartition,
        readers: &Readers,
    ) -> Result<(), StreamError> {
        let started = Instant::now();
        // Answers only once no transaction is open over these offsets: the predecessor's last
        // commit, whole or not at all, is decided when this returns.
        let committed = self.committed(std::iter::once(partition))?;
        let (offset, metadata) =
            committed.into_iter().next().unwrap_or((Offset::Invalid, String::new()));
        let (metadata, tally) = Tally::split_from(&metadata);
        let metadata = metadata.to_owned();
        let restore = Restore { connection: self.connection, readers, metadata };
        step.assigned(partition, &restore)?;
        self.positions.insert(partition.clone(), position(offset));
        self.tallies.insert(partition.clone(), tally);
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("mailpulse_restore_seconds", "job" => self.settings.job)
            .record(seconds);
        tracing::info!(job = self.settings.job, ?partition, seconds, "assigned");
        Ok(())
    }

    /// One round; on failure it is undone, and the next `collect` reads its records again.
    pub(super) fn process(
        &mut self,
        step: &mut impl Step,
        batch: &Messages<'c>,
    ) -> Result<(), StreamError> {
        for (partition, since) in &self.at_end {
            step.quiet(partition, since.elapsed());
        }
        while let Some(partition) = self.guard.release() {
            self.consumer.resume(&partition)?;
        }
        let spans = spans_of(batch);
        self.check_order(&spans)?;
        let started = Instant::now();
        match self.attempt(step, batch, &spans) {
            Ok(sent) => {
                self.advance(&spans);
                if sent > 0 || !batch.is_empty() {
                    step.committed()?;
                    self.meters.round(batch.len(), started.elapsed());
                }
                Ok(())
            }
            Err(error @ (StreamError::State(_) | StreamError::Settings(_))) => Err(error),
            Err(error) => {
                tracing::warn!(job = self.settings.job, %error, "round failed, rebuilding");
                self.meters.failures.increment(1);
                self.guard.undo();
                self.recover(step, &spans)?;
                if let StreamError::Refusals { partition, .. } = error {
                    self.consumer.pause(&partition)?;
                    self.guard.hold(partition);
                }
                Ok(())
            }
        }
    }

    /// Whatever the client does, nothing that was committed is processed again: each partition's
    /// records begin where the last commit ended.
    fn check_order(&self, spans: &Spans) -> Result<(), StreamError> {
        for (partition, &Span { first, .. }) in spans {
            let Some(&Offset::Offset(expected)) = self.positions.get(partition) else { continue };
            if first < expected {
                let partition = partition.clone();
                return Err(StreamError::WentBack { partition, expected, offset: first });
            }
            // What is between them is transactions' markers, aborted or compacted.
            tracing::debug!(job = self.settings.job, ?partition, expected, first, "batch");
        }
        Ok(())
    }

    /// Says how much was sent.
    fn attempt(
        &mut self,
        step: &mut impl Step,
        batch: &Messages<'c>,
        spans: &Spans,
    ) -> Result<u64, StreamError> {
        step.before_round(&mut batch.iter().map(Record));
        let producer = self.transactions.begin()?;
        let mut out = Output {
            producer,
            dead_letters: &self.settings.dead_letters,
            stage: self.settings.job,
            sent: 0,
            refused: 0,
        };
        self.guard.begin();
        self.open.clear();
        for message in batch {
            let before = (out.sent, out.refused);
            step.record(&Record(message), &mut out)?;
            let (sent, refused) = (out.sent - before.0, out.refused - before.1);
            count(&mut self.open, message, (sent, refused), self.settings.job);
            if refused == 0 {
                self.guard.taken(|| partition_of(message));
            } else if let Some(in_a_row) = self.guard.refused(&partition_of(message)) {
                let (partition, offset) = (partition_of(message), message.offset());
                return Err(StreamError::Refusals { in_a_row, partition, offset });
            }
        }
        step.end_of_round(&mut out)?;
        let sent = out.sent;
        if sent == 0 && batch.is_empty() {
            self.transactions.forget()?;
            return Ok(0);
        }
        let offsets = self.offsets_after(step, spans)?;
        let group = self.consumer.group_metadata().ok_or(KafkaError::Canceled)?;
        self.transactions.commit(&offsets, &group)?;
        Ok(sent)
    }

    /// The tally that belongs to the offset after the open round.
    fn tally_after(&self, partition: &TopicPartition) -> Tally {
        let committed = self.tallies.get(partition).copied().unwrap_or_default();
        let open = self.open.iter().filter(|(of, _)| of == partition);
        open.fold(committed, |sum, (_, tally)| sum.plus(*tally))
    }

    /// The offsets this batch leads to, with the step's metadata. A round that only says something
    /// commits the offsets we are at: they are what fences a member whose partitions have moved.
    fn offsets_after(
        &self,
        step: &impl Step,
        spans: &Spans,
    ) -> Result<TopicPartitionList, StreamError> {
        let mut offsets = TopicPartitionList::new();
        let mut add = |partition: &TopicPartition, offset: Offset| {
            let metadata = step.offset_metadata(partition);
            let mut element = offsets.add_partition(&partition.topic, partition.partition);
            element.set_metadata(self.tally_after(partition).append_to(&metadata));
            element.set_offset(offset)
        };
        for (partition, span) in spans {
            add(partition, Offset::Offset(span.next))?;
        }
        if spans.is_empty() {
            let known = |position: &Offset| matches!(position, Offset::Offset(_));
            for (partition, position) in self.positions.iter().filter(|(_, at)| known(at)) {
                add(partition, *position)?;
            }
        }
        Ok(offsets)
    }

    fn advance(&mut self, spans: &Spans) {
        for (partition, span) in spans {
            self.positions.insert(partition.clone(), Offset::Offset(span.next));
        }
        for (partition, tally) in self.open.drain(..) {
            let known = self.tallies.entry(partition).or_default();
            *known = known.plus(tally);
        }
    }

    /// Lets everybody see the tallies; for the beat, not for every round.
    pub(super) fn report(&self) {
        let topics = self.settings.inputs.iter().map(String::as_str);
        let tallies = self.tallies.iter().map(|(partition, tally)| (partition, *tally));
        tally::report(self.settings.job, topics, tallies);
    }

    /// After a failed round: a fresh producer, and the truth from the broker.
    fn recover(&mut self, step: &mut impl Step, spans: &Spans) -> Result<(), StreamError> {
        while let Err(error) = self.transactions.rebuild() {
            tracing::warn!(job = self.settings.job, %error, "producer not rebuilt yet");
            std::thread::sleep(RETRY);
        }
        let committed = loop {
            match self.committed(spans.keys()) {
                Ok(committed) => break committed,
                Err(error) => {
                    tracing::warn!(job = self.settings.job, %error, "committed offsets not read");
                    std::thread::sleep(RETRY);
                }
            }
        };
        let happened = !spans.is_empty()
            && spans.values().zip(&committed).all(|(span, (offset, _))| {
                matches!(offset, Offset::Offset(there) if *there >= span.next)
            });
        if happened {
            tracing::info!(job = self.settings.job, "the commit had happened after all");
            self.advance(spans);
            return step.committed();
        }
        step.rolled_back();
        for partition in spans.keys() {
            self.rewind(partition)?;
        }
        if step.restores_after_rollback() {
            let owned: Vec<_> = self.positions.keys().cloned().collect();
            let readers = Readers::default();
            for partition in owned {
                self.take_over(step, &partition, &readers)?;
            }
        }
        Ok(())
    }

    /// Reads a partition again from what was last committed.
    fn rewind(&self, partition: &TopicPartition) -> Result<(), StreamError> {
        let position = self.positions.get(partition).copied().unwrap_or(Offset::Beginning);
        Ok(self.consumer.seek(&partition.topic, partition.partition, position, CALL)?)
    }

    /// Committed offset and metadata of each partition, in the order given.
    fn committed<'p>(
        &self,
        partitions: impl Iterator<Item = &'p TopicPartition>,
    ) -> Result<Vec<(Offset, String)>, StreamError> {
        let list = list_of(partitions);
        if list.count() == 0 {
            return Ok(Vec::new());
        }
        let committed = self.consumer.committed_offsets(list, CALL)?;
        Ok(committed
            .elements()
            .iter()
            .map(|element| (element.offset(), element.metadata().to_owned()))
            .collect())
    }
}

/// Counts a record by what the step sent for it, and how much of that were dead letters.
fn count(
    open: &mut Vec<(TopicPartition, Tally)>,
    message: &BorrowedMessage<'_>,
    (sent, refused): (u64, u64),
    job: &str,
) {
    let is_its = |(partition, _): &(TopicPartition, Tally)| {
        partition.partition == message.partition() && partition.topic == message.topic()
    };
    if !open.last().is_some_and(is_its) {
        open.push((partition_of(message), Tally::default()));
    }
    let Some((_, tally)) = open.last_mut() else { return };
    tally.read += 1;
    match (refused, sent) {
        (0, 0) => tally.dropped += 1,
        (0, _) => tally.passed += 1,
        _ => tally.dead += 1,
    }
    tally.again += u64::from(Record(message).is_again_for(job));
}

fn list_of<'p>(partitions: impl IntoIterator<Item = &'p TopicPartition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

fn position(committed: Offset) -> Offset {
    match committed {
        Offset::Offset(_) => committed,
        _ => Offset::Beginning,
    }
}

struct Meters {
    records: metrics::Counter,
    rounds: metrics::Counter,
    failures: metrics::Counter,
    seconds: metrics::Histogram,
}

impl Meters {
    fn new(job: &'static str) -> Self {
        Self {
            records: metrics::counter!("mailpulse_records_total", "job" => job),
            rounds: metrics::counter!("mailpulse_transactions_total", "job" => job),
            failures: metrics::counter!("mailpulse_transaction_failures_total", "job" => job),
            seconds: metrics::histogram!("mailpulse_transaction_seconds", "job" => job),
        }
    }

    fn round(&self, records: usize, took: Duration) {
        self.records.increment(records as u64);
        self.rounds.increment(1);
        self.seconds.record(took.as_secs_f64());
    }
}
