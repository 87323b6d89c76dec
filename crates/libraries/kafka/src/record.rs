use rdkafka::message::{BorrowedMessage, Headers, Message};
use record::names;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

/// A record's headers, to be looked up by name.
pub struct HeaderLookup<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> HeaderLookup<'a> {
    /// The first header of that name.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(its, _)| *its == name).map(|(_, value)| *value)
    }
}

/// A consumed record, still in librdkafka's memory.
pub struct Record<'a>(pub(crate) &'a BorrowedMessage<'a>);

impl<'a> Record<'a> {
    /// Its topic.
    pub fn topic(&self) -> &'a str {
        self.0.topic()
    }

    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// Its key; empty when it has none.
    pub fn key(&self) -> &'a [u8] {
        self.0.key().unwrap_or_default()
    }

    /// Its value; `None` is a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.0.payload()
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let headers = self.0.headers()?;
        headers.iter().find(|header| header.key == name).and_then(|header| header.value)
    }

    /// The headers, read once for several look-ups: each [`Record::header`] reads them from the first
    /// on, at some twenty nanoseconds a header.
    pub fn look_up(&self) -> HeaderLookup<'a> {
        HeaderLookup(self.headers().collect())
    }

    /// All headers in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.0
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
            .map(|header| (header.key, header.value.unwrap_or_default()))
    }

    /// Whether an operator sent it back for this stage alone, by its code, that had given up on it:
    /// all other readers of its topic have had it. The header that says so
    /// ([`names::REDRIVEN`]) is the last one, which makes this a look and not a search.
    pub fn is_again_for(&self, stage: &str) -> bool {
        let Some(headers) = self.0.headers() else { return false };
        let last = headers.count().checked_sub(1).and_then(|index| headers.try_get(index));
        last.is_some_and(|header| {
            header.key == names::REDRIVEN && header.value == Some(stage.as_bytes())
        })
    }

    /// Where it is, as `topic/partition/offset`.
    pub fn origin(&self) -> String {
        format!("{}/{}/{}", self.topic(), self.partition(), self.offset())
    }

    /// A copy that outlives the poll it came from.
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
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key; empty when it has none.
    pub key: Vec<u8>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// All headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl OwnedRecord {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }
}
