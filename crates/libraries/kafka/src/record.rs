use std::fmt;

use rdkafka::message::{BorrowedMessage, Headers, Message};
use record::{Origin, Stage, TimeRecord, names};

use crate::Offset;

/// A partition of a topic. Displayed as `topic/partition`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// The headers of one record, for several look-ups by name.
pub struct HeaderLookup<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> HeaderLookup<'a> {
    /// Returns the first header of that name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

/// A consumed record in librdkafka's memory.
pub struct Record<'a>(pub(crate) &'a BorrowedMessage<'a>);

impl<'a> Record<'a> {
    pub fn topic(&self) -> &'a str {
        self.0.topic()
    }

    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    pub fn offset(&self) -> Offset {
        Offset(self.0.offset())
    }

    /// The key. A missing key is empty.
    pub fn key(&self) -> &'a [u8] {
        self.0.key().unwrap_or_default()
    }

    /// The value. `None` is a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.0.payload()
    }

    /// Returns the first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let headers = self.0.headers()?;
        headers.iter().find(|header| header.key == name).and_then(|header| header.value)
    }

    /// Reads all headers once, for several look-ups. Each [`Record::header`] searches from the first
    /// header, at about twenty nanoseconds per header.
    pub fn look_up(&self) -> HeaderLookup<'a> {
        // The iterator does not know its length.
        let count = self.0.headers().map_or(0, |headers| headers.count());
        let mut headers = Vec::with_capacity(count);
        headers.extend(self.headers());
        HeaderLookup(headers)
    }

    /// The header [`names::SOURCE`]: the configured source whose request contained the record. Empty if
    /// the record has none.
    pub fn source(&self) -> &'a [u8] {
        self.header(names::SOURCE).unwrap_or_default()
    }

    /// When the producer wrote the record, or the broker if the topic is set so: UTC microseconds, of which Kafka
    /// stores the milliseconds. `None` if the record has no time.
    pub fn written_at(&self) -> Option<i64> {
        let millis = self.0.timestamp().to_millis().filter(|millis| *millis >= 0)?;
        millis.checked_mul(1_000)
    }

    /// Reads a time record. Returns `None` for every other record, and reads no header of a record that has
    /// a value.
    pub fn time_record(&self) -> Option<TimeRecord<'a>> {
        if self.value().is_some_and(|value| !value.is_empty()) {
            return None;
        }
        TimeRecord::read(&|name| self.header(name))
    }

    /// All headers in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
            .map(|header| (header.key, header.value.unwrap_or_default()))
    }

    /// Returns true if an operator redrove this record for `stage` only. Other consumers of the topic
    /// have already processed it and must skip it. [`names::REDRIVEN`] is always the last header, so
    /// this looks at one header only.
    pub fn is_redriven_for(&self, stage: Stage) -> bool {
        let Some(headers) = self.0.headers() else { return false };
        let last = headers.count().checked_sub(1).and_then(|index| headers.try_get(index));
        last.is_some_and(|header| {
            header.key == names::REDRIVEN && header.value == Some(stage.code().as_bytes())
        })
    }

    /// Returns true if an operator redrove this record for one stage only, and not for `stage`.
    pub fn is_redriven_for_another(&self, stage: Stage) -> bool {
        let Some(headers) = self.0.headers() else { return false };
        let last = headers.count().checked_sub(1).and_then(|index| headers.try_get(index));
        last.is_some_and(|header| {
            header.key == names::REDRIVEN && header.value != Some(stage.code().as_bytes())
        })
    }

    /// The position in the cluster.
    pub fn origin(&self) -> Origin<'a> {
        Origin { topic: self.topic(), partition: self.partition(), offset: self.offset() }
    }

    /// Copies the record, so that it outlives the poll that returned it.
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord {
            topic: self.topic().to_owned(),
            partition: self.partition(),
            offset: self.offset(),
            key: self.key().to_vec(),
            value: self.value().map(<[u8]>::to_vec),
            headers: self.headers().map(|(k, v)| (k.to_owned(), v.to_vec())).collect(),
        }
    }
}

/// A record that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
    /// The key. A missing key is empty.
    pub key: Vec<u8>,
    /// The value. `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// All headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl OwnedRecord {
    /// Returns the first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }

    /// Returns the code of the stage for which alone an operator redrove this record.
    pub fn redriven_for(&self) -> Option<&[u8]> {
        self.headers.last().filter(|(name, _)| name == names::REDRIVEN).map(|(_, value)| &value[..])
    }

    /// As [`Record::source`].
    pub fn source(&self) -> &[u8] {
        self.header(names::SOURCE).unwrap_or_default()
    }

    /// The position in the cluster.
    pub fn origin(&self) -> Origin<'_> {
        Origin { topic: &self.topic, partition: self.partition, offset: self.offset }
    }
}
