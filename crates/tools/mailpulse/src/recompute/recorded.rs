//! The alerts in `mail.alerts`. Only what the comparison needs is kept, because the topic has those of 90 days.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::rc::Rc;

use alerting::{Alert, AlertState, EpisodeId, ResolveReason};
use kafka::{Connection, OwnedRecord};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::read;

/// The key of the records with the time of a shard.
const CLOCK: &[u8] = b"clock";
/// The partition of all alerts. Earlier releases have also written to others.
const PARTITION: i32 = 0;

/// The SHA-256 of a value.
pub(super) type ValueDigest = [u8; 32];

/// Partition and offset.
pub(super) type Place = (i32, i64);

/// One alert, by its value.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) place: Place,
    pub(super) digest: ValueDigest,
    /// `None` if the value is not an alert.
    pub(super) transition: Option<Transition>,
}

/// What of an alert tells which transition it is, and whether it can be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) episode: EpisodeId,
    pub(super) seq: u32,
    pub(super) rule: Rc<str>,
    pub(super) state: AlertState,
    pub(super) reason: Option<ResolveReason>,
    pub(super) started_at: i64,
    pub(super) at: i64,
    /// Whether this release, or one like it, has written the alert.
    pub(super) has_offsets: bool,
}

impl Transition {
    pub(super) fn of(alert: &Alert, rule: Rc<str>) -> Self {
        Self {
            episode: alert.episode_id,
            seq: alert.seq,
            rule,
            state: alert.state,
            reason: alert.reason,
            started_at: alert.started_at,
            at: alert.at,
            has_offsets: !alert.as_of.is_empty(),
        }
    }

    /// Returns whether both are the same transition of the same episode.
    pub(super) fn is_same(&self, alert: &Alert) -> bool {
        (self.episode, self.seq) == (alert.episode_id, alert.seq)
    }
}

/// The alerts of the topic.
#[derive(Debug, Default)]
pub(super) struct RecordedAlerts {
    /// By key of the scope, in their order.
    pub(super) by_scope: BTreeMap<String, Vec<Recorded>>,
    /// If the topic no longer has its first records: the first time of each shard in it, by partition of `mail.panes`.
    /// Alerts with a later time are all behind it.
    pub(super) clocks: Option<BTreeMap<i32, i64>>,
    /// The offset after the last record that was read, by partition.
    pub(super) next: BTreeMap<i32, i64>,
}

/// The value of a record with the time of a shard.
#[derive(Deserialize)]
struct Clock {
    shard: i32,
    now: i64,
}

impl RecordedAlerts {
    /// Reads the whole topic.
    ///
    /// # Errors
    /// If Kafka cannot be read.
    pub(super) fn read(connection: &Connection, topic: &str) -> anyhow::Result<Self> {
        let mut all = Self::default();
        let mut clocks = BTreeMap::new();
        let mut rules: BTreeSet<Rc<str>> = BTreeSet::new();
        let ranges = read::to_the_end(connection, topic, |record| {
            let value = record.value.as_deref().unwrap_or_default();
            all.next.insert(record.partition, record.offset.0 + 1);
            if record.key == CLOCK && record.partition == PARTITION {
                if let Ok(Clock { shard, now }) = serde_json::from_slice(value) {
                    clocks.entry(shard).or_insert(now);
                }
            } else if let Some(scope) = scope_of(record) {
                let alert = serde_json::from_slice::<Alert>(value).ok();
                let transition = alert.map(|alert| {
                    let rule: Rc<str> = rules.get(&*alert.rule).cloned().unwrap_or_else(|| {
                        let rule: Rc<str> = alert.rule.as_str().into();
                        rules.insert(Rc::clone(&rule));
                        rule
                    });
                    Transition::of(&alert, rule)
                });
                let place = (record.partition, record.offset.0);
                let recorded = Recorded { place, digest: digest(value), transition };
                all.by_scope.entry(scope).or_default().push(recorded);
            }
            Ok(())
        })?;
        let is_whole = ranges.first().is_none_or(|(first, _)| *first == 0);
        all.clocks = (!is_whole).then_some(clocks);
        Ok(all)
    }
}

/// What a second reading has found.
#[derive(Debug, Default)]
pub(super) struct Again {
    pub(super) values: BTreeMap<Place, Vec<u8>>,
    /// The alerts that were published since the first reading: scopes and digests.
    pub(super) newer: HashSet<(String, ValueDigest)>,
}

/// Reads the topic again, for the values at these places, and for what is new since `next`.
///
/// # Errors
/// If Kafka cannot be read.
pub(super) fn read_again(
    connection: &Connection,
    topic: &str,
    wanted: &BTreeSet<Place>,
    next: &BTreeMap<i32, i64>,
) -> anyhow::Result<Again> {
    let mut again = Again::default();
    read::to_the_end(connection, topic, |record| {
        let place = (record.partition, record.offset.0);
        let value = || record.value.clone().unwrap_or_default();
        if wanted.contains(&place) {
            again.values.insert(place, value());
        } else if next.get(&record.partition).is_none_or(|next| record.offset.0 >= *next)
            && let Some(scope) = scope_of(record)
        {
            again.newer.insert((scope, digest(&value())));
        }
        Ok(())
    })?;
    Ok(again)
}

/// Returns the key of the scope if the record is an alert. All other keys have no slash.
fn scope_of(record: &OwnedRecord) -> Option<String> {
    record.key.contains(&b'/').then(|| String::from_utf8_lossy(&record.key).into_owned())
}

pub(super) fn digest(value: &[u8]) -> ValueDigest {
    Sha256::digest(value).into()
}
