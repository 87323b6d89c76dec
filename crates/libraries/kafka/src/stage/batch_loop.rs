//! The loop of one member of a stage's group: collect a batch, process it, commit it, or recover.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;

use super::batch::{Batch, Messages, Span, Spans, partition_of, runs, spans_of};
use super::collect::Aligned;
use super::counters::PendingCounts;
use super::partition::OwnedPartition;
use super::partition_run::Run;
use super::unfit::{Unfit, Verdict, record_of};
use super::{AfterRollback, LoopSettings, Output, Stage, positions, refusal_limit};
use crate::group::{Group, add_offset};
use crate::restore::ChangelogReaders;
use crate::transaction::Transactions;
use crate::{Connection, Error, NextOffset, Record, TopicPartition, ledger};

const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The state of one member of the group between batches.
pub(super) struct Member<'c, S> {
    pub(super) connection: &'c Connection,
    pub(super) settings: &'c LoopSettings,
    pub(super) group: &'c Group,
    pub(super) stage: &'c mut S,
    pub(super) owned: HashMap<TopicPartition, OwnedPartition>,
    /// The partitions by number, if the stage has an alignment.
    pub(super) aligned: Option<Aligned<'c>>,
    transactions: Transactions,
    counts: PendingCounts,
    /// The records whose outputs Kafka does not accept.
    pub(super) unfit: Unfit,
    meters: Meters,
}

impl<'c, S: Stage> Member<'c, S> {
    pub(super) const COMPONENT: &'static str = S::STAGE.code();

    pub(super) fn new(
        connection: &'c Connection,
        settings: &'c LoopSettings,
        group: &'c Group,
        stage: &'c mut S,
    ) -> Result<Self, Error> {
        let id = format!("{}-{}", settings.group, connection.instance);
        let aligned = stage.alignment().map(|alignment| Aligned::new(group, alignment));
        Ok(Self {
            connection,
            settings,
            group,
            stage,
            owned: HashMap::new(),
            aligned,
            transactions: Transactions::open(connection.producer(Self::COMPONENT), &id)?,
            counts: PendingCounts::default(),
            unfit: Unfit::default(),
            meters: Meters::new(Self::COMPONENT),
        })
    }

    pub(super) fn has_partitions(&self) -> bool {
        !self.owned.is_empty()
    }

    /// Exports the ledgers. Called about once a second, not for every batch.
    pub(super) fn export_ledgers(&self) {
        let topics = self.settings.inputs.topics.iter().map(String::as_str);
        let ledgers = self.owned.iter().map(|(name, partition)| (name, partition.ledger));
        ledger::export(Self::COMPONENT, topics, ledgers);
    }

    /// Processes a batch in one transaction. If that fails, it has no effect, and the next `collect`
    /// reads its records again.
    pub(super) fn process(&mut self, batch: &Batch<'c>) -> Result<(), Error> {
        let spans = spans_of(&batch.messages);
        self.check_order(&spans)?;
        self.update_idle_partitions(batch, &spans);
        for (name, partition) in &mut self.owned {
            refusal_limit::release_if_due(self.group, Self::COMPONENT, name, partition)?;
        }
        let started = Instant::now();
        match self.try_transaction(&batch.messages, &spans) {
            Ok(Transaction::Empty) => Ok(()),
            Ok(Transaction::Committed) => {
                let owned = spans.keys().filter_map(|name| self.owned.get(name));
                let events = owned.map(|partition| partition.open.ledger.read).sum();
                self.meters.committed(events, started.elapsed());
                self.commit_locally(&spans)
            }
            Err(error @ (Error::State(_) | Error::Settings(_))) => Err(error),
            Err(error) => {
                tracing::warn!(
                    component = Self::COMPONENT, %error,
                    "transaction failed; rebuilding the producer"
                );
                self.meters.failures.increment(1);
                let verdict = self.judge_outputs(&batch.messages);
                if verdict == Verdict::Hopeless {
                    return Err(error);
                }
                self.recover(&spans)?;
                if let Error::RefusalLimit { partition: name, .. } = error
                    && let Some(partition) = self.owned.get_mut(&name)
                {
                    refusal_limit::hold(self.group, Self::COMPONENT, &name, partition)?;
                }
                Ok(())
            }
        }
    }

