//! Everything the owner of one pane partition knows: its scopes, and its clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use stream::StreamError;
use window::{
    Alert, Applied, Counts, Episodes, Pane, PaneDelta, PaneStart, Rule, Scope, ScopeRate,
    ScopeWindows,
};

use crate::clock::{Clock, Watermark};
use crate::journal::Entry;

/// One scope's windows and open episodes.
struct Watched {
    windows: ScopeWindows,
    episodes: Episodes,
    /// When it is to be visited next; its place in [`Shard::due`].
    due: Option<i64>,
}

/// What a shard has to say after a record.
#[derive(Default)]
pub(crate) struct News {
    pub(crate) rates: Vec<ScopeRate>,
    pub(crate) alerts: Vec<Alert>,
}

/// See the module's documentation.
pub(crate) struct Shard {
    lateness: i64,
    clock: Clock,
    scopes: HashMap<Scope, Watched>,
    /// Scopes by the time at which they must be visited: the others cost nothing.
    due: BTreeSet<(i64, Scope)>,
    /// What the changelog does not know yet.
    dirty: BTreeMap<String, Option<Vec<u8>>>,
}

/// A shard's state as its changelog has it, before it is put together.
#[derive(Default)]
pub(crate) struct Rebuild {
    panes: HashMap<Scope, BTreeMap<PaneStart, Pane>>,
    episodes: HashMap<Scope, Episodes>,
    clock: Clock,
}

impl Rebuild {
    /// Takes in one record of the changelog.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StreamError> {
        match (Entry::parse(key).map_err(StreamError::state)?, value) {
            (Entry::Pane(start, scope), Some(value)) => {
                let pane: Pane = serde_json::from_slice(value).map_err(StreamError::state)?;
                self.panes.entry(scope).or_default().insert(start, pane);
            }
            (Entry::Pane(start, scope), None) => {
                if let Some(panes) = self.panes.get_mut(&scope) {
                    panes.remove(&start);
                }
            }
            (Entry::Episodes(scope), Some(value)) => {
                let open = serde_json::from_slice(value).map_err(StreamError::state)?;
                self.episodes.insert(scope, open);
            }
            (Entry::Episodes(scope), None) => {
                self.episodes.remove(&scope);
            }
            (Entry::Clock, Some(value)) => {
                self.clock = serde_json::from_slice(value).map_err(StreamError::state)?;
            }
            (Entry::Clock, None) => self.clock = Clock::default(),
        }
        Ok(())
    }

    /// The shard as it was after its last commit.
    pub(crate) fn finish(mut self, lateness: i64, rules: &[Rule]) -> Shard {
        let now = self.clock.now();
        let names: BTreeSet<Scope> =
            self.panes.keys().chain(self.episodes.keys()).cloned().collect();
        let mut shard = Shard {
            lateness,
            clock: self.clock,
            scopes: HashMap::new(),
            due: BTreeSet::new(),
            dirty: BTreeMap::new(),
        };
        for scope in names {
            let panes = self.panes.remove(&scope).unwrap_or_default().into_values();
            let windows = ScopeWindows::from_panes(panes, lateness, now);
            let episodes = self.episodes.remove(&scope).unwrap_or_default();
            let has_open = !episodes.is_empty();
            shard.scopes.insert(scope.clone(), Watched { windows, episodes, due: None });
            if has_open {
                // The rules may have changed with the restart: visited once, whatever is due.
                shard.schedule(&scope, Some(i64::MIN));
            } else {
                shard.reschedule(&scope, rules);
            }
        }
        shard
    }
}

impl Shard {
    /// Adds a delta. Returns how many events it held if it came too late to count.
    pub(crate) fn apply(&mut self, delta: PaneDelta, rules: &[Rule]) -> Option<Counts> {
        let PaneDelta { scope, pane, counts } = delta;
        let now = self.clock.now();
        let lateness = self.lateness;
        let watched = self.scopes.entry(scope.clone()).or_insert_with(|| Watched {
            windows: ScopeWindows::new(lateness, now),
            episodes: Episodes::default(),
            due: None,
        });
        if watched.windows.clock() < now {
            // Nothing was due, so nothing is emitted; but what is late is judged by this clock.
            let mut none = Vec::new();
            watched.windows.advance_slides(now, &mut none);
            debug_assert!(none.is_empty(), "a scope was not visited when it was due");
        }
        let applied = watched.windows.apply(pane, &counts);
        if applied == Applied::TooLate {
            return Some(counts);
        }
        self.note_pane(&scope, pane);
        self.reschedule(&scope, rules);
        None
    }

