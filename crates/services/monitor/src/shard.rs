//! The state of one partition of `mail.panes`: its scopes and its clock.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use alerting::{Alert, AsOf, Facts, RuleInForce, RuleSet, ScopeEpisodes};
use event::{Counter, OccurredAt, Provider};
use window::{
    Admission, Applied, BOUNCES, Cohort, Cohorts, Counts, Emits, HourStart, JudgedWindows, PANE,
    Pane, PaneStart, Ring, Scope, ScopeError, ScopeKind, ScopeRate, ScopeWindows, Width, Window,
    WindowKey,
};

use crate::changelog::{ChangelogKey, LastCommit};
use crate::clock::{ClockSettings, ShardClock};
use crate::commit::{CommitPart, IncompleteCommits, KeyedDelta};
use crate::deliveries::Deliveries;
use crate::evidence::{Campaign, ScopeEvidence};
use crate::settings::Publish;
use crate::watermarks::Watermarks;

/// The rates of a source are unknown if the last hour in which it has delivered a message ended longer
/// ago than this, in microseconds of event time: 24 hours.
const DELIVERIES_EXPECTED: i64 = 24 * 3_600_000_000;

/// The greatest number of tombstones of expired panes and cohorts that one commit writes.
const TOMBSTONES_PER_COMMIT: usize = 20_000;

/// The estimated memory of a scope without panes, and of a pane or cohort, in bytes. Most panes have
/// few counts.
const SCOPE_BYTES: usize = 2048;
const PANE_BYTES: usize = 80;

/// The settings of all shards.
#[derive(Debug)]
pub(crate) struct ShardSettings {
    pub(crate) rules: RuleSet,
    pub(crate) publish: Publish,
    pub(crate) clock: ClockSettings,
    /// How many scopes of one source, besides the source itself, a shard keeps.
    pub(crate) scopes_per_source: usize,
    /// Whether the scopes of the process use as much memory as they may.
    pub(crate) memory_is_full: bool,
}

/// The key of a scope. Records and the maps of a shard use it.
type ScopeKey = Arc<str>;

struct ScopeState {
    key: ScopeKey,
    scope: Scope,
    /// The key of its source or tenant; see [`Scope::whole`].
    whole: ScopeKey,
    windows: ScopeWindows,
    cohorts: Cohorts,
    /// The rules that apply to the scope.
    rules: Vec<RuleInForce>,
    episodes: ScopeEpisodes,
    /// The counts since the campaign began; `None` for other scopes.
    campaign: Option<Campaign>,
    /// The time at which the scope must be advanced. [`Shard::due`] contains the same time.
    due: Option<i64>,
    /// The estimated memory. [`Shard::bytes`] contains it.
    bytes: usize,
    /// The panes of the day that are in the changelog. See [`ScopeState::must_write_day`].
    written_days: BTreeSet<PaneStart>,
    unwritten: Unwritten,
}

/// The parts of a scope that changed since the last commit. Their values are read when the changelog
/// records are written.
#[derive(Default)]
struct Unwritten {
    panes: BTreeSet<(Ring, PaneStart)>,
    cohorts: BTreeSet<HourStart>,
    waiting: bool,
    episodes: bool,
    campaign: bool,
}

/// The parts of a scope from the changelog.
#[derive(Default)]
pub(crate) struct RestoredScope {
    pub(crate) panes: BTreeMap<(Ring, PaneStart), Pane>,
    pub(crate) cohorts: BTreeMap<HourStart, Cohort>,
    pub(crate) waiting: BTreeSet<WindowKey>,
    pub(crate) episodes: ScopeEpisodes,
    pub(crate) campaign: Option<Campaign>,
}

impl RestoredScope {
    pub(crate) fn is_empty(&self) -> bool {
        self.panes.is_empty() && self.cohorts.is_empty() && self.episodes.is_empty()
    }
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
    /// The delta was added as far as the rings still have its pane.
    Counted(Counted),
    /// The scope is new, and its source has as many scopes as it may have. The delta belongs to this
    /// scope, which may be in another shard.
    BelongsTo(Scope),
}

/// What could not be counted. Each event is in one delta of its source and may also be in deltas of
/// other scopes, where it is not counted again: these numbers are 0 there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The number of events that were too late for each ring, and for the cohorts.
    pub(crate) late: [u64; 3],
    /// The number of corrections of something that the pane does not count.
    pub(crate) without_count: u64,
}

/// Key and value of a changelog record. `None` is a tombstone.
pub(crate) type ChangelogRecord = (String, Option<Vec<u8>>);