    /// Learns from the outputs of the failed transaction which records are unfit.
    fn judge_outputs(&mut self, batch: &Messages<'c>) -> Verdict {
        let rejected = self.transactions.take_rejected();
        let Some((topic, code)) = &rejected.example else { return Verdict::Retry };
        let max_bytes = self.connection.max_message_bytes;
        let verdict = self.unfit.learn(batch, &rejected, max_bytes);
        let mut inputs = rejected.too_large.iter().chain(&rejected.inputs);
        let first = inputs.find_map(|&input| record_of(batch, input));
        let first = first.map(|(partition, offset)| format!("{partition}/{offset}"));
        tracing::warn!(
            component = Self::COMPONENT, topic, %code, first,
            "Kafka does not accept what becomes of a record, which becomes a dead letter"
        );
        verdict
    }

    /// Whatever the client does, nothing that was committed is processed again: the records of each
    /// partition start where the last commit ended. Between them may be markers of transactions, and
    /// aborted or compacted records.
    fn check_order(&self, spans: &Spans) -> Result<(), Error> {
        for (name, &Span { first, .. }) in spans {
            let committed = self.owned.get(name).and_then(|partition| partition.committed);
            let Some(expected) = committed else { continue };
            if first < expected.offset() {
                return Err(Error::OffsetRegressed {
                    partition: name.clone(),
                    expected,
                    found: first,
                });
            }
            tracing::debug!(
                component = Self::COMPONENT, partition = %name, %expected, %first,
                "batch starts"
            );
        }
        Ok(())
    }

    /// Passes the partitions without unread records to the stage, and since when they have none.
    fn update_idle_partitions(&mut self, batch: &Batch<'c>, spans: &Spans) {
        for (name, partition) in &mut self.owned {
            if spans.contains_key(name) {
                partition.at_end_since = None;
            }
            if let Some(reached) = batch.ends_since(name) {
                partition.at_end_since.get_or_insert(reached);
            }
            if let Some(since) = partition.at_end_since {
                self.stage.idle(name, since.elapsed());
            }
        }
    }

    fn try_transaction(
        &mut self,
        batch: &Messages<'c>,
        spans: &Spans,
    ) -> Result<Transaction, Error> {
        self.stage.prepare(&mut batch.iter().map(Record));
        self.owned.values_mut().for_each(OwnedPartition::begin_batch);
        let mut out = Output {
            producer: self.transactions.begin()?,
            dead_letter_topic: &self.settings.dead_letter_topic,
            stage: S::STAGE,
            counts: &mut self.counts,
            max_bytes: self.connection.max_message_bytes,
            input: 0,
            sent: 0,
        };
        let refusal_limit = self.settings.batch.refusal_limit;
        for run in runs(batch) {
            let Some(name) = run.first().map(partition_of) else { continue };
            let partition = self.owned.get_mut(&name).ok_or_else(|| not_owned(&name))?;
            let mut run = Run { name: &name, partition, records: run, unfit: &self.unfit };
            run.process(self.stage, refusal_limit, &mut out)?;
        }
        out.check_rejected()?;
        out.input = 0;
        self.stage.finish(&mut out)?;
        if let Some(topic) = &self.settings.positions {
            positions::write(topic, &self.settings.group, spans, &self.owned, &mut out)?;
        }
        if out.sent == 0 && batch.is_empty() {
            self.transactions.abort_empty()?;
            return Ok(Transaction::Empty);
        }
        let offsets = self.offsets_after(spans)?;
        self.transactions.commit(&offsets, &self.group.metadata()?)?;
        Ok(Transaction::Committed)
    }

