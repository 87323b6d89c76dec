//! Merges the time records of all ingresses and raw topics into one time for each partition number.
//!
//! The time of an ingress in a number is the least of its times in the raw partitions of that number, and
//! the merged time is the least of all ingresses. So every event that any ingress received before the
//! merged time has been read. Three kinds of ingresses do not take part:
//! - one whose time has not advanced while [`MAX_SILENCE`] passed: it has died, or cannot reach Kafka;
//! - one that is more than [`MAX_LAG`] behind the newest: it is publishing its spool;
//! - one that is more than [`MAX_LEAD`] ahead of the median of the others: its clock is wrong.
//!
//! No clock is read. How long an ingress has been silent follows from the times of the others. The state
//! of each raw partition is committed with its offset.

use std::collections::{BTreeMap, BTreeSet};

use kafka::TopicPartition;
use record::TimeRecord;

/// Microseconds.
const SECOND: i64 = 1_000_000;
/// After how much time without progress an ingress is taken for dead.
const MAX_SILENCE: i64 = 60 * SECOND;
/// How far an ingress may be behind the newest one.
const MAX_LAG: i64 = 60 * SECOND;
/// How far an ingress may be ahead of the median of the others.
const MAX_LEAD: i64 = 600 * SECOND;
/// By how much the merged time grows before it is published again.
const MIN_STEP: i64 = SECOND;
/// The most that one time record counts as passed time. A clock that jumps must not make the other
/// ingresses look dead.
const MAX_STEP: i64 = 5 * SECOND;
/// The most ingresses that are remembered in a partition. So many fit into the metadata of an offset, which
/// Kafka limits to 4096 bytes.
const MAX_IDS: usize = 64;

/// The merged times of the numbers that this member owns.
pub(crate) struct LogTime {
    /// The number of raw topics. Only a member that owns all raw partitions of a number merges them.
    topics: usize,
    numbers: BTreeMap<i32, Number>,
    /// The numbers that the open batch has changed, as they were before.
    before: BTreeMap<i32, Number>,
    /// The ingresses whose clocks are ignored now, so that each is logged once.
    ignored: BTreeSet<String>,
}

/// What becomes of a time record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Merged {
    /// The merged time, if it must be published: UTC microseconds.
    pub(crate) publish: Option<i64>,
    /// Whether the clock of the ingress is ignored.
    pub(crate) is_ignored: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Number {
    /// By topic.
    partitions: BTreeMap<String, Partition>,
    /// The merged time that was published last.
    published: Option<i64>,
}

/// One raw partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Partition {
    ingresses: BTreeMap<String, Ingress>,
    /// How much time has passed in the partition, by the ingress that has advanced most.
    elapsed: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ingress {
    /// Its latest time.
    time: i64,
    /// How much time has passed by its own records. A new ingress begins with that of the partition.
    elapsed: i64,
    /// The time that had passed in the partition when its time last advanced.
    advanced_at: i64,
}

impl LogTime {
    pub(crate) fn new(topics: usize) -> Self {
        Self { topics, numbers: BTreeMap::new(), before: BTreeMap::new(), ignored: BTreeSet::new() }
    }

    /// Restores the state of a raw partition from the metadata of its offset.
    pub(crate) fn assign(&mut self, name: &TopicPartition, metadata: &str) {
        let (published, partition) = Partition::from_metadata(metadata).unwrap_or_default();
        let number = self.numbers.entry(name.partition).or_default();
        number.published = number.published.max(published);
        number.partitions.insert(name.topic.clone(), partition);
    }

    pub(crate) fn release(&mut self, name: &TopicPartition) {
        let Some(number) = self.numbers.get_mut(&name.partition) else { return };
        number.partitions.remove(&name.topic);
        if number.partitions.is_empty() {
            self.numbers.remove(&name.partition);
        }
    }

    /// Returns the state of a raw partition for the metadata of its offset.
    pub(crate) fn metadata(&self, name: &TopicPartition) -> String {
        let number = self.numbers.get(&name.partition);
        let partition =
            number.and_then(|number| Some((number.published, number.partitions.get(&name.topic)?)));
        partition.map_or_else(String::new, |(published, it)| it.to_metadata(published))
    }

    /// Adds a time record of a raw partition.
    pub(crate) fn receive(&mut self, topic: &str, number: i32, record: &TimeRecord<'_>) -> Merged {
        let (Some(id), Some(merged)) = (record.id, self.numbers.get_mut(&number)) else {
            return Merged::default();
        };
        self.before.entry(number).or_insert_with(|| merged.clone());
        let Some(partition) = merged.partitions.get_mut(topic) else { return Merged::default() };
        partition.receive(id, record);
        let times = merged.times();
        let is_ignored = merged.is_ahead(id, &times);
        let publish = (merged.partitions.len() == self.topics)
            .then(|| merged.merge(&times))
            .flatten()
            .filter(|time| {
                merged.published.is_none_or(|before| *time >= before.saturating_add(MIN_STEP))
            });
        merged.published = publish.or(merged.published);
        self.log(id, is_ignored, record.time);
        Merged { publish, is_ignored }
    }

    fn log(&mut self, id: &str, is_ignored: bool, time: i64) {
        if is_ignored == self.ignored.contains(id) {
            return;
        }
        if is_ignored {
            tracing::error!(
                ingress = id,
                time,
                "the clock of an ingress is more than ten minutes ahead of the others, so its time is \
                 ignored; set the clock of that host"
            );
            if self.ignored.len() < MAX_IDS {
                self.ignored.insert(id.to_owned());
            }
        } else {
            tracing::info!(ingress = id, time, "the clock of an ingress is no longer ignored");
            self.ignored.remove(id);
        }
    }

