//! What is happening now, from `mail.rates` and `mail.incidents`: the last hours by the minute, and the open
//! incidents. It needs no ClickHouse. Its memory is bounded, whatever the topics contain.

mod snapshot;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alerting::{Incident, IncidentId, IncidentState};
use kafka::OwnedRecord;
use tokio::sync::watch;
use window::{Counts, Scope, ScopeRate, Width};

pub use snapshot::{LiveIncident, LiveSource, Minute, Snapshot};

/// For how long minutes are kept, in microseconds of event time.
pub const KEPT: i64 = 3 * 3_600_000_000;

/// How many sources are kept by the minute. Further ones are not shown.
const MAX_SOURCES: usize = 5_000;

/// How many open incidents are kept. `monitor.incidents.max_open` limits them, too.
const MAX_INCIDENTS: usize = 5_000;

const MINUTE: i64 = 60_000_000;

/// What is happening now. Shared by the readers of the topics and by all pages.
#[derive(Debug)]
pub struct Live {
    state: Mutex<State>,
    published: watch::Sender<Arc<str>>,
}

#[derive(Debug, Default)]
struct State {
    sources: BTreeMap<String, Source>,
    /// The end of the newest window, UTC microseconds of event time.
    newest: i64,
    incidents: HashMap<IncidentId, Incident>,
    has_changed: bool,
    /// Why Kafka does not answer, by topic.
    away: BTreeMap<String, String>,
}

/// The minutes of a source by their end.
#[derive(Debug, Default)]
struct Source {
    minutes: BTreeMap<i64, Revised>,
}

#[derive(Debug, Clone, Copy)]
struct Revised {
    revision: u32,
    counts: Counts,
}

impl Default for Live {
    fn default() -> Self {
        let empty = Arc::from(Snapshot::of(&State::default()).json());
        Self { state: Mutex::default(), published: watch::Sender::new(empty) }
    }
}

impl Live {
    /// Takes over a record of `mail.rates`. Records that are no minute of a source are ignored.
    pub fn add_rate(&self, record: &OwnedRecord) {
        let rate = record.value.as_deref().map(serde_json::from_slice::<ScopeRate>);
        let Some(Ok(ScopeRate { scope, window })) = rate else { return };
        let Scope::Source { provider, source } = scope else { return };
        // Other windows of a minute slide, so they overlap.
        if window.width != Width::M1 || window.end % MINUTE != 0 {
            return;
        }
        let revised = Revised { revision: window.revision, counts: window.counts };
        self.lock().add_minute(format!("{provider}/{source}"), window.end, revised);
    }

    /// Takes over a record of `mail.incidents`.
    pub fn add_incident(&self, record: &OwnedRecord) {
        let mut state = self.lock();
        let Some(value) = record.value.as_deref() else {
            let id = std::str::from_utf8(&record.key).map(str::to_owned).map(IncidentId::try_from);
            if let Ok(Ok(id)) = id {
                state.has_changed |= state.incidents.remove(&id).is_some();
            }
            return;
        };
        match serde_json::from_slice::<Incident>(value) {
            Ok(incident) => state.add_incident(incident),
            Err(error) => {
                let origin = record.origin().to_string();
                tracing::warn!(%error, origin, "a record of mail.incidents cannot be read and is not shown");
            }
        }
    }

    /// Notes that Kafka does not answer for a topic, or with `None` that it does.
    pub fn set_away(&self, topic: &str, reason: Option<String>) {
        let mut state = self.lock();
        state.has_changed |= match reason {
            Some(reason) => state.away.insert(topic.to_owned(), reason).is_none(),
            None => state.away.remove(topic).is_some(),
        };
    }

    /// Returns what is happening now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.lock())
    }

    /// Returns the open incidents, the most severe ones first.
    pub fn open_incidents(&self) -> Vec<Incident> {
        self.lock().open_incidents().into_iter().cloned().collect()
    }

    /// Returns the number of open incidents.
    pub fn open_incident_count(&self) -> usize {
        self.lock().incidents.len()
    }

    /// Returns the newest record of an open incident.
    pub fn incident(&self, id: IncidentId) -> Option<Incident> {
        self.lock().incidents.get(&id).cloned()
    }

    /// Publishes a snapshot as JSON if something has changed since the last one.
    pub fn publish_changes(&self) {
        let mut state = self.lock();
        if !std::mem::take(&mut state.has_changed) {
            return;
        }
        let json = Snapshot::of(&state).json();
        drop(state);
        self.published.send_replace(Arc::from(json));
    }

    /// Returns the newest published snapshot as JSON, and all that follow. A slow reader misses some.
    pub fn subscribe(&self) -> watch::Receiver<Arc<str>> {
        self.published.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add_minute(&mut self, name: String, end: i64, revised: Revised) {
        if end <= self.newest - KEPT {
            return;
        }
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains_key(&name) {
            return;
        }
        let minutes = &mut self.sources.entry(name).or_default().minutes;
        if minutes.get(&end).is_some_and(|known| known.revision > revised.revision) {
            return;
        }
        minutes.insert(end, revised);
        self.has_changed = true;
        if end > self.newest {
            self.newest = end;
            self.drop_old();
        }
    }

    fn drop_old(&mut self) {
        let oldest = self.newest - KEPT;
        self.sources.retain(|_, source| {
            source.minutes = source.minutes.split_off(&(oldest + 1));
            !source.minutes.is_empty()
        });
    }

    fn add_incident(&mut self, incident: Incident) {
        let known = self.incidents.get(&incident.id);
        if known.is_some_and(|known| known.seq >= incident.seq) {
            return;
        }
        if incident.state == IncidentState::Resolved {
            self.has_changed |= self.incidents.remove(&incident.id).is_some();
        } else if known.is_some() || self.incidents.len() < MAX_INCIDENTS {
            self.incidents.insert(incident.id, incident);
            self.has_changed = true;
        }
    }

    fn open_incidents(&self) -> Vec<&Incident> {
        let mut open: Vec<&Incident> = self.incidents.values().collect();
        open.sort_by_key(|it| (std::cmp::Reverse((it.severity, it.opened_at)), it.id));
        open
    }
}

#[cfg(test)]
#[path = "live/tests.rs"]
mod tests;
