//! Records to produce, with the headers that the stages of the pipeline write, and records read.

use event::{EventId, Kind, Provider};
use record::{Topics, names};

/// A record to produce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The topic.
    pub topic: String,
    /// The partition; chosen by the key if `None`.
    pub partition: Option<i32>,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The time of the record in milliseconds; the present if `None`.
    pub timestamp: Option<i64>,
    /// Whether it has no value, so that a compacted topic forgets its key.
    pub is_tombstone: bool,
}

impl Outgoing {
    /// Returns a record without headers.
    pub fn new(topic: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Self {
            topic: topic.to_owned(),
            key: key.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
            ..Self::default()
        }
    }

    /// Returns a record without a value.
    pub fn tombstone(topic: &str, key: impl AsRef<[u8]>) -> Self {
        Self { is_tombstone: true, ..Self::new(topic, key, "") }
    }

    /// Returns the record for this partition, whatever its key.
    pub fn on(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Returns the record with this time, in UTC milliseconds.
    pub const fn written_at(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// Returns the record with one more header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Returns the record with further headers.
    pub fn headers(self, headers: &[(&str, &[u8])]) -> Self {
        headers.iter().fold(self, |record, (name, value)| record.header(name, value))
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The key; empty if there is none.
    pub key: Vec<u8>,
    /// The value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// Returns the value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_slice())
    }

    /// Returns the value.
    ///
    /// # Panics
    /// If the record is a tombstone.
    pub fn value(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_else(|| panic!("no value: {self:?}"))
    }

    /// Returns the value as text.
    ///
    /// # Panics
    /// If it is not UTF-8, or if the record is a tombstone.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value()).unwrap()
    }

    /// Returns the value as JSON.
    ///
    /// # Panics
    /// If it is not JSON, or if the record is a tombstone.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value()).unwrap()
    }
}

/// The time of receipt that [`raw`] gives its records, in microseconds: 2027-01-15 08:00:00 UTC.
pub const RECEIVED_AT: &str = "1800000000000000";

/// Returns a raw event as the ingress publishes it, received at [`RECEIVED_AT`] in the request `r1`.
pub fn raw(
    topics: &Topics,
    provider: Provider,
    source: &str,
    kind: Kind,
    recipient: &str,
    value: impl AsRef<[u8]>,
) -> Outgoing {
    Outgoing::new(topics.raw(kind), recipient, value)
        .header(names::PROVIDER, provider.as_str())
        .header(names::SOURCE, source)
        .header(names::RECEIVED_AT, RECEIVED_AT)
        .header(names::REQUEST_ID, "r1")
}

/// The headers of an event on `mail.enriched`.
#[derive(Debug, Clone, Copy)]
pub struct Enriched {
    /// The provider.
    pub provider: Provider,
    /// The event id.
    pub id: EventId,
    /// The kind.
    pub kind: Kind,
    /// UTC microseconds.
    pub occurred_at: i64,
    /// The engagement id, on deliveries, opens and clicks.
    pub engagement: Option<EventId>,
    /// The digest of the link, on clicks.
    pub link: Option<u32>,
}

/// Returns an event as enrich publishes it.
pub fn enriched(
    topics: &Topics,
    recipient: &str,
    value: impl AsRef<[u8]>,
    headers: &Enriched,
) -> Outgoing {
    let mut record = Outgoing::new(&topics.enriched, recipient, value)
        .header(names::PROVIDER, headers.provider.as_str())
        .header(names::EVENT_ID, headers.id.as_bytes())
        .header(names::KIND, headers.kind.as_str())
        .header(names::OCCURRED_AT, headers.occurred_at.to_string());
    if let Some(engagement) = headers.engagement {
        record = record.header(names::ENGAGEMENT_ID, engagement.as_bytes());
    }
    if let Some(link) = headers.link {
        record = record.header(names::LINK, link.to_be_bytes());
    }
    record
}

/// Returns an event as dedupe publishes it. `first` is the value of the header `first`, which opens
/// and clicks have.
pub fn event(
    topics: &Topics,
    recipient: &str,
    value: impl AsRef<[u8]>,
    (id, kind, occurred_at): (EventId, Kind, i64),
    first: &str,
) -> Outgoing {
    let record = Outgoing::new(&topics.events, recipient, value)
        .header(names::EVENT_ID, id.as_bytes())
        .header(names::KIND, kind.as_str())
        .header(names::OCCURRED_AT, occurred_at.to_string());
    if kind.is_engagement() { record.header(names::FIRST, first) } else { record }
}

#[cfg(test)]
mod tests {
    use record::{EnrichedHeaders, EventHeaders, RawHeaders};

    use super::*;

    fn received(record: Outgoing) -> Record {
        let Outgoing { topic, key, value, headers, .. } = record;
        Record { topic, partition: 0, offset: 0, key, value: Some(value), headers }
    }

    #[test]
    fn built_records_have_the_headers_that_the_stages_read() {
        let topics = Topics::new("t.");
        let raw = raw(&topics, Provider::Ses, "news", Kind::Clicked, "ada@example.com", "{}");
        assert_eq!(raw.topic, "t.mail.raw.clicked");
        let raw = received(raw);
        let headers = RawHeaders::read(&|name| raw.header(name)).unwrap();
        assert_eq!((headers.provider, headers.source), (Provider::Ses, "news"));
        assert_eq!(headers.received_at.micros().to_string(), RECEIVED_AT);

        let (id, engagement) = (EventId([1; 16]), EventId([2; 16]));
        let written = Enriched {
            provider: Provider::Ses,
            id,
            kind: Kind::Clicked,
            occurred_at: 5,
            engagement: Some(engagement),
            link: Some(7),
        };
        let enriched = received(enriched(&topics, "ada@example.com", "{}", &written));
        let headers = EnrichedHeaders::read(&|name| enriched.header(name)).unwrap();
        assert_eq!((headers.event_id, headers.engagement_id), (id, Some(engagement)));
        assert_eq!((headers.occurred_at.micros(), headers.link), (5, Some(7)));

        let event =
            received(event(&topics, "ada@example.com", "{}", (id, Kind::Opened, 5), "kind"));
        assert_eq!(event.topic, "t.mail.events");
        let headers = EventHeaders::read(&|name| event.header(name)).unwrap();
        assert!(headers.first.of_kind && !headers.first.of_engagement);
    }
}