#[derive(Default)]
pub(crate) struct Shard {
    /// The event time to which all scopes are advanced.
    clock: ShardClock,
    /// See [`LastCommit::commits`].
    commits: u64,
    /// The next offset of each partition of `mail.events`: exactly the events before are counted.
    as_of: AsOf,
    incomplete: IncompleteCommits,
    /// The incomplete parts that are in the changelog.
    written_parts: BTreeSet<(i32, u32)>,
    /// The parts that came since the last commit. One of an earlier commit may have had the same number.
    changed_parts: BTreeSet<(i32, u32)>,
    /// The scopes that have changed since the rules were last judged.
    unjudged: BTreeSet<ScopeKey>,
    scopes: HashMap<ScopeKey, ScopeState>,
    /// The number of scopes of each group of [`limited_group`].
    scopes_of_group: HashMap<Box<str>, usize>,
    /// The estimated memory of all scopes.
    bytes: usize,
    /// The scopes by the time at which they must be advanced. A scope costs nothing before.
    due: BTreeSet<(i64, ScopeKey)>,
    /// The latest hour in which each source or tenant has delivered a message.
    deliveries: HashMap<ScopeKey, HourStart>,
    /// The sources whose rates are unknown, although something happens.
    without_deliveries: BTreeSet<ScopeKey>,
    /// Those of them that have not been logged.
    unlogged: Vec<ScopeKey>,
    /// What changed since the last commit: scopes, parts of scopes that no longer exist, the latest
    /// hours of deliveries, and the clock.
    changed: BTreeSet<ScopeKey>,
    /// The changelog keys of scopes that were removed since the last commit.
    deleted: Vec<String>,
    /// The tombstones that are written later.
    tombstones: VecDeque<String>,
    changed_deliveries: BTreeSet<ScopeKey>,
    /// The sources and tenants with newer deliveries since the last advance, with what was known before.
    newly_known: Vec<(ScopeKey, Option<HourStart>)>,
    clock_changed: bool,
}

impl Shard {
    /// Returns a shard without scopes, as of its last commit.
    pub(crate) fn new(last_commit: LastCommit, deliveries: Deliveries) -> Self {
        let deliveries = deliveries.0.into_iter().map(|(scope, hour)| (scope.into(), hour));
        Self {
            clock: last_commit.clock,
            commits: last_commit.commits,
            as_of: last_commit.as_of,
            deliveries: deliveries.collect(),
            ..Self::default()
        }
    }

    /// Adds a scope from the changelog.
    pub(crate) fn restore_scope(
        &mut self,
        key: &str,
        restored: RestoredScope,
        settings: &ShardSettings,
    ) -> Result<(), ScopeError> {
        let RestoredScope { panes, cohorts, waiting, episodes, campaign } = restored;
        let mut state = ScopeState::new(key, settings)?;
        // A changelog of an earlier release does not tell when the source has delivered a message.
        for pane in panes.values() {
            if pane.counts.to_counts().get(Counter::Delivered) > 0 {
                self.note_delivery(&state.whole, pane.start);
            }
        }
        state.written_days = written_days(&panes);
        let panes = with_days(panes).into_iter().map(|((ring, _), pane)| (ring, pane));
        let emits = emits(&state.scope, settings);
        state.windows = ScopeWindows::restore(panes, waiting, emits, self.clock.now());
        state.cohorts = Cohorts::from_cohorts(cohorts);
        state.episodes = episodes;
        state.campaign = campaign;
        let key = state.key.clone();
        self.insert(state);
        // If a rule is gone, its episodes are due at once.
        self.reschedule(&key, settings, None);
        Ok(())
    }

    /// Adds the counts to a pane and to a cohort of a scope.
    pub(crate) fn apply(
        &mut self,
        key: &str,
        pane: PaneStart,
        cohort: Option<HourStart>,
        counts: &Counts,
        settings: &ShardSettings,
    ) -> Result<DeltaOutcome, ScopeError> {
        let now = self.clock.now();
        let state = match self.scopes.get_mut(key) {
            Some(state) => state,
            None => {
                let state = ScopeState::new(key, settings)?;
                if self.has_too_many(key, settings)
                    && let Some(other) = state.scope.other()
                {
                    return Ok(DeltaOutcome::BelongsTo(other));
                }
                self.insert(state)
            }
        };
        let (counted, changes_due) = state.apply(now, pane, cohort, counts);
        let (key, whole, due) = (state.key.clone(), state.whole.clone(), state.due);
        if state.is_empty() {
            self.remove(&key);
            return Ok(DeltaOutcome::Counted(counted));
        }
        if counts.get(Counter::Delivered) > 0 && self.note_delivery(&whole, pane) {
            self.changed_deliveries.insert(whole);
        }
        if changes_due {
            // A new pane can only make the scope due earlier.
            self.reschedule(&key, settings, due);
        }
        self.changed.insert(key.clone());
        self.unjudged.insert(key);
        Ok(DeltaOutcome::Counted(counted))
    }