    pub(crate) fn committed(&mut self) {
        self.before.clear();
    }

    /// Undoes the open batch. Partitions that moved in the meantime stay as they are.
    pub(crate) fn rolled_back(&mut self) {
        for (number, mut before) in std::mem::take(&mut self.before) {
            let Some(now) = self.numbers.get_mut(&number) else { continue };
            now.published = before.published;
            for (topic, partition) in &mut now.partitions {
                if let Some(before) = before.partitions.remove(topic) {
                    *partition = before;
                }
            }
        }
    }
}

impl Number {
    /// Returns the times of the ingresses that have advanced recently, each the least of all partitions.
    fn times(&self) -> BTreeMap<&str, i64> {
        let mut times = BTreeMap::new();
        for (id, time) in self.partitions.values().flat_map(Partition::live) {
            times.entry(id).and_modify(|least: &mut i64| *least = time.min(*least)).or_insert(time);
        }
        times
    }

    /// Returns whether the time of an ingress is too far ahead of the median of the others. Ingresses that
    /// are behind the published time are no others: they publish their spools.
    fn is_ahead(&self, id: &str, times: &BTreeMap<&str, i64>) -> bool {
        let Some(time) = times.get(id) else { return false };
        let is_current =
            |time: i64| self.published.is_none_or(|it| time >= it.saturating_sub(MAX_LAG));
        let others = times.iter().filter(|(other, time)| **other != id && is_current(**time));
        let mut others: Vec<i64> = others.map(|(_, time)| *time).collect();
        others.sort_unstable();
        let median = others.get(others.len().saturating_sub(1) / 2);
        median.is_some_and(|median| *time > median.saturating_add(MAX_LEAD))
    }

    /// Returns the merged time. `None` if a partition has no ingress that has advanced recently.
    fn merge(&self, times: &BTreeMap<&str, i64>) -> Option<i64> {
        if self.partitions.values().any(|partition| partition.live().next().is_none()) {
            return None;
        }
        let right: Vec<i64> = times
            .iter()
            .filter(|(id, _)| !self.is_ahead(id, times))
            .map(|(_, time)| *time)
            .collect();
        let newest = right.iter().max()?;
        right.iter().copied().filter(|time| *time >= newest.saturating_sub(MAX_LAG)).min()
    }
}

impl Partition {
    fn receive(&mut self, id: &str, record: &TimeRecord<'_>) {
        if record.is_last {
            self.ingresses.remove(id);
            return;
        }
        let time = record.time;
        let Some(ingress) = self.ingresses.get_mut(id) else {
            if self.make_room() {
                let elapsed = self.elapsed;
                let new = Ingress { time, elapsed, advanced_at: elapsed };
                self.ingresses.insert(id.to_owned(), new);
            }
            return;
        };
        if time > ingress.time {
            ingress.elapsed += time.saturating_sub(ingress.time).min(MAX_STEP);
            self.elapsed = self.elapsed.max(ingress.elapsed);
            ingress.time = time;
            // An ingress that was dead would otherwise count the time until now a second time.
            ingress.elapsed = ingress.elapsed.max(self.elapsed - MAX_STEP);
            ingress.advanced_at = self.elapsed;
        }
    }

    /// Removes the ingress that has been silent for longest if there is no room for another one. Returns
    /// false if all of them are live.
    fn make_room(&mut self) -> bool {
        if self.ingresses.len() < MAX_IDS {
            return true;
        }
        let oldest = self.ingresses.iter().min_by_key(|(_, ingress)| ingress.advanced_at);
        let dead = oldest.filter(|(_, ingress)| !self.is_live(ingress)).map(|(id, _)| id.clone());
        dead.is_some_and(|id| self.ingresses.remove(&id).is_some())
    }

    const fn is_live(&self, ingress: &Ingress) -> bool {
        self.elapsed - ingress.advanced_at <= MAX_SILENCE
    }

    /// Returns the ids and times of the ingresses that have advanced recently.
    fn live(&self) -> impl Iterator<Item = (&str, i64)> {
        let live = self.ingresses.iter().filter(|(_, ingress)| self.is_live(ingress));
        live.map(|(id, ingress)| (id.as_str(), ingress.time))
    }

    /// Returns `published;id,time,silence;…`: UTC microseconds, and milliseconds of silence.
    fn to_metadata(&self, published: Option<i64>) -> String {
        let mut text = published.map_or_else(String::new, |time| time.to_string());
        for (id, ingress) in &self.ingresses {
            let silence = (self.elapsed - ingress.advanced_at).min(2 * MAX_SILENCE) / 1000;
            text += &format!(";{id},{},{silence}", ingress.time);
        }
        text
    }

    /// Reads the text of [`Self::to_metadata`]. Returns `None` for any other text, such as that of an earlier
    /// release, which is empty.
    fn from_metadata(text: &str) -> Option<(Option<i64>, Self)> {
        let mut parts = text.split(';');
        let published = match parts.next()? {
            "" => None,
            published => Some(published.parse().ok()?),
        };
        let mut ingresses = BTreeMap::new();
        for part in parts.take(MAX_IDS) {
            let mut fields = part.split(',');
            let id = fields.next().filter(|id| TimeRecord::is_id(id))?;
            let time = fields.next()?.parse().ok()?;
            let silence: i64 = fields.next()?.parse().ok()?;
            let silence = silence.clamp(0, 2 * MAX_SILENCE / 1000) * 1000;
            let ingress = Ingress { time, elapsed: 0, advanced_at: -silence };
            ingresses.insert(id.to_owned(), ingress);
        }
        Some((published, Self { ingresses, elapsed: 0 }))
    }
}

#[cfg(test)]
mod tests;
