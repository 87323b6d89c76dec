//! The state of one partition of `mail.panes`: its scopes and its clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use window::{
    Alert, Counts, OpenEpisodes, Pane, PaneStart, Rule, Scope, ScopeError, ScopeRate, ScopeWindows,
};

use crate::changelog::{ChangelogKey, LastCommit};
use crate::clock::{ClockSettings, ShardClock};
use crate::watermarks::Watermarks;

/// The settings of all shards.
#[derive(Debug)]
pub(crate) struct ShardSettings {
    pub(crate) rules: Vec<Rule>,
    /// How long after its end a pane accepts deltas, in microseconds.
    pub(crate) pane_lateness: i64,
    pub(crate) clock: ClockSettings,
    /// How many mailbox providers and campaigns of one source a shard keeps.
    pub(crate) scopes_per_source: usize,
}

/// The key of a scope. Records and the maps of a shard use it.
type ScopeKey = Arc<str>;

struct ScopeState {
    key: ScopeKey,
    scope: Scope,
    windows: ScopeWindows,
    episodes: OpenEpisodes,
    /// The time at which the scope must be advanced. [`Shard::due`] contains the same time.
    due: Option<i64>,
}

/// The changes that a shard publishes.
#[derive(Debug, Default)]
pub(crate) struct Transitions {
    /// The windows that changed, with the keys of their scopes.
    pub(crate) windows: Vec<(ScopeKey, ScopeRate)>,
    pub(crate) alerts: Vec<Alert>,
}

/// What the shard did with a delta.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeltaOutcome {
    /// The delta was added to its pane.
    Counted,
    /// The pane does not accept deltas any more.
    TooLate {
        /// The number of events in the delta, each counted for one scope only.
        events: u64,
    },
    /// The scope is new, and its source has as many scopes as it may have. The delta belongs to this
    /// scope, which may be in another shard.
    BelongsTo(Scope),
}

/// Key and value of a changelog record. `None` is a tombstone.
pub(crate) type ChangelogRecord = (String, Option<Vec<u8>>);

/// The parts of the shard that changed since the last commit. Their values are read when the
/// changelog records are written.
#[derive(Default)]
struct Unwritten {
    panes: BTreeSet<(ScopeKey, PaneStart)>,
    episodes: BTreeSet<ScopeKey>,
    clock: bool,
}

#[derive(Default)]
pub(crate) struct Shard {
    /// The event time to which all scopes are advanced.
    clock: ShardClock,
    /// See [`LastCommit::commits`].
    commits: u64,
    scopes: HashMap<ScopeKey, ScopeState>,
    /// The number of mailbox providers and campaigns of each source.
    scopes_of_source: HashMap<Box<str>, usize>,
    /// The scopes by the time at which they must be advanced. A scope costs nothing before.
    due: BTreeSet<(i64, ScopeKey)>,
    unwritten: Unwritten,
}

impl Shard {
    /// Returns a shard without scopes, as of its last commit.
    pub(crate) fn new(last_commit: LastCommit) -> Self {
        Self { clock: last_commit.clock, commits: last_commit.commits, ..Self::default() }
    }

    /// Adds a scope from the changelog.
    pub(crate) fn restore_scope(
        &mut self,
        key: &str,
        panes: impl IntoIterator<Item = Pane>,
        episodes: OpenEpisodes,
        settings: &ShardSettings,
    ) -> Result<(), ScopeError> {
        let windows = ScopeWindows::from_panes(panes, settings.pane_lateness, self.clock.now());
        // The rules may have changed with the restart, so open episodes are evaluated once.
        let at_once = (!episodes.is_empty()).then_some(i64::MIN);
        let state = ScopeState::new(key, windows, episodes)?;
        let key = state.key.clone();
        self.insert(state);
        self.reschedule(&key, settings, at_once);
        Ok(())
    }

