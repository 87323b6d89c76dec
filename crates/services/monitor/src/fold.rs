//! Events to pane deltas, one commit at a time.

use std::time::Duration;

use record::{Reason, Stage, Topics, names};
use kafka::step::Step;
use kafka::{Outgoing, Output, Record, Restore, StreamError, TopicPartition};
use window::PaneDelta;

use crate::clock::Watermarks;
use crate::facts::RatedEvent;
use crate::progress::Partitions;
use crate::settings::MonitorSettings;
use crate::tally::{Sum, Tally};

/// See the crate's documentation.
pub(crate) struct Fold {
    panes_topic: String,
    scope_partitions: i32,
    partitions: Partitions,
    tally: Tally,
    /// Events of the open round that came too late to count.
    late: u64,
    late_events: metrics::Counter,
}

impl Fold {
    pub(crate) fn new(topics: &Topics, scope_partitions: i32, settings: &MonitorSettings) -> Self {
        Self {
            panes_topic: topics.panes.clone(),
            scope_partitions,
            partitions: Partitions::new(settings),
            tally: Tally::default(),
            late: 0,
            late_events: metrics::counter!("mailpulse_late_events_total", "job" => "monitor-fold"),
        }
    }

    fn tell_deltas(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        self.tally.take(|Sum { scope, key, pane, counts }| {
            let delta = PaneDelta { scope: scope.clone(), pane, counts };
            out.send(Outgoing {
                topic: &self.panes_topic,
                partition: None,
                key: key.as_bytes(),
                value: Some(&serde_json::to_vec(&delta).map_err(StreamError::state)?),
                headers: &[],
            })
        })
    }

    fn tell_time(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        let news = self.partitions.news();
        if news.0.is_empty() {
            return Ok(());
        }
        let value = serde_json::to_vec(&news).map_err(StreamError::state)?;
        for scope_partition in 0..self.scope_partitions {
            out.send(Outgoing {
                topic: &self.panes_topic,
                partition: Some(scope_partition),
                key: Watermarks::KEY,
                value: Some(&value),
                headers: &[],
            })?;
        }
        Ok(())
    }
}

impl Step for Fold {
    fn assigned(
        &mut self,
        partition: &TopicPartition,
        restore: &Restore<'_>,
    ) -> Result<(), StreamError> {
        self.partitions.assign(partition.partition, restore.metadata());
        Ok(())
    }

    fn revoked(&mut self, partition: &TopicPartition) {
        self.partitions.revoke(partition.partition);
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError> {
        if record.is_again_for(Stage::Archive.code()) {
            return Ok(()); // counted when it first came by
        }
        let event = match RatedEvent::read(record.value().unwrap_or_default()) {
            Ok(event) => event,
            Err(error) if error.is_data() => {
                return out.dead_letter(record, Reason::WrongShape, &error.to_string());
            }
            Err(error) => return out.dead_letter(record, Reason::NotJson, &error.to_string()),
        };
        let fact = match event.fact(|| record.header(names::FIRST)) {
            Ok(fact) => fact,
            Err(error) => return out.dead_letter(record, Reason::BadHeaders, &error.to_string()),
        };
        if self.partitions.admit(record.partition(), event.time().micros()) {
            self.tally.add(&event, &fact);
        } else {
            self.late += 1;
        }
        Ok(())
    }

    fn quiet(&mut self, partition: &TopicPartition, since: Duration) {
        self.partitions.quiet(partition.partition, since);
    }

    fn end_of_round(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        self.tell_deltas(out)?;
        // After the deltas: who hears of the time has everything up to it.
        self.tell_time(out)
    }

    fn offset_metadata(&self, partition: &TopicPartition) -> String {
        self.partitions.metadata(partition.partition)
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        self.partitions.committed();
        self.late_events.increment(std::mem::take(&mut self.late));
        Ok(())
    }

    fn rolled_back(&mut self) {
        self.partitions.rolled_back();
        self.tally.clear();
        self.late = 0;
    }
}
