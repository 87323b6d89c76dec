use std::time::Duration;

use enrich::{Enrichment, RawRecord};
use erasure::StageErasure;
use event::{CounterSet, DimensionDigests, Event, IdBuilder, Kind};
use kafka::{
    AfterRollback, Alignment, CommittedCounter, Inputs, Kept, Lead, Outcome, Outgoing, Output,
    Record, Stage, TopicPartition, TopicSettings,
};
use record::{ForDedupe, TimeRecord, Topics, content_types, names};

use crate::log_time::LogTime;

/// Turns raw events into canonical events. An event depends on its own record, on look-up tables and on who was
/// erased. Between records it keeps these, the times of the ingresses and a buffer.
pub(crate) struct Enrich {
    topics: Topics,
    partitions: TopicSettings,
    enrichment: Enrichment,
    erasure: StageErasure,
    log_time: LogTime,
    clocks_ignored: CommittedCounter,
    value: Vec<u8>,
}

/// How long to wait for a raw partition that may have more records but delivers none, for example because
/// its broker is away.
const ALIGNMENT_WAIT: Duration = Duration::from_secs(1);

/// A request with deliveries and bounces reaches their topics one after the other, within milliseconds on most days. If the
/// bounces passed first, a healthy sender could be above a threshold for a moment, which is enough for a page.
const DELIVERIES_FIRST: Lead = Lead {
    leaders: &[Kind::Accepted as usize, Kind::Delivered as usize],
    followers: &[Kind::Deferred as usize, Kind::Bounced as usize, Kind::Dropped as usize],
    wait: Duration::from_millis(250),
};

/// The greatest number of headers of a record of `mail.enriched`.
const MAX_HEADERS: usize = 14;

impl Enrich {
    pub(crate) fn new(
        topics: Topics,
        partitions: TopicSettings,
        enrichment: Enrichment,
        erasure: StageErasure,
    ) -> Self {
        let log_time = LogTime::new(topics.all_raw().count());
        let clocks_ignored =
            CommittedCounter::new(metrics::counter!("mailpulse_enrich_clocks_ignored_total"));
        Self {
            topics,
            partitions,
            enrichment,
            erasure,
            log_time,
            clocks_ignored,
            value: Vec::new(),
        }
    }

    /// Publishes the merged time of the partition number if the time record advances it.
    fn pass_time(
        &mut self,
        record: &Record<'_>,
        time: &TimeRecord<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        let merged = self.log_time.receive(record.topic(), record.partition(), time);
        out.count(&self.clocks_ignored, u64::from(merged.is_ignored));
        if let Some(time) = merged.publish {
            let headers: Vec<_> = TimeRecord { time, id: None, is_last: false }.headers().collect();
            let headers: Vec<(&str, &[u8])> =
                headers.iter().map(|(name, value)| (*name, &**value)).collect();
            out.send(Outgoing {
                topic: &self.topics.enriched,
                partition: Some(record.partition()),
                key: b"",
                value: Some(b""),
                headers: &headers,
            })?;
        }
        Ok(Outcome::TimeRecord)
    }
}

/// Returns when the ingress received the event, or the time of a time record.
fn received_at(record: &Record<'_>) -> Option<i64> {
    let time = record.header(names::RECEIVED_AT).or_else(|| record.header(names::TIME))?;
    std::str::from_utf8(time).ok()?.parse().ok()
}

impl Stage for Enrich {
    const STAGE: record::Stage = record::Stage::Enrich;

    fn inputs(&self) -> Inputs {
        let topics: Vec<String> = self.topics.all_raw().map(str::to_owned).collect();
        let partitions = usize::try_from(self.partitions.recipient_partitions).unwrap_or(1);
        Inputs { partitions: topics.len() * partitions, topics }
    }

    /// The kinds of events are in different topics. Their records are processed in the order in which the
    /// ingress received them, so that no kind is ahead of the others after a stall.
    fn alignment(&self) -> Option<Alignment> {
        // The topics are in the order of the kinds.
        let lead = Some(DELIVERIES_FIRST);
        Some(Alignment { time: received_at, wait: ALIGNMENT_WAIT, lead })
    }

    fn restore(
        &mut self,
        partition: &TopicPartition,
        restore: &kafka::Restore<'_>,
    ) -> Result<(), kafka::Error> {
        self.log_time.assign(partition, restore.metadata());
        Ok(())
    }

    fn release(&mut self, partition: &TopicPartition) {
        self.log_time.release(partition);
    }

