//! Restores a shard from its changelog.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::changelog::{ChangelogKey, LastCommit};
use crate::commit::CommitPart;
use crate::deliveries::Deliveries;
use crate::scope_state::RestoredScope;
use crate::shard::{Shard, ShardSettings};

/// The state of a shard as of the changelog records read so far.
#[derive(Default)]
pub(crate) struct ShardRestore {
    /// By scope key.
    scopes: BTreeMap<String, RestoredScope>,
    deliveries: Deliveries,
    /// The parts of incomplete commits, by member of fold and number.
    parts: BTreeMap<(i32, u32), CommitPart>,
    last_commit: LastCommit,
}

impl ShardRestore {
    /// Applies one record of the changelog. A record without a value is a tombstone.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), kafka::Error> {
        match ChangelogKey::parse(key).map_err(kafka::Error::state)? {
            ChangelogKey::Pane(ring, start, scope) => {
                let panes = &mut self.scope_state(scope).panes;
                match read(value)? {
                    Some(pane) => panes.insert((ring, start), pane),
                    None => panes.remove(&(ring, start)),
                };
            }
            ChangelogKey::Cohort(hour, scope) => {
                let cohorts = &mut self.scope_state(scope).cohorts;
                match read(value)? {
                    Some(cohort) => cohorts.insert(hour, cohort),
                    None => cohorts.remove(&hour),
                };
            }
            ChangelogKey::Episodes(scope) => {
                self.scope_state(scope).episodes = read(value)?.unwrap_or_default()
            }
            ChangelogKey::Waiting(scope) => {
                self.scope_state(scope).waiting = read(value)?.unwrap_or_default()
            }
            ChangelogKey::Deliveries(scope) => {
                match read(value)? {
                    Some(hour) => self.deliveries.0.insert(scope.to_owned(), hour),
                    None => self.deliveries.0.remove(scope),
                };
            }
            ChangelogKey::Baseline(hour, scope) => {
                let buckets = &mut self.scope_state(scope).history.buckets;
                match read(value)? {
                    Some(bucket) => buckets.insert(hour, bucket),
                    None => buckets.remove(&hour),
                };
            }
            ChangelogKey::Engagement(scope) => {
                self.scope_state(scope).history.engagement = read(value)?.unwrap_or_default()
            }
            ChangelogKey::History(scope) => {
                self.scope_state(scope).history.last_events = read(value)?.unwrap_or_default()
            }
            ChangelogKey::Campaign(scope) => self.scope_state(scope).campaign = read(value)?,
            ChangelogKey::Part(from, number) => {
                match read(value)? {
                    Some(part) => self.parts.insert((from, number), part),
                    None => self.parts.remove(&(from, number)),
                };
            }
            ChangelogKey::LastCommit => self.last_commit = read(value)?.unwrap_or_default(),
        }
        Ok(())
    }

    fn scope_state(&mut self, key: &str) -> &mut RestoredScope {
        self.scopes.entry(key.to_owned()).or_default()
    }

    /// Returns the number of commits; see [`LastCommit::commits`].
    pub(crate) fn commits(&self) -> u64 {
        self.last_commit.commits
    }

    /// Returns the shard as of its last commit.
    pub(crate) fn finish(self, settings: &ShardSettings) -> Result<Shard, kafka::Error> {
        let mut shard = Shard::new(self.last_commit, self.deliveries);
        self.parts.into_values().for_each(|part| shard.restore_part(part));
        for (key, scope) in self.scopes {
            if !scope.is_empty() {
                shard.restore_scope(&key, scope, settings).map_err(kafka::Error::state)?;
            }
        }
        Ok(shard)
    }
}

fn read<T: DeserializeOwned>(value: Option<&[u8]>) -> Result<Option<T>, kafka::Error> {
    value.map(serde_json::from_slice).transpose().map_err(kafka::Error::state)
}

#[cfg(test)]
mod tests;
