//! The records from which the incidents are restored.
//!
//! | key | value |
//! |---|---|
//! | `incident/<id>` | an incident without its open episodes, or a tombstone after it was forgotten |
//! | `episode/<id>` | an open episode: its incident, and its latest alert if it is kept |
//! | `group/<key>` | the notifications of a group in the last hour |
//! | `plans` | the planned sends, or a tombstone if there are none |
//! | `clock` | the latest time, that of each shard, and the number of active sources |
//!
//! All values are JSON.

use std::collections::BTreeMap;

use event::Provider;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Incidents;
use crate::cause::Moment;
use crate::grouping::mailbox_providers;
use crate::{EpisodeId, IncidentId};

/// The key of a part of the state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StateKey {
    Incident(IncidentId),
    Episode(EpisodeId),
    Group(String),
    Plans,
    Clock,
}

impl StateKey {
    fn to_text(&self) -> String {
        match self {
            Self::Incident(id) => format!("incident/{id}"),
            Self::Episode(id) => format!("episode/{id}"),
            Self::Group(key) => format!("group/{key}"),
            Self::Plans => "plans".to_owned(),
            Self::Clock => "clock".to_owned(),
        }
    }

    fn parse(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        match text.split_once('/') {
            Some(("incident", id)) => {
                Some(Self::Incident(IncidentId::try_from(id.to_owned()).ok()?))
            }
            Some(("episode", id)) => Some(Self::Episode(EpisodeId::try_from(id.to_owned()).ok()?)),
            Some(("group", key)) => Some(Self::Group(key.to_owned())),
            _ if text == "plans" => Some(Self::Plans),
            _ if text == "clock" => Some(Self::Clock),
            _ => None,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct ClockRecord {
    now: i64,
    #[serde(default)]
    clocks: BTreeMap<u32, i64>,
    #[serde(default)]
    active_sources: BTreeMap<u32, BTreeMap<Provider, u32>>,
}

/// A record of the changelog cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The key is not known.
    #[error(
        "unknown key `{0}` in the changelog of the incidents; a newer release may have written it, so \
         start that release"
    )]
    UnknownKey(String),
    /// The value is not of the expected form.
    #[error("the value of `{key}` in the changelog of the incidents cannot be read: {error}")]
    Value {
        /// The key of the record.
        key: String,
        /// What is wrong.
        error: serde_json::Error,
    },
}

/// A key of the changelog and its value; `None` is a tombstone.
pub type ChangelogRecord = (String, Option<Vec<u8>>);

impl Incidents {
    /// Returns the keys and values of the changelog that have changed since the last call.
    ///
    /// # Errors
    /// Fails if the state cannot be written as JSON, which would be a defect.
    pub fn changed(&mut self) -> Result<Vec<ChangelogRecord>, serde_json::Error> {
        let mut records = Vec::with_capacity(self.changed.len());
        for key in std::mem::take(&mut self.changed) {
            let value = match &key {
                StateKey::Incident(id) => self.incidents.get(id).map(serde_json::to_vec),
                StateKey::Episode(id) => self.episodes.get(id).map(serde_json::to_vec),
                StateKey::Group(group) => self.limits.get(group).map(serde_json::to_vec),
                StateKey::Plans if self.plans.is_empty() => None,
                StateKey::Plans => Some(serde_json::to_vec(&self.plans)),
                StateKey::Clock => {
                    let (clocks, active_sources) =
                        (self.clocks.clone(), self.active_sources.clone());
                    let clock = ClockRecord { now: self.now, clocks, active_sources };
                    Some(serde_json::to_vec(&clock))
                }
            };
            records.push((key.to_text(), value.transpose()?));
        }
        Ok(records)
    }
}

/// The state as of the changelog records read so far.
#[derive(Debug, Default)]
pub struct IncidentsRestore(Incidents);

impl IncidentsRestore {
    /// Applies one record of the changelog. A record without a value is a tombstone.
    ///
    /// # Errors
    /// Fails if the record is not one that [`Incidents::changed`] returns.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), RestoreError> {
        let state = &mut self.0;
        let unknown = || RestoreError::UnknownKey(String::from_utf8_lossy(key).into_owned());
        match StateKey::parse(key).ok_or_else(unknown)? {
            StateKey::Incident(id) => set(&mut state.incidents, id, read(key, value)?),
            StateKey::Episode(id) => set(&mut state.episodes, id, read(key, value)?),
            StateKey::Group(group) => set(&mut state.limits, group, read(key, value)?),
            StateKey::Plans => state.plans = read(key, value)?.unwrap_or_default(),
            StateKey::Clock => {
                let clock: ClockRecord = read(key, value)?.unwrap_or_default();
                (state.now, state.clocks) = (clock.now, clock.clocks);
                state.active_sources = clock.active_sources;
            }
        }
        Ok(())
    }

    /// Returns the state as of the last record.
    pub fn finish(self) -> Incidents {
        let mut state = self.0;
        for (id, episode) in &mut state.episodes {
            // A changelog of an earlier release has no moments.
            if let Some(alert) = episode.alert.as_deref().filter(|_| episode.moments.is_empty()) {
                episode.moments.push(Moment::of(alert));
            }
            if let Some(tracked) = state.incidents.get_mut(&episode.incident) {
                tracked.open.insert(*id);
                tracked.detailed += usize::from(episode.alert.is_some());
            }
        }
        let found: Vec<_> = state
            .incidents
            .iter()
            .map(|(id, tracked)| (*id, mailbox_providers(tracked.family, &state.courses(tracked))))
            .collect();
        for (id, mailbox_providers) in found {
            if let Some(tracked) = state.incidents.get_mut(&id) {
                tracked.mailbox_providers = mailbox_providers;
            }
        }
        state.next_due = i64::MIN;
        state
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

fn read<T: DeserializeOwned>(key: &[u8], value: Option<&[u8]>) -> Result<Option<T>, RestoreError> {
    let to_error =
        |error| RestoreError::Value { key: String::from_utf8_lossy(key).into_owned(), error };
    value.map(serde_json::from_slice).transpose().map_err(to_error)
}