    /// Takes a watermark in and visits every scope that is due by the new time.
    pub(crate) fn hear(
        &mut self,
        told: Watermark,
        event_partitions: i32,
        rules: &[Rule],
        news: &mut News,
    ) -> Result<(), StreamError> {
        if self.clock.hear(told, event_partitions).is_some() {
            self.visit_due(rules, news)?;
        }
        Ok(())
    }

    /// Publishes what is due now; at the end of a round also the corrections of late deltas.
    pub(crate) fn visit_due(&mut self, rules: &[Rule], news: &mut News) -> Result<(), StreamError> {
        let now = self.clock.now();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, scope)) = self.due.pop_first() else { break };
            self.visit(scope, now, rules, news)?;
        }
        Ok(())
    }

    fn visit(
        &mut self,
        scope: Scope,
        now: i64,
        rules: &[Rule],
        news: &mut News,
    ) -> Result<(), StreamError> {
        let Some(watched) = self.scopes.get_mut(&scope) else { return Ok(()) };
        watched.due = None;
        let mut slides = Vec::new();
        let expired = watched.windows.advance_slides(now, &mut slides);
        let before = watched.episodes.clone();
        for slide in &slides {
            let rates = slide.changed().map(|&window| ScopeRate { scope: scope.clone(), window });
            news.rates.extend(rates);
            if !slide.past {
                watched.episodes.evaluate(
                    &scope,
                    rules,
                    slide.end,
                    &slide.windows,
                    &mut news.alerts,
                );
            }
        }
        watched.episodes.settle(&scope, rules, now, &mut news.alerts);
        if watched.episodes != before {
            let open = (!watched.episodes.is_empty())
                .then(|| serde_json::to_vec(&watched.episodes))
                .transpose()
                .map_err(StreamError::state)?;
            self.dirty.insert(Entry::Episodes(scope.clone()).key(), open);
        }
        for pane in expired {
            self.dirty.insert(Entry::Pane(pane, scope.clone()).key(), None);
        }
        if watched.windows.is_empty() && watched.episodes.is_empty() {
            self.scopes.remove(&scope);
        } else {
            self.reschedule(&scope, rules);
        }
        Ok(())
    }

    fn reschedule(&mut self, scope: &Scope, rules: &[Rule]) {
        let Some(watched) = self.scopes.get(scope) else { return };
        let windows = watched.windows.due();
        let due = windows.into_iter().chain(watched.episodes.due(rules)).min();
        self.schedule(scope, due);
    }

    fn schedule(&mut self, scope: &Scope, due: Option<i64>) {
        let Some(watched) = self.scopes.get_mut(scope) else { return };
        if due == watched.due {
            return;
        }
        if let Some(former) = watched.due {
            self.due.remove(&(former, scope.clone()));
        }
        watched.due = due;
        if let Some(at) = due {
            self.due.insert((at, scope.clone()));
        }
    }

    /// Marks a pane as to be written; its value is taken when it is written.
    fn note_pane(&mut self, scope: &Scope, pane: PaneStart) {
        self.dirty.insert(Entry::Pane(pane, scope.clone()).key(), Some(Vec::new()));
    }

    /// What the changelog has to be told with this commit.
    pub(crate) fn changes(&mut self) -> Result<Vec<(String, Option<Vec<u8>>)>, StreamError> {
        let mut changes = Vec::new();
        for (key, value) in std::mem::take(&mut self.dirty) {
            let value = match value {
                Some(value) if value.is_empty() => self.pane_value(&key)?,
                value => value,
            };
            changes.push((key, value));
        }
        if !changes.is_empty() {
            let clock = serde_json::to_vec(&self.clock).map_err(StreamError::state)?;
            changes.push((Entry::Clock.key(), Some(clock)));
        }
        Ok(changes)
    }

    fn pane_value(&self, key: &str) -> Result<Option<Vec<u8>>, StreamError> {
        let Entry::Pane(start, scope) =
            Entry::parse(key.as_bytes()).map_err(StreamError::state)?
        else {
            return Ok(None);
        };
        let pane = self.scopes.get(&scope).and_then(|watched| watched.windows.pane(start));
        pane.map(serde_json::to_vec).transpose().map_err(StreamError::state)
    }

    /// How many scopes are kept.
    pub(crate) fn len(&self) -> usize {
        self.scopes.len()
    }
}
