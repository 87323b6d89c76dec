//! One record to one event.

use event::{Event, IdBuilder, Kind};
use providers::{Envelope, ParseError};
use record::{RawHeaders, Reason, Topics, names};
use stream::step::Step;
use stream::{Outgoing, Output, Record, Restore, StreamError, TopicPartition};

use crate::enrichment::Enrichment;

/// Has no state but what it looks up in, and a buffer.
pub(crate) struct Enrich {
    topics: Topics,
    enrichment: Enrichment,
    value: Vec<u8>,
}

/// Of a record at most.
const HEADERS: usize = 8;

/// Why a record is not an event.
enum Unreadable {
    Headers(record::HeaderError),
    Key,
    Value(ParseError),
}

impl Enrich {
    pub(crate) fn new(topics: Topics, enrichment: Enrichment) -> Self {
        Self { topics, enrichment, value: Vec::new() }
    }

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
}

/// The provider's bytes as an event, with nothing added.
fn read<'a>(record: &Record<'a>) -> Result<Event<'a>, Unreadable> {
    let headers = RawHeaders::read(&|name| record.header(name)).map_err(Unreadable::Headers)?;
    let recipient = std::str::from_utf8(record.key()).map_err(|_| Unreadable::Key)?;
    let envelope = Envelope {
        source: headers.source,
        recipient,
        received_at: headers.received_at,
        request_id: headers.request_id,
    };
    let raw = record.value().unwrap_or_default();
    providers::parse(headers.provider, raw, &envelope).map_err(Unreadable::Value)
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
        let mut value = std::mem::take(&mut self.value);
        let done = match read(record) {
            Ok(mut event) => {
                let agent = self.enrichment.agent(&event);
                self.enrichment.add(&mut event, agent.as_deref());
                Self::publish(&self.topics.enriched, &mut value, record, &event, out)
            }
            Err(why) => out.dead_letter(record, why.reason(), &why.detail()),
        };
        self.value = value;
        done
    }

    fn committed(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn rolled_back(&mut self) {}
}

impl Unreadable {
    fn reason(&self) -> Reason {
        match self {
            Self::Headers(_) | Self::Key => Reason::BadHeaders,
            Self::Value(ParseError::NotUtf8) => Reason::NotUtf8,
            Self::Value(ParseError::NotJson { .. }) => Reason::NotJson,
            Self::Value(ParseError::WrongShape(_)) => Reason::WrongShape,
            Self::Value(ParseError::MissingTime) => Reason::MissingTime,
            Self::Value(ParseError::UnreadableTime) => Reason::UnreadableTime,
            Self::Value(ParseError::TimeOutOfRange) => Reason::TimeOutOfRange,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Headers(error) => error.to_string(),
            Self::Key => "the key is not text".to_owned(),
            Self::Value(error) => error.to_string(),
        }
    }
}
