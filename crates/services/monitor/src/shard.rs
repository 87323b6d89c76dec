//! Everything the owner of one pane partition knows: its scopes, and its clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kafka::StreamError;
use window::{
    Alert, Applied, Counts, Episodes, Pane, PaneStart, Rule, Scope, ScopeError, ScopeRate,
    ScopeWindows,
};

use crate::clock::{Clock, Patience, Watermarks};
use crate::journal::{Entry, Mark};

/// What is the same for all shards.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) rules: Vec<Rule>,
    /// How long after its end a pane takes deltas, microseconds.
    pub(crate) pane_lateness: i64,
    pub(crate) patience: Patience,
}

/// A scope's key: what records are keyed by, and what a shard knows its scopes by.
type Key = Arc<str>;

/// One scope's windows and open episodes.
struct Watched {
    key: Key,
    scope: Scope,
    windows: ScopeWindows,
    episodes: Episodes,
    /// When it is to be visited next; its place in [`Shard::due`].
    due: Option<i64>,
}

/// What a shard has to say after a record.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// With the keys of their scopes.
    pub(crate) rates: Vec<(Key, ScopeRate)>,
    pub(crate) alerts: Vec<Alert>,
}

/// A record of the changelog: its key, and its value or a tombstone.
pub(crate) type Change = (String, Option<Vec<u8>>);

/// What the changelog does not know yet; the values are taken when they are written.
#[derive(Default)]
struct Unwritten {
    panes: BTreeSet<(Key, PaneStart)>,
    episodes: BTreeSet<Key>,
    clock: bool,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Shard {
    clock: Clock,
    /// See [`Mark::commits`].
    commits: u64,
    scopes: HashMap<Key, Watched>,
    /// Scopes by the time at which they must be visited: the others cost nothing.
    due: BTreeSet<(i64, Key)>,
    unwritten: Unwritten,
}

impl Shard {
    /// A shard that nothing was said to since its last commit.
    pub(crate) fn restored(mark: Mark) -> Self {
        Self { clock: mark.clock, commits: mark.commits, ..Self::default() }
    }

    /// Adds a scope to a restored shard, from all that is kept of it.
    pub(crate) fn restore(
        &mut self,
        key: &str,
        panes: impl IntoIterator<Item = Pane>,
        episodes: Episodes,
        setup: &Setup,
    ) -> Result<(), ScopeError> {
        let windows = ScopeWindows::from_panes(panes, setup.pane_lateness, self.clock.now());
        // The rules may have changed with the restart: an open episode is looked at once.
        let at_once = (!episodes.is_empty()).then_some(i64::MIN);
        let watched = Watched::new(key, windows, episodes)?;
        let key = watched.key.clone();
        self.scopes.insert(key.clone(), watched);
        self.reschedule(&key, setup, at_once);
        Ok(())
    }

    /// Adds what happened to a scope in a pane. Returns how many events came too late to count.
    pub(crate) fn apply(
        &mut self,
        key: &str,
        pane: PaneStart,
        counts: &Counts,
        setup: &Setup,
    ) -> Result<u64, ScopeError> {
        if counts.is_zero() {
            return Ok(0);
        }
        let now = self.clock.now();
        let watched = match self.scopes.get_mut(key) {
            Some(watched) => watched,
            None => {
                let windows = ScopeWindows::new(setup.pane_lateness, now);
                let watched = Watched::new(key, windows, Episodes::default())?;
                self.scopes.entry(watched.key.clone()).or_insert(watched)
            }
        };
        if watched.windows.clock() < now {
            // What is late is judged by the common clock. Nothing comes of the advance: all that
            // was due was visited when the clock moved.
            let mut none = Vec::new();
            let expired = watched.windows.advance_slides(now, &mut none);
            debug_assert!(none.is_empty() && expired.is_empty(), "{key} was due before");
        }
        let key = watched.key.clone();
        if watched.windows.apply(pane, counts) == Applied::TooLate {
            let late = events(&watched.scope, counts);
            if watched.is_empty() {
                self.scopes.remove(&key);
            }
            return Ok(late);
        }
        // More panes can only be due sooner.
        let due = watched.due;
        self.reschedule(&key, setup, due);
        self.unwritten.panes.insert((key, pane));
        Ok(0)
    }

