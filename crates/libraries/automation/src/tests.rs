#![allow(clippy::unwrap_used, clippy::expect_used)]

mod decisions;
mod incidents;
mod properties;
mod rules;
mod scores;

use event::{EventId, Kind, OccurredAt, ReceivedAt};

use super::*;

/// In microseconds.
pub(super) const HOUR: i64 = 3_600_000_000;
/// 2027-01-15 08:00:00 UTC.
pub(super) const T0: i64 = 1_800_000_000_000_000;

/// Reads rules from the text of a file.
pub(super) fn try_rules(text: &str) -> Result<RuleSet, RuleError> {
    RuleSet::new(&toml::from_str(text).unwrap())
}

pub(super) fn rules(text: &str) -> RuleSet {
    try_rules(text).unwrap()
}

/// An event of Ada at `acme`, with a number as its id.
pub(super) fn facts(number: u64, kind: Kind, at: i64) -> Facts {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let (event_id, received_at, occurred_at) = (EventId(id), ReceivedAt(at), OccurredAt(at));
    Facts { event_id, kind, received_at, occurred_at, time_zone: None, ..Facts::sample() }
}

/// Decides about an event of a recipient who is a member of no segment.
pub(super) fn step(rules: &RuleSet, facts: &Facts, state: &mut RecipientState) -> Decision {
    let reads = Reads { is_member: &|_| false, campaign: &|_, _, _| None };
    let decision = decide(rules, 0, facts, state, &reads);
    *state = decision.state.clone();
    decision
}

pub(super) fn names(decision: &Decision) -> Vec<&str> {
    decision.intents.iter().map(|intent| intent.rule.as_str()).collect()
}
