//! The rate stage: adds pane deltas to the windows of each scope, and publishes the window results and
//! the alerts.

use std::collections::BTreeMap;

use alerting::{Alert, RuleSet};
use kafka::{
    AfterRollback, CommittedCounter, Inputs, Outcome, Outgoing, Output, Record, Restore, Stage,
    TopicPartition,
};
use record::{Reason, Topics, content_types, names};
use serde::Deserialize;
use window::{Counts, HourStart, PANE, PaneStart, Ring, ScopeError};

use crate::commit::{CommitPart, KeyedDelta, partition_of};
use crate::deliveries::Deliveries;
use crate::history::Zones;
use crate::incidents_record::ClockRecord;
use crate::restore::ShardRestore;
use crate::scope_state::Counted;
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

/// Everything about alerts is in one partition, because incidents across sources must meet.
const ALERTS_PARTITION: i32 = 0;

pub(crate) struct Rate {
    panes_topic: String,
    pane_partitions: i32,
    rates_topic: String,
    alerts_topic: String,
    campaigns_topic: String,
    changelog: String,
    shard_settings: ShardSettings,
    shards: BTreeMap<i32, Shard>,
    /// By shard: the pane of the clock that was last published.
    published_clocks: BTreeMap<i32, i64>,
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
        pane_partitions: i32,
        settings: &MonitorSettings,
        (rules, zones): (RuleSet, Zones),
    ) -> Self {
        Self {
            panes_topic: topics.panes.clone(),
            pane_partitions,
            rates_topic: topics.rates.clone(),
            alerts_topic: topics.alerts.clone(),
            campaigns_topic: topics.campaigns.clone(),
            changelog: topics.monitor_changelog.clone(),
            shard_settings: ShardSettings::new(
                settings,
                (event_partitions, pane_partitions),
                (rules, zones),
            ),
            shards: BTreeMap::new(),
            published_clocks: BTreeMap::new(),
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
            out.send(Outgoing {
                topic: &self.rates_topic,
                partition: None,
                key: key.as_bytes(),
                value: Some(&value),
                headers: &[(names::CONTENT_TYPE, content_types::RATE.as_bytes())],
            })?;
        }
        for alert in self.transitions.alerts.drain(..) {
            let (key, value) = alert_record(&alert)?;
            out.send(Outgoing {
                topic: &self.alerts_topic,
                partition: Some(ALERTS_PARTITION),
                key: key.as_bytes(),
                value: Some(&value),
                headers: &[(names::CONTENT_TYPE, content_types::ALERT.as_bytes())],
            })?;
            let counter = metrics::counter!("mailpulse_monitor_alert_transitions_total",
                "rule" => alert.rule.clone(), "state" => alert.state.as_str());
            out.count(&CommittedCounter::new(counter), 1);
            self.batch_alerts.push(alert);
        }
        Ok(())
    }
}

impl Rate {
    /// Publishes the clock of each shard that has come to another pane, for the incidents stage.
    fn publish_clocks(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        for (&number, shard) in &self.shards {
            let Some(now) = shard.now() else { continue };
            let pane = now.div_euclid(PANE);
            if self.published_clocks.insert(number, pane) == Some(pane) {
                continue;
            }
            let shard_number = u32::try_from(number).unwrap_or_default();
            let clock = ClockRecord { shard: shard_number, now, sources: shard.sources() };
            let value = serde_json::to_vec(&clock).map_err(kafka::Error::state)?;
            let partition = Some(ALERTS_PARTITION);
            send(out, &self.alerts_topic, partition, ClockRecord::KEY, Some(&value))?;
        }
        Ok(())
    }
}

impl Stage for Rate {
    const STAGE: record::Stage = record::Stage::MonitorRate;