    /// Takes watermarks in and visits every scope that is due by the new time.
    pub(crate) fn hear(&mut self, told: &Watermarks, setup: &Setup, news: &mut News) {
        // Also what does not move the clock decides how far it moves next time.
        self.unwritten.clock = true;
        if self.clock.hear(told, setup.patience) {
            self.visit_due(setup, news);
        }
    }

    /// Publishes what is due now; at the end of a round that is what late deltas corrected. After
    /// it the shard is as its changes restore it.
    pub(crate) fn visit_due(&mut self, setup: &Setup, news: &mut News) {
        let now = self.clock.now();
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.due.pop_first() else { break };
            self.visit(&key, now, setup, news);
        }
    }

    fn visit(&mut self, key: &Key, now: i64, setup: &Setup, news: &mut News) {
        let Some(watched) = self.scopes.get_mut(key) else { return };
        watched.due = None;
        let Watched { scope, windows, episodes, .. } = watched;
        let mut slides = Vec::new();
        let expired = windows.advance_slides(now, &mut slides);
        let before = episodes.clone();
        for slide in &slides {
            let rate = |&window| (key.clone(), ScopeRate { scope: scope.clone(), window });
            news.rates.extend(slide.changed().map(rate));
            if !slide.past {
                let windows = &slide.windows;
                episodes.evaluate(scope, &setup.rules, slide.end, windows, &mut news.alerts);
            }
        }
        episodes.settle(scope, &setup.rules, now, &mut news.alerts);
        if *episodes != before {
            self.unwritten.episodes.insert(key.clone());
        }
        self.unwritten.panes.extend(expired.into_iter().map(|pane| (key.clone(), pane)));
        if watched.is_empty() {
            self.scopes.remove(key);
        } else {
            self.reschedule(key, setup, None);
        }
    }

    /// Puts down when the scope is to be visited next, `at_the_latest` if there is such a time.
    fn reschedule(&mut self, key: &Key, setup: &Setup, at_the_latest: Option<i64>) {
        let Some(watched) = self.scopes.get_mut(key) else { return };
        let own = [watched.windows.due(), watched.episodes.due(&setup.rules), at_the_latest];
        let due = own.into_iter().flatten().min();
        if due == watched.due {
            return;
        }
        let former = std::mem::replace(&mut watched.due, due);
        if let Some(at) = former {
            self.due.remove(&(at, key.clone()));
        }
        if let Some(at) = due {
            self.due.insert((at, key.clone()));
        }
    }

    /// What the changelog has to be told with this commit.
    pub(crate) fn changes(&mut self) -> Result<Vec<Change>, StreamError> {
        let Unwritten { panes, episodes, clock } = std::mem::take(&mut self.unwritten);
        if panes.is_empty() && episodes.is_empty() && !clock {
            return Ok(Vec::new());
        }
        let mut changes = Vec::with_capacity(panes.len() + episodes.len() + 1);
        for (scope, start) in panes {
            let pane = self.scopes.get(&scope).and_then(|watched| watched.windows.pane(start));
            let value = pane.map(serde_json::to_vec).transpose().map_err(StreamError::state)?;
            changes.push((Entry::Pane(start, &scope).key(), value));
        }
        for scope in episodes {
            let open = self.scopes.get(&scope).map(|watched| &watched.episodes);
            let open = open.filter(|episodes| !episodes.is_empty());
            let value = open.map(serde_json::to_vec).transpose().map_err(StreamError::state)?;
            changes.push((Entry::Episodes(&scope).key(), value));
        }
        self.commits += 1;
        let mark = Mark { commits: self.commits, clock: self.clock.clone() };
        let mark = serde_json::to_vec(&mark).map_err(StreamError::state)?;
        changes.push((Entry::Mark.key(), Some(mark)));
        Ok(changes)
    }

    /// See [`Mark::commits`].
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// How many scopes are kept.
    pub(crate) fn len(&self) -> usize {
        self.scopes.len()
    }
}

impl Watched {
    fn new(key: &str, windows: ScopeWindows, episodes: Episodes) -> Result<Self, ScopeError> {
        Ok(Self { key: key.into(), scope: Scope::parse(key)?, windows, episodes, due: None })
    }

    /// Whether nothing is left to keep.
    fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.episodes.is_empty()
    }
}

/// How many events a delta holds. Each is in one delta of its source, and may be in others too.
fn events(scope: &Scope, counts: &Counts) -> u64 {
    let Scope::Source { .. } = scope else { return 0 };
    // Late bounces are among the bounces, and who engaged has opened or clicked.
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