    fn has_too_many(&self, key: &str, settings: &ShardSettings) -> bool {
        let Some(group) = limited_group(key) else { return false };
        let scopes = self.scopes_of_group.get(group).copied().unwrap_or(0);
        // If the memory is full, a source that has fewer scopes than the average may still have more.
        let all: usize = self.scopes_of_group.values().sum();
        let share = all.checked_div(self.scopes_of_group.len()).unwrap_or(0).max(1);
        let limit = if settings.memory_is_full { share } else { usize::MAX };
        scopes >= settings.scopes_per_source.min(limit)
    }

    fn insert(&mut self, state: ScopeState) -> &mut ScopeState {
        if let Some(group) = limited_group(&state.key) {
            *self.scopes_of_group.entry(group.into()).or_default() += 1;
        }
        self.scopes.entry(state.key.clone()).insert_entry(state).into_mut()
    }

    fn remove(&mut self, key: &ScopeKey) {
        let Some(state) = self.scopes.remove(key) else { return };
        self.bytes -= state.bytes;
        self.deleted.extend(state.unwritten_keys());
        self.changed.remove(key);
        self.unjudged.remove(key);
        self.without_deliveries.remove(key);
        if let Some(group) = limited_group(key)
            && let Some(scopes) = self.scopes_of_group.get_mut(group)
        {
            *scopes -= 1;
            if *scopes == 0 {
                self.scopes_of_group.remove(group);
            }
        }
    }

    /// Notes that a source or tenant has delivered a message. Returns false if a later hour is known.
    fn note_delivery(&mut self, whole: &ScopeKey, pane: PaneStart) -> bool {
        let hour = HourStart::of(OccurredAt(pane.micros()));
        let known = self.deliveries.get(whole).copied();
        let is_newer = known.is_none_or(|known| known < hour);
        if is_newer {
            self.deliveries.insert(whole.clone(), hour);
            self.newly_known.push((whole.clone(), known));
        }
        is_newer
    }

    /// Takes into account when sources and tenants have delivered messages.
    pub(crate) fn receive_deliveries(&mut self, deliveries: &Deliveries) {
        for (scope, hour) in &deliveries.0 {
            let scope = ScopeKey::from(scope.as_str());
            let known = self.deliveries.get(&scope).copied();
            if known.is_none_or(|known| known < *hour) {
                self.deliveries.insert(scope.clone(), *hour);
                self.newly_known.push((scope.clone(), known));
                self.changed_deliveries.insert(scope);
            }
        }
    }

    /// Receives a part of a commit of fold. The commit is applied as a whole when its last part has come.
    /// `count` is called with what became of each delta.
    pub(crate) fn receive_part<E: From<ScopeError>>(
        &mut self,
        part: CommitPart,
        settings: &ShardSettings,
        out: &mut Transitions,
        mut count: impl FnMut(DeltaOutcome, &KeyedDelta) -> Result<(), E>,
    ) -> Result<(), E> {
        self.clock_changed = true;
        self.changed_parts.insert((part.from, part.part));
        let Some(parts) = self.incomplete.add(part) else { return Ok(()) };
        for delta in parts.iter().flat_map(|part| &part.deltas) {
            let KeyedDelta { scope, pane, cohort, counts } = delta;
            let outcome = self.apply(scope, *pane, *cohort, counts, settings)?;
            count(outcome, delta)?;
        }
        // Only the last part has more than deltas.
        if let Some(CommitPart { as_of, deliveries, watermarks, .. }) = parts.last() {
            self.as_of.0.extend(&as_of.0);
            self.receive_deliveries(deliveries);
            self.receive(watermarks, settings, out);
        }
        Ok(())
    }

    /// Judges the rules of the scopes that have changed, up to the pane of the newest event of each.
    fn judge_changed(&mut self, settings: &ShardSettings, out: &mut Transitions) {
        let now = self.clock.now();
        for key in std::mem::take(&mut self.unjudged) {
            let Some(state) = self.scopes.get_mut(&key) else { continue };
            let latest = self.deliveries.get(&state.whole).copied();
            let has_deliveries = HasDeliveries(latest);
            let judgement = Judgement { now, has_deliveries, as_of: &self.as_of };
            // Not only to the newest pane: when a scope was last advanced must not matter.
            let until = state.windows.newest_end().map_or(now, |newest| newest.max(now));
            state.judge(until, judgement, &mut out.alerts);
            if state.unwritten.episodes {
                self.reschedule(&key, settings, None);
            }
        }
    }

