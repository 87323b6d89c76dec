use std::cell::OnceCell;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::admin::first_and_next;
use crate::connection::Quiet;
use crate::{Connection, StreamError};

/// No changelog of ours takes longer; measured figures are in `docs/benchmarks.md`.
const LIMIT: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_millis(100);

/// What a step gets with a new partition: the offset metadata its predecessor left, and the means
/// to read its changelog.
pub struct Restore<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) readers: &'a Readers,
    pub(crate) metadata: String,
}

/// What a restore read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Records read.
    pub records: u64,
    /// Where the next restore may begin.
    pub next_offset: i64,
}

impl Restore<'_> {
    /// The metadata that was committed with the partition's offset; empty when there is none.
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Reads the committed records of a changelog partition from `from` (or its beginning) to its
    /// end. Nobody else adds to them: whoever owned the partition before can commit no more.
    ///
    /// A member that has vanished may have left a transaction open, though. What later owners have
    /// committed lies behind it, out of sight of readers of committed records, until the broker
    /// ends it; so that is awaited first.
    ///
    /// `apply` gets key and value; a `None` value is a tombstone.
    pub fn changelog(
        &self,
        topic: &str,
        partition: i32,
        from: Option<i64>,
        mut apply: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), StreamError>,
    ) -> Result<Restored, StreamError> {
        let deadline = Instant::now() + LIMIT;
        let late = || StreamError::RestoreTimeout {
            topic: topic.to_owned(),
            partition,
            seconds: LIMIT.as_secs(),
        };
        let (consumer, everything) = self.readers.get(self.connection)?;
        let (_, end) = first_and_next(everything, topic, partition, deadline)?;
        while first_and_next(consumer, topic, partition, deadline)?.1 < end {
            if Instant::now() >= deadline {
                return Err(late());
            }
            std::thread::sleep(PAUSE);
        }

        let mut assignment = TopicPartitionList::new();
        let start = from.map_or(Offset::Beginning, Offset::Offset);
        assignment.add_partition_offset(topic, partition, start)?;
        consumer.assign(&assignment)?;

        let mut restored = Restored { records: 0, next_offset: from.unwrap_or(0) };
        while Instant::now() < deadline {
            match consumer.poll(Duration::from_millis(200)) {
                None => {}
                Some(Ok(message)) => {
                    apply(message.key().unwrap_or_default(), message.payload())?;
                    restored.records += 1;
                    restored.next_offset = message.offset() + 1;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(restored),
                Some(Err(error)) if is_passing(&error) => {
                    tracing::warn!(%error, topic, partition, "restore");
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Err(late())
    }
}

/// Two consumers, one of committed records and one of all. Partitions come in groups, and closing a
/// consumer takes a tenth of a second: they share them.
#[derive(Default)]
pub(crate) struct Readers(OnceCell<(Reader, Reader)>);

type Reader = BaseConsumer<Quiet>;

impl Readers {
    fn get(&self, connection: &Connection) -> Result<&(Reader, Reader), StreamError> {
        if let Some(readers) = self.0.get() {
            return Ok(readers);
        }
        let open = |isolation| {
            let mut config = connection.reader("restore", "mailpulse-restore");
            config
                .set("isolation.level", isolation)
                .set("queued.max.messages.kbytes", "16384")
                .create_with_context(Quiet)
                .map_err(|error| StreamError::Settings(error.to_string()))
        };
        let readers = (open("read_committed")?, open("read_uncommitted")?);
        Ok(self.0.get_or_init(|| readers))
    }
}

/// Errors that librdkafka mends by itself while one goes on polling.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    !matches!(error, KafkaError::MessageConsumptionFatal(_))
}