    fn inputs(&self) -> Inputs {
        let partitions = usize::try_from(self.pane_partitions).unwrap_or(1);
        Inputs { topics: vec![self.panes_topic.clone()], partitions }
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
        self.published_clocks.remove(&partition.partition);
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
        let counted = |outcome: DeltaOutcome, delta: &KeyedDelta| match outcome {
            DeltaOutcome::Counted(counted) => {
                self.meters.count(&counted, out);
                Ok(())
            }
            DeltaOutcome::BelongsTo(scope) => {
                let counter = metrics::counter!("mailpulse_monitor_scopes_limited_total",
                    "source" => scope.source().unwrap_or(scope.kind().as_str()).to_owned());
                out.count(&CommittedCounter::new(counter), 1);
                let key = scope.key();
                let partition = partition_of(key.as_bytes(), self.pane_partitions);
                let deltas = vec![KeyedDelta { scope: key, ..delta.clone() }];
                let part = CommitPart { from: -1, parts: 1, deltas, ..CommitPart::default() };
                let value = serde_json::to_vec(&part).map_err(kafka::Error::state)?;
                let topic = &self.panes_topic;
                send(out, topic, Some(partition), CommitPart::KEY, Some(&value)).map_err(Into::into)
            }
        };
        let (key, value) = (record.key(), record.value().unwrap_or_default());
        match receive(shard, (key, value), &self.shard_settings, &mut self.transitions, counted) {
            Ok(()) => Ok(Outcome::Counted),
            Err(InvalidRecord::Kafka(error)) => Err(error),
            Err(error) => out.dead_letter(record, Reason::WrongShape, &error.to_string()),
        }
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        for shard in self.shards.values_mut() {
            shard.advance_due(&self.shard_settings, &mut self.transitions);
        }
        self.publish(out)?;
        self.publish_clocks(out)?;
        for (&partition, shard) in &mut self.shards {
            let changelog = shard.changelog_records()?;
            for (key, value) in shard.campaign_records(&changelog)? {
                let topic = &self.campaigns_topic;
                send(out, topic, Some(partition), key.as_bytes(), value.as_deref())?;
            }
            for (key, value) in changelog {
                send(out, &self.changelog, Some(partition), key.as_bytes(), value.as_deref())?;
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
        self.published_clocks.clear();
        self.transitions = Transitions::default();
        self.batch_alerts.clear();
        AfterRollback::Restore
    }
}

/// A delta of an earlier release. The key of the record is its scope.
#[derive(Deserialize)]
struct DeltaFields {
    pane: PaneStart,
    #[serde(default)]
    cohort: Option<HourStart>,
    counts: Counts,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidRecord {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("the key is not UTF-8: {0}")]
    Key(#[from] std::str::Utf8Error),
    #[error(transparent)]
    Scope(#[from] ScopeError),
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
}

/// Returns key and value of the record of an alert.
pub(crate) fn alert_record(alert: &Alert) -> Result<(String, Vec<u8>), kafka::Error> {
    Ok((alert.scope.key(), serde_json::to_vec(alert).map_err(kafka::Error::state)?))
}

/// Passes a record of `mail.panes`, key and value, to the shard: a commit of fold, or a record of an earlier
/// release.
pub(crate) fn receive(
    shard: &mut Shard,
    (key, value): (&[u8], &[u8]),
    settings: &ShardSettings,
    transitions: &mut Transitions,
    mut counted: impl FnMut(DeltaOutcome, &KeyedDelta) -> Result<(), InvalidRecord>,
) -> Result<(), InvalidRecord> {
    match key {
        CommitPart::KEY => {
            let part = serde_json::from_slice(value)?;
            shard.receive_part(part, settings, transitions, counted)
        }
        Watermarks::KEY => {
            shard.receive(&serde_json::from_slice(value)?, settings, transitions);
            Ok(())
        }
        Deliveries::KEY => {
            shard.receive_deliveries(&serde_json::from_slice(value)?);
            Ok(())
        }
        key => {
            let DeltaFields { pane, cohort, counts } = serde_json::from_slice(value)?;
            let scope = std::str::from_utf8(key)?.to_owned();
            let delta = KeyedDelta { scope, pane, cohort, counts };
            let outcome = shard.apply(&delta.scope, pane, cohort, &delta.counts, settings)?;
            // A release without commits wrote it, so it is a commit of its own.
            shard.receive(&Watermarks::default(), settings, transitions);
            counted(outcome, &delta)
        }
    }
}

fn send(
    out: &mut Output<'_>,
    topic: &str,
    partition: Option<i32>,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), kafka::Error> {
    out.send(Outgoing { topic, partition, key, value, headers: &[] })
}
