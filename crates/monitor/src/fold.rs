//! Events to pane deltas, one commit at a time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use record::{Reason, Topics};
use stream::step::Step;
use stream::{Outgoing, Output, Record, Restore, StreamError, TopicPartition};
use window::{Counts, PANE, PaneDelta, PaneStart, Scope};

use crate::clock::Watermark;
use crate::facts::RatedEvent;
use crate::settings::{MonitorSettings, micros};

/// What is known of one event partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    /// The newest event time seen, less the out-of-orderness.
    watermark: Option<i64>,
    idle: bool,
}

/// One partition's progress as committed and as of the open round, and what was last said of it.
#[derive(Debug, Clone, Copy, Default)]
struct Partition {
    committed: Progress,
    open: Progress,
    announced: Option<Progress>,
    announcing: Option<Progress>,
}

/// The events of one round that share scopes and a pane.
struct Group {
    scopes: Vec<Scope>,
    pane: PaneStart,
    counts: Counts,
}

/// See the crate's documentation.
pub(crate) struct Fold {
    panes_topic: String,
    scope_partitions: i32,
    out_of_orderness: i64,
    allowed_lateness: i64,
    idle_after: Duration,
    partitions: BTreeMap<i32, Partition>,
    groups: HashMap<String, Group>,
    key: String,
    late: metrics::Counter,
}

impl Fold {
    pub(crate) fn new(topics: &Topics, scope_partitions: i32, settings: &MonitorSettings) -> Self {
        Self {
            panes_topic: topics.panes.clone(),
            scope_partitions,
            out_of_orderness: micros(settings.out_of_orderness),
            allowed_lateness: micros(settings.allowed_lateness),
            idle_after: settings.idle_after,
            partitions: BTreeMap::new(),
            groups: HashMap::new(),
            key: String::new(),
            late: metrics::counter!("mailpulse_late_events_total", "job" => "monitor-fold"),
        }
    }

    /// Moves the partition's watermark by the event's time. An event older than the watermark and
    /// the allowed lateness is late: whether it is depends on its partition's order alone, so it
    /// does not depend on who runs where.
    fn is_late(&mut self, partition: i32, time: i64) -> bool {
        let progress = &mut self.partitions.entry(partition).or_default().open;
        progress.idle = false;
        let reached = time.saturating_sub(self.out_of_orderness);
        match progress.watermark {
            Some(watermark) if reached <= watermark => {
                time < watermark.saturating_sub(self.allowed_lateness)
            }
            _ => {
                progress.watermark = Some(reached);
                false
            }
        }
    }

    fn count(&mut self, event: &RatedEvent<'_>, pane: PaneStart, add: impl FnOnce(&mut Counts)) {
        use std::fmt::Write;
        let mailbox = event.mailbox_provider.as_deref().unwrap_or_default();
        let campaign = event.campaign.as_deref().unwrap_or_default();
        self.key.clear();
        // Writing to a string cannot fail.
        let _ = write!(
            self.key,
            "{}\0{}\0{mailbox}\0{campaign}\0{}",
            event.provider as u8,
            &*event.source,
            pane.micros()
        );
        if !self.groups.contains_key(&self.key) {
            let scopes = event.scopes().collect();
            let group = Group { scopes, pane, counts: Counts::default() };
            self.groups.insert(self.key.clone(), group);
        }
        if let Some(group) = self.groups.get_mut(&self.key) {
            add(&mut group.counts);
        }
    }

    /// The round's groups, added up by scope and pane, in a stable order.
    fn deltas(&mut self) -> BTreeMap<(Scope, PaneStart), Counts> {
        let mut deltas = BTreeMap::new();
        for group in self.groups.drain().map(|(_, group)| group) {
            for scope in group.scopes {
                let counts: &mut Counts = deltas.entry((scope, group.pane)).or_default();
                *counts += &group.counts;
            }
        }
        deltas
    }

    /// Says how far each partition is, to every pane partition, when a pane may close by it.
    fn announce(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        for (&partition, known) in &mut self.partitions {
            let news = known.open;
            let pane = |p: Progress| (p.watermark.map(|w| w.div_euclid(PANE)), p.idle);
            if known.announced.is_some_and(|said| pane(said) == pane(news)) {
                continue;
            }
            let told = Watermark { partition, watermark: news.watermark, idle: news.idle };
            let value = serde_json::to_vec(&told).map_err(StreamError::state)?;
            for scope_partition in 0..self.scope_partitions {
                out.send(Outgoing {
                    topic: &self.panes_topic,
                    partition: Some(scope_partition),
                    key: told.key().as_bytes(),
                    value: Some(&value),
                    headers: &[],
                })?;
            }
            known.announcing = Some(news);
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
        let progress = Progress { watermark: restore.metadata().parse().ok(), idle: false };
        let fresh = Partition { committed: progress, open: progress, ..Partition::default() };
        self.partitions.insert(partition.partition, fresh);
        Ok(())
    }

    fn revoked(&mut self, partition: &TopicPartition) {
        self.partitions.remove(&partition.partition);
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError> {
        let value = record.value().unwrap_or_default();
        let event: RatedEvent<'_> = match serde_json::from_slice(value) {
            Ok(event) => event,
            Err(error) if error.is_data() => {
                return out.dead_letter(record, Reason::WrongShape, &error.to_string());
            }
            Err(error) => return out.dead_letter(record, Reason::NotJson, &error.to_string()),
        };
        let fact = match event.fact(&|name| record.header(name)) {
            Ok(fact) => fact,
            Err(error) => return out.dead_letter(record, Reason::BadHeaders, &error.to_string()),
        };
        let time = event.time();
        if self.is_late(record.partition(), time.micros()) {
            self.late.increment(1);
            return Ok(());
        }
        self.count(&event, PaneStart::of(time), |counts| counts.add_fact(&fact));
        Ok(())
    }

    fn quiet(&mut self, partition: &TopicPartition, since: Duration) {
        if since >= self.idle_after
            && let Some(known) = self.partitions.get_mut(&partition.partition)
        {
            known.open.idle = true;
        }
    }

    fn end_of_round(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        for ((scope, pane), counts) in self.deltas() {
            let key = scope.key();
            let delta = PaneDelta { scope, pane, counts };
            out.send(Outgoing {
                topic: &self.panes_topic,
                partition: None,
                key: key.as_bytes(),
                value: Some(&serde_json::to_vec(&delta).map_err(StreamError::state)?),
                headers: &[],
            })?;
        }
        // After the deltas: who hears of the time has everything up to it.
        self.announce(out)
    }

    fn offset_metadata(&self, partition: &TopicPartition) -> String {
        let known = self.partitions.get(&partition.partition);
        known.and_then(|known| known.open.watermark).map_or(String::new(), |w| w.to_string())
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        for known in self.partitions.values_mut() {
            known.committed = known.open;
            known.announced = known.announcing.take().or(known.announced);
        }
        Ok(())
    }

    fn rolled_back(&mut self) {
        self.groups.clear();
        for known in self.partitions.values_mut() {
            known.open = known.committed;
            known.announcing = None;
        }
    }
}
