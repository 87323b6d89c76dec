//! One record to one event.

use enrich::{EnrichSettings, Enrichment, RawRecord};
use event::{Event, IdBuilder, Kind};
use record::{Topics, names};
use kafka::step::{Step, StepSettings};
use kafka::{Outgoing, Output, Record, Restore, StreamError, TopicPartition, TopicSettings};

/// Has no state but what it looks up in, and a buffer.
pub(crate) struct Enrich {
    topics: Topics,
    enrichment: Enrichment,
    value: Vec<u8>,
}

/// Of a record at most.
const HEADERS: usize = 8;

/// What the loop reads.
pub(crate) fn settings(
    enrich: &EnrichSettings,
    topics: &Topics,
    layout: TopicSettings,
) -> StepSettings {
    let inputs: Vec<String> = topics.all_raw().map(str::to_owned).collect();
    let partitions = usize::try_from(layout.recipient_partitions).unwrap_or(1);
    StepSettings {
        job: "enrich",
        group: topics.group("enrich"),
        input_partitions: inputs.len() * partitions,
        inputs,
        dead_letters: topics.dead_letters.clone(),
        batch_records: enrich.batch_records,
        batch_wait: enrich.batch_wait,
        refusals_to_hold: enrich.refusals_to_hold,
    }
}

impl Enrich {
    pub(crate) fn new(topics: Topics, enrichment: Enrichment) -> Self {
        Self { topics, enrichment, value: Vec::new() }
    }
}

/// The event, with what `dedupe` needs of it as headers.
fn publish(
    topic: &str,
    value: &mut Vec<u8>,
    record: &Record<'_>,
    event: &Event<'_>,
    out: &mut Output<'_>,
) -> Result<(), StreamError> {
    value.clear();
    serde_json::to_writer(&mut *value, event).map_err(StreamError::state)?;
    let mut digits = itoa::Buffer::new();
    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(HEADERS);
    headers.push((names::EVENT_ID, event.event_id.as_bytes()));
    headers.push((names::KIND, event.kind.as_str().as_bytes()));
    headers.push((names::OCCURRED_AT, digits.format(event.occurred_at.micros()).as_bytes()));
    headers.push((names::PROVIDER, event.provider.as_str().as_bytes()));
    headers.push((names::SOURCE, event.source.as_bytes()));
    let engagement = event.engagement_id();
    if let Some(engagement) = &engagement {
        headers.push((names::ENGAGEMENT_ID, engagement.as_bytes()));
    }
    if event.automation.is_some() {
        headers.push((names::MACHINE, b""));
    }
    let link = link(event);
    if let Some(link) = &link {
        headers.push((names::LINK, link));
    }
    out.send(Outgoing {
        topic,
        partition: Some(record.partition()),
        key: record.key(),
        value: Some(value),
        headers: &headers,
    })
}

/// Which link a click followed, as far as telling one from another asks for.
fn link(event: &Event<'_>) -> Option<[u8; 4]> {
    let url = event.url.as_deref().filter(|_| event.kind == Kind::Clicked)?;
    let [a, b, c, d, ..] = IdBuilder::new("link").part(url.as_bytes()).finish().0;
    Some([a, b, c, d])
}

impl Step for Enrich {
    fn assigned(&mut self, _: &TopicPartition, _: &Restore<'_>) -> Result<(), StreamError> {
        Ok(())
    }

    fn revoked(&mut self, _: &TopicPartition) {}

    fn before_round(&mut self, records: &mut dyn Iterator<Item = Record<'_>>) {
        let keys = records.filter_map(|record| std::str::from_utf8(record.key()).ok());
        self.enrichment.prepare(keys);
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError> {
        let Self { topics, enrichment, value } = self;
        let bytes = record.value().unwrap_or_default();
        let headers = record.look_up();
        let raw = RawRecord::read(&|name| headers.get(name), record.key(), bytes);
        let published = raw.and_then(|raw| {
            enrichment.read(&raw, |event| publish(&topics.enriched, value, record, event, out))
        });
        match published {
            Ok(published) => published,
            Err(why) => out.dead_letter(record, why.reason(), &why.to_string()),
        }
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn rolled_back(&mut self) {}
}