    /// The offsets after the batch, each with the metadata of the stage and the ledger. A batch
    /// without records commits the current offsets again, because committing them is what fences a
    /// member whose partitions have moved.
    fn offsets_after(&self, spans: &Spans) -> Result<TopicPartitionList, Error> {
        let mut offsets = TopicPartitionList::new();
        let mut add = |name: &TopicPartition, partition: &OwnedPartition, next: NextOffset| {
            let metadata = self.stage.offset_metadata(name);
            let metadata = partition.ledger_after_batch().append_to(&metadata);
            add_offset(&mut offsets, name, next, metadata)
        };
        for (name, span) in spans {
            add(name, self.owned.get(name).ok_or_else(|| not_owned(name))?, span.next)?;
        }
        if spans.is_empty() {
            for (name, partition) in &self.owned {
                if let Some(next) = partition.committed
                    && partition.mismatch.is_none()
                {
                    add(name, partition, next)?;
                }
            }
        }
        Ok(offsets)
    }

    /// Updates the state of this member after a successful commit.
    fn commit_locally(&mut self, spans: &Spans) -> Result<(), Error> {
        for (name, partition) in &mut self.owned {
            partition.commit_batch(spans.get(name).map(|span| span.next));
        }
        if !self.unfit.is_empty() {
            spans.iter().for_each(|(name, span)| self.unfit.committed(name, span.next));
        }
        self.counts.commit(S::STAGE);
        self.stage.committed()
    }

    /// After a failed transaction: rebuilds the producer, and asks the broker whether the commit
    /// succeeded.
    fn recover(&mut self, spans: &Spans) -> Result<(), Error> {
        while let Err(error) = self.transactions.rebuild() {
            tracing::warn!(
                component = Self::COMPONENT, %error,
                "transactional producer could not be rebuilt; retrying"
            );
            std::thread::sleep(RETRY_PAUSE);
        }
        let committed = loop {
            match self.group.committed(spans.keys()) {
                Ok(committed) => break committed,
                Err(error) => {
                    tracing::warn!(
                        component = Self::COMPONENT, %error,
                        "committed offsets could not be read; retrying"
                    );
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        };
        let has_committed = !spans.is_empty()
            && spans
                .values()
                .zip(&committed)
                .all(|(span, committed)| committed.next.is_some_and(|next| next >= span.next));
        if has_committed {
            tracing::info!(component = Self::COMPONENT, "the failed commit had succeeded");
            return self.commit_locally(spans);
        }
        self.roll_back(spans)
    }

    fn roll_back(&mut self, spans: &Spans) -> Result<(), Error> {
        self.counts.discard();
        let after = self.stage.rolled_back();
        for name in spans.keys() {
            self.rewind(name)?;
        }
        if after == AfterRollback::Restore {
            let readers = ChangelogReaders::default();
            let owned: Vec<_> = self.owned.keys().cloned().collect();
            for name in owned {
                self.restore(&name, &readers)?;
            }
        }
        Ok(())
    }

    /// Reads a partition again from where the last commit ended.
    /// Until then the partition has unread records, even if its end was reached before.
    pub(super) fn rewind(&mut self, name: &TopicPartition) -> Result<(), Error> {
        if let Some(aligned) = &mut self.aligned {
            aligned.forget(name);
        }
        let partition = self.owned.get_mut(name);
        let committed = partition.and_then(|partition| {
            partition.at_end_since = None;
            partition.committed
        });
        self.group.seek(name, committed)
    }
}

enum Transaction {
    /// There was no record to read and none to write.
    Empty,
    Committed,
}

fn not_owned(name: &TopicPartition) -> Error {
    Error::state(format!("a record of {name} was read, but the partition is not assigned here"))
}

struct Meters {
    records: metrics::Counter,
    transactions: metrics::Counter,
    failures: metrics::Counter,
    duration: metrics::Histogram,
}

impl Meters {
    fn new(component: &'static str) -> Self {
        Self {
            records: metrics::counter!("mailpulse_processed_records_total", "component" => component),
            transactions: metrics::counter!("mailpulse_transactions_total", "component" => component),
            failures: metrics::counter!("mailpulse_transaction_failures_total", "component" => component),
            duration: metrics::histogram!("mailpulse_transaction_duration_seconds", "component" => component),
        }
    }

    /// `records` does not include time records.
    fn committed(&self, records: u64, took: Duration) {
        self.records.increment(records);
        self.transactions.increment(1);
        self.duration.record(took.as_secs_f64());
    }
}
