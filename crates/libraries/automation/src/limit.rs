//! The second decision: whether the limits of a rule allow what it wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use event::EventId;
use serde::{Deserialize, Serialize};

use crate::rule::MOST_IN_LIMIT;
use crate::span::DAY;
use crate::{Action, Intent, Rule, Subject};

/// The greatest number of campaigns that a rule counts. It does not act for further ones until one of them was quiet
/// for [`CAMPAIGN_KEPT`].
pub const MOST_CAMPAIGNS: usize = 10_000;
/// A campaign that a rule has not acted for in this time is counted anew, in microseconds.
const CAMPAIGN_KEPT: i64 = 90 * DAY;
/// How long an intent is remembered after the last of its follow-ups is due, in microseconds. One partition of
/// `mail.events` may lag behind the others, by at most the retention of the topic.
const PARENT_KEPT: i64 = 14 * DAY;

/// The greatest number of transitions of incidents, and of groups of incidents, that a rule remembers. The oldest are
/// forgotten.
const MOST_REMEMBERED: usize = 10_000;
/// How long a transition of an incident is remembered, in microseconds. `mail.alerts`, from which incidents can be
/// computed again, is kept for 90 days.
const TRANSITION_KEPT: i64 = 100 * DAY;

/// Whether an intent becomes actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Allowed,
    /// It does not.
    Refused(Refusal),
}

/// Why an intent becomes no actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The rule has acted as often as `limit` allows.
    Limit,
    /// The rule has acted as often as `campaign_limit` allows, or it counts [`MOST_CAMPAIGNS`] other campaigns.
    CampaignLimit,
    /// The intent is a follow-up of one that was refused.
    Parent,
    /// The rule or the follow-up is no longer in the settings.
    RuleGone,
    /// The rule has acted on this transition of the incident. It was published again.
    Repeated,
    /// The cooldown of the rule for the group of the incident is not over.
    Cooldown,
}

impl Refusal {
    /// The stable name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::CampaignLimit => "campaign_limit",
            Self::Parent => "parent",
            Self::RuleGone => "rule_gone",
            Self::Repeated => "repeated",
            Self::Cooldown => "cooldown",
        }
    }
}

/// What a rule has done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LimitState {
    /// When it has acted, in ascending order: as many times as the limit counts. UTC microseconds.
    times: VecDeque<i64>,
    /// How often it has acted under a limit.
    acted: u64,
    campaigns: BTreeMap<String, CampaignCount>,
    /// Intents of a limited rule with follow-ups that were allowed, with the time until which they are remembered.
    parents: BTreeMap<EventId, i64>,
    parents_by_expiry: BTreeSet<(i64, EventId)>,
    /// The transitions of incidents that the rule has acted on, with their times. UTC microseconds.
    transitions: BTreeMap<EventId, i64>,
    /// When the rule has acted last for each group of incidents.
    groups: BTreeMap<String, i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct CampaignCount {
    count: u64,
    /// The latest time. UTC microseconds.
    at: i64,
}

impl CampaignCount {
    /// Returns whether the count still matters.
    const fn is_kept(&self, at: i64) -> bool {
        at < self.at.saturating_add(CAMPAIGN_KEPT)
    }
}

/// A change of a [`LimitState`]: the key of the changelog within the rule, and the value. `None` is a deletion.
pub type LimitChange = (String, Option<Vec<u8>>);

/// The changelog has a record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` in the changelog of limits cannot be read; a newer release may have written it, so start that release"
)]
pub struct LimitRestoreError(String);

#[derive(Debug, Serialize, Deserialize)]
struct Acted {
    number: u64,
    at: i64,
}

impl LimitState {
    /// Decides whether an intent is allowed. The result depends on the arguments alone.
    pub fn decide(&self, rule: Option<&Rule>, intent: &Intent) -> Verdict {
        let Some(rule) = rule.filter(|rule| has_actions(rule, intent)) else {
            return Verdict::Refused(Refusal::RuleGone);
        };
        // Without limits, no intent was refused.
        let is_known = |parent| self.parents.contains_key(&parent);
        if rule.is_limited() && intent.parent.is_some_and(|parent| !is_known(parent)) {
            return Verdict::Refused(Refusal::Parent);
        }
        if let Subject::Incident(incident) = &intent.subject {
            if self.transitions.contains_key(&incident.transition_id()) {
                return Verdict::Refused(Refusal::Repeated);
            }
            let acted_at = self.groups.get(&incident.group);
            let is_cooling = |cooldown: i64| {
                acted_at.is_some_and(|acted_at| intent.at < acted_at.saturating_add(cooldown))
            };
            if rule.cooldown.is_some_and(is_cooling) {
                return Verdict::Refused(Refusal::Cooldown);
            }
        }
        if let Some(limit) = rule.limit {
            let since = self.now(intent).saturating_sub(limit.per);
            let recent = self.times.len() - self.times.partition_point(|at| *at <= since);
            if recent >= limit.count {
                return Verdict::Refused(Refusal::Limit);
            }
        }
        if let (Some(most), Some(campaign)) = (rule.campaign_limit, intent.subject.campaign())
            && (self.count_of(campaign, intent.at) >= most || !self.has_room(campaign, intent.at))
        {
            return Verdict::Refused(Refusal::CampaignLimit);
        }
        Verdict::Allowed
    }

