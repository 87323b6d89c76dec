//! What is usual for a scope, and when its last events happened.
//!
//! Sources keep a history, and so do the mailbox providers of a source once an hour had enough events. Its content
//! depends on the log alone: an hour is observed when the clock of the shard, which is data in the log, passes
//! its end by [`HOUR_SETTLES`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use alerting::{Baseline, Bucket, EngagementHistory, RuleInForce, Series, Zone, silence_times};
use event::{OccurredAt, Provider};
use window::{Cohorts, Counts, HourStart, Ring, Scope, ScopeKind, ScopeWindows};

use crate::changelog::ChangelogKey;
use crate::scope_state::ChangelogRecord;

/// In microseconds.
const HOUR: i64 = 3_600_000_000;

/// How long after its end an hour is observed, in microseconds: 5 minutes. Later events do not count in the
/// baseline.
const HOUR_SETTLES: i64 = 5 * 60_000_000;

/// How long after its end the engagement of an hour of sending is observed, in microseconds: 2 hours.
const COHORT_SETTLES: i64 = 2 * HOUR;

/// The number of events in an hour with which the history of a mailbox provider begins. Without such a limit,
/// every domain that is ever sent to would have one.
const LEAST_EVENTS: u64 = 20;

/// The time of an event that never happened.
const NEVER: i64 = i64::MIN;

const SERIES: usize = Series::TRACKED.len();

/// The time zones of the sources that have one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zones(HashMap<(Provider, String), Zone>);

impl Zones {
    pub(crate) fn insert(&mut self, provider: Provider, source: String, zone: Zone) {
        self.0.insert((provider, source), zone);
    }

    /// Returns the zone of a scope's source. The default is UTC.
    pub(crate) fn of(&self, scope: &Scope) -> Zone {
        let source = scope.of_source().map(|(provider, source)| (provider, source.to_owned()));
        source.and_then(|source| self.0.get(&source)).cloned().unwrap_or(Zone::UTC)
    }
}

/// The parts of a history from the changelog.
#[derive(Default)]
pub(crate) struct RestoredHistory {
    /// By hour of the week.
    pub(crate) buckets: BTreeMap<u8, Bucket>,
    pub(crate) engagement: EngagementHistory,
    pub(crate) last_events: BTreeMap<Series, i64>,
}

impl RestoredHistory {
    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
            && self.last_events.is_empty()
            && self.engagement == EngagementHistory::default()
    }
}

pub(crate) struct History {
    baseline: Baseline,
    /// By series of [`Series::TRACKED`]: the end of the pane of the last event, or [`NEVER`].
    last: [i64; SERIES],
    /// How many of the series are tracked.
    tracked: usize,
    /// When rules about silence are broken, as far as that was computed.
    silences: Option<Silences>,
    unwritten: Unwritten,
}

/// When rules about silence are broken if no event comes; see [`silence_times`].
struct Silences {
    times: Vec<i64>,
    /// The last events for which the times were computed. With newer ones, a rule is broken later.
    last: [i64; SERIES],
}

/// The parts that changed since the last commit.
#[derive(Default)]
struct Unwritten {
    buckets: BTreeSet<u8>,
    engagement: bool,
    last: bool,
}

/// Returns the start of the first hour that is not observed at a time.
fn observed(now: i64) -> i64 {
    HourStart::of(OccurredAt(now.saturating_sub(HOUR_SETTLES))).micros()
}

/// Returns the first hour of sending whose engagement is not observed at a time.
fn observed_cohort(now: i64) -> HourStart {
    HourStart::of(OccurredAt(now.saturating_sub(COHORT_SETTLES)))
}

/// Returns whether a scope can have a history. A scope of all others cannot: its deltas come from other shards.
pub(crate) fn may_have_history(scope: &Scope) -> bool {
    match scope.kind() {
        ScopeKind::Source => true,
        ScopeKind::MailboxProvider => scope.other().is_some(),
        _ => false,
    }
}

impl History {
    /// Returns the history of a scope in which nothing was observed yet.
    pub(crate) fn new(scope: &Scope, zones: &Zones, rules: &[RuleInForce]) -> Self {
        let is_judged = rules.iter().any(|rule| rule.test == alerting::rule::Test::Gap);
        let tracked = match scope.kind() {
            ScopeKind::Source => SERIES,
            // All events alone: the others are rare at one mailbox provider.
            _ => usize::from(is_judged),
        };
        Self {
            baseline: Baseline::new(zones.of(scope)),
            last: [NEVER; SERIES],
            tracked,
            silences: None,
            unwritten: Unwritten::default(),
        }
    }

