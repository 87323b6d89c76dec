use event::{Automation, AutomationReason, EventId, Kind, Provider};
use metrics::{Counter, counter};
use record::{EnrichedHeaders, FirstSight, Reason, Topics, names};
use state::{Hour, Partition, Sight, StateError, Store};
use kafka::step::Step;
use kafka::{Outgoing, Output, Record, StreamError, TopicPartition};

use crate::heuristics::Heuristics;

/// Lets the first sight of every event pass.
pub struct Dedupe<'a> {
    store: Store,
    heuristics: Heuristics,
    events: &'a str,
    changelog: &'a str,
    /// Called while a restore goes on, which may take longer than a stuck process is given.
    alive: &'a dyn Fn(),
    meters: Meters,
    round: Round,
}

/// What the open round will have counted once it is committed.
#[derive(Default)]
struct Round {
    /// By provider, as [`Meters::duplicates`].
    duplicates: [u64; Provider::ALL.len() + 1],
    beyond_horizon: u64,
    /// By reason, as [`Meters::machines`].
    machines: [u64; AutomationReason::ALL.len()],
    /// The value of a record that is passed on with a verdict.
    value: Vec<u8>,
}

impl<'a> Dedupe<'a> {
    /// With the ids in `store`; `alive` is called during long restores.
    pub fn new(
        store: Store,
        heuristics: Heuristics,
        topics: &'a Topics,
        alive: &'a dyn Fn(),
    ) -> Self {
        Self {
            store,
            heuristics,
            events: &topics.events,
            changelog: &topics.dedupe_changelog,
            alive,
            meters: Meters::new(),
            round: Round::default(),
        }
    }

    /// Looks the event up. `None` is a repeat; else what has been found of it.
    fn sight(
        &mut self,
        record: &Record<'_>,
        event: &EnrichedHeaders,
    ) -> Result<Option<Found>, StateError> {
        let hour = Hour::of(event.occurred_at);
        let partition = self.store.partition(record.partition())?;
        Ok(match (partition.sight(&event.event_id, hour)?, event.engagement_id) {
            (Sight::Repeat, _) => {
                self.round.duplicates[provider_slot(record)] += 1;
                None
            }
            (Sight::First, Some(engagement)) if event.kind.is_engagement() => {
                Some(engaged(partition, &self.heuristics, &engagement, event)?)
            }
            (Sight::First, Some(engagement))
                if event.kind == Kind::Delivered && self.heuristics.need_deliveries() =>
            {
                delivered(partition, &engagement, event)?;
                Some(Found::default())
            }
            (Sight::First, _) => Some(Found::default()),
            (Sight::BeyondHorizon, _) => {
                self.round.beyond_horizon += 1;
                Some(Found::unknown(event.kind))
            }
        })
    }

    /// Passes the event on with what was found.
    fn pass(
        &mut self,
        record: &Record<'_>,
        found: &Found,
        out: &mut Output<'_>,
    ) -> Result<(), StreamError> {
        let mut further: Vec<(&str, &[u8])> = Vec::with_capacity(2);
        if let Some(first) = found.first {
            further.push((names::FIRST, first.as_header().as_bytes()));
        }
        let Some(automation) = found.automation else {
            return out.forward(record, self.events, record.partition(), &further);
        };
        further.push((names::MACHINE, b""));
        self.round.machines[automation.reason as usize] += 1;
        let (value, partition) = (&mut self.round.value, record.partition());
        with_automation(record.value().unwrap_or_default(), automation, value)?;
        out.forward_as(record, self.events, partition, Some(value), &further)
    }
}

/// What has been found of an event that passes.
#[derive(Default)]
struct Found {
    /// What it is the first of: opens and clicks of a known engagement only.
    first: Option<FirstSight>,
    /// Why it is a machine's, where that was not known before.
    automation: Option<Automation>,
}

impl Found {
    /// Beyond the horizon nobody knows, and a repeat must not count as a first.
    fn unknown(kind: Kind) -> Self {
        Self { first: kind.is_engagement().then(FirstSight::default), automation: None }
    }
}

/// An open or click: judged, and counted among its likes.
fn engaged(
    partition: &mut Partition,
    heuristics: &Heuristics,
    id: &EventId,
    event: &EnrichedHeaders,
) -> Result<Found, StateError> {
    let known = partition.engagement(id)?;
    let mut engagement = known;
    let automation = heuristics.judge(&mut engagement, event);
    let machine = event.machine || automation.is_some();
    let first = engagement.engaged(event.kind, machine, Hour::of(event.occurred_at));
    if engagement != known {
        partition.remember(id, engagement);
    }
    Ok(Found { first: Some(first), automation })
}

fn delivered(
    partition: &mut Partition,
    id: &EventId,
    event: &EnrichedHeaders,
) -> Result<(), StateError> {
    let known = partition.engagement(id)?;
    let mut engagement = known;
    engagement.delivered(event.occurred_at);
    if engagement != known {
        partition.remember(id, engagement);
    }
    Ok(())
}