    fn offset_metadata(&self, partition: &TopicPartition) -> String {
        self.log_time.metadata(partition)
    }

    fn committed(&mut self) -> Result<(), kafka::Error> {
        self.log_time.committed();
        Ok(())
    }

    fn rolled_back(&mut self) -> AfterRollback {
        self.log_time.rolled_back();
        AfterRollback::Keep
    }

    fn prepare(&mut self, records: &mut dyn Iterator<Item = Record<'_>>) {
        let keys = records.filter_map(|record| std::str::from_utf8(record.key()).ok());
        self.enrichment.prepare(keys);
        self.erasure.refresh();
    }

    fn process(
        &mut self,
        record: &Record<'_>,
        out: &mut Output<'_>,
    ) -> Result<Outcome, kafka::Error> {
        if let Some(time) = record.time_record() {
            return self.pass_time(record, &time, out);
        }
        let Self { topics, enrichment, erasure, value, .. } = self;
        let bytes = record.value().unwrap_or_default();
        let headers = record.look_up();
        let raw = RawRecord::read(&|name| headers.get(name), record.key(), bytes);
        let published = raw.and_then(|raw| {
            enrichment.read(&raw, |event, would_count| {
                value.clear();
                let write = |event: &Event<'_>| serde_json::to_writer(&mut *value, event);
                erasure.eraser().with_erased(event, write).map_err(kafka::Error::state)?;
                let outgoing = Outgoing {
                    topic: &topics.enriched,
                    partition: Some(record.partition()),
                    key: &erasure.key(record.key()),
                    value: Some(value),
                    headers: &[],
                };
                publish(outgoing, (event, would_count), erasure.eraser().fingerprint(), out)
            })
        });
        match published {
            Ok(published) => published.map(|()| Outcome::Passed),
            Err(error) => erasure.dead_letter(record, error.reason(), &error.to_string(), out),
        }
    }

    fn kept<'r>(&self, record: &Record<'r>) -> Kept<'r> {
        self.erasure.kept(record)
    }
}

/// Sends the record of an event, with headers for everything that dedupe needs, so that dedupe parses no JSON.
fn publish(
    outgoing: Outgoing<'_>,
    (event, would_count): (&Event<'_>, Option<CounterSet>),
    erased: Option<[u8; 8]>,
    out: &mut Output<'_>,
) -> Result<(), kafka::Error> {
    let (mut digits, mut received_at) = (itoa::Buffer::new(), itoa::Buffer::new());
    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(MAX_HEADERS);
    headers.push((names::EVENT_ID, event.event_id.as_bytes()));
    headers.push((names::KIND, event.kind.as_str().as_bytes()));
    headers.push((names::OCCURRED_AT, digits.format(event.occurred_at.micros()).as_bytes()));
    headers.push((names::RECEIVED_AT, received_at.format(event.received_at.micros()).as_bytes()));
    headers.push((names::PROVIDER, event.provider.as_str().as_bytes()));
    headers.push((names::SOURCE, event.source.as_bytes()));
    if let Some(fault) = event.time_fault {
        headers.push((names::TIME_FAULT, fault.as_str().as_bytes()));
    }
    let engagement = event.engagement_id();
    if let Some(engagement) = &engagement {
        headers.push((names::ENGAGEMENT_ID, engagement.as_bytes()));
    }
    let digests = DimensionDigests::of(event);
    let mut for_dedupe = [0; ForDedupe::MAX_BYTES];
    let value_for_dedupe =
        ForDedupe { would_count, digests, sent_at: event.sent_at }.write(&mut for_dedupe);
    headers.push((names::FOR_DEDUPE, value_for_dedupe));
    if !event.authentic {
        headers.push((names::UNAUTHENTIC, b""));
    }
    if event.automation.is_some() {
        headers.push((names::MACHINE, b""));
    }
    if let Some(erased) = &erased {
        headers.push((names::ERASED, erased));
    }
    let link = link_digest(event);
    if let Some(link) = &link {
        headers.push((names::LINK, link));
    }
    headers.push((names::CONTENT_TYPE, content_types::EVENT.as_bytes()));
    out.send(Outgoing { headers: &headers, ..outgoing })
}

/// Returns a digest of the link that a click followed. Four bytes are enough to distinguish the
/// links of one message.
fn link_digest(event: &Event<'_>) -> Option<[u8; 4]> {
    let url = event.url.as_deref().filter(|_| event.kind == Kind::Clicked)?;
    let [a, b, c, d, ..] = IdBuilder::new("link").part(url.as_bytes()).finish().0;
    Some([a, b, c, d])
}