    /// Returns a history from the changelog.
    pub(crate) fn restore(self, restored: RestoredHistory, zone: Zone) -> Self {
        let RestoredHistory { buckets, engagement, last_events } = restored;
        let (baseline, buckets) = Baseline::restore(zone, buckets, engagement);
        let last = Series::TRACKED.map(|series| last_events.get(&series).copied().unwrap_or(NEVER));
        let unwritten = Unwritten { buckets, ..Unwritten::default() };
        Self { baseline, last, unwritten, ..self }
    }

    pub(crate) const fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// Returns true if there is nothing that the scope must be kept for.
    pub(crate) fn is_empty(&self) -> bool {
        self.baseline.is_empty()
    }

    pub(crate) fn has_unwritten(&self) -> bool {
        let Unwritten { buckets, engagement, last } = &self.unwritten;
        !buckets.is_empty() || *engagement || *last
    }

    pub(crate) fn estimated_bytes(&self) -> usize {
        size_of::<Self>() + self.baseline.estimated_bytes()
    }

    /// Notes the events of a pane that ends at `end`.
    pub(crate) fn note(&mut self, end: i64, counts: &Counts) {
        for (last, series) in self.last.iter_mut().zip(Series::TRACKED).take(self.tracked) {
            if *last < end && series.of(counts) > 0 {
                if *last == NEVER {
                    self.silences = None;
                }
                *last = end;
                self.unwritten.last = true;
            }
        }
    }

    /// Returns whether the last event is noted here. Otherwise only the panes tell when it was.
    pub(crate) const fn tracks_events(&self) -> bool {
        self.tracked > 0
    }

    /// Returns the end of the pane of the last event of a series.
    pub(crate) fn last_event_of(&self, series: Series) -> Option<i64> {
        self.last_events().find_map(|(of, last)| (of == series).then_some(last))
    }

    fn last_events(&self) -> impl Iterator<Item = (Series, i64)> + Clone {
        let all = Series::TRACKED.into_iter().zip(self.last);
        all.filter(|(_, last)| *last != NEVER)
    }

    /// Returns whether a rule about silence can be broken at `end`. False is certain, true is not.
    pub(crate) fn may_be_silent(&self, end: i64) -> bool {
        self.silences.as_ref().is_none_or(|it| it.times.iter().any(|at| *at <= end))
    }

    /// Returns whether the time comes to a moment in `(after, until]` at which a rule about silence is broken.
    pub(crate) fn falls_silent(&mut self, rules: &[RuleInForce], after: i64, until: i64) -> bool {
        let times = self.silence_times(rules, until);
        times.iter().any(|at| after < *at && *at <= until)
    }

    /// Returns when a rule about silence is next broken, after `end`. It may be too early, if an event has come since
    /// it was computed.
    pub(crate) fn silence_due(&mut self, rules: &[RuleInForce], end: i64) -> Option<i64> {
        self.silence_times(rules, end).iter().copied().filter(|at| *at > end).min()
    }

    /// Returns when rules about silence are broken. The times up to `end` are exact, later ones may be too early.
    /// An active source computes them once in some minutes, and not with every event.
    fn silence_times(&mut self, rules: &[RuleInForce], end: i64) -> &[i64] {
        let last = self.last;
        let is_exact = |it: &Silences| it.last == last || it.times.iter().all(|at| *at > end);
        let silences = self.silences.take().filter(is_exact).unwrap_or_else(|| {
            let times = silence_times(rules, &self.baseline, self.last_events());
            Silences { times, last }
        });
        &self.silences.insert(silences).times
    }

    /// Returns when the history must be advanced if no event comes: when an hour can be observed that has panes,
    /// or when it expires. Hours without panes cost nothing.
    pub(crate) fn due(
        history: Option<&Self>,
        windows: &ScopeWindows,
        cohorts: &Cohorts,
        now: i64,
    ) -> Option<i64> {
        let pane = windows.panes_from(Ring::Day, observed(now)).next();
        let hour = pane.map(|pane| hour_of(pane.start.micros()) + HOUR + HOUR_SETTLES);
        let cohort = history.and_then(|_| cohorts.hours_from(observed_cohort(now)).next());
        let cohort = cohort.map(|(hour, _)| hour.end() + COHORT_SETTLES);
        let expiry = history.and_then(|history| history.baseline.expires());
        [hour, cohort, expiry].into_iter().flatten().min()
    }