    /// Returns the number of known sources by provider, for the incidents stage.
    pub(crate) fn sources(&self) -> BTreeMap<Provider, u32> {
        let sources = self.scopes.values().filter(|state| state.scope.kind() == ScopeKind::Source);
        let mut by_provider = BTreeMap::new();
        for provider in sources.filter_map(|state| state.scope.provider()) {
            *by_provider.entry(provider).or_default() += 1;
        }
        by_provider
    }

    /// Returns the event time, in UTC microseconds; `None` while it is unknown.
    pub(crate) const fn now(&self) -> Option<i64> {
        self.clock.known()
    }

    /// Judges what has changed, updates the clock, and advances every scope that is due at the new time.
    pub(crate) fn receive(
        &mut self,
        watermarks: &Watermarks,
        settings: &ShardSettings,
        out: &mut Transitions,
    ) {
        // Progress that does not move the clock now affects how far it moves later.
        self.clock_changed = true;
        self.judge_changed(settings, out);
        let before = self.clock.now();
        if self.clock.update(watermarks, settings.clock) {
            self.advance_due_from(before, settings, out);
        }
    }

    /// Advances the scopes that are due at the current time. At the end of a batch these are the
    /// scopes with late deltas. After this call, the changelog records restore the shard exactly.
    pub(crate) fn advance_due(&mut self, settings: &ShardSettings, out: &mut Transitions) {
        self.publish_known_cohorts(settings);
        self.advance_due_from(self.clock.now(), settings, out);
    }

    /// If all changes are published, the rates of a cohort may have been unknown, because a record about
    /// deliveries came after it. Such a cohort is published again.
    fn publish_known_cohorts(&mut self, settings: &ShardSettings) {
        let newly_known = std::mem::take(&mut self.newly_known);
        if settings.publish != Publish::All {
            return;
        }
        let now = self.clock.now();
        for (whole, before) in newly_known {
            let (before, after) =
                (HasDeliveries(before), HasDeliveries(self.deliveries.get(&whole).copied()));
            let of_whole = self.scopes.values_mut().filter(|state| state.whole == whole);
            let mut changed = Vec::new();
            for state in of_whole {
                let is_newly_known = |end| after.at(end) && !before.at(end);
                if state.cohorts.publish_again(is_newly_known) {
                    changed.push(state.key.clone());
                }
            }
            changed.iter().for_each(|key| self.reschedule(key, settings, Some(now)));
        }
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
        let latest = self.deliveries.get(&state.whole).copied();
        let has_deliveries = HasDeliveries(latest);
        let judgement = Judgement { now, has_deliveries, as_of: &self.as_of };
        state.judge(now, judgement, &mut out.alerts);
        let mut published = Published::default();
        let had_counts = !state.windows.is_empty() || state.campaign.is_some();
        let has_sent = state.advance(from, now, settings, &mut published);
        if had_counts && state.windows.is_empty() && state.campaign.is_none() {
            // Its episodes have no counts any more, so they become stale and end.
            state.judge_again(judgement, &mut out.alerts);
        }
        let scope = &state.scope;
        out.windows.extend(published.windows.into_values().map(|window| {
            let window = window.result(has_deliveries.at(window.end));
            (key.clone(), ScopeRate { scope: scope.clone(), window })
        }));
        if scope.kind() == ScopeKind::Source
            && let Some(has_sent) = has_sent
        {
            if has_deliveries.at(now) || !has_sent {
                self.without_deliveries.remove(key);
            } else if self.without_deliveries.insert(key.clone()) {
                self.unlogged.push(key.clone());
            }
        }
        self.changed.insert(key.clone());
        if state.is_empty() {
            self.remove(key);
        } else {
            self.reschedule(key, settings, None);
        }
    }

