use erasure::StageErasure;
use event::{Automation, AutomationReason, EventId, Provider};
use kafka::{
    AfterRollback, CommittedCounter, Inputs, Kept, Outcome, Outgoing, Output, Record, Stage,
    TopicPartition,
};
use metrics::counter;
use record::{EnrichedHeaders, Reason, Topics, names};
use state::{Hour, Seen, StateError, Store};

use crate::heuristics::Heuristics;
use crate::judgement::{Findings, judge};
use crate::output_headers::OutputHeaders;

/// Passes the first occurrence of every event.
pub struct Dedupe<'a> {
    store: Store,
    heuristics: Heuristics,
    topics: &'a Topics,
    partitions: usize,
    erasure: StageErasure,
    /// Called during a restore, which may take longer than the health check allows.
    mark_alive: &'a dyn Fn(),
    counters: Counters,
    headers: OutputHeaders,
    /// The value of an event that gets a field `automation`. Kept to reuse its memory.
    value: Vec<u8>,
}

impl<'a> Dedupe<'a> {
    pub fn new(
        store: Store,
        heuristics: Heuristics,
        topics: &'a Topics,
        partitions: usize,
        erasure: StageErasure,
        mark_alive: &'a dyn Fn(),
    ) -> Self {
        let (counters, headers, value) = (Counters::new(), OutputHeaders::default(), Vec::new());
        Self {
            store,
            heuristics,
            topics,
            partitions,
            erasure,
            mark_alive,
            counters,
            headers,
            value,
        }
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
        let id = id_of(event);
        let seen = if event.is_undated {
            partition.insert_undated(&id, hour)?
        } else {
            partition.insert(&id, hour)?
        };
        match seen {
            Seen::Duplicate => {
                out.count(self.counters.duplicates_of(record), 1);
                return Ok(None);
            }
            Seen::First => {}
            Seen::BeyondHorizon => out.count(&self.counters.beyond_horizon, 1),
        }
        let value = record.value().unwrap_or_default();
        judge(partition, &self.heuristics, event, value, seen).map(Some)
    }

    /// Passes the event on, with the findings in its headers and value, and without what it says about erased
    /// recipients. The findings are those of the original event.
    fn pass(
        &mut self,
        record: &Record<'_>,
        erased: Option<&[u8]>,
        findings: &Findings,
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        self.headers.set(findings);
        let headers = self.headers.as_pairs();
        let (topic, partition) = (&self.topics.events, record.partition());
        let Kept { key, value } = self.erasure.event(record, erased);
        let value = match findings.automation {
            None => value.as_deref(),
            Some(automation) => {
                out.count(&self.counters.automated[automation.reason as usize], 1);
                insert_automation(
                    value.as_deref().unwrap_or_default(),
                    automation,
                    &mut self.value,
                )?;
                Some(&*self.value)
            }
        };
        out.forward_as(record, topic, partition, (&key, value), &headers)
    }
}

/// Returns the id under which an event is remembered. An event that only shadow mode admitted has another
/// one, so that nobody can forge an event that makes the authentic one a duplicate.
fn id_of(event: &EnrichedHeaders) -> EventId {
    let mut id = event.event_id;
    if !event.authentic {
        id.0.iter_mut().for_each(|byte| *byte = !*byte);
    }
    id
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
        if record.time_record().is_some() {
            out.forward(record, &self.topics.events, record.partition(), &[])?;
            return Ok(Outcome::TimeRecord);
        }
        let headers = record.look_up();
        let event = match EnrichedHeaders::read(&|name| headers.get(name)) {
            Ok(event) => event,
            Err(error) => {
                let detail = error.to_string();
                return self.erasure.dead_letter(record, Reason::BadHeaders, &detail, out);
            }
        };
        match self.look_up(record, &event, out).map_err(kafka::Error::state)? {
            Some(findings) => {
                let erased = headers.get(names::ERASED);
                self.pass(record, erased, &findings, out).map(|()| Outcome::Passed)
            }
            None => Ok(Outcome::Dropped),
        }
    }

    fn prepare(&mut self, _: &mut dyn Iterator<Item = Record<'_>>) {
        self.erasure.refresh();
    }

    fn kept<'r>(&self, record: &Record<'r>) -> Kept<'r> {
        self.erasure.kept(record)
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
