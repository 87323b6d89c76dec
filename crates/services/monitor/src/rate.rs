//! Pane deltas to window results and alerts.

use std::collections::BTreeMap;

use record::{Reason, Topics};
use serde::Deserialize;
use kafka::step::Step;
use kafka::{Outgoing, Output, Record, Restore, StreamError, TopicPartition};
use window::{Alert, Counts, PaneStart, ScopeError};

use crate::clock::{Patience, Watermarks};
use crate::rebuild::Rebuild;
use crate::settings::MonitorSettings;
use crate::shard::{News, Setup, Shard};

/// The changelog was emptied, or is not the one that goes with the committed offsets. Going on would
/// count what is left of it as everything.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{topic}` holds {commits} of {wanted} commits; bring it back, or reset the offsets of the \
     monitor's groups to begin anew"
)]
struct BehindOffset {
    topic: String,
    commits: u64,
    wanted: u64,
}

/// See the crate's documentation.
pub(crate) struct Rate {
    rates_topic: String,
    alerts_topic: String,
    changelog: String,
    setup: Setup,
    shards: BTreeMap<i32, Shard>,
    news: News,
    open: Round,
    late_events: metrics::Counter,
    scopes: metrics::Gauge,
}

/// What is to be said of a round once it is committed.
#[derive(Default)]
struct Round {
    late: u64,
    alerts: Vec<Alert>,
}

impl Rate {
    pub(crate) fn new(
        topics: &Topics,
        event_partitions: usize,
        settings: &MonitorSettings,
    ) -> Self {
        Self {
            rates_topic: topics.rates.clone(),
            alerts_topic: topics.alerts.clone(),
            changelog: topics.monitor_changelog.clone(),
            setup: Setup {
                rules: settings.rule.clone(),
                pane_lateness: settings.pane_lateness(),
                patience: Patience {
                    event_partitions,
                    slack: settings.slack(),
                    out_of_orderness: settings.out_of_orderness(),
                },
            },
            shards: BTreeMap::new(),
            news: News::default(),
            open: Round::default(),
            late_events: metrics::counter!("mailpulse_late_events_total", "job" => "monitor-rate"),
            scopes: metrics::gauge!("mailpulse_monitor_scopes"),
        }
    }

    fn publish(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        for (key, rate) in self.news.rates.drain(..) {
            let value = serde_json::to_vec(&rate).map_err(StreamError::state)?;
            send(out, &self.rates_topic, None, &key, Some(&value))?;
        }
        for alert in self.news.alerts.drain(..) {
            let value = serde_json::to_vec(&alert).map_err(StreamError::state)?;
            send(out, &self.alerts_topic, None, &alert.scope.key(), Some(&value))?;
            self.open.alerts.push(alert);
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
        let (topic, number) = (&self.changelog, partition.partition);
        let mut rebuild = Rebuild::default();
        restore.changelog(topic, number, None, |key, value| rebuild.apply(key, value))?;
        let (commits, wanted) = (rebuild.commits(), restore.metadata().parse().unwrap_or(0));
        if commits < wanted {
            return Err(StreamError::state(BehindOffset { topic: topic.clone(), commits, wanted }));
        }
        let shard = rebuild.finish(&self.setup)?;
        tracing::info!(partition = number, scopes = shard.len(), commits, "restored");
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
        match tell(shard, record, &self.setup, &mut self.news) {
            Ok(late) => self.open.late += late,
            Err(error) => out.dead_letter(record, Reason::WrongShape, &error.to_string())?,
        }
        Ok(())
    }

    fn end_of_round(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        for shard in self.shards.values_mut() {
            shard.visit_due(&self.setup, &mut self.news);
        }
        self.publish(out)?;
        for (&partition, shard) in &mut self.shards {
            for (key, value) in shard.changes()? {
                send(out, &self.changelog, Some(partition), &key, value.as_deref())?;
            }
        }
        Ok(())
    }

    /// The number of the commit; see [`crate::journal::Mark`].
    fn offset_metadata(&self, partition: &TopicPartition) -> String {
        let shard = self.shards.get(&partition.partition);
        shard.map_or(String::new(), |shard| shard.commits().to_string())
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        let Round { late, alerts } = std::mem::take(&mut self.open);
        self.late_events.increment(late);
        for alert in alerts {
            tracing::info!(summary = alert.summary, state = alert.state.as_str(), "alert");
            metrics::counter!("mailpulse_alert_transitions_total",
                "rule" => alert.rule, "state" => alert.state.as_str())
            .increment(1);
        }
        self.scopes.set(self.shards.values().map(Shard::len).sum::<usize>() as f64);
        Ok(())
    }

    /// The shards were changed in place; they are read back.
    fn rolled_back(&mut self) {
        self.shards.clear();
        self.news = News::default();
        self.open = Round::default();
    }

    fn restores_after_rollback(&self) -> bool {
        true
    }
}

/// What rate reads of a [`window::PaneDelta`]; the record's key names the scope.
#[derive(Deserialize)]
struct Delta {
    pane: PaneStart,
    counts: Counts,
}

#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("the key is not UTF-8")]
    Key(#[from] std::str::Utf8Error),
    #[error(transparent)]
    Scope(#[from] ScopeError),
}

/// Tells the shard what a record says. Returns how many events came too late to count.
fn tell(
    shard: &mut Shard,
    record: &Record<'_>,
    setup: &Setup,
    news: &mut News,
) -> Result<u64, Unreadable> {
    let value = record.value().unwrap_or_default();
    if record.key() == Watermarks::KEY {
        shard.hear(&serde_json::from_slice(value)?, setup, news);
        return Ok(0);
    }
    let Delta { pane, counts } = serde_json::from_slice(value)?;
    Ok(shard.apply(std::str::from_utf8(record.key())?, pane, &counts, setup)?)
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