    /// Computes when the scope is due, and its memory. If `latest` is given, the scope is due then or
    /// earlier.
    fn reschedule(&mut self, key: &ScopeKey, settings: &ShardSettings, latest: Option<i64>) {
        let now = self.clock.now();
        let Some(state) = self.scopes.get_mut(key) else { return };
        let bytes = state.estimated_bytes();
        self.bytes = self.bytes - state.bytes + bytes;
        state.bytes = bytes;
        let due = state.next_due(now, settings).into_iter().chain(latest).min();
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
        let deleted = std::mem::take(&mut self.deleted).into_iter();
        let mut records: Vec<ChangelogRecord> = deleted.map(|key| (key, None)).collect();
        for scope in std::mem::take(&mut self.changed) {
            if let Some(state) = self.scopes.get_mut(&scope) {
                state.write(&mut records).map_err(kafka::Error::state)?;
            }
        }
        // After a silent night all panes of all scopes expire at once. What has expired never comes back, so
        // its tombstones can be written later; after a crash it expires again.
        let is_late = |(key, value): &mut ChangelogRecord| value.is_none() && can_wait(key);
        self.tombstones.extend(records.extract_if(.., is_late).map(|(key, _)| key));
        let due = self.tombstones.len().min(TOMBSTONES_PER_COMMIT);
        records.extend(self.tombstones.drain(..due).map(|key| (key, None)));
        for scope in std::mem::take(&mut self.changed_deliveries) {
            let hour =
                serde_json::to_vec(&self.deliveries.get(&scope)).map_err(kafka::Error::state)?;
            records.push((ChangelogKey::Deliveries(&scope).to_text(), Some(hour)));
        }
        if records.is_empty() && !std::mem::take(&mut self.clock_changed) {
            return Ok(records);
        }
        self.clock_changed = false;
        self.write_parts(&mut records)?;
        self.commits += 1;
        let (clock, as_of) = (self.clock.clone(), self.as_of.clone());
        let last_commit = LastCommit { commits: self.commits, clock, as_of };
        let value = serde_json::to_vec(&last_commit).map_err(kafka::Error::state)?;
        records.push((ChangelogKey::LastCommit.to_text(), Some(value)));
        Ok(records)
    }

    /// Appends the changelog records of the parts of commits that are incomplete.
    fn write_parts(&mut self, records: &mut Vec<ChangelogRecord>) -> Result<(), kafka::Error> {
        let incomplete: BTreeSet<_> = self.incomplete.parts().map(|(key, _)| key).collect();
        let changed = std::mem::take(&mut self.changed_parts);
        for (from, number) in self.written_parts.difference(&incomplete) {
            records.push((ChangelogKey::Part(*from, *number).to_text(), None));
        }
        for ((from, number), part) in self.incomplete.parts() {
            if !self.written_parts.contains(&(from, number)) || changed.contains(&(from, number)) {
                let value = serde_json::to_vec(part).map_err(kafka::Error::state)?;
                records.push((ChangelogKey::Part(from, number).to_text(), Some(value)));
            }
        }
        self.written_parts = incomplete;
        Ok(())
    }

    /// Adds a part of an incomplete commit from the changelog.
    pub(crate) fn restore_part(&mut self, part: CommitPart) {
        self.written_parts.insert((part.from, part.part));
        let _ = self.incomplete.add(part);
    }

    /// Returns the number of commits; see [`LastCommit::commits`].
    pub(crate) fn commits(&self) -> u64 {
        self.commits
    }

    /// Returns the number of scopes.
    pub(crate) fn len(&self) -> usize {
        self.scopes.len()
    }

    /// Returns the estimated memory of all scopes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the number of sources whose rates are unknown, although something happens.
    pub(crate) fn sources_without_deliveries(&self) -> usize {
        self.without_deliveries.len()
    }

    /// Returns those of them that were not returned before.
    pub(crate) fn take_unlogged(&mut self) -> Vec<ScopeKey> {
        std::mem::take(&mut self.unlogged)
    }
}

/// Whether a source or tenant sends `delivered` events: the latest hour in which it did.
#[derive(Debug, Clone, Copy, Default)]
struct HasDeliveries(Option<HourStart>);

impl HasDeliveries {
    fn at(self, end: i64) -> bool {
        self.0.is_some_and(|hour| hour.end() + DELIVERIES_EXPECTED >= end)
    }
}

/// The windows of a scope to publish, each once.
#[derive(Default)]
struct Published {
    windows: BTreeMap<(i64, Width), Window>,
}

/// What a judgement of a scope depends on besides the scope.
#[derive(Clone, Copy)]
struct Judgement<'a> {
    /// The time of the clock.
    now: i64,
    has_deliveries: HasDeliveries,
    as_of: &'a AsOf,
}

impl Published {
    fn add(&mut self, window: &Window) {
        if let Entry::Vacant(entry) = self.windows.entry((window.end, window.width)) {
            entry.insert(*window);
        }
    }
}

impl ScopeState {
    fn new(key: &str, settings: &ShardSettings) -> Result<Self, ScopeError> {
        let scope = Scope::parse(key)?;
        Ok(Self {
            key: key.into(),
            whole: scope.whole().key().into(),
            windows: ScopeWindows::new(emits(&scope, settings)),
            cohorts: Cohorts::default(),
            rules: rules_of(&scope, settings),
            episodes: ScopeEpisodes::default(),
            campaign: None,
            scope,
            due: None,
            bytes: 0,
            written_days: BTreeSet::new(),
            unwritten: Unwritten::default(),
        })
    }

