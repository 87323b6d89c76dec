use std::collections::BTreeMap;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use window::Scope;

use crate::episode::{Context, Episode, OldEpisode, Phase, Timer};
use crate::evidence::{AsOf, Evidence};
use crate::rule::Rule;
use crate::rule_set::RuleInForce;
use crate::verdict::{Level, Windows, judge};
use crate::{Alert, EpisodeId, ResolveReason};

/// The episodes of one scope: at most one per rule, however many windows break it. The JSON form restores
/// them after a restart; that of earlier releases can be read.
///
/// The states of an episode:
/// - *pending*: the rule is broken, but not for as long as its `hold`. Not published.
/// - *firing*. If the evidence is good for as long as `resolve.for`, the episode ends as *recovered*.
/// - *stale*: too little volume for as long as the episode's window and 10 minutes. After another 60 minutes it
///   ends as *no traffic*.
///
/// After an episode has ended without recovery, its old windows do not open the next one: until they have
/// passed, only windows that begin later do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeEpisodes {
    by_rule: BTreeMap<String, Entry>,
}

/// What is kept of one rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Entry {
    Ended(Ended),
    Open(Box<Episode>),
}

impl Entry {
    const fn ended(&self) -> Option<Ended> {
        match self {
            Self::Ended(ended) => Some(*ended),
            Self::Open(_) => None,
        }
    }
}

/// The key that only one form of an entry has.
#[derive(Deserialize)]
struct Form {
    ended_at: Option<IgnoredAny>,
    phase: Option<IgnoredAny>,
}

impl<'de> Deserialize<'de> for Entry {
    // An untagged enum would not read the numbers that are keys of an offset vector.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let read = || -> serde_json::Result<Self> {
            Ok(match serde_json::from_str(json.get())? {
                Form { ended_at: Some(_), .. } => Self::Ended(serde_json::from_str(json.get())?),
                Form { phase: Some(_), .. } => Self::Open(serde_json::from_str(json.get())?),
                // The form of earlier releases.
                Form { .. } => {
                    let old: OldEpisode = serde_json::from_str(json.get())?;
                    Self::Open(Box::new(old.into()))
                }
            })
        };
        read().map_err(D::Error::custom)
    }
}

/// An episode that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Ended {
    /// The next episode begins later. Windows that begin earlier do not open it, unless this one has recovered.
    ended_at: i64,
    /// When all windows of the rule begin later; then, when the look-back does not reach the end any more either.
    forget_at: i64,
    /// Whether all windows begin later.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_passed: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_recovered: bool,
}

impl ScopeEpisodes {
    /// Returns true if nothing is to be kept.
    pub fn is_empty(&self) -> bool {
        self.by_rule.is_empty()
    }

    /// Returns whether an episode is open, apart from pending ones.
    pub fn has_open(&self) -> bool {
        let mut entries = self.by_rule.values();
        entries.any(|entry| matches!(entry, Entry::Open(it) if it.phase != Phase::Pending))
    }

    /// Judges the rules by the evidence after a commit, and appends the transitions to `out`. `as_of` is the
    /// prefix of the log that the evidence counts.
    ///
    /// Call it after every commit that changes the scope, for every window end that changes, in ascending
    /// order. The same evidence again changes nothing.
    pub fn judge(
        &mut self,
        scope: &Scope,
        rules: &[RuleInForce],
        evidence: &dyn Evidence,
        as_of: &AsOf,
        out: &mut Vec<Alert>,
    ) {
        self.step(scope, rules, evidence, evidence.end(), as_of, out);
    }

    /// Judges the rules at the time `now`, to which it has come without a new count, and ends episodes whose
    /// rule was removed. [`Evidence::end`] must have come to `now`, too: windows have lost panes.
    ///
    /// Call it at the latest when [`due`](Self::due), at every slide end at which a window of the scope has lost a
    /// pane, and when the rules have changed.
    pub fn advance(
        &mut self,
        scope: &Scope,
        rules: &[RuleInForce],
        evidence: &dyn Evidence,
        now: i64,
        as_of: &AsOf,
        out: &mut Vec<Alert>,
    ) {
        self.step(scope, rules, evidence, now.max(evidence.end()), as_of, out);
    }

