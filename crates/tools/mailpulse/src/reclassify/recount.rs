//! Counts a message at a recipient again, by the rules of `dedupe`.

use std::collections::HashMap;

use event::{Counter, CounterSet, DimensionDigests, Event, OccurredAt};
use state::{Effect, MessageMemory, Observation};

use super::stored::{Classification, StoredEvent};

/// What the columns of a row become.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NewValues {
    pub(super) row: u64,
    pub(super) classification: Classification,
    pub(super) counts: CounterSet,
    pub(super) corrections: String,
    pub(super) seen: u16,
    pub(super) late: bool,
    pub(super) first_of_kind: bool,
    pub(super) first_engagement: bool,
}

/// Counts all events of a message again, with some of them classified otherwise. Returns the rows whose values change.
///
/// Returns `None` if the rules do not lead to the stored counts with the stored classification. Then `dedupe` knew more than
/// the table has, and only it could count again.
pub(super) fn recount(
    events: &[StoredEvent],
    changed: &HashMap<u64, Classification>,
) -> Option<Vec<NewValues>> {
    let stored: Option<Vec<Classification>> =
        events.iter().map(|event| event.classification().ok()).collect();
    let stored = stored?;
    let is_as_stored =
        |(event, (_, effect)): (&StoredEvent, &(&Classification, Option<Effect>))| {
            let (counts, corrections) = counted(effect.as_ref());
            event.counts() == Some(counts) && event.corrections == corrections
        };
    let before = effects(events, &stored)?;
    if !events.iter().zip(&before).all(is_as_stored) {
        return None;
    }
    let of = |(event, stored): (&StoredEvent, &Classification)| {
        changed.get(&event.row()).unwrap_or(stored).clone()
    };
    let now: Vec<Classification> = events.iter().zip(&stored).map(of).collect();
    let after = effects(events, &now)?;
    let values =
        events.iter().zip(&before).zip(&after).filter(|((_, before), after)| before != after);
    Some(
        values
            .map(|((event, _), (classification, effect))| {
                let (counts, corrections) = counted(effect.as_ref());
                let first = effect.as_ref().map(|effect| effect.first).unwrap_or_default();
                NewValues {
                    row: event.row(),
                    classification: (*classification).clone(),
                    counts,
                    corrections,
                    seen: effect.as_ref().map_or(0, |effect| effect.seen),
                    late: effect.as_ref().is_some_and(|effect| effect.is_late),
                    first_of_kind: first.of_kind,
                    first_engagement: first.of_engagement,
                }
            })
            .collect(),
    )
}

fn counted(effect: Option<&Effect>) -> (CounterSet, String) {
    let corrections = effect.and_then(|effect| effect.corrections.as_ref());
    (
        effect.map_or(CounterSet::EMPTY, |effect| effect.counts),
        corrections.map(ToString::to_string).unwrap_or_default(),
    )
}

/// Feeds the events to the memory of their message, in their order. An event that `dedupe` did not remember has no effect.
fn effects<'c>(
    events: &[StoredEvent],
    classifications: &'c [Classification],
) -> Option<Vec<(&'c Classification, Option<Effect>)>> {
    // Only deliveries and bounces tell whether the mailbox provider reports complaints.
    let reports = [Counter::DeliveredFbl, Counter::LateBouncesFbl];
    let reports_complaints = events
        .iter()
        .filter_map(StoredEvent::counts)
        .any(|counts| reports.into_iter().any(|counter| counts.contains(counter)));
    let mut memory = MessageMemory::UNKNOWN;
    let mut effects = Vec::with_capacity(events.len());
    for (stored, classification) in events.iter().zip(classifications) {
        let json = stored.with(classification);
        let event: Event<'_> = serde_json::from_str(&json).ok()?;
        let effect = stored.is_remembered().then(|| {
            memory.observe(&Observation {
                kind: event.kind,
                machine: event.automation.is_some(),
                counted_at: event.occurred_at.not_after(event.received_at),
                sent_at: (stored.sent_at != 0).then_some(OccurredAt(stored.sent_at)),
                would_count: event.would_count(reports_complaints),
                digests: DimensionDigests::of(&event),
                may_be_duplicate: false,
            })
        });
        effects.push((classification, effect));
    }
    Some(effects)
}
