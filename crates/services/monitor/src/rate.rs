//! The rate stage: adds pane deltas to the windows of each scope, and publishes the window results and
//! the alerts.

use std::collections::BTreeMap;

use kafka::{
    AfterRollback, CommittedCounter, Inputs, Outcome, Outgoing, Output, Record, Restore, Stage,
    TopicPartition,
};
use record::{Reason, Topics};
use serde::Deserialize;
use window::{Alert, Counts, PaneDelta, PaneStart, ScopeError};

use crate::clock::ClockSettings;
use crate::restore::ShardRestore;
use crate::settings::MonitorSettings;
use crate::shard::{DeltaOutcome, Shard, ShardSettings, Transitions};
use crate::watermarks::Watermarks;

/// The changelog lost records, or it does not belong to the committed offsets. The rates would be
/// wrong if the stage continued.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{topic}` contains {commits} of {expected} commits; restore the topic, or reset the offsets of \
     the monitor's groups to start from the beginning"
)]
struct IncompleteChangelog {
    topic: String,
    commits: u64,
    expected: u64,
}

pub(crate) struct Rate {
    panes_topic: String,
    pane_partitions: usize,
    rates_topic: String,
    alerts_topic: String,
    changelog: String,
    shard_settings: ShardSettings,
    shards: BTreeMap<i32, Shard>,
    transitions: Transitions,
    /// The alerts of the current batch. They are logged when it is committed.
    batch_alerts: Vec<Alert>,
    late_events: CommittedCounter,
    scopes: metrics::Gauge,
}

impl Rate {
    pub(crate) fn new(
        topics: &Topics,
        event_partitions: usize,
        pane_partitions: usize,
        settings: &MonitorSettings,
    ) -> Self {
        let late_events = metrics::counter!("mailpulse_monitor_late_events_total",
            "component" => Self::STAGE.code());
        Self {
            panes_topic: topics.panes.clone(),
            pane_partitions,
            rates_topic: topics.rates.clone(),
            alerts_topic: topics.alerts.clone(),
            changelog: topics.monitor_changelog.clone(),
            shard_settings: ShardSettings {
                rules: settings.rule.clone(),
                pane_lateness: settings.pane_lateness(),
                clock: ClockSettings {
                    event_partitions,
                    slack: settings.slack(),
                    out_of_orderness: settings.out_of_orderness(),
                },
                scopes_per_source: settings.scopes_per_shard(pane_partitions),
            },
            shards: BTreeMap::new(),
            transitions: Transitions::default(),
            batch_alerts: Vec::new(),
            late_events: CommittedCounter::new(late_events),
            scopes: metrics::gauge!("mailpulse_monitor_scopes"),
        }
    }

    fn publish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        for (key, rate) in self.transitions.windows.drain(..) {
            let value = serde_json::to_vec(&rate).map_err(kafka::Error::state)?;
            send(out, &self.rates_topic, None, &key, Some(&value))?;
        }
        for alert in self.transitions.alerts.drain(..) {
            let value = serde_json::to_vec(&alert).map_err(kafka::Error::state)?;
            send(out, &self.alerts_topic, None, &alert.scope.key(), Some(&value))?;
            let counter = metrics::counter!("mailpulse_monitor_alert_transitions_total",
                "rule" => alert.rule.clone(), "state" => alert.state.as_str());
            out.count(&CommittedCounter::new(counter), 1);
            self.batch_alerts.push(alert);
        }
        Ok(())
    }
}

impl Stage for Rate {
    const STAGE: record::Stage = record::Stage::MonitorRate;

    fn inputs(&self) -> Inputs {
        Inputs { topics: vec![self.panes_topic.clone()], partitions: self.pane_partitions }
    }

    fn restore(
        &mut self,
        partition: &TopicPartition,
        restore: &Restore<'_>,
    ) -> Result<(), kafka::Error> {
        let number = partition.partition;
        let mut shard = ShardRestore::default();
        restore.changelog(&self.changelog, number, None, |key, value| shard.apply(key, value))?;
        let (commits, expected) = (shard.commits(), restore.metadata().parse().unwrap_or(0));
        if commits < expected {
            let topic = self.changelog.clone();
            return Err(kafka::Error::state(IncompleteChangelog { topic, commits, expected }));
        }
        let shard = shard.finish(&self.shard_settings)?;
        tracing::info!(%partition, scopes = shard.len(), commits, "monitor state restored");
        self.shards.insert(number, shard);
        Ok(())
    }