    fn step(
        &mut self,
        scope: &Scope,
        rules: &[RuleInForce],
        evidence: &dyn Evidence,
        now: i64,
        as_of: &AsOf,
        out: &mut Vec<Alert>,
    ) {
        if !self.by_rule.is_empty() {
            self.end_removed(scope, rules, now, out);
        }
        let windows = Windows::new(evidence, as_of);
        let mut earlier = None;
        for rule in rules {
            self.forget_later(rule, now);
            // What was due before, with the counts as they were.
            self.elapse(scope, rule, now - 1, out);
            let ended = self.by_rule.get(&rule.name).and_then(Entry::ended);
            if self.take(scope, rule, &windows, now, out) && rule.is_looked_back_at() {
                let earlier = earlier.get_or_insert_with(|| evidence.earlier());
                self.look_back(scope, rule, earlier, (as_of, ended), out);
                self.take(scope, rule, &windows, now, out);
            }
            self.elapse(scope, rule, now, out);
        }
    }

    /// Forgets a pending episode if the rule is judged at an earlier end again, so that it begins anew from there: with
    /// the events that have come since, the rule may have been broken sooner.
    fn forget_later(&mut self, rule: &Rule, now: i64) {
        if let Some(Entry::Open(episode)) = self.by_rule.get(&rule.name)
            && episode.phase == Phase::Pending
            && now < episode.at()
            && rule.is_looked_back_at()
        {
            self.by_rule.remove(&rule.name);
        }
    }

