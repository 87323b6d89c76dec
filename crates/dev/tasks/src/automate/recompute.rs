//! Computes the decisions of a run again, offline, with the functions of the crate `automation`.

use std::collections::{BTreeMap, BTreeSet};

use automation::{ActionRecord, Facts, Intent, LimitState, Outcome, Replay, RuleSet, Verdict};
use kafka::OwnedRecord;
use record::time_record;

use super::log::value;
use super::rules;

/// What each rule wants, from `mail.events` alone: the ids of the actions that follow if no limit refuses any.
pub(super) fn wanted(records: &[OwnedRecord]) -> anyhow::Result<BTreeSet<String>> {
    let (mut events, mut end) = (Vec::new(), i64::MIN);
    for record in records {
        match time_record(&|name| record.header(name)) {
            Some(time) => end = end.max(time),
            None => {
                let event = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
                events.extend(Facts::of(&event));
            }
        }
    }
    // The events of a recipient have one order, that of their partition, which a stable sort preserves.
    events.sort_by_key(|facts| facts.received_at.micros());
    let rules = rules::rule_set(false)?;
    let (mut replay, mut outcomes) = (Replay::new(&rules), Vec::new());
    for facts in &events {
        outcomes.extend(replay.receive(facts));
    }
    outcomes.extend(replay.pass_time(end));
    let records = outcomes.into_iter().flat_map(|outcome| match outcome {
        Outcome::Acted(records) => records,
        Outcome::Refused(..) => Vec::new(),
    });
    Ok(records.map(|record| record.action_id.to_string()).collect())
}

/// What the intents of a run want, in the same form.
pub(super) fn intended(records: &[OwnedRecord]) -> anyhow::Result<Vec<String>> {
    let rules = rules::rule_set(false)?;
    let mut ids = Vec::new();
    for record in records {
        ids.extend(action_ids(&rules, &value(record)?));
    }
    Ok(ids)
}

/// What the limits allow, from `mail.intents` in its order.
pub(super) fn allowed(records: &[OwnedRecord]) -> anyhow::Result<BTreeSet<String>> {
    let rules = rules::rule_set(true)?;
    let (mut states, mut ids) = (BTreeMap::<String, LimitState>::new(), BTreeSet::new());
    for record in records {
        let intent: Intent = value(record)?;
        let rule = rules.rule(&intent.rule);
        let state = states.entry(intent.rule.clone()).or_default();
        if let (Verdict::Allowed, Some(rule)) = (state.decide(rule, &intent), rule) {
            state.allow(rule, &intent)?;
            ids.extend(action_ids(&rules, &intent));
        }
    }
    Ok(ids)
}

fn action_ids(rules: &RuleSet, intent: &Intent) -> Vec<String> {
    let records = rules.rule(&intent.rule).map(|rule| ActionRecord::all(rule, intent));
    let ids = records.into_iter().flatten();
    ids.map(|(record, _)| record.action_id.to_string()).collect()
}
