use event::{Automation, AutomationReason, EventId, Kind, Provider};
use kafka::{
    AfterRollback, CommittedCounter, Inputs, Outcome, Outgoing, Output, Record, Stage,
    TopicPartition,
};
use metrics::counter;
use record::{EnrichedHeaders, FirstSeen, Reason, Topics, names};
use state::{Hour, Partition, Seen, StateError, Store};

use crate::heuristics::Heuristics;

/// Passes the first occurrence of every event.
pub struct Dedupe<'a> {
    store: Store,
    heuristics: Heuristics,
    topics: &'a Topics,
    partitions: usize,
    /// Called during a restore, which may take longer than the health check allows.
    mark_alive: &'a dyn Fn(),
    counters: Counters,
    /// The value of an event that gets a field `automation`. Kept to reuse its memory.
    value: Vec<u8>,
}

impl<'a> Dedupe<'a> {
    pub fn new(
        store: Store,
        heuristics: Heuristics,
        topics: &'a Topics,
        partitions: usize,
        mark_alive: &'a dyn Fn(),
    ) -> Self {
        let (counters, value) = (Counters::new(), Vec::new());
        Self { store, heuristics, topics, partitions, mark_alive, counters, value }
    }

    /// Looks the event up and stores its id. Returns `None` for a duplicate.
    fn look_up(
        &mut self,
        record: &Record<'_>,
        event: &EnrichedHeaders,
        out: &mut Output<'_>,
    ) -> Result<Option<Findings>, StateError> {
        let hour = Hour::of(event.occurred_at);
        let partition = self.store.partition(record.partition())?;
        let seen = if event.is_undated {
            partition.insert_undated(&event.event_id, hour)?
        } else {
            partition.insert(&event.event_id, hour)?
        };
        Ok(match (seen, event.engagement_id) {
            (Seen::Duplicate, _) => {
                out.count(self.counters.duplicates_of(record), 1);
                None
            }
            (Seen::First, Some(engagement)) if event.kind.is_engagement() => {
                Some(judge_engagement(partition, &self.heuristics, &engagement, event)?)
            }
            (Seen::First, Some(engagement))
                if event.kind == Kind::Delivered && self.heuristics.need_deliveries() =>
            {
                store_delivery(partition, &engagement, event)?;
                Some(Findings::default())
            }
            (Seen::First, _) => Some(Findings::default()),
            (Seen::BeyondHorizon, _) => {
                out.count(&self.counters.beyond_horizon, 1);
                Some(Findings::unknown(event.kind))
            }
        })
    }

    /// Passes the event on, with the findings in its headers and value.
    fn pass(
        &mut self,
        record: &Record<'_>,
        findings: &Findings,
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(2);
        if findings.is_unjudged {
            headers.push((names::UNJUDGED, b""));
        }
        if let Some(first) = findings.first {
            headers.push((names::FIRST, first.as_header().as_bytes()));
        }
        let (topic, partition) = (&self.topics.events, record.partition());
        let Some(automation) = findings.automation else {
            return out.forward(record, topic, partition, &headers);
        };
        headers.push((names::MACHINE, b""));
        out.count(&self.counters.automated[automation.reason as usize], 1);
        insert_automation(record.value().unwrap_or_default(), automation, &mut self.value)?;
        out.forward_with_value(record, topic, partition, Some(&self.value), &headers)
    }
}

/// What dedupe adds to an event that it passes on.
#[derive(Default)]
struct Findings {
    /// What the event is the first of. Only opens and clicks with an engagement id have this.
    first: Option<FirstSeen>,
    /// Whether the event may be a duplicate. `archive` then looks for it in its table.
    is_unjudged: bool,
    /// Why the event is attributed to a machine. `None` if it is not, or if enrich has already
    /// attributed it.
    automation: Option<Automation>,
}

impl Findings {
    /// Returns the findings for an event beyond the horizon. It may be a duplicate, and a duplicate
    /// must not count as first seen.
    fn unknown(kind: Kind) -> Self {
        let first = kind.is_engagement().then(FirstSeen::default);
        Self { first, automation: None, is_unjudged: true }
    }
}

/// Judges an open or click, and stores it in its engagement.
fn judge_engagement(
    partition: &mut Partition,
    heuristics: &Heuristics,
    id: &EventId,
    event: &EnrichedHeaders,
) -> Result<Findings, StateError> {
    let known = partition.engagement(id)?;
    let mut engagement = known;
    let automation = heuristics.judge(&mut engagement, event);
    let machine = event.machine || automation.is_some();
    let first = engagement.record_engagement(event.kind, machine, Hour::of(event.occurred_at));
    if engagement != known {
        partition.set_engagement(id, engagement);
    }
    Ok(Findings { first: Some(first), automation, is_unjudged: false })
}

/// Stores the time of a delivery in its engagement.
fn store_delivery(
    partition: &mut Partition,
    id: &EventId,
    event: &EnrichedHeaders,
) -> Result<(), StateError> {
    let known = partition.engagement(id)?;
    let mut engagement = known;
    engagement.record_delivery(event.occurred_at);
    if engagement != known {
        partition.set_engagement(id, engagement);
    }
    Ok(())
}