    /// Returns also whether the scope may be due at another time.
    fn apply(
        &mut self,
        now: i64,
        pane: PaneStart,
        cohort: Option<HourStart>,
        counts: &Counts,
    ) -> (Counted, bool) {
        let events = if self.scope.kind() == ScopeKind::Source { count_events(counts) } else { 0 };
        let mut counted = Counted::default();
        let applied = self.windows.apply(now, pane, counts);
        let had_unpublished = self.cohorts.has_unpublished();
        let cohorts = self.cohorts.len();
        let mut without_count = applied.without_count;
        for (ring, admission) in Ring::ALL.into_iter().zip(applied.rings) {
            if admission == Admission::TooLate {
                counted.late[ring as usize] = events;
            } else if ring == Ring::Fine || self.must_write_day(now, pane, &applied) {
                self.unwritten.panes.insert((ring, ring.pane_of(pane)));
            }
        }
        if let Some(hour) = cohort {
            let (admission, of_cohort) = self.cohorts.apply(now, hour, counts);
            without_count = without_count.max(of_cohort);
            if admission == Admission::TooLate {
                counted.late[Ring::ALL.len()] = events;
            } else {
                self.unwritten.cohorts.insert(hour);
            }
        }
        let is_kept = applied.rings[Ring::Day as usize] != Admission::TooLate;
        if self.scope.kind() == ScopeKind::Campaign && is_kept {
            Campaign::add(&mut self.campaign, pane.micros(), counts);
            self.unwritten.campaign = true;
        }
        if self.scope.kind() == ScopeKind::Source {
            counted.without_count = without_count;
        }
        let changes_due = applied.changes_due()
            || self.cohorts.len() != cohorts
            || self.cohorts.has_unpublished() != had_unpublished;
        (counted, changes_due)
    }

    /// Returns whether a pane of the day that a delta has changed must be written to the changelog. As long
    /// as the fine ring has everything that the pane counts, a restore adds its panes up; see
    /// [`with_days`]. A pane that was written once is written whenever it changes.
    fn must_write_day(&mut self, now: i64, pane: PaneStart, applied: &Applied) -> bool {
        let day = Ring::Day.pane_of(pane);
        let is_sum = Ring::Fine.expiry(pane) > now
            && applied.rings[Ring::Day as usize] != Admission::Corrects
            // A pane of ten seconds had less than was subtracted, but that of the day may have it.
            && applied.without_count == 0;
        if !is_sum {
            self.written_days.insert(day);
        }
        self.written_days.contains(&day)
    }

    /// Judges the rules at every end of windows that was not judged yet, up to `until`, and at the time of
    /// the clock.
    fn judge(&mut self, until: i64, judgement: Judgement<'_>, out: &mut Vec<Alert>) {
        self.judge_windows(until, judgement, false, out);
    }

    /// Judges open episodes at the time of the clock, although no window has changed.
    fn judge_again(&mut self, judgement: Judgement<'_>, out: &mut Vec<Alert>) {
        if !self.episodes.is_empty() {
            self.judge_windows(judgement.now, judgement, true, out);
        }
    }

    fn judge_windows(
        &mut self,
        until: i64,
        judgement: Judgement<'_>,
        again: bool,
        out: &mut Vec<Alert>,
    ) {
        let Judgement { now, has_deliveries, as_of } = judgement;
        let Self { scope, windows, cohorts, campaign, rules, episodes, .. } = self;
        let newest = windows.newest_end();
        let before = (!episodes.is_empty()).then(|| episodes.clone());
        let mut due = episodes.due(rules);
        let mut step = |windows: &JudgedWindows, now: Option<i64>| {
            let is_newest = newest.is_none_or(|newest| windows.end >= newest);
            let evidence = ScopeEvidence {
                windows,
                cohorts,
                // The counts of a campaign have no end, so they belong to the newest windows only.
                campaign: campaign.as_ref().filter(|_| is_newest),
                // Without any pane nothing is unknown: there is too little mail to judge.
                rates_known: newest.is_none() || has_deliveries.at(windows.end),
                last_event: newest,
                baseline: None,
            };
            match now {
                None => episodes.judge(scope, rules, &evidence, as_of, out),
                Some(now) => episodes.advance(scope, rules, &evidence, now, as_of, out),
            }
            episodes.due(rules)
        };
        windows.judge(until, now, |windows| due = step(windows, None));
        // Episodes change at slide ends only, so that it does not matter when the clock was read.
        let slide_end = now.div_euclid(PANE) * PANE;
        if again || due.is_some_and(|due| due <= slide_end) {
            step(&windows.judged(now), Some(slide_end));
        }
        if before.unwrap_or_default() != *episodes {
            self.unwritten.episodes = true;
        }
    }

