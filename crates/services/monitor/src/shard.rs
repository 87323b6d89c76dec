//! The state of one partition of `mail.panes`: its scopes and its clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use alerting::{Alert, AsOf, RuleSet};
use event::{Counter, OccurredAt, Provider};
use window::{Counts, HourStart, Pane, PaneStart, Scope, ScopeError, ScopeKind, ScopeRate};

use crate::changelog::{ChangelogKey, LastCommit};
use crate::clock::{ClockSettings, ShardClock};
use crate::commit::{CommitPart, IncompleteCommits, KeyedDelta};
use crate::deliveries::Deliveries;
use crate::history::Zones;
use crate::scope_state::{
    ChangelogRecord, Counted, HasDeliveries, Judgement, Published, RestoredScope, ScopeKey,
    ScopeState,
};
use crate::settings::{MonitorSettings, Publish};
use crate::watermarks::Watermarks;

/// The greatest number of tombstones of expired panes and cohorts that one commit writes.
const TOMBSTONES_PER_COMMIT: usize = 20_000;

/// How often the counts of campaigns are published, in microseconds of event time.
const CAMPAIGNS_EVERY: i64 = 60_000_000;
/// The greatest number of campaigns whose counts one commit publishes.
const CAMPAIGNS_PER_COMMIT: usize = 5_000;

/// The settings of all shards.
#[derive(Debug)]
pub(crate) struct ShardSettings {
    pub(crate) rules: RuleSet,
    pub(crate) publish: Publish,
    pub(crate) clock: ClockSettings,
    /// The time zones of sources.
    pub(crate) zones: Zones,
    /// How many scopes of one source, besides the source itself, a shard keeps.
    pub(crate) scopes_per_source: usize,
    /// Whether the scopes of the process use as much memory as they may.
    pub(crate) memory_is_full: bool,
}

impl ShardSettings {
    /// Returns the settings of the shards. `event_partitions` and `pane_partitions` are the numbers of partitions of
    /// `mail.events` and `mail.panes`.
    pub(crate) fn new(
        settings: &MonitorSettings,
        (event_partitions, pane_partitions): (usize, i32),
        (rules, zones): (RuleSet, Zones),
    ) -> Self {
        Self {
            rules,
            zones,
            publish: settings.publish,
            clock: ClockSettings {
                event_partitions,
                slack: settings.slack(),
                out_of_orderness: settings.out_of_orderness(),
            },
            scopes_per_source: settings
                .scopes_per_shard(usize::try_from(pane_partitions).unwrap_or(1)),
            memory_is_full: false,
        }
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
    /// The campaigns whose counts have changed since they were last published.
    unpublished_campaigns: BTreeSet<ScopeKey>,
    /// Those whose turn it is. With many, a turn takes several commits.
    campaigns_to_publish: BTreeSet<ScopeKey>,
    /// The minute of event time in which the turn began.
    published_minute: Option<i64>,
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
        let delivered = |pane: &&Pane| pane.counts.to_counts().get(Counter::Delivered) > 0;
        let delivered: Vec<_> =
            restored.panes.values().filter(delivered).map(|pane| pane.start).collect();
        let state = ScopeState::restore(key, restored, settings, self.clock.now())?;
        // A changelog of an earlier release does not tell when the source has delivered a message.
        for pane in delivered {
            self.note_delivery(&state.whole, pane);
        }
        if state.was_changed_by_restore() {
            self.changed.insert(state.key.clone());
        }
        let key = state.key.clone();
        if state.campaign().is_some() {
            // Whether the latest counts were published before the restart is not known.
            self.unpublished_campaigns.insert(key.clone());
        }
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
            if state.has_changed_episodes() {
                self.reschedule(&key, settings, None);
            }
        }
    }

    /// Returns the number of known sources by provider, for the incidents stage.
    pub(crate) fn sources(&self) -> BTreeMap<Provider, u32> {
        // A source of which only a history is left is none that sends.
        let is_active = |it: &&ScopeState| it.scope.kind() == ScopeKind::Source && it.is_active();
        let sources = self.scopes.values().filter(is_active);
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

    /// Returns a time that is later than all events so far, in UTC microseconds. `None` while the progress or the
    /// offset of an event partition is unknown.
    pub(crate) fn after_all_events(&self, settings: ClockSettings) -> Option<i64> {
        let is_complete = self.as_of.0.len() >= settings.event_partitions;
        self.clock.after_all_events(settings).filter(|_| is_complete)
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
        let must_judge_again = state.observe(from, now, settings);
        let had_counts = state.has_counts();
        let has_sent = state.advance(from, now, settings, &mut published);
        let lost_counts = had_counts && !state.has_counts();
        if must_judge_again || lost_counts && state.has_episodes() {
            // Without counts, its episodes become stale and end.
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
        // The hour of a baseline can come back after it has expired.
        let is_baseline = |key: &str| key.starts_with("baseline/");
        let again = records.iter().filter(|(key, value)| value.is_some() && is_baseline(key));
        let again: HashSet<&str> = again.map(|(key, _)| key.as_str()).collect();
        if !again.is_empty() {
            self.tombstones.retain(|key| !again.contains(key.as_str()));
        }
        // After a silent night all panes of all scopes expire at once. What has expired does not come back
        // otherwise, so its tombstones can be written later; after a crash it expires again.
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

    /// Returns the records of `mail.campaigns` that follow from the changelog records of the commit: the counts of the
    /// campaigns that have changed once per minute of event time, and the ends of campaigns at once. After a restart, the
    /// counts of all campaigns are published again.
    pub(crate) fn campaign_records(
        &mut self,
        changelog: &[ChangelogRecord],
    ) -> Result<Vec<ChangelogRecord>, kafka::Error> {
        let mut records = Vec::new();
        for (key, value) in changelog {
            let Ok(ChangelogKey::Campaign(scope)) = ChangelogKey::parse(key.as_bytes()) else {
                continue;
            };
            if value.is_some() {
                self.unpublished_campaigns.insert(scope.into());
            } else {
                self.unpublished_campaigns.remove(scope);
                self.campaigns_to_publish.remove(scope);
                records.push((scope.to_owned(), None));
            }
        }
        let Some(now) = self.now() else { return Ok(records) };
        let minute = now.div_euclid(CAMPAIGNS_EVERY);
        // Campaigns that change meanwhile have to wait, so that each has its turn.
        if self.campaigns_to_publish.is_empty()
            && self.published_minute.is_none_or(|published| minute > published)
        {
            self.campaigns_to_publish = std::mem::take(&mut self.unpublished_campaigns);
            self.published_minute = Some(minute);
        }
        for _ in 0..CAMPAIGNS_PER_COMMIT {
            let Some(key) = self.campaigns_to_publish.pop_first() else { break };
            if let Some(campaign) = self.scopes.get(&key).and_then(ScopeState::campaign) {
                let value = serde_json::to_vec(campaign).map_err(kafka::Error::state)?;
                records.push((key.to_string(), Some(value)));
            }
        }
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

/// Returns whether the tombstone of a key can be written later: that of a pane, a cohort or an hour of a baseline.
fn can_wait(key: &str) -> bool {
    use ChangelogKey::{Baseline, Cohort, Pane};
    matches!(ChangelogKey::parse(key.as_bytes()), Ok(Pane(..) | Cohort(..) | Baseline(..)))
}

/// Returns what limits the number of scopes of a key: provider and source, or for a tenant the kind of
/// scope, `tenant` or `tenant-mailbox`. Sources are not limited.
pub(crate) fn limited_group(key: &str) -> Option<&str> {
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