/// Writes the event to `out`, with `automation` as its first field. The event must not have this
/// field yet; then it need not be parsed.
fn insert_automation(
    event: &[u8],
    automation: Automation,
    out: &mut Vec<u8>,
) -> Result<(), kafka::Error> {
    out.clear();
    out.extend_from_slice(b"{\"automation\":");
    serde_json::to_writer(&mut *out, &automation).map_err(kafka::Error::state)?;
    let fields = event.strip_prefix(b"{").unwrap_or(event);
    if fields != b"}" {
        out.push(b',');
    }
    out.extend_from_slice(fields);
    Ok(())
}

impl Stage for Dedupe<'_> {
    const STAGE: record::Stage = record::Stage::Dedupe;

    fn inputs(&self) -> Inputs {
        Inputs { topics: vec![self.topics.enriched.clone()], partitions: self.partitions }
    }

    fn restore(
        &mut self,
        partition: &TopicPartition,
        restore: &kafka::Restore<'_>,
    ) -> Result<(), kafka::Error> {
        let number = partition.partition;
        let read = |from, apply: &mut dyn FnMut(&[u8]) -> Result<(), StateError>| {
            let changelog = &self.topics.dedupe_changelog;
            let restored = restore.changelog(changelog, number, from, |_, value| {
                (self.mark_alive)();
                apply(value.unwrap_or_default()).map_err(kafka::Error::state)
            })?;
            let records = restored.records;
            tracing::info!(partition = number, from, records, "state restored from changelog");
            Ok::<_, RestoreError>(restored.next_offset)
        };
        self.store.restore(number, read).map_err(|RestoreError(error)| error)
    }

    fn release(&mut self, partition: &TopicPartition) {
        self.store.release(partition.partition);
    }

    fn process(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let headers = record.look_up();
        let event = match EnrichedHeaders::read(&|name| headers.get(name)) {
            Ok(event) => event,
            Err(error) => return out.dead_letter(record, Reason::BadHeaders, &error.to_string()),
        };
        match self.look_up(record, &event, out).map_err(kafka::Error::state)? {
            Some(findings) => self.pass(record, &findings, out).map(|()| Outcome::Passed),
            None => Ok(Outcome::Dropped),
        }
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        for (partition, value) in self.store.changelog() {
            out.send(Outgoing {
                topic: &self.topics.dedupe_changelog,
                partition: Some(partition),
                key: &[],
                value: Some(&value),
                headers: &[],
            })?;
        }
        Ok(())
    }

    fn committed(&mut self) -> Result<(), kafka::Error> {
        self.store.commit().map_err(kafka::Error::state)
    }

    fn rolled_back(&mut self) -> AfterRollback {
        self.store.roll_back();
        AfterRollback::Keep
    }
}

/// An error of Kafka or of the store during a restore. [`Store::restore`] needs one type for both.
struct RestoreError(kafka::Error);

impl From<kafka::Error> for RestoreError {
    fn from(error: kafka::Error) -> Self {
        Self(error)
    }
}

impl From<StateError> for RestoreError {
    fn from(error: StateError) -> Self {
        Self(kafka::Error::state(error))
    }
}

struct Counters {
    /// In the order of [`Provider::ALL`]. The last one is for records that name no known provider.
    duplicates: Vec<CommittedCounter>,
    beyond_horizon: CommittedCounter,
    /// In the order of [`AutomationReason::ALL`].
    automated: Vec<CommittedCounter>,
}

impl Counters {
    fn new() -> Self {
        let providers = Provider::ALL.iter().map(|provider| provider.as_str());
        Self {
            duplicates: providers
                .chain(["unknown"])
                .map(|provider| {
                    counter!("mailpulse_dedupe_duplicates_total", "provider" => provider)
                })
                .map(CommittedCounter::new)
                .collect(),
            beyond_horizon: CommittedCounter::new(counter!(
                "mailpulse_dedupe_beyond_horizon_total"
            )),
            automated: AutomationReason::ALL
                .iter()
                .map(|reason| {
                    counter!("mailpulse_dedupe_automated_engagements_total",
                        "reason" => reason.as_str())
                })
                .map(CommittedCounter::new)
                .collect(),
        }
    }

    fn duplicates_of(&self, record: &Record<'_>) -> &CommittedCounter {
        let name = record.header(names::PROVIDER).unwrap_or_default();
        let known = Provider::ALL.iter().position(|provider| provider.as_str().as_bytes() == name);
        &self.duplicates[known.unwrap_or(Provider::ALL.len())]
    }
}

#[cfg(test)]
mod tests {
    use event::Event;

    use super::*;

    #[test]
    fn automation_is_added_to_the_event_and_nothing_else_changes() {
        let json = r#"{"event_id":"000102030405060708090a0b0c0d0e0f","kind":"opened","provider":"ses","source":"acme","occurred_at":1,"received_at":2,"provider_event":"Open","request_id":"r","raw":{"a":{}}}"#;
        let automation = Automation { reason: AutomationReason::Immediate, confidence: 0.5 };
        let mut value = b"of the previous event".to_vec();
        insert_automation(json.as_bytes(), automation, &mut value).unwrap();
        let event: Event<'_> = serde_json::from_slice(&value).unwrap();
        assert_eq!(event.automation, Some(automation));
        let unmarked = Event { automation: None, ..event };
        assert_eq!(serde_json::to_string(&unmarked).unwrap(), json);
    }

    #[test]
    fn the_counter_of_a_reason_has_its_discriminant_as_index() {
        for (number, &reason) in AutomationReason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, number);
        }
    }
}