    /// Counts an intent that was allowed. Returns what changed.
    ///
    /// # Errors
    /// Fails if a value cannot be written as JSON, which would be a defect.
    pub fn allow(&mut self, rule: &Rule, intent: &Intent) -> serde_json::Result<Vec<LimitChange>> {
        let mut changes = Vec::new();
        self.count_time(rule, intent, &mut changes)?;
        self.count_campaign(rule, intent, &mut changes)?;
        self.remember_parent(rule, intent, &mut changes)?;
        self.remember_incident(rule, intent, &mut changes)?;
        Ok(changes)
    }

    /// The times of a rule never go back, so that no span has more than the limit.
    fn now(&self, intent: &Intent) -> i64 {
        self.times.back().map_or(intent.at, |last| intent.at.max(*last))
    }

    fn count_of(&self, campaign: &str, at: i64) -> u64 {
        let known = self.campaigns.get(campaign);
        known.filter(|known| known.is_kept(at)).map_or(0, |it| it.count)
    }

    /// Returns whether a campaign can be counted: a count that is still needed is never forgotten.
    fn has_room(&self, campaign: &str, at: i64) -> bool {
        self.campaigns.len() < MOST_CAMPAIGNS
            || self.campaigns.contains_key(campaign)
            || self.campaigns.values().any(|known| !known.is_kept(at))
    }

    fn count_time(
        &mut self,
        rule: &Rule,
        intent: &Intent,
        changes: &mut Vec<LimitChange>,
    ) -> serde_json::Result<()> {
        let Some(limit) = rule.limit else { return Ok(()) };
        let at = self.now(intent);
        self.times.push_back(at);
        while self.times.len() > limit.count {
            self.times.pop_front();
        }
        let number = self.acted;
        self.acted += 1;
        // The changelog is a ring, whose size does not depend on the limit, because that may change.
        let slot = number % MOST_IN_LIMIT;
        changes.push((format!("time/{slot}"), Some(serde_json::to_vec(&Acted { number, at })?)));
        Ok(())
    }

    fn count_campaign(
        &mut self,
        rule: &Rule,
        intent: &Intent,
        changes: &mut Vec<LimitChange>,
    ) -> serde_json::Result<()> {
        let (Some(_), Some(campaign)) = (rule.campaign_limit, intent.subject.campaign()) else {
            return Ok(());
        };
        let at = self.campaigns.get(campaign).map_or(intent.at, |it| it.at.max(intent.at));
        let counted = CampaignCount { count: self.count_of(campaign, intent.at) + 1, at };
        self.campaigns.insert(campaign.to_owned(), counted);
        changes.push((format!("campaign/{campaign}"), Some(serde_json::to_vec(&counted)?)));
        while self.campaigns.len() > MOST_CAMPAIGNS {
            let quietest = self.campaigns.iter().min_by_key(|(name, it)| (it.at, *name));
            let Some(quietest) = quietest.map(|(name, _)| name.clone()) else { break };
            self.campaigns.remove(&quietest);
            changes.push((format!("campaign/{quietest}"), None));
        }
        Ok(())
    }

    fn remember_parent(
        &mut self,
        rule: &Rule,
        intent: &Intent,
        changes: &mut Vec<LimitChange>,
    ) -> serde_json::Result<()> {
        if !rule.is_limited() {
            return Ok(());
        }
        while let Some(&(expiry, id)) = self.parents_by_expiry.first()
            && expiry < intent.at
        {
            self.parents_by_expiry.pop_first();
            self.parents.remove(&id);
            changes.push((format!("parent/{id}"), None));
        }
        let spans = rule.actions.iter().filter_map(|action| match action {
            Action::FollowUp(follow_up) => Some(follow_up.after),
            _ => None,
        });
        if let (None, Some(longest)) = (intent.follow_up, spans.max()) {
            let expiry = intent.at.saturating_add(longest).saturating_add(PARENT_KEPT);
            self.insert_parent(intent.intent_id, expiry);
            let value = serde_json::to_vec(&expiry)?;
            changes.push((format!("parent/{}", intent.intent_id), Some(value)));
        }
        Ok(())
    }