    /// Observes the hours that can be observed at the time `now` and could not at `from`. `begin` returns a new
    /// history; that of a mailbox provider begins with an hour that has enough events. Returns whether rules about
    /// engagement must be judged.
    pub(crate) fn observe(
        history: &mut Option<Box<Self>>,
        windows: &ScopeWindows,
        cohorts: &Cohorts,
        (from, now): (i64, i64),
        begin: impl Fn() -> Self,
    ) -> bool {
        for (hour, counts) in hours(windows, observed(from)..observed(now)) {
            let is_enough = Series::Events.of(&counts) >= LEAST_EVENTS;
            if history.is_none() && is_enough {
                let mut new = begin();
                new.note(windows.newest_end().unwrap_or(hour), &counts);
                *history = Some(Box::new(new));
            }
            if let Some(history) = history {
                history.observe_hour(hour, &counts, longest_gap(windows, hour));
            }
        }
        let Some(history) = history else { return false };
        let until = observed_cohort(now);
        let hours = cohorts.hours_from(observed_cohort(from)).take_while(|(hour, _)| *hour < until);
        let mut is_new = false;
        for (hour, counts) in hours {
            is_new |= history.baseline.observe_cohort(hour.micros(), &counts);
        }
        history.unwritten.engagement |= is_new;
        is_new
    }

    fn observe_hour(&mut self, hour: i64, counts: &Counts, longest_gap: i64) {
        let changed = self.baseline.observe(hour, counts, longest_gap);
        if changed.is_some() {
            self.silences = None;
        }
        self.unwritten.buckets.extend(changed);
    }

    /// Forgets what is usual if nothing was observed for so long that it says nothing any more. The last events
    /// are kept as long as the scope, because an open silence ends differently if there was an event.
    /// Returns whether it did.
    pub(crate) fn expire(&mut self, now: i64) -> bool {
        if self.baseline.expires().is_none_or(|at| at > now) {
            return false;
        }
        let numbers = self.baseline.buckets().map(|(number, _)| number);
        self.unwritten.buckets.extend(numbers);
        self.unwritten.engagement = true;
        self.baseline = Baseline::new(self.baseline.zone().clone());
        self.silences = None;
        true
    }

    /// Returns the changelog keys of what has changed, and of what is left if the scope is removed.
    pub(crate) fn unwritten_keys<'k>(
        &self,
        key: &'k str,
    ) -> impl Iterator<Item = ChangelogKey<'k>> {
        let Unwritten { buckets, engagement, last } = &self.unwritten;
        let has_last = *last || self.last != [NEVER; SERIES];
        let buckets = buckets.iter().map(move |number| ChangelogKey::Baseline(*number, key));
        let engagement = engagement.then_some(ChangelogKey::Engagement(key));
        buckets.chain(engagement).chain(has_last.then_some(ChangelogKey::History(key)))
    }

    /// Appends the changelog records of what has changed.
    pub(crate) fn write(
        &mut self,
        key: &str,
        records: &mut Vec<ChangelogRecord>,
    ) -> Result<(), serde_json::Error> {
        let Unwritten { buckets, engagement, last } = std::mem::take(&mut self.unwritten);
        for number in buckets {
            let value = self.baseline.bucket(number).map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Baseline(number, key).to_text(), value));
        }
        if engagement {
            let history = self.baseline.engagement_history();
            let value = (*history != EngagementHistory::default()).then_some(history);
            let value = value.map(serde_json::to_vec).transpose()?;
            records.push((ChangelogKey::Engagement(key).to_text(), value));
        }
        if last {
            let last: BTreeMap<Series, i64> = self.last_events().collect();
            let value = (!last.is_empty()).then(|| serde_json::to_vec(&last)).transpose()?;
            records.push((ChangelogKey::History(key).to_text(), value));
        }
        Ok(())
    }
}

fn hour_of(micros: i64) -> i64 {
    HourStart::of(OccurredAt(micros)).micros()
}

/// Returns the hours that begin in the range and have panes, with their counts.
fn hours(windows: &ScopeWindows, range: Range<i64>) -> Vec<(i64, Counts)> {
    let mut hours: Vec<(i64, Counts)> = Vec::new();
    let panes = windows.panes_from(Ring::Day, range.start);
    for pane in panes.take_while(|pane| pane.start.micros() < range.end) {
        let hour = hour_of(pane.start.micros());
        match hours.last_mut().filter(|(last, _)| *last == hour) {
            Some((_, sum)) => *sum += &pane.counts.to_counts(),
            None => hours.push((hour, pane.counts.to_counts())),
        }
    }
    hours
}

/// Returns the longest time within an hour without an event, in microseconds. An event counts as at the end of its
/// pane, as [`History::last_event_of`] does. The panes of ten seconds of an hour are all there when it is observed.
fn longest_gap(windows: &ScopeWindows, hour: i64) -> i64 {
    let (mut longest, mut last) = (0, hour);
    let panes = windows.panes_from(Ring::Fine, hour);
    for pane in panes.take_while(|pane| pane.start.micros() < hour + HOUR) {
        if Series::Events.of(&pane.counts.to_counts()) > 0 {
            longest = longest.max(pane.start.end() - last);
            last = pane.start.end();
        }
    }
    longest.max(hour + HOUR - last)
}
