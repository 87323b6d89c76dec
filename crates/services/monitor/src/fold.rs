//! The fold stage: adds up what the events of each batch count for, by scope, pane and cohort, and
//! publishes the sums.

use std::time::Duration;

use erasure::StageErasure;
use event::{CounterSet, OccurredAt};
use kafka::{
    AfterRollback, Inputs, Kept, Outcome, Outgoing, Output, Record, Restore, Stage, TopicPartition,
};
use record::{Reason, Tally, Topics, names, time_record};
use window::HourStart;

use crate::batch_counts::{BatchCounts, ScopeCounts};
use crate::commit::{CommitBuilder, CommitPart, KeyedDelta, partition_of};
use crate::deliveries::UnpublishedDeliveries;
use crate::event_partitions::EventPartitions;
use crate::rated_event::{NotCountable, RatedEvent, counts_of_earlier_release};
use crate::settings::MonitorSettings;

pub(crate) struct Fold {
    events_topic: String,
    event_partitions: usize,
    panes_topic: String,
    pane_partitions: i32,
    erasure: StageErasure,
    partitions: EventPartitions,
    batch_counts: BatchCounts,
    deliveries: UnpublishedDeliveries,
    /// The commit in progress, by partition of `mail.panes`.
    commits: Vec<CommitBuilder>,
}

impl Fold {
    pub(crate) fn new(
        topics: &Topics,
        event_partitions: usize,
        pane_partitions: i32,
        erasure: StageErasure,
        settings: &MonitorSettings,
    ) -> Self {
        Self {
            events_topic: topics.events.clone(),
            event_partitions,
            panes_topic: topics.panes.clone(),
            pane_partitions,
            erasure,
            partitions: EventPartitions::new(settings),
            batch_counts: BatchCounts::new(settings.scopes()),
            deliveries: UnpublishedDeliveries::default(),
            commits: (0..pane_partitions).map(|_| CommitBuilder::default()).collect(),
        }
    }

    /// Adds what the batch counts to the commit of each partition.
    fn collect_deltas(&mut self) -> Result<(), kafka::Error> {
        let Self { batch_counts, deliveries, commits, pane_partitions, .. } = self;
        batch_counts.drain(|ScopeCounts { key, whole, pane, cohort, counts }| {
            if counts.get(event::Counter::Delivered) > 0 {
                deliveries.note(whole, HourStart::of(OccurredAt(pane.micros())));
            }
            let partition = usize::try_from(partition_of(key.as_bytes(), *pane_partitions));
            let commit = partition.ok().and_then(|partition| commits.get_mut(partition));
            let scope = key.to_owned();
            if let Some(commit) = commit {
                commit.add(KeyedDelta { scope, pane, cohort, counts });
            }
            Ok(())
        })
    }

    /// Sends the commit to every partition of `mail.panes`.
    fn publish_commit(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        let last = CommitPart {
            from: self.partitions.first().unwrap_or_default(),
            as_of: self.partitions.unpublished_offsets(),
            watermarks: self.partitions.unpublished(),
            deliveries: self.deliveries.publishing().clone(),
            ..CommitPart::default()
        };
        for (partition, commit) in (0..).zip(&mut self.commits) {
            for part in commit.finish(&last) {
                out.send(Outgoing {
                    topic: &self.panes_topic,
                    partition: Some(partition),
                    key: CommitPart::KEY,
                    value: Some(&serde_json::to_vec(&part).map_err(kafka::Error::state)?),
                    headers: &[],
                })?;
            }
        }
        Ok(())
    }
}

impl Stage for Fold {
    const STAGE: record::Stage = record::Stage::MonitorFold;

    fn inputs(&self) -> Inputs {
        Inputs { topics: vec![self.events_topic.clone()], partitions: self.event_partitions }
    }

    fn restore(
        &mut self,
        partition: &TopicPartition,
        restore: &Restore<'_>,
    ) -> Result<(), kafka::Error> {
        self.partitions.assign(partition.partition, restore.metadata());
        Ok(())
    }

    fn release(&mut self, partition: &TopicPartition) {
        self.partitions.release(partition.partition);
    }

    fn process(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        self.partitions.read(record.partition(), record.offset().next());
        if record.is_redriven_for_another(Self::STAGE) {
            return Ok(Outcome::Dropped); // it was counted when it was first read
        }
        let headers = record.look_up();
        let header = |name: &str| headers.get(name);
        if let Some(time) = time_record(&header) {
            self.partitions.pass_time(record.partition(), time);
            return Ok(Outcome::TimeRecord);
        }
        let value = record.value().unwrap_or_default();
        let event = match RatedEvent::read(value) {
            Ok(event) => event,
            Err(error) if error.is_data() => {
                return self.erasure.dead_letter(
                    record,
                    Reason::WrongShape,
                    &error.to_string(),
                    out,
                );
            }
            Err(error) => {
                return self.erasure.dead_letter(record, Reason::NotJson, &error.to_string(), out);
            }
        };
        let Tally { counts, sent, corrections, .. } = match Tally::read(&header) {
            Ok(tally) => tally,
            Err(error) => {
                return self.erasure.dead_letter(
                    record,
                    Reason::BadHeaders,
                    &error.to_string(),
                    out,
                );
            }
        };
        let counts = match counts {
            Some(counts) => counts,
            None if header(names::UNAUTHENTIC).is_some() => CounterSet::EMPTY,
            None => match counts_of_earlier_release(value, header(names::FIRST)) {
                Ok(counts) => counts,
                Err(NotCountable::Json(error)) => {
                    return self.erasure.dead_letter(
                        record,
                        Reason::WrongShape,
                        &error.to_string(),
                        out,
                    );
                }
                Err(error) => {
                    return self.erasure.dead_letter(
                        record,
                        Reason::BadHeaders,
                        &error.to_string(),
                        out,
                    );
                }
            },
        };
        self.partitions.observe(record.partition(), event.time());
        self.batch_counts.add(&event, counts, sent, corrections.as_ref());
        Ok(Outcome::Counted)
    }

    /// This does not wait for the tombstones, because the sums name nobody.
    fn prepare(&mut self, _: &mut dyn Iterator<Item = Record<'_>>) {
        self.erasure.update();
    }

    fn kept<'r>(&self, record: &Record<'r>) -> Kept<'r> {
        self.erasure.kept(record)
    }

    fn idle(&mut self, partition: &TopicPartition, duration: Duration) {
        self.partitions.idle(partition.partition, duration);
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        self.collect_deltas()?;
        self.publish_commit(out)
    }

    fn offset_metadata(&self, partition: &TopicPartition) -> String {
        self.partitions.offset_metadata(partition.partition)
    }

    fn committed(&mut self) -> Result<(), kafka::Error> {
        self.partitions.committed();
        self.deliveries.committed();
        Ok(())
    }

    fn rolled_back(&mut self) -> AfterRollback {
        self.partitions.rolled_back();
        self.batch_counts.clear();
        self.deliveries.rolled_back();
        AfterRollback::Keep
    }
}
