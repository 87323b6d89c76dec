//! The fold stage: counts the events of each batch by scope and pane, and publishes the sums.

use std::time::Duration;

use kafka::{
    AfterRollback, CommittedCounter, Inputs, Outcome, Outgoing, Output, Record, Restore, Stage,
    TopicPartition,
};
use record::{Reason, Topics, names};
use window::PaneDelta;

use crate::batch_counts::{BatchCounts, PaneCounts};
use crate::event_partitions::EventPartitions;
use crate::rated_event::RatedEvent;
use crate::settings::MonitorSettings;
use crate::watermarks::Watermarks;

pub(crate) struct Fold {
    events_topic: String,
    event_partitions: usize,
    panes_topic: String,
    pane_partitions: i32,
    partitions: EventPartitions,
    batch_counts: BatchCounts,
    late_events: CommittedCounter,
}

impl Fold {
    pub(crate) fn new(
        topics: &Topics,
        event_partitions: usize,
        pane_partitions: i32,
        settings: &MonitorSettings,
    ) -> Self {
        let late_events = metrics::counter!("mailpulse_monitor_late_events_total",
            "component" => Self::STAGE.code());
        Self {
            events_topic: topics.events.clone(),
            event_partitions,
            panes_topic: topics.panes.clone(),
            pane_partitions,
            partitions: EventPartitions::new(settings),
            batch_counts: BatchCounts::default(),
            late_events: CommittedCounter::new(late_events),
        }
    }

    fn publish_deltas(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        self.batch_counts.drain(|PaneCounts { scope, key, pane, counts }| {
            let delta = PaneDelta { scope: scope.clone(), pane, counts };
            out.send(Outgoing {
                topic: &self.panes_topic,
                partition: None,
                key: key.as_bytes(),
                value: Some(&serde_json::to_vec(&delta).map_err(kafka::Error::state)?),
                headers: &[],
            })
        })
    }

    fn publish_watermarks(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        let watermarks = self.partitions.unpublished();
        if watermarks.0.is_empty() {
            return Ok(());
        }
        let value = serde_json::to_vec(&watermarks).map_err(kafka::Error::state)?;
        for partition in 0..self.pane_partitions {
            out.send(Outgoing {
                topic: &self.panes_topic,
                partition: Some(partition),
                key: Watermarks::KEY,
                value: Some(&value),
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
        let event = match RatedEvent::read(record.value().unwrap_or_default()) {
            Ok(event) => event,
            Err(error) if error.is_data() => {
                return out.dead_letter(record, Reason::WrongShape, &error.to_string());
            }
            Err(error) => return out.dead_letter(record, Reason::NotJson, &error.to_string()),
        };
        let counted = match event.counted(|| record.header(names::FIRST)) {
            Ok(counted) => counted,
            Err(error) => return out.dead_letter(record, Reason::BadHeaders, &error.to_string()),
        };
        if !self.partitions.admit(record.partition(), event.time()) {
            out.count(&self.late_events, 1);
            return Ok(Outcome::Dropped);
        }
        self.batch_counts.add(&event, &counted);
        Ok(Outcome::Counted)
    }

    fn idle(&mut self, partition: &TopicPartition, duration: Duration) {
        self.partitions.idle(partition.partition, duration);
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        self.publish_deltas(out)?;
        // Watermarks follow the deltas, so that a reader of a watermark has every delta up to it.
        self.publish_watermarks(out)
    }

    fn offset_metadata(&self, partition: &TopicPartition) -> String {
        self.partitions.offset_metadata(partition.partition)
    }

    fn committed(&mut self) -> Result<(), kafka::Error> {
        self.partitions.committed();
        Ok(())
    }

    fn rolled_back(&mut self) -> AfterRollback {
        self.partitions.rolled_back();
        self.batch_counts.clear();
        AfterRollback::Keep
    }
}
