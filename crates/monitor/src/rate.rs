//! Pane deltas to window results and alerts.

use std::collections::BTreeMap;

use record::{Reason, Topics};
use stream::step::Step;
use stream::{Outgoing, Output, Record, Restore, StreamError, TopicPartition};
use window::{PaneDelta, Rule};

use crate::clock::Watermark;
use crate::settings::{MonitorSettings, micros};
use crate::shard::{News, Rebuild, Shard};

/// See the crate's documentation.
pub(crate) struct Rate {
    rates_topic: String,
    alerts_topic: String,
    changelog: String,
    event_partitions: i32,
    lateness: i64,
    rules: Vec<Rule>,
    shards: BTreeMap<i32, Shard>,
    news: News,
    late: metrics::Counter,
    scopes: metrics::Gauge,
}

impl Rate {
    pub(crate) fn new(topics: &Topics, event_partitions: i32, settings: &MonitorSettings) -> Self {
        Self {
            rates_topic: topics.rates.clone(),
            alerts_topic: topics.alerts.clone(),
            changelog: topics.monitor_changelog.clone(),
            event_partitions,
            // A delta that fold let pass may meet a clock that other partitions have moved on, by
            // the out-of-orderness at most.
            lateness: micros(settings.allowed_lateness) + micros(settings.out_of_orderness),
            rules: settings.rule.clone(),
            shards: BTreeMap::new(),
            news: News::default(),
            late: metrics::counter!("mailpulse_late_events_total", "job" => "monitor-rate"),
            scopes: metrics::gauge!("mailpulse_monitor_scopes"),
        }
    }

    fn publish(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        for rate in self.news.rates.drain(..) {
            let value = serde_json::to_vec(&rate).map_err(StreamError::state)?;
            send(out, &self.rates_topic, None, &rate.scope.key(), Some(&value))?;
        }
        for alert in self.news.alerts.drain(..) {
            tracing::info!(summary = alert.summary, "alert");
            metrics::counter!("mailpulse_alert_transitions_total",
                "rule" => alert.rule.clone(), "state" => alert.state.as_str())
            .increment(1);
            let value = serde_json::to_vec(&alert).map_err(StreamError::state)?;
            send(out, &self.alerts_topic, None, &alert.scope.key(), Some(&value))?;
        }
        Ok(())
    }
}

impl Step for Rate {
    fn assigned(
        &mut self,
        partition: &TopicPartition,
        restore: &Restore<'_>,
    ) -> Result<(), StreamError> {
        let number = partition.partition;
        let mut rebuild = Rebuild::default();
        let read = restore
            .changelog(&self.changelog, number, None, |key, value| rebuild.apply(key, value))?;
        let shard = rebuild.finish(self.lateness, &self.rules);
        tracing::info!(partition = number, records = read.records, scopes = shard.len(), "restored");
        self.shards.insert(number, shard);
        Ok(())
    }

    fn revoked(&mut self, partition: &TopicPartition) {
        self.shards.remove(&partition.partition);
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError> {
        let Some(shard) = self.shards.get_mut(&record.partition()) else {
            return Err(StreamError::state(format!("{} is not assigned", record.origin())));
        };
        let value = record.value().unwrap_or_default();
        if Watermark::is_key(record.key()) {
            return match serde_json::from_slice(value) {
                Ok(told) => shard.hear(told, self.event_partitions, &self.rules, &mut self.news),
                Err(error) => out.dead_letter(record, Reason::WrongShape, &error.to_string()),
            };
        }
        match serde_json::from_slice::<PaneDelta>(value) {
            Ok(delta) => {
                if let Some(late) = shard.apply(delta, &self.rules) {
                    tracing::debug!(?late, "too late");
                    self.late.increment(1);
                }
                Ok(())
            }
            Err(error) => out.dead_letter(record, Reason::WrongShape, &error.to_string()),
        }
    }

    fn end_of_round(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        for shard in self.shards.values_mut() {
            shard.visit_due(&self.rules, &mut self.news)?;
        }
        self.publish(out)?;
        for (&partition, shard) in &mut self.shards {
            for (key, value) in shard.changes()? {
                send(out, &self.changelog, Some(partition), &key, value.as_deref())?;
            }
        }
        Ok(())
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        self.scopes.set(self.shards.values().map(Shard::len).sum::<usize>() as f64);
        Ok(())
    }

    /// The shards were changed in place; they are read back.
    fn rolled_back(&mut self) {
        self.shards.clear();
        self.news = News::default();
    }

    fn restores_after_rollback(&self) -> bool {
        true
    }
}

fn send(
    out: &mut Output<'_>,
    topic: &str,
    partition: Option<i32>,
    key: &str,
    value: Option<&[u8]>,
) -> Result<(), StreamError> {
    out.send(Outgoing { topic, partition, key: key.as_bytes(), value, headers: &[] })
}
