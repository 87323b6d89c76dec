//! Computes the alerts of the rate stage again, from the records of `mail.panes`. For the operator's tool; it writes
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use alerting::{Alert, Facts, RuleInForce};
use service::{Settings, SettingsError};
use window::Scope;

use crate::commit::{KeyedDelta, partition_of};
use crate::rate::{InvalidRecord, alert_record, receive};
use crate::settings::{self, MonitorSettings};
use crate::shard::{DeltaOutcome, Shard, ShardSettings, Transitions, limited_group};

/// After this number of records of a partition a batch ends. The alerts do not depend on it. What has changed since
/// the last batch uses memory.
const BATCH_RECORDS: u32 = 500;

/// Shards without the state of an earlier time. They take the records of `mail.panes` with the code of the rate stage.
pub struct Recomputation {
    settings: ShardSettings,
    pane_partitions: i32,
    shards: BTreeMap<i32, RecomputedShard>,
    /// The groups of scopes that have reached their greatest number; see [`limited_group`].
    limited: BTreeSet<Box<str>>,
}

#[derive(Default)]
struct RecomputedShard {
    shard: Shard,
    records_of_batch: u32,
    complete_after: Option<i64>,
}

/// An alert, and the record of it that belongs into `mail.alerts`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recomputed {
    /// The alert.
    pub alert: Alert,
    /// The key of the record: that of the scope.
    pub key: String,
    /// The value of the record.
    pub value: Vec<u8>,
    /// The time of the shard's clock when the alert was published, UTC microseconds; `None` while it is unknown.
    pub clock: Option<i64>,
}

impl Recomputation {
    /// Reads the sections `[monitor]` and `[[source]]`.
    ///
    /// # Errors
    /// If they, or the rules in them, are invalid.
    pub fn new(
        settings: &Settings,
        event_partitions: usize,
        pane_partitions: i32,
    ) -> Result<Self, SettingsError> {
        let monitor: MonitorSettings = settings.section("monitor")?;
        let rules = monitor.rules(settings)?;
        let zones = settings::zones(settings)?;
        let partitions = (event_partitions, pane_partitions);
        let settings = ShardSettings::new(&monitor, partitions, (rules, zones));
        Ok(Self { settings, pane_partitions, shards: BTreeMap::new(), limited: BTreeSet::new() })
    }

    /// Takes the next record of a partition of `mail.panes`, and appends the alerts that follow from it to `out`, in
    /// their order.
    ///
    /// # Errors
    /// If an alert cannot be written as JSON.
    pub fn receive(
        &mut self,
        partition: i32,
        key: &[u8],
        value: &[u8],
        out: &mut Vec<Recomputed>,
    ) -> Result<(), kafka::Error> {
        let Self { settings, shards, limited, .. } = self;
        let of_partition = shards.entry(partition).or_default();
        let mut transitions = Transitions::default();
        // A joined delta is also a record of `mail.panes`, because rate has published it.
        let counted = |outcome: DeltaOutcome, delta: &KeyedDelta| {
            let is_limited = match outcome {
                DeltaOutcome::Counted(_) => is_joined(&delta.scope),
                DeltaOutcome::BelongsTo(_) => true,
            };
            let group = limited_group(&delta.scope).filter(|_| is_limited);
            if let Some(group) = group.filter(|group| !limited.contains(*group)) {
                limited.insert(group.into());
            }
            Ok(())
        };
        let shard = &mut of_partition.shard;
        match receive(shard, (key, value), settings, &mut transitions, counted) {
            Ok(()) => {}
            Err(InvalidRecord::Kafka(error)) => return Err(error),
            // Rate has made a dead letter of it, and has gone on.
            Err(error) => {
                tracing::warn!(partition, %error, "record of mail.panes is skipped, as by monitor");
            }
        }
        if of_partition.complete_after.is_none() {
            of_partition.complete_after = of_partition.shard.after_all_events(settings.clock);
        }
        of_partition.append(&mut transitions, out)?;
        of_partition.records_of_batch += 1;
        if of_partition.records_of_batch >= BATCH_RECORDS {
            of_partition.end_batch(settings, out)?;
        }
        Ok(())
    }

    /// Ends the last batch of a partition, and appends the alerts that follow to `out`.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn finish(
        &mut self,
        partition: i32,
        out: &mut Vec<Recomputed>,
    ) -> Result<(), kafka::Error> {
        let Self { settings, shards, .. } = self;
        shards.get_mut(&partition).map_or(Ok(()), |it| it.end_batch(settings, out))
    }

    /// Returns the time after which the records that were received have every event, in UTC microseconds, if records
    /// before the first one are missing. `None` while the progress of an event partition is unknown.
    pub fn complete_after(&self, partition: i32) -> Option<i64> {
        self.shards.get(&partition)?.complete_after
    }

    /// Returns the partition of `mail.panes` that has the counts of a scope.
    pub fn partition_of(&self, scope_key: &str) -> i32 {
        partition_of(scope_key.as_bytes(), self.pane_partitions)
    }

    /// Returns a rule, with the values that apply to a scope. `None` if no such rule judges it.
    pub fn rule(&self, scope: &Scope, name: &str) -> Option<RuleInForce> {
        let mut rules = self.settings.rules.for_scope(scope, Facts::default()).into_iter();
        rules.find(|rule| rule.name == name)
    }

    /// Returns whether monitor has joined scopes of the same source, or of tenants, because there were too many. Which
    /// ones depends on the memory of the member.
    pub fn has_joined(&self, scope_key: &str) -> bool {
        limited_group(scope_key).is_some_and(|group| self.limited.contains(group))
    }
}

impl RecomputedShard {
    /// Does what rate does at the end of a batch. The changelog records are dropped: this forgets what has changed.
    fn end_batch(
        &mut self,
        settings: &ShardSettings,
        out: &mut Vec<Recomputed>,
    ) -> Result<(), kafka::Error> {
        let mut transitions = Transitions::default();
        self.shard.advance_due(settings, &mut transitions);
        self.shard.changelog_records()?;
        self.shard.take_unlogged();
        self.records_of_batch = 0;
        self.append(&mut transitions, out)
    }

    fn append(
        &self,
        transitions: &mut Transitions,
        out: &mut Vec<Recomputed>,
    ) -> Result<(), kafka::Error> {
        let clock = self.shard.now();
        for alert in transitions.alerts.drain(..) {
            let (key, value) = alert_record(&alert)?;
            out.push(Recomputed { alert, key, value, clock });
        }
        Ok(())
    }
}

/// Returns whether a scope has the events of all scopes beyond the greatest number.
fn is_joined(scope_key: &str) -> bool {
    /// [`Scope::OTHER`] in a key.
    const OTHER: &str = "/%28other%29";
    scope_key.ends_with(OTHER) && Scope::parse(scope_key).is_ok_and(|scope| scope.other().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scope_of_joined_scopes_is_recognized() {
        let scope = Scope::parse("campaign/ses/acme/spring").unwrap();
        assert!(is_joined(&scope.other().unwrap().key()));
        assert!(!is_joined(&scope.key()));
        assert!(
            !is_joined("mailbox-ip/ses/acme/gmail/%28other%29"),
            "an address may have any name"
        );
    }
}
