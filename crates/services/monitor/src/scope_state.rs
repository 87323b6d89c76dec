//! The state of one scope: its counts, its episodes and its history.

mod stored;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alerting::{Alert, AsOf, Campaign, Facts, RuleInForce, ScopeEpisodes};
use event::{Counter, OccurredAt};
use window::{
    Admission, Applied, BOUNCES, Cohorts, Counts, Emits, HourStart, JudgedWindows, PANE, PaneStart,
    Ring, Scope, ScopeError, ScopeKind, ScopeWindows, Width, Window,
};

use crate::evidence::ScopeEvidence;
use crate::history::{History, may_have_history};
use crate::settings::Publish;
use crate::shard::ShardSettings;
pub(crate) use stored::RestoredScope;
use stored::Unwritten;

/// The rates of a source are unknown if the last hour in which it has delivered a message ended longer
/// ago than this, in microseconds of event time: 24 hours.
const DELIVERIES_EXPECTED: i64 = 24 * 3_600_000_000;

/// The estimated memory of a scope without panes, and of a pane or cohort, in bytes. Most panes have
/// few counts.
const SCOPE_BYTES: usize = 2048;
const PANE_BYTES: usize = 80;

/// The key of a scope. Records and the maps of a shard use it.
pub(crate) type ScopeKey = Arc<str>;

pub(crate) struct ScopeState {
    pub(crate) key: ScopeKey,
    pub(crate) scope: Scope,
    /// The key of its source or tenant; see [`Scope::whole`].
    pub(crate) whole: ScopeKey,
    pub(crate) windows: ScopeWindows,
    pub(crate) cohorts: Cohorts,
    /// The rules that apply to the scope.
    rules: Vec<RuleInForce>,
    episodes: ScopeEpisodes,
    /// The counts since the campaign began; `None` for other scopes.
    campaign: Option<Campaign>,
    /// Whether the scope can have a history.
    may_have_history: bool,
    /// What is usual. Sources always have one, mailbox providers if they have enough events.
    history: Option<Box<History>>,
    /// The time at which the scope must be advanced. The shard's list of due scopes contains the same time.
    pub(crate) due: Option<i64>,
    /// The estimated memory. That of the shard contains it.
    pub(crate) bytes: usize,
    /// The panes of the day that are in the changelog. See [`ScopeState::must_write_day`].
    written_days: BTreeSet<PaneStart>,
    unwritten: Unwritten,
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

/// Whether a source or tenant sends `delivered` events: the latest hour in which it did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct HasDeliveries(pub(crate) Option<HourStart>);

impl HasDeliveries {
    pub(crate) fn at(self, end: i64) -> bool {
        self.0.is_some_and(|hour| hour.end() + DELIVERIES_EXPECTED >= end)
    }
}

/// The windows of a scope to publish, each once.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) windows: BTreeMap<(i64, Width), Window>,
}

/// What a judgement of a scope depends on besides the scope.
#[derive(Clone, Copy)]
pub(crate) struct Judgement<'a> {
    /// The time of the clock.
    pub(crate) now: i64,
    pub(crate) has_deliveries: HasDeliveries,
    pub(crate) as_of: &'a AsOf,
}

impl Published {
    fn add(&mut self, window: &Window) {
        if let Entry::Vacant(entry) = self.windows.entry((window.end, window.width)) {
            entry.insert(*window);
        }
    }
}

impl ScopeState {
    pub(crate) fn new(key: &str, settings: &ShardSettings) -> Result<Self, ScopeError> {
        let scope = Scope::parse(key)?;
        let rules = rules_of(&scope, settings);
        let history = (scope.kind() == ScopeKind::Source)
            .then(|| Box::new(History::new(&scope, &settings.zones, &rules)));
        Ok(Self {
            key: key.into(),
            whole: scope.whole().key().into(),
            windows: ScopeWindows::new(emits(&scope, settings)),
            cohorts: Cohorts::default(),
            rules,
            episodes: ScopeEpisodes::default(),
            campaign: None,
            may_have_history: may_have_history(&scope),
            history,
            scope,
            due: None,
            bytes: 0,
            written_days: BTreeSet::new(),
            unwritten: Unwritten::default(),
        })
    }