    /// Adds the counts to a pane of a scope.
    pub(crate) fn apply(
        &mut self,
        key: &str,
        pane: PaneStart,
        counts: &Counts,
        settings: &ShardSettings,
    ) -> Result<DeltaOutcome, ScopeError> {
        if counts.is_zero() {
            return Ok(DeltaOutcome::Counted);
        }
        let now = self.clock.now();
        let state = match self.scopes.get_mut(key) {
            Some(state) => state,
            None => {
                let windows = ScopeWindows::new(settings.pane_lateness);
                let state = ScopeState::new(key, windows, OpenEpisodes::default())?;
                if self.has_too_many(key, settings)
                    && let Some(other) = state.scope.other()
                {
                    return Ok(DeltaOutcome::BelongsTo(other));
                }
                self.insert(state)
            }
        };
        let key = state.key.clone();
        if state.windows.apply(now, pane, counts) == window::Applied::TooLate {
            let events = count_events(&state.scope, counts);
            if state.is_empty() {
                self.remove(&key);
            }
            return Ok(DeltaOutcome::TooLate { events });
        }
        // A new pane can only make the scope due earlier.
        let due = state.due;
        self.reschedule(&key, settings, due);
        self.unwritten.panes.insert((key, pane));
        Ok(DeltaOutcome::Counted)
    }

    fn has_too_many(&self, key: &str, settings: &ShardSettings) -> bool {
        let source = limited_source(key);
        let scopes = source.and_then(|source| self.scopes_of_source.get(source)).copied();
        scopes.unwrap_or(0) >= settings.scopes_per_source
    }

    fn insert(&mut self, state: ScopeState) -> &mut ScopeState {
        if let Some(source) = limited_source(&state.key) {
            *self.scopes_of_source.entry(source.into()).or_default() += 1;
        }
        self.scopes.entry(state.key.clone()).insert_entry(state).into_mut()
    }

    fn remove(&mut self, key: &ScopeKey) {
        if self.scopes.remove(key).is_some()
            && let Some(source) = limited_source(key)
            && let Some(scopes) = self.scopes_of_source.get_mut(source)
        {
            *scopes -= 1;
            if *scopes == 0 {
                self.scopes_of_source.remove(source);
            }
        }
    }

    /// Updates the clock and advances every scope that is due at the new time.
    pub(crate) fn receive(
        &mut self,
        watermarks: &Watermarks,
        settings: &ShardSettings,
        out: &mut Transitions,
    ) {
        // Progress that does not move the clock now affects how far it moves later.
        self.unwritten.clock = true;
        let before = self.clock.now();
        if self.clock.update(watermarks, settings.clock) {
            self.advance_due_from(before, settings, out);
        }
    }

    /// Advances the scopes that are due at the current time. At the end of a batch these are the
    /// scopes with late deltas. After this call, the changelog records restore the shard exactly.
    pub(crate) fn advance_due(&mut self, settings: &ShardSettings, out: &mut Transitions) {
        self.advance_due_from(self.clock.now(), settings, out);
    }