    /// Advances the scope. Returns whether messages were sent in the newest windows, or `None` if none
    /// has changed.
    fn advance(
        &mut self,
        from: i64,
        now: i64,
        settings: &ShardSettings,
        published: &mut Published,
    ) -> Option<bool> {
        let waiting = self.windows.waiting().clone();
        let advanced = self.windows.advance(from, now);
        self.unwritten.waiting |= waiting != *self.windows.waiting();
        let is_open = self.episodes.has_open();
        for slide in &advanced.slides {
            match settings.publish {
                Publish::All => slide.changed().for_each(|window| published.add(window)),
                // A late event corrects the newest windows at once, but they are published once.
                Publish::Changes if is_open && !slide.past && slide.end > from => {
                    slide.changed().for_each(|window| published.add(window));
                }
                Publish::Changes => {}
            }
        }
        advanced.tumbled.iter().for_each(|window| published.add(window));
        let [fine, days] = advanced.expired;
        for start in fine {
            self.unwritten.panes.insert((Ring::Fine, start));
            let day = Ring::Day.pane_of(start);
            if self.windows.pane(Ring::Day, day).is_some() && self.written_days.insert(day) {
                self.unwritten.panes.insert((Ring::Day, day));
            }
        }
        let written = days.into_iter().filter(|day| self.written_days.remove(day));
        self.unwritten.panes.extend(written.map(|day| (Ring::Day, day)));
        self.unwritten.cohorts.extend(self.cohorts.expire(now));
        if self.campaign.is_some() && self.windows.is_empty() {
            self.campaign = None;
            self.unwritten.campaign = true;
        }
        if self.publishes_cohorts(from, now, settings) {
            for window in self.cohorts.publish() {
                self.unwritten.cohorts.insert(window.hour());
                published.add(&window);
            }
        }
        let newest = advanced.slides.last()?;
        Some(newest.windows.iter().any(|window| has_sent(&window.counts)))
    }

    /// Returns whether changed cohorts are published in an advance.
    fn publishes_cohorts(&self, from: i64, now: i64, settings: &ShardSettings) -> bool {
        let hour = |time| HourStart::of(OccurredAt(time));
        match settings.publish {
            Publish::All => true,
            Publish::Changes => self.scope.kind() == ScopeKind::Source && hour(from) < hour(now),
        }
    }

    fn next_due(&self, now: i64, settings: &ShardSettings) -> Option<i64> {
        let cohorts = match settings.publish {
            _ if !self.cohorts.has_unpublished() => None,
            Publish::All => Some(now),
            Publish::Changes if self.scope.kind() == ScopeKind::Source => {
                Some(HourStart::of(OccurredAt(now)).end())
            }
            Publish::Changes => None,
        };
        let expiry = self.cohorts.due();
        let episodes = self.episodes.due(&self.rules).map(next_slide_end);
        let times = [self.windows.due(now), episodes, cohorts, expiry];
        times.into_iter().flatten().min()
    }

    /// Returns true if the shard can forget the scope.
    fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.cohorts.is_empty() && self.episodes.is_empty()
    }

    fn estimated_bytes(&self) -> usize {
        let panes = self.windows.len() + self.cohorts.len();
        SCOPE_BYTES + 3 * self.key.len() + PANE_BYTES * panes
    }

    /// Returns the changelog keys of what has changed.
    fn unwritten_keys(&self) -> impl Iterator<Item = String> {
        let Unwritten { panes, cohorts, waiting, episodes, campaign } = &self.unwritten;
        let key = &*self.key;
        let panes = panes.iter().map(|(ring, start)| ChangelogKey::Pane(*ring, *start, key));
        let cohorts = cohorts.iter().map(|hour| ChangelogKey::Cohort(*hour, key));
        let waiting = waiting.then_some(ChangelogKey::Waiting(key));
        let episodes = episodes.then_some(ChangelogKey::Episodes(key));
        let campaign = campaign.then_some(ChangelogKey::Campaign(key));
        let others = waiting.into_iter().chain(episodes).chain(campaign);
        panes.chain(cohorts).chain(others).map(ChangelogKey::to_text)
    }

    /// Appends the changelog records of what has changed.
    fn write(&mut self, records: &mut Vec<ChangelogRecord>) -> Result<(), serde_json::Error> {
        let Unwritten { panes, cohorts, waiting, episodes, campaign } =
            std::mem::take(&mut self.unwritten);
        let key = &*self.key;
        for (ring, start) in panes {
            let value = self.windows.pane(ring, start).map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Pane(ring, start, key).to_text(), value));
        }
        for hour in cohorts {
            let value = self.cohorts.cohort(hour).map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Cohort(hour, key).to_text(), value));
        }
        if waiting {
            let windows = self.windows.waiting();
            let value = (!windows.is_empty()).then(|| serde_json::to_vec(windows)).transpose()?;
            records.push((ChangelogKey::Waiting(key).to_text(), value));
        }
        if episodes {
            let open = (!self.episodes.is_empty()).then_some(&self.episodes);
            let value = open.map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Episodes(key).to_text(), value));
        }
        if campaign {
            let value = self.campaign.as_ref().map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Campaign(key).to_text(), value));
        }
        Ok(())
    }
}