/// The event with `automation` as its first field. It has none yet, and the order of the others is
/// `enrich`'s; so nothing has to be parsed.
fn with_automation(
    event: &[u8],
    automation: Automation,
    out: &mut Vec<u8>,
) -> Result<(), StreamError> {
    out.clear();
    out.extend_from_slice(b"{\"automation\":");
    serde_json::to_writer(&mut *out, &automation).map_err(StreamError::state)?;
    let fields = event.strip_prefix(b"{").unwrap_or(event);
    if fields != b"}" {
        out.push(b',');
    }
    out.extend_from_slice(fields);
    Ok(())
}

impl Step for Dedupe<'_> {
    fn assigned(
        &mut self,
        partition: &TopicPartition,
        restore: &kafka::Restore<'_>,
    ) -> Result<(), StreamError> {
        let number = partition.partition;
        let read = |from, apply: &mut dyn FnMut(&[u8]) -> Result<(), StateError>| {
            let restored = restore.changelog(self.changelog, number, from, |_, value| {
                (self.alive)();
                apply(value.unwrap_or_default()).map_err(StreamError::state)
            })?;
            tracing::info!(partition = number, from, records = restored.records, "restored");
            Ok::<_, Failed>(restored.next_offset)
        };
        self.store.take_over(number, read).map_err(|Failed(error)| error)
    }

    fn revoked(&mut self, partition: &TopicPartition) {
        self.store.give_up(partition.partition);
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError> {
        let headers = record.look_up();
        let event = match EnrichedHeaders::read(&|name| headers.get(name)) {
            Ok(event) => event,
            Err(error) => return out.dead_letter(record, Reason::BadHeaders, &error.to_string()),
        };
        match self.sight(record, &event).map_err(StreamError::state)? {
            Some(found) => self.pass(record, &found, out),
            None => Ok(()),
        }
    }

    fn end_of_round(&mut self, out: &mut Output<'_>) -> Result<(), StreamError> {
        for (partition, value) in self.store.changelog() {
            out.send(Outgoing {
                topic: self.changelog,
                partition: Some(partition),
                key: &[],
                value: Some(&value),
                headers: &[],
            })?;
        }
        Ok(())
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        self.meters.add(std::mem::take(&mut self.round));
        self.store.commit().map_err(StreamError::state)
    }

    fn rolled_back(&mut self) {
        self.round = Round::default();
        self.store.roll_back();
    }
}

/// An error on its way through a restore: of the stream, or of the store.
struct Failed(StreamError);

impl From<StreamError> for Failed {
    fn from(error: StreamError) -> Self {
        Self(error)
    }
}

impl From<StateError> for Failed {
    fn from(error: StateError) -> Self {
        Self(StreamError::state(error))
    }
}

struct Meters {
    /// By the place of the provider in [`Provider::ALL`]; the last is of records that name none.
    duplicates: Vec<Counter>,
    beyond_horizon: Counter,
    /// By the place of the reason in [`AutomationReason::ALL`].
    machines: Vec<Counter>,
}

impl Meters {
    fn new() -> Self {
        let providers = Provider::ALL.iter().map(|provider| provider.as_str());
        Self {
            duplicates: providers
                .chain(["unknown"])
                .map(|provider| counter!("mailpulse_duplicates_total", "provider" => provider))
                .collect(),
            beyond_horizon: counter!("mailpulse_beyond_horizon_total"),
            machines: AutomationReason::ALL
                .iter()
                .map(|reason| counter!("mailpulse_machines_found_total", "reason" => reason.as_str()))
                .collect(),
        }
    }

    fn add(&self, round: Round) {
        for (counter, more) in self.duplicates.iter().zip(round.duplicates) {
            counter.increment(more);
        }
        self.beyond_horizon.increment(round.beyond_horizon);
        for (counter, more) in self.machines.iter().zip(round.machines) {
            counter.increment(more);
        }
    }
}

fn provider_slot(record: &Record<'_>) -> usize {
    let name = record.header(names::PROVIDER).unwrap_or_default();
    let known = Provider::ALL.iter().position(|provider| provider.as_str().as_bytes() == name);
    known.unwrap_or(Provider::ALL.len())
}

#[cfg(test)]
mod tests {
    use event::Event;

    use super::*;

    #[test]
    fn the_verdict_is_put_into_the_event() {
        let json = r#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"opened","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"provider_event":"Open","request_id":"r","raw":{"a":{}}}"#;
        let found = Automation { reason: AutomationReason::Immediate, confidence: 0.5 };
        let mut value = b"of the one before".to_vec();
        with_automation(json.as_bytes(), found, &mut value).unwrap();
        let event: Event<'_> = serde_json::from_slice(&value).unwrap();
        assert_eq!(event.automation, Some(found));
        let unmarked = Event { automation: None, ..event };
        assert_eq!(serde_json::to_string(&unmarked).unwrap(), json, "and nothing else");
    }

    #[test]
    fn reasons_are_numbered_in_order() {
        for (number, &reason) in AutomationReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }
}