    fn remember_incident(
        &mut self,
        rule: &Rule,
        intent: &Intent,
        changes: &mut Vec<LimitChange>,
    ) -> serde_json::Result<()> {
        let Subject::Incident(incident) = &intent.subject else { return Ok(()) };
        let (id, group, at) = (incident.transition_id(), &incident.group, intent.at);
        let value = Some(serde_json::to_vec(&at)?);
        for forgotten in forget(&mut self.transitions, at.saturating_sub(TRANSITION_KEPT)) {
            changes.push((format!("transition/{forgotten}"), None));
        }
        let cooldown = rule.cooldown.unwrap_or(0);
        for forgotten in forget(&mut self.groups, at.saturating_sub(cooldown)) {
            changes.push((format!("group/{forgotten}"), None));
        }
        self.transitions.insert(id, at);
        changes.push((format!("transition/{id}"), value.clone()));
        if rule.cooldown.is_some() {
            self.groups.insert(group.clone(), at);
            changes.push((format!("group/{group}"), value));
        }
        Ok(())
    }

    fn insert_parent(&mut self, id: EventId, expiry: i64) {
        self.parents.insert(id, expiry);
        self.parents_by_expiry.insert((expiry, id));
    }
}

/// Removes what was remembered until a time, and the oldest so that one more can be remembered. Returns its keys.
fn forget<K: Ord + Clone>(remembered: &mut BTreeMap<K, i64>, until: i64) -> Vec<K> {
    let mut forgotten: Vec<K> =
        remembered.extract_if(.., |_, at| *at <= until).map(|(key, _)| key).collect();
    while remembered.len() >= MOST_REMEMBERED {
        let oldest = remembered.iter().min_by_key(|(key, at)| (**at, *key));
        let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
        remembered.remove(&oldest);
        forgotten.push(oldest);
    }
    forgotten
}

fn has_actions(rule: &Rule, intent: &Intent) -> bool {
    let follow_up = intent.follow_up.map(|index| rule.actions.get(usize::from(index)));
    follow_up.is_none_or(|action| matches!(action, Some(Action::FollowUp(_))))
}

/// A [`LimitState`] as of the records of the changelog read so far.
#[derive(Debug, Default)]
pub struct LimitRestore {
    /// By slot.
    times: BTreeMap<String, Acted>,
    campaigns: BTreeMap<String, CampaignCount>,
    parents: BTreeMap<EventId, i64>,
    transitions: BTreeMap<EventId, i64>,
    groups: BTreeMap<String, i64>,
}

impl LimitRestore {
    /// Applies a change.
    ///
    /// # Errors
    /// Fails if it is not one that [`LimitState::allow`] returns.
    pub fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), LimitRestoreError> {
        let error = || LimitRestoreError(key.to_owned());
        match key.split_once('/').ok_or_else(error)? {
            ("time", slot) => set(&mut self.times, slot.to_owned(), value).ok_or_else(error),
            ("campaign", name) => {
                set(&mut self.campaigns, name.to_owned(), value).ok_or_else(error)
            }
            ("parent", id) => {
                let id = id.parse().map_err(|_| error())?;
                set(&mut self.parents, id, value).ok_or_else(error)
            }
            ("transition", id) => {
                let id = id.parse().map_err(|_| error())?;
                set(&mut self.transitions, id, value).ok_or_else(error)
            }
            ("group", name) => set(&mut self.groups, name.to_owned(), value).ok_or_else(error),
            _ => Err(error()),
        }
    }

    /// Returns the state. It has as many times as the limit of `rule` counts.
    pub fn finish(self, rule: Option<&Rule>) -> LimitState {
        let mut acted: Vec<_> = self.times.into_values().collect();
        acted.sort_by_key(|acted| acted.number);
        let counted = rule.and_then(|rule| rule.limit).map_or(0, |limit| limit.count);
        let forgotten = acted.len().saturating_sub(counted);
        let mut state = LimitState {
            acted: acted.last().map_or(0, |acted| acted.number + 1),
            times: acted.into_iter().skip(forgotten).map(|acted| acted.at).collect(),
            campaigns: self.campaigns,
            transitions: self.transitions,
            groups: self.groups,
            ..LimitState::default()
        };
        for (id, expiry) in self.parents {
            state.insert_parent(id, expiry);
        }
        state
    }
}

fn set<K: Ord, V: serde::de::DeserializeOwned>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: Option<&[u8]>,
) -> Option<()> {
    match value {
        Some(value) => drop(map.insert(key, serde_json::from_slice(value).ok()?)),
        None => drop(map.remove(&key)),
    }
    Some(())
}