/// Returns whether the tombstone of a key can be written later: that of a pane or cohort.
fn can_wait(key: &str) -> bool {
    use ChangelogKey::{Cohort, Pane};
    matches!(ChangelogKey::parse(key.as_bytes()), Ok(Pane(..) | Cohort(..)))
}

/// Rounds event time up to a slide end.
const fn next_slide_end(time: i64) -> i64 {
    time.saturating_add(PANE - 1).div_euclid(PANE) * PANE
}

/// Returns the rules that are judged for a scope. A scope of all others has none: its deltas come from other
/// shards, so nobody could recompute what it counts at a given prefix of the log.
fn rules_of(scope: &Scope, settings: &ShardSettings) -> Vec<RuleInForce> {
    let is_other = scope.kind() != ScopeKind::Source && scope.other().is_none();
    if is_other { Vec::new() } else { settings.rules.for_scope(scope, Facts::default()) }
}

/// Returns the panes of the day that the changelog contains.
fn written_days(panes: &BTreeMap<(Ring, PaneStart), Pane>) -> BTreeSet<PaneStart> {
    let days = panes.keys().filter(|(ring, _)| *ring == Ring::Day);
    days.map(|(_, start)| *start).collect()
}

/// Adds the panes of the day that the changelog does not contain: they are the sums of panes of the fine
/// ring. No late delta has come to them, because then they would be written.
fn with_days(mut panes: BTreeMap<(Ring, PaneStart), Pane>) -> BTreeMap<(Ring, PaneStart), Pane> {
    let mut missing: BTreeMap<PaneStart, Counts> = BTreeMap::new();
    for (&(ring, start), pane) in &panes {
        let day = Ring::Day.pane_of(start);
        if ring == Ring::Fine && !panes.contains_key(&(Ring::Day, day)) {
            *missing.entry(day).or_default() += &pane.counts.to_counts();
        }
    }
    panes.extend(missing.into_iter().map(|(start, counts)| {
        let pane = Pane { start, corrections: 0, counts: (&counts).into() };
        ((Ring::Day, start), pane)
    }));
    panes
}

fn emits(scope: &Scope, settings: &ShardSettings) -> Emits {
    Emits { past: settings.publish == Publish::All, tumbling: scope.kind() == ScopeKind::Source }
}

/// Returns whether a provider has tried to deliver messages. Opens and complaints can be about mail of
/// other days.
fn has_sent(counts: &Counts) -> bool {
    [Counter::Injected, Counter::Deferrals].iter().any(|&it| counts.get(it) > 0)
        || counts.sum(&window::BOUNCES) > 0
}

/// Returns what limits the number of scopes of a key: provider and source, or for a tenant the kind of
/// scope, `tenant` or `tenant-mailbox`. Sources are not limited.
fn limited_group(key: &str) -> Option<&str> {
    let (kind, rest) = key.split_once('/')?;
    match kind {
        "source" => None,
        "tenant" | "tenant-mailbox" => Some(kind),
        _ => {
            let source = rest.find('/')? + 1;
            let end = rest[source..].find('/')?;
            Some(&rest[..source + end])
        }
    }
}

/// Returns the number of events in a delta, as far as they count for something. Each counter here
/// belongs to another kind or cause of events.
fn count_events(counts: &Counts) -> u64 {
    use Counter as C;
    let events = [
        C::Injected,
        C::Delivered,
        C::Deferrals,
        C::AutoReplies,
        C::LateBounces,
        C::Dropped,
        C::Suppressed,
        C::Opened,
        C::Clicked,
        C::MachineOpened,
        C::MachineClicked,
        C::Complained,
        C::Unsubscribed,
    ];
    counts.sum(&events).saturating_add(counts.sum(&BOUNCES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scopes_of_a_source_and_those_of_tenants_are_limited() {
        for (key, group) in [
            ("source/ses/acme", None),
            ("campaign/ses/acme/a%2Fb", Some("ses/acme")),
            ("mailbox-ip/ses/acme/gmail/192.0.2.1", Some("ses/acme")),
            ("tenant/acme", Some("tenant")),
            ("tenant-mailbox/acme/gmail", Some("tenant-mailbox")),
        ] {
            assert_eq!(limited_group(key), group, "{key}");
        }
    }
}