    fn release(&mut self, partition: &TopicPartition) {
        self.shards.remove(&partition.partition);
    }

    fn process(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let Some(shard) = self.shards.get_mut(&record.partition()) else {
            let problem = format!("{} belongs to a partition without state", record.origin());
            return Err(kafka::Error::state(problem));
        };
        match receive(shard, record, &self.shard_settings, &mut self.transitions) {
            Ok(Received::Watermarks | Received::Delta(DeltaOutcome::Counted, _)) => {
                Ok(Outcome::Counted)
            }
            Ok(Received::Delta(DeltaOutcome::BelongsTo(scope), DeltaFields { pane, counts })) => {
                let counter = metrics::counter!("mailpulse_monitor_scopes_limited_total",
                    "source" => scope.source().to_owned());
                out.count(&CommittedCounter::new(counter), 1);
                let key = scope.key();
                let delta = serde_json::to_vec(&PaneDelta { scope, pane, counts });
                send(
                    out,
                    &self.panes_topic,
                    None,
                    &key,
                    Some(&delta.map_err(kafka::Error::state)?),
                )?;
                Ok(Outcome::Counted)
            }
            Ok(Received::Delta(DeltaOutcome::TooLate { events }, _)) => {
                out.count(&self.late_events, events);
                Ok(Outcome::Dropped)
            }
            Err(error) => out.dead_letter(record, Reason::WrongShape, &error.to_string()),
        }
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        for shard in self.shards.values_mut() {
            shard.advance_due(&self.shard_settings, &mut self.transitions);
        }
        self.publish(out)?;
        for (&partition, shard) in &mut self.shards {
            for (key, value) in shard.changelog_records()? {
                send(out, &self.changelog, Some(partition), &key, value.as_deref())?;
            }
        }
        Ok(())
    }

    /// Returns the number of the commit; see [`crate::changelog::LastCommit`].
    fn offset_metadata(&self, partition: &TopicPartition) -> String {
        let shard = self.shards.get(&partition.partition);
        shard.map_or(String::new(), |shard| shard.commits().to_string())
    }

    fn committed(&mut self) -> Result<(), kafka::Error> {
        for alert in self.batch_alerts.drain(..) {
            tracing::info!(
                summary = alert.summary,
                state = alert.state.as_str(),
                "alert published"
            );
        }
        self.scopes.set(self.shards.values().map(Shard::len).sum::<usize>() as f64);
        Ok(())
    }

    /// The batch changed the shards in place, so they are restored from the changelog.
    fn rolled_back(&mut self) -> AfterRollback {
        self.shards.clear();
        self.transitions = Transitions::default();
        self.batch_alerts.clear();
        AfterRollback::Restore
    }
}

/// The fields of a [`window::PaneDelta`] except the scope, which is the key of the record.
#[derive(Deserialize)]
struct DeltaFields {
    pane: PaneStart,
    counts: Counts,
}

#[derive(Debug, thiserror::Error)]
enum InvalidRecord {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("the key is not UTF-8: {0}")]
    Key(#[from] std::str::Utf8Error),
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

/// What a record was, and what the shard did with it.
enum Received {
    Watermarks,
    Delta(DeltaOutcome, DeltaFields),
}

/// Passes the watermarks or the delta of a record to the shard.
fn receive(
    shard: &mut Shard,
    record: &Record<'_>,
    settings: &ShardSettings,
    transitions: &mut Transitions,
) -> Result<Received, InvalidRecord> {
    let value = record.value().unwrap_or_default();
    if record.key() == Watermarks::KEY {
        shard.receive(&serde_json::from_slice(value)?, settings, transitions);
        return Ok(Received::Watermarks);
    }
    let delta: DeltaFields = serde_json::from_slice(value)?;
    let key = std::str::from_utf8(record.key())?;
    let outcome = shard.apply(key, delta.pane, &delta.counts, settings)?;
    Ok(Received::Delta(outcome, delta))
}

fn send(
    out: &mut Output<'_>,
    topic: &str,
    partition: Option<i32>,
    key: &str,
    value: Option<&[u8]>,
) -> Result<(), kafka::Error> {
    out.send(Outgoing { topic, partition, key: key.as_bytes(), value, headers: &[] })
}
