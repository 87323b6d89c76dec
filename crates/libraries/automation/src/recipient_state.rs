//! What is remembered of a recipient.

use std::collections::BTreeMap;

use event::Kind;
use serde::{Deserialize, Serialize};

use crate::engagement::Engagement;
use crate::span::DAY;
use crate::{Facts, RuleSet};

/// How long a recipient's time zone is remembered after the open or click that told it, in microseconds.
const ZONE_KEPT: i64 = 90 * DAY;
/// How long the counts of a recipient at a source are remembered after the last event that changed them, in microseconds.
pub(crate) const SCORE_KEPT: i64 = 365 * DAY;
/// A recipient gets mail of few sources. The histories with the oldest newest event are forgotten.
const MOST_HISTORIES: usize = 32;
/// Records arrive almost in the order of receipt: no ingress whose clock differs by more takes part in time.
const GRACE: i64 = 3_600_000_000;

/// When rules have acted for a recipient, and what the recipient has done lately. The value of the changelog of
/// the match stage is its JSON; the names are short because there are many.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientState {
    /// When each rule with a cooldown has acted last, by receipt of the event: UTC microseconds.
    #[serde(rename = "c", default, skip_serializing_if = "BTreeMap::is_empty")]
    acted_at: BTreeMap<String, i64>,
    /// The newest events of kinds that patterns count, in ascending order, by `kind/provider/source`: UTC
    /// microseconds.
    #[serde(rename = "h", default, skip_serializing_if = "BTreeMap::is_empty")]
    histories: BTreeMap<String, Vec<i64>>,
    /// The time zone of the latest open or click, and its receipt.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    zone: Option<(String, i64)>,
    /// What the score is computed from, by `provider/source`.
    #[serde(rename = "s", default, skip_serializing_if = "BTreeMap::is_empty")]
    engagement: BTreeMap<String, Engagement>,
}

impl RecipientState {
    /// Returns whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.acted_at.is_empty()
            && self.histories.is_empty()
            && self.zone.is_none()
            && self.engagement.is_empty()
    }

    /// Remembers an event of a person.
    pub(crate) fn observe(&mut self, rules: &RuleSet, facts: &Facts) {
        if let Some(most) = rules.counted(facts.kind) {
            let history = self.histories.entry(history_key(facts, facts.kind)).or_default();
            let happened_at = facts.happened_at();
            history.insert(history.partition_point(|at| *at <= happened_at), happened_at);
            if history.len() > most {
                history.drain(..history.len() - most);
            }
            while self.histories.len() > MOST_HISTORIES {
                let newest = |(_, times): &(&String, &Vec<i64>)| times.last().copied();
                let oldest = self.histories.iter().min_by_key(newest).map(|(key, _)| key.clone());
                self.histories.remove(&oldest.unwrap_or_default());
            }
        }
        // The table `recipients` has no messages without an id either.
        if rules.uses_score() && facts.message_id.is_some() && !facts.counts.is_zero() {
            let received_at = facts.received_at.micros();
            self.engagement.retain(|_, of| received_at < of.at.saturating_add(SCORE_KEPT));
            self.engagement.entry(source_key(facts)).or_default().count(facts.counts, received_at);
            while self.engagement.len() > MOST_HISTORIES {
                let oldest = self.engagement.iter().min_by_key(|(key, of)| (of.at, *key));
                let oldest = oldest.map(|(key, _)| key.clone()).unwrap_or_default();
                self.engagement.remove(&oldest);
            }
        }
        if let (true, Some(zone)) = (rules.uses_zone(), &facts.time_zone) {
            let received_at = facts.received_at.micros();
            if self.zone.as_ref().is_none_or(|(_, at)| *at <= received_at) {
                self.zone = Some((zone.clone(), received_at));
            }
        }
    }

    /// Returns how many of the remembered events of the kind, of the source of `facts`, are newer than `within` before
    /// `until`, or before the newest of them if that is later.
    pub(crate) fn count_since(&self, facts: &Facts, kind: Kind, until: i64, within: i64) -> usize {
        let Some(times) = self.histories.get(&history_key(facts, kind)) else { return 0 };
        let until = times.last().map_or(until, |newest| until.max(*newest));
        times.len() - times.partition_point(|at| *at <= until.saturating_sub(within))
    }

    /// The time zone of the recipient's latest open or click.
    pub(crate) fn time_zone(&self) -> Option<&str> {
        self.zone.as_ref().map(|(zone, _)| zone.as_str())
    }

    /// Returns the score of the recipient at the source of `facts`, or `None` if nothing was delivered.
    pub(crate) fn score(&self, facts: &Facts) -> Option<f64> {
        let known = self.engagement.get(&source_key(facts))?;
        let is_kept = facts.received_at.micros() < known.at.saturating_add(SCORE_KEPT);
        if is_kept { known.score() } else { None }
    }

    /// Returns whether the rule's cooldown is not over at that time.
    pub(crate) fn is_cooling(&self, rule: &str, cooldown: i64, now: i64) -> bool {
        self.acted_at.get(rule).is_some_and(|acted_at| now < acted_at.saturating_add(cooldown))
    }

    pub(crate) fn acted(&mut self, rule: &str, at: i64) {
        self.acted_at.insert(rule.to_owned(), at);
    }

    /// Returns the time from which on the state decides nothing any more: UTC microseconds.
    pub fn expires_at(&self, rules: &RuleSet) -> i64 {
        let cooldowns = self.acted_at.iter().filter_map(|(rule, at)| {
            Some(at.saturating_add(rules.rule(rule)?.cooldown.unwrap_or(0)))
        });
        let histories = self.histories.values().filter_map(|times| times.last());
        let histories = histories.map(|at| at.saturating_add(rules.longest_pattern()));
        let zone = self.zone.iter().map(|(_, at)| at.saturating_add(ZONE_KEPT));
        let counted = self.engagement.values().filter(|_| rules.uses_score());
        let counted = counted.map(|of| of.at.saturating_add(SCORE_KEPT));
        let last = cooldowns.chain(histories).chain(zone).chain(counted).max().unwrap_or(i64::MIN);
        last.saturating_add(GRACE)
    }
}

fn source_key(facts: &Facts) -> String {
    format!("{}/{}", facts.provider, facts.source)
}

fn history_key(facts: &Facts, kind: Kind) -> String {
    format!("{kind}/{}/{}", facts.provider, facts.source)
}