    /// Advances the scopes that are due, from the time `from` to the current time.
    fn advance_due_from(&mut self, from: i64, settings: &ShardSettings, out: &mut Transitions) {
        let now = self.clock.now();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            self.advance_scope(&key, from, settings, out);
        }
    }

    fn advance_scope(
        &mut self,
        key: &ScopeKey,
        from: i64,
        settings: &ShardSettings,
        out: &mut Transitions,
    ) {
        let now = self.clock.now();
        let Some(state) = self.scopes.get_mut(key) else { return };
        state.due = None;
        let ScopeState { scope, windows, episodes, .. } = state;
        let mut slides = Vec::new();
        let expired = windows.advance_slides(from, now, &mut slides);
        let before = episodes.clone();
        for slide in &slides {
            let rate = |&window| (key.clone(), ScopeRate { scope: scope.clone(), window });
            out.windows.extend(slide.changed().map(rate));
            if !slide.past {
                let windows = &slide.windows;
                episodes.evaluate(scope, &settings.rules, slide.end, windows, &mut out.alerts);
            }
        }
        episodes.resolve_due(scope, &settings.rules, now, &mut out.alerts);
        if *episodes != before {
            self.unwritten.episodes.insert(key.clone());
        }
        self.unwritten.panes.extend(expired.into_iter().map(|pane| (key.clone(), pane)));
        if state.is_empty() {
            self.remove(key);
        } else {
            self.reschedule(key, settings, None);
        }
    }

    /// Computes when the scope is due. If `latest` is given, the scope is due then or earlier.
    fn reschedule(&mut self, key: &ScopeKey, settings: &ShardSettings, latest: Option<i64>) {
        let now = self.clock.now();
        let Some(state) = self.scopes.get_mut(key) else { return };
        let times = [state.windows.due(now), state.episodes.due(&settings.rules), latest];
        let due = times.into_iter().flatten().min();
        if due == state.due {
            return;
        }
        let previous = std::mem::replace(&mut state.due, due);
        if let Some(at) = previous {
            self.due.remove(&(at, key.clone()));
        }
        if let Some(at) = due {
            self.due.insert((at, key.clone()));
        }
    }

    /// Returns the changelog records of everything that changed since the last commit.
    pub(crate) fn changelog_records(&mut self) -> Result<Vec<ChangelogRecord>, kafka::Error> {
        let Unwritten { panes, episodes, clock } = std::mem::take(&mut self.unwritten);
        if panes.is_empty() && episodes.is_empty() && !clock {
            return Ok(Vec::new());
        }
        let mut records = Vec::with_capacity(panes.len() + episodes.len() + 1);
        for (scope, start) in panes {
            let pane = self.scopes.get(&scope).and_then(|state| state.windows.pane(start));
            let value = pane.map(serde_json::to_vec).transpose().map_err(kafka::Error::state)?;
            records.push((ChangelogKey::Pane(start, &scope).to_text(), value));
        }
        for scope in episodes {
            let open = self.scopes.get(&scope).map(|state| &state.episodes);
            let open = open.filter(|episodes| !episodes.is_empty());
            let value = open.map(serde_json::to_vec).transpose().map_err(kafka::Error::state)?;
            records.push((ChangelogKey::Episodes(&scope).to_text(), value));
        }
        self.commits += 1;
        let last_commit = LastCommit { commits: self.commits, clock: self.clock.clone() };
        let value = serde_json::to_vec(&last_commit).map_err(kafka::Error::state)?;
        records.push((ChangelogKey::LastCommit.to_text(), Some(value)));
        Ok(records)
    }

    /// Returns the number of commits; see [`LastCommit::commits`].
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// Returns the number of scopes.
    pub(crate) fn len(&self) -> usize {
        self.scopes.len()
    }
}

impl ScopeState {
    fn new(key: &str, windows: ScopeWindows, episodes: OpenEpisodes) -> Result<Self, ScopeError> {
        Ok(Self { key: key.into(), scope: Scope::parse(key)?, windows, episodes, due: None })
    }

    /// Returns true if the shard can forget the scope.
    fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.episodes.is_empty()
    }
}

/// Returns provider and source of the key of a mailbox provider or campaign, `kind/provider/source/name`.
fn limited_source(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('/')?;
    let (source, _name) = rest.rsplit_once('/')?;
    source.contains('/').then_some(source)
}

/// Returns the number of events in a delta, or 0 if the scope is not a source. Each event is in one
/// delta of its source and may also be in deltas of other scopes, where it must not count again.
fn count_events(scope: &Scope, counts: &Counts) -> u64 {
    let Scope::Source { .. } = scope else { return 0 };
    // `late_bounces` and `engaged` are left out: the bounces, opens and clicks contain them.
    counts.accepted
        + counts.delivered
        + counts.deferred
        + counts.bounced()
        + counts.dropped
        + counts.opened
        + counts.clicked
        + counts.machine_opened
        + counts.machine_clicked
        + counts.complained
        + counts.unsubscribed
}
