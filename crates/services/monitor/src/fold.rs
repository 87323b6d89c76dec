//! The fold stage: adds up what the events of each batch count for, by scope, pane and cohort, and
//! publishes the sums.

use std::time::Duration;

use event::{CounterSet, OccurredAt};
use kafka::{
    AfterRollback, Inputs, Outcome, Outgoing, Output, Record, Restore, Stage, TopicPartition,
};
use record::{Reason, Tally, Topics, names};
use window::{HourStart, PaneDelta};

use crate::batch_counts::{BatchCounts, ScopeCounts};
use crate::deliveries::{Deliveries, UnpublishedDeliveries};
use crate::event_partitions::EventPartitions;
use crate::rated_event::{NotCountable, RatedEvent, counts_of_earlier_release};
use crate::settings::MonitorSettings;
use crate::watermarks::Watermarks;

pub(crate) struct Fold {
    events_topic: String,
    event_partitions: usize,
    panes_topic: String,
    pane_partitions: i32,
    partitions: EventPartitions,
    batch_counts: BatchCounts,
    deliveries: UnpublishedDeliveries,
}

impl Fold {
    pub(crate) fn new(
        topics: &Topics,
        event_partitions: usize,
        pane_partitions: i32,
        settings: &MonitorSettings,
    ) -> Self {
        Self {
            events_topic: topics.events.clone(),
            event_partitions,
            panes_topic: topics.panes.clone(),
            pane_partitions,
            partitions: EventPartitions::new(settings),
            batch_counts: BatchCounts::new(settings.scopes()),
            deliveries: UnpublishedDeliveries::default(),
        }
    }

    fn publish_deltas(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        self.batch_counts.drain(|ScopeCounts { scope, key, whole, pane, cohort, counts }| {
            if counts.get(event::Counter::Delivered) > 0 {
                self.deliveries.note(whole, HourStart::of(OccurredAt(pane.micros())));
            }
            let delta = PaneDelta { scope: scope.clone(), pane, cohort, counts };
            out.send(Outgoing {
                topic: &self.panes_topic,
                partition: None,
                key: key.as_bytes(),
                value: Some(&serde_json::to_vec(&delta).map_err(kafka::Error::state)?),
                headers: &[],
            })
        })
    }

    fn publish_deliveries(&self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        let deliveries = self.deliveries.publishing();
        if deliveries.0.is_empty() {
            return Ok(());
        }
        let value = serde_json::to_vec(deliveries).map_err(kafka::Error::state)?;
        self.send_to_all(out, Deliveries::KEY, &value)
    }

    fn publish_watermarks(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        let watermarks = self.partitions.unpublished();
        if watermarks.0.is_empty() {
            return Ok(());
        }
        let value = serde_json::to_vec(&watermarks).map_err(kafka::Error::state)?;
        self.send_to_all(out, Watermarks::KEY, &value)
    }

    /// Sends a record to every partition of `mail.panes`.
    fn send_to_all(
        &self,
        out: &mut Output<'_>,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), kafka::Error> {
        for partition in 0..self.pane_partitions {
            out.send(Outgoing {
                topic: &self.panes_topic,
                partition: Some(partition),
                key,
                value: Some(value),
                headers: &[],
            })?;
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
        if record.is_redriven_for(record::Stage::Archive) {
            return Ok(Outcome::Dropped); // it was counted when it was first read
        }
        let value = record.value().unwrap_or_default();
        let event = match RatedEvent::read(value) {
            Ok(event) => event,
            Err(error) if error.is_data() => {
                return out.dead_letter(record, Reason::WrongShape, &error.to_string());
            }
            Err(error) => return out.dead_letter(record, Reason::NotJson, &error.to_string()),
        };
        let headers = record.look_up();
        let header = |name: &str| headers.get(name);
        let Tally { counts, sent, corrections, .. } = match Tally::read(&header) {
            Ok(tally) => tally,
            Err(error) => return out.dead_letter(record, Reason::BadHeaders, &error.to_string()),
        };
        let counts = match counts {
            Some(counts) => counts,
            None if header(names::UNAUTHENTIC).is_some() => CounterSet::EMPTY,
            None => match counts_of_earlier_release(value, header(names::FIRST)) {
                Ok(counts) => counts,
                Err(NotCountable::Json(error)) => {
                    return out.dead_letter(record, Reason::WrongShape, &error.to_string());
                }
                Err(error) => {
                    return out.dead_letter(record, Reason::BadHeaders, &error.to_string());
                }
            },
        };
        self.partitions.observe(record.partition(), event.time());
        self.batch_counts.add(&event, counts, sent, corrections.as_ref());
        Ok(Outcome::Counted)
    }

    fn idle(&mut self, partition: &TopicPartition, duration: Duration) {
        self.partitions.idle(partition.partition, duration);
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        self.publish_deltas(out)?;
        // Watermarks follow, so that a reader of a watermark has every delta and delivery up to it.
        self.publish_deliveries(out)?;
        self.publish_watermarks(out)
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