    /// Replaces the episode that has just begun by one that begins at the first end since which every end is broken, by
    /// what is known now. Each commit knows only a part of the events of the newest panes, so such a rule can seem to be
    /// good now and then, and `hold` would never be over. `ended` is the entry of the rule before.
    fn look_back(
        &mut self,
        scope: &Scope,
        rule: &Rule,
        earlier: &[Box<dyn Evidence + '_>],
        (as_of, ended): (&AsOf, Option<Ended>),
        out: &mut Vec<Alert>,
    ) {
        let is_broken = |evidence: &dyn Evidence| {
            let windows = Windows::new(evidence, as_of);
            ended.is_none_or(|ended| ended.ended_at < evidence.end())
                && matches!(judge(rule, &windows, None, not_before(ended)).level, Level::Breach(_))
        };
        let broken = earlier.iter().rev().take_while(|evidence| is_broken(&***evidence)).count();
        self.by_rule.remove(&rule.name);
        self.by_rule.extend(ended.map(|ended| (rule.name.clone(), Entry::Ended(ended))));
        for evidence in earlier.iter().skip(earlier.len() - broken) {
            let (now, windows) = (evidence.end(), Windows::new(&**evidence, as_of));
            self.elapse(scope, rule, now - 1, out);
            self.take(scope, rule, &windows, now, out);
            self.elapse(scope, rule, now, out);
        }
    }

    /// Takes over the verdict about a rule. Returns true if an episode begins.
    fn take(
        &mut self,
        scope: &Scope,
        rule: &Rule,
        windows: &Windows<'_>,
        now: i64,
        out: &mut Vec<Alert>,
    ) -> bool {
        let context = Context { name: &rule.name, scope, rule: Some(rule) };
        match self.by_rule.get_mut(&rule.name) {
            Some(Entry::Open(episode)) => {
                let verdict = judge(rule, windows, episode.own_window(), i64::MIN);
                let now = now.max(episode.at());
                if !episode.update(context, now, verdict, out) {
                    self.by_rule.remove(&rule.name);
                }
                false
            }
            entry => {
                let ended = entry.and_then(|entry| entry.ended());
                let verdict = judge(rule, windows, None, not_before(ended));
                let (Level::Breach(severity), Some(reading)) = (verdict.level, verdict.worst)
                else {
                    return false;
                };
                let episode = Episode::begin(context, rule, now, severity, reading);
                self.by_rule.insert(rule.name.clone(), Entry::Open(Box::new(episode)));
                true
            }
        }
    }

    /// Does everything of a rule that is due at `now`.
    fn elapse(&mut self, scope: &Scope, rule: &Rule, now: i64, out: &mut Vec<Alert>) {
        let context = Context { name: &rule.name, scope, rule: Some(rule) };
        match self.by_rule.get_mut(&rule.name) {
            None => {}
            Some(Entry::Ended(ended)) if ended.forget_at > now => {}
            Some(Entry::Ended(ended)) if !ended.is_passed => {
                *ended = ended.passed();
                self.elapse(scope, rule, now, out);
            }
            Some(Entry::Ended(_)) => {
                self.by_rule.remove(&rule.name);
            }
            Some(Entry::Open(episode)) => {
                while let Some((at, timer)) = episode.next(rule).filter(|(at, _)| *at <= now) {
                    if episode.apply(context, at, timer, out) {
                        continue;
                    }
                    let is_recovered = timer == Timer::Resolve(ResolveReason::Recovered);
                    let ended = Entry::Ended(Ended::at(at, rule, is_recovered));
                    self.by_rule.insert(rule.name.clone(), ended);
                    return;
                }
            }
        }
    }

    fn end_removed(
        &mut self,
        scope: &Scope,
        rules: &[RuleInForce],
        now: i64,
        out: &mut Vec<Alert>,
    ) {
        self.by_rule.retain(|name, entry| {
            let is_there = rules.iter().any(|rule| rule.name == *name);
            if let (false, Entry::Open(episode)) = (is_there, entry) {
                let context = Context { name, scope, rule: None };
                let at = now.max(episode.at());
                episode.apply(context, at, Timer::Resolve(ResolveReason::RuleRemoved), out);
            }
            is_there
        });
    }

    /// Returns the time at which [`advance`](Self::advance) must be called at the latest, if no count changes
    /// before; `i64::MIN` if the rules no longer have the rule of an episode. Silence is not foreseen here: see
    /// [`silence_times`](crate::silence_times).
    pub fn due(&self, rules: &[RuleInForce]) -> Option<i64> {
        let due = |(name, entry): (&String, &Entry)| {
            let Some(rule) = rules.iter().find(|rule| rule.name == *name) else {
                return Some(i64::MIN);
            };
            match entry {
                Entry::Ended(ended) => Some(ended.forget_at),
                Entry::Open(episode) => episode.next(rule).map(|(at, _)| at),
            }
        };
        self.by_rule.iter().filter_map(due).min()
    }

    /// Ends an episode because a person has closed it. Returns false if it is not open.
    pub fn close(
        &mut self,
        id: &EpisodeId,
        scope: &Scope,
        rules: &[RuleInForce],
        now: i64,
        out: &mut Vec<Alert>,
    ) -> bool {
        let found = self.by_rule.iter_mut().find_map(|(name, entry)| {
            let Entry::Open(episode) = entry else { return None };
            let rule = rules.iter().find(|rule| rule.name == *name).map(|rule| &**rule);
            let context = Context { name, scope, rule };
            if episode.phase == Phase::Pending || episode.id(context) != *id {
                return None;
            }
            let at = now.max(episode.at());
            episode.apply(context, at, Timer::Resolve(ResolveReason::Closed), out);
            Some((name.clone(), rule.map(|rule| Ended::at(at, rule, false))))
        });
        let Some((name, ended)) = found else { return false };
        match ended {
            Some(ended) => self.by_rule.insert(name, Entry::Ended(ended)),
            None => self.by_rule.remove(&name),
        };
        true
    }
}

/// Returns when the windows must begin that open the next episode.
fn not_before(ended: Option<Ended>) -> i64 {
    let ended = ended.filter(|ended| !ended.is_recovered);
    ended.map_or(i64::MIN, |ended| ended.ended_at)
}

impl Ended {
    fn at(at: i64, rule: &Rule, is_recovered: bool) -> Self {
        let (forget_at, is_passed) = (at.saturating_add(rule.longest()), false);
        let ended = Self { ended_at: at, forget_at, is_passed, is_recovered };
        if is_recovered { Self { forget_at: at, ..ended }.passed() } else { ended }
    }

    const fn passed(self) -> Self {
        let forget_at = self.forget_at.saturating_add(window::EARLIER);
        Self { forget_at, is_passed: true, ..self }
    }
}

#[cfg(test)]
mod tests;
