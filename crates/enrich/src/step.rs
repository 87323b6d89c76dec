//! One record to one event.

use event::{Event, Text, domain_of};
use providers::{Envelope, ParseError};
use record::{RawHeaders, Reason, Topics, names};
use stream::step::Step;
use stream::{Outgoing, Output, Record, Restore, StreamError, TopicPartition};

use crate::mailbox::MailboxProviders;

/// Has no state but a buffer.
pub(crate) struct Enrich {
    topics: Topics,
    mailbox_providers: MailboxProviders,
    value: Vec<u8>,
}

/// Why a record is not an event.
enum Unreadable {
    Headers(record::HeaderError),
    Key,
    Value(ParseError),
}

impl Enrich {
    pub(crate) fn new(topics: Topics, mailbox_providers: MailboxProviders) -> Self {
        Self { topics, mailbox_providers, value: Vec::new() }
    }

    fn event<'a>(&'a self, record: &Record<'a>) -> Result<Event<'a>, Unreadable> {
        let headers = RawHeaders::read(&|name| record.header(name)).map_err(Unreadable::Headers)?;
        let recipient = std::str::from_utf8(record.key()).map_err(|_| Unreadable::Key)?;
        let envelope = Envelope {
            source: headers.source,
            recipient,
            received_at: headers.received_at,
            request_id: headers.request_id,
        };
        let raw = record.value().unwrap_or_default();
        let mut event =
            providers::parse(headers.provider, raw, &envelope).map_err(Unreadable::Value)?;
        if !recipient.is_empty() {
            let name = self.mailbox_providers.of_domain(domain_of(recipient));
            event.mailbox_provider = Some(Text::from(name));
        }
        Ok(event)
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
        let engagement = event.engagement_id();
        let headers: [(&str, &[u8]); 6] = [
            (names::EVENT_ID, event.event_id.as_bytes()),
            (names::KIND, event.kind.as_str().as_bytes()),
            (names::OCCURRED_AT, digits.format(event.occurred_at.micros()).as_bytes()),
            (names::PROVIDER, event.provider.as_str().as_bytes()),
            (names::SOURCE, event.source.as_bytes()),
            (names::ENGAGEMENT_ID, engagement.as_ref().map_or(&[], |id| id.as_bytes())),
        ];
        let used = headers.len() - usize::from(engagement.is_none());
        out.send(Outgoing {
            topic,
            partition: Some(record.partition()),
            key: record.key(),
            value: Some(value),
            headers: &headers[..used],
        })
    }
}

impl Step for Enrich {
    fn assigned(&mut self, _: &TopicPartition, _: &Restore<'_>) -> Result<(), StreamError> {
        Ok(())
    }

    fn revoked(&mut self, _: &TopicPartition) {}

    fn record(&mut self, record: &Record<'_>, out: &mut Output<'_>) -> Result<(), StreamError> {
        let mut value = std::mem::take(&mut self.value);
        let done = match self.event(record) {
            Ok(event) => Self::publish(&self.topics.enriched, &mut value, record, &event, out),
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