    /// Returns also whether the scope may be due at another time.
    pub(crate) fn apply(
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
        if let Some(history) = &mut self.history {
            history.note(pane.end(), counts);
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
    pub(crate) fn judge(&mut self, until: i64, judgement: Judgement<'_>, out: &mut Vec<Alert>) {
        self.judge_windows(until, judgement, false, out);
    }

    /// Judges the rules at the time of the clock, although no window has changed.
    pub(crate) fn judge_again(&mut self, judgement: Judgement<'_>, out: &mut Vec<Alert>) {
        self.judge_windows(judgement.now, judgement, true, out);
    }

    fn judge_windows(
        &mut self,
        until: i64,
        judgement: Judgement<'_>,
        again: bool,
        out: &mut Vec<Alert>,
    ) {
        let Judgement { now, has_deliveries, as_of } = judgement;
        let Self { scope, windows, cohorts, campaign, rules, episodes, history, .. } = self;
        let newest = windows.newest_end();
        let before = (!episodes.is_empty()).then(|| episodes.clone());
        // Episodes change at slide ends only, so that it does not matter when the clock was read.
        let slide_end = now.div_euclid(PANE) * PANE;
        let judged_end = windows.judged_end();
        let falls_silent = history
            .as_mut()
            .is_some_and(|history| history.falls_silent(rules, judged_end, slide_end));
        let history = history.as_deref();
        let mut due = episodes.due(rules);
        let mut step = |windows: JudgedWindows<'_>, now: Option<i64>| {
            let is_newest = newest.is_none_or(|newest| windows.end >= newest);
            let evidence = ScopeEvidence {
                windows,
                cohorts,
                // The counts of a campaign have no end, so they belong to the newest windows only.
                campaign: campaign.as_ref().filter(|_| is_newest),
                has_deliveries,
                newest,
                history,
                // Whether an open silence is over must always be judged.
                may_be_silent: !episodes.is_empty()
                    || history.is_none_or(|history| history.may_be_silent(windows.end)),
            };
            match now {
                None => episodes.judge(scope, rules, &evidence, as_of, out),
                Some(now) => episodes.advance(scope, rules, &evidence, now, as_of, out),
            }
            episodes.due(rules)
        };
        windows.judge(until, now, |windows| due = step(windows, None));
        if again || falls_silent || due.is_some_and(|due| due <= slide_end) {
            step(windows.judged(now), Some(slide_end));
        }
        if before.unwrap_or_default() != *episodes {
            self.unwritten.episodes = true;
        }
    }

    /// Advances the scope. Returns whether messages were sent in the newest windows, or `None` if none
    /// has changed.
    pub(crate) fn advance(
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

    /// Observes the hours that have ended between two times, while their panes are there, and forgets a history that
    /// is too old. Returns whether the rules must be judged again at the second time.
    pub(crate) fn observe(&mut self, from: i64, now: i64, settings: &ShardSettings) -> bool {
        if !self.may_have_history {
            return false;
        }
        let Self { scope, windows, cohorts, rules, history, .. } = self;
        let begin = || History::new(scope, &settings.zones, rules);
        let is_new = History::observe(history, windows, cohorts, (from, now), begin);
        let expires = history.as_mut().is_some_and(|it| it.expire(now));
        is_new || expires
    }

    /// Returns whether changed cohorts are published in an advance.
    fn publishes_cohorts(&self, from: i64, now: i64, settings: &ShardSettings) -> bool {
        let hour = |time| HourStart::of(OccurredAt(time));
        match settings.publish {
            Publish::All => true,
            Publish::Changes => self.scope.kind() == ScopeKind::Source && hour(from) < hour(now),
        }
    }

    /// Returns when the scope must be advanced if nothing changes.
    pub(crate) fn next_due(&mut self, now: i64, settings: &ShardSettings) -> Option<i64> {
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
        let history = self
            .may_have_history
            .then(|| History::due(self.history.as_deref(), &self.windows, &self.cohorts, now));
        let judged_end = self.windows.judged_end().max(now.div_euclid(PANE) * PANE);
        let silence = self.history.as_mut().and_then(|it| it.silence_due(&self.rules, judged_end));
        let silence = silence.map(next_slide_end);
        let times = [self.windows.due(now), episodes, cohorts, expiry, history.flatten(), silence];
        times.into_iter().flatten().min()
    }

    /// Returns whether episodes have changed since the last commit.
    pub(crate) fn has_changed_episodes(&self) -> bool {
        self.unwritten.episodes
    }

    /// The counts since the campaign began; `None` for other scopes.
    pub(crate) const fn campaign(&self) -> Option<&Campaign> {
        self.campaign.as_ref()
    }

    /// Returns whether something has happened in the scope lately, or is still open.
    pub(crate) fn is_active(&self) -> bool {
        !(self.windows.is_empty() && self.cohorts.is_empty() && self.episodes.is_empty())
    }

    pub(crate) fn has_episodes(&self) -> bool {
        !self.episodes.is_empty()
    }

    /// Returns whether the scope has panes or counts of a campaign, by which rules are judged.
    pub(crate) fn has_counts(&self) -> bool {
        !self.windows.is_empty() || self.campaign.is_some()
    }

    /// Returns true if the shard can forget the scope.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_active() && self.history.as_ref().is_none_or(|history| history.is_empty())
    }

    pub(crate) fn estimated_bytes(&self) -> usize {
        let panes = self.windows.len() + self.cohorts.len();
        let history = self.history.as_ref().map_or(0, |history| history.estimated_bytes());
        SCOPE_BYTES + 3 * self.key.len() + PANE_BYTES * panes + history
    }
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

fn emits(scope: &Scope, settings: &ShardSettings) -> Emits {
    Emits { past: settings.publish == Publish::All, tumbling: scope.kind() == ScopeKind::Source }
}

/// Returns whether a provider has tried to deliver messages. Opens and complaints can be about mail of
/// other days.
fn has_sent(counts: &Counts) -> bool {
    [Counter::Injected, Counter::Deferrals].iter().any(|&it| counts.get(it) > 0)
        || counts.sum(&window::BOUNCES) > 0
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
