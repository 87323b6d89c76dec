//! The rate stage: adds pane deltas to the windows of each scope, and publishes the window results and
//! the alerts.

use std::collections::BTreeMap;

use kafka::{
    AfterRollback, CommittedCounter, Inputs, Outcome, Outgoing, Output, Record, Restore, Stage,
    TopicPartition,
};
use record::{Reason, Topics};
use serde::Deserialize;
use window::{Alert, Counts, HourStart, PaneDelta, PaneStart, Ring, ScopeError};

use crate::clock::ClockSettings;
use crate::deliveries::Deliveries;
use crate::restore::ShardRestore;
use crate::settings::MonitorSettings;
use crate::shard::{Counted, DeltaOutcome, Shard, ShardSettings, Transitions};
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
    max_scope_bytes: usize,
    meters: Meters,
}

/// The metrics of the stage.
struct Meters {
    /// The events that were too late for each ring, and for the cohorts.
    late_events: [CommittedCounter; 3],
    corrections_without_count: CommittedCounter,
    scopes: metrics::Gauge,
    scope_bytes: metrics::Gauge,
    sources_without_deliveries: metrics::Gauge,
}

impl Meters {
    fn new() -> Self {
        let late_events = |ring: &'static str| {
            CommittedCounter::new(metrics::counter!("mailpulse_monitor_late_events_total",
                "component" => Rate::STAGE.code(), "ring" => ring))
        };
        let [fine, day] = Ring::ALL.map(Ring::as_str);
        Self {
            late_events: [fine, day, "cohort"].map(late_events),
            corrections_without_count: CommittedCounter::new(metrics::counter!(
                "mailpulse_monitor_corrections_without_count_total"
            )),
            scopes: metrics::gauge!("mailpulse_monitor_scopes"),
            scope_bytes: metrics::gauge!("mailpulse_monitor_scope_bytes"),
            sources_without_deliveries: metrics::gauge!(
                "mailpulse_monitor_sources_without_deliveries"
            ),
        }
    }

    fn count(&self, counted: &Counted, out: &mut Output<'_>) {
        for (counter, &events) in self.late_events.iter().zip(&counted.late) {
            if events > 0 {
                out.count(counter, events);
            }
        }
        if counted.without_count > 0 {
            out.count(&self.corrections_without_count, counted.without_count);
        }
    }
}

impl Rate {
    pub(crate) fn new(
        topics: &Topics,
        event_partitions: usize,
        pane_partitions: usize,
        settings: &MonitorSettings,
    ) -> Self {
        Self {
            panes_topic: topics.panes.clone(),
            pane_partitions,
            rates_topic: topics.rates.clone(),
            alerts_topic: topics.alerts.clone(),
            changelog: topics.monitor_changelog.clone(),
            shard_settings: ShardSettings {
                rules: settings.rule.clone(),
                publish: settings.publish,
                clock: ClockSettings {
                    event_partitions,
                    slack: settings.slack(),
                    out_of_orderness: settings.out_of_orderness(),
                },
                scopes_per_source: settings.scopes_per_shard(pane_partitions),
                memory_is_full: false,
            },
            shards: BTreeMap::new(),
            transitions: Transitions::default(),
            batch_alerts: Vec::new(),
            max_scope_bytes: settings.max_scope_bytes,
            meters: Meters::new(),
        }
    }

    /// Notes whether the scopes use all the memory that they may use.
    fn measure_memory(&mut self) {
        let bytes: usize = self.shards.values().map(Shard::bytes).sum();
        self.shard_settings.memory_is_full = bytes >= self.max_scope_bytes;
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
        self.measure_memory();
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
            Ok(Received::Progress) => Ok(Outcome::Counted),
            Ok(Received::Delta(DeltaOutcome::Counted(counted), _)) => {
                self.meters.count(&counted, out);
                Ok(Outcome::Counted)
            }
            Ok(Received::Delta(DeltaOutcome::BelongsTo(scope), delta)) => {
                let counter = metrics::counter!("mailpulse_monitor_scopes_limited_total",
                    "source" => scope.source().unwrap_or(scope.kind().as_str()).to_owned());
                out.count(&CommittedCounter::new(counter), 1);
                let DeltaFields { pane, cohort, counts } = delta;
                let key = scope.key();
                let delta = serde_json::to_vec(&PaneDelta { scope, pane, cohort, counts });
                let value = delta.map_err(kafka::Error::state)?;
                send(out, &self.panes_topic, None, &key, Some(&value))?;
                Ok(Outcome::Counted)
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
        self.measure_memory();
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
        for source in self.shards.values_mut().flat_map(Shard::take_unlogged) {
            tracing::warn!(
                %source,
                "the source has sent no delivered event for 24 hours, so its rates are unknown and no \
                 rule judges it; switch on delivery events at the provider"
            );
        }
        let sum = |of: fn(&Shard) -> usize| self.shards.values().map(of).sum::<usize>() as f64;
        self.meters.scopes.set(sum(Shard::len));
        self.meters.scope_bytes.set(sum(Shard::bytes));
        self.meters.sources_without_deliveries.set(sum(Shard::sources_without_deliveries));
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
    #[serde(default)]
    cohort: Option<HourStart>,
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
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is read at once")]
enum Received {
    /// Watermarks or deliveries.
    Progress,
    Delta(DeltaOutcome, DeltaFields),
}

/// Passes the watermarks, deliveries or delta of a record to the shard.
fn receive(
    shard: &mut Shard,
    record: &Record<'_>,
    settings: &ShardSettings,
    transitions: &mut Transitions,
) -> Result<Received, InvalidRecord> {
    let value = record.value().unwrap_or_default();
    if record.key() == Watermarks::KEY {
        shard.receive(&serde_json::from_slice(value)?, settings, transitions);
        return Ok(Received::Progress);
    }
    if record.key() == Deliveries::KEY {
        shard.receive_deliveries(&serde_json::from_slice(value)?);
        return Ok(Received::Progress);
    }
    let delta: DeltaFields = serde_json::from_slice(value)?;
    let key = std::str::from_utf8(record.key())?;
    let outcome = shard.apply(key, delta.pane, delta.cohort, &delta.counts, settings)?;
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
