//! `mail.dead-letters` as it lies there, and the one way out of it: for the operator's tool.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use record::Topics;

use crate::admin::{first_and_next, partition_counts};
use crate::changelog::is_passing;
use crate::connection::Quiet;
use crate::transaction::Transactions;
use crate::{Connection, Output, Record, StreamError};

/// How long the broker may take to say where a partition ends.
const CALL: Duration = Duration::from_secs(10);
/// How long it may send nothing in the middle of a partition.
const STALLED: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(100);
/// Fetched ahead of being asked for. Values may be 20 MiB each, so this bounds little but bursts.
const FETCHED_AHEAD_KIB: &str = "16384";

/// The committed records of a topic up to where it ended when this was made: however often a
/// partition is read, it has the same records (but for those that retention removes meanwhile).
pub struct Letters {
    topic: String,
    consumer: BaseConsumer<Quiet>,
    /// First and next offset, by partition.
    ends: Vec<(i64, i64)>,
}

/// A record and its time.
pub struct Entry<'a> {
    /// The record.
    pub record: Record<'a>,
    /// When it was written by its producer's clock: UTC, milliseconds since the Unix epoch.
    pub written_at: i64,
}

impl Letters {
    /// What is committed now. A record behind a transaction that is still open is not.
    ///
    /// # Errors
    /// [`StreamError::Topic`] when there is no such topic.
    pub fn committed(connection: &Connection, topic: &str) -> Result<Self, StreamError> {
        let counts = partition_counts(connection)?;
        let partitions = *counts.get(topic).ok_or_else(|| StreamError::Topic {
            topic: topic.to_owned(),
            problem: "is missing or has no leader; see kafka.bootstrap and kafka.prefix".into(),
        })?;
        let consumer = reader(connection, "read_committed")?;
        let ends = ends(&consumer, topic, partitions)?;
        Ok(Self { topic: topic.to_owned(), consumer, ends })
    }

    /// Everything that was written before the call and is committed, having waited until that is
    /// decided of each record: some member's open transaction hides what others have committed
    /// behind it.
    ///
    /// # Errors
    /// As [`Letters::committed`], and when a transaction stays open for longer than `within`.
    fn settled(
        connection: &Connection,
        topic: &str,
        within: Duration,
    ) -> Result<Self, StreamError> {
        let until = Instant::now() + within;
        let mut letters = Self::committed(connection, topic)?;
        let everything = reader(connection, "read_uncommitted")?;
        let written = ends(&everything, topic, letters.partitions())?;
        for (partition, (_, end)) in (0..).zip(written) {
            let index = partition as usize;
            while letters.ends[index].1 < end {
                if Instant::now() >= until {
                    let problem = format!("has an open transaction on partition {partition}");
                    return Err(StreamError::Topic { topic: topic.to_owned(), problem });
                }
                std::thread::sleep(PAUSE);
                letters.ends[index] = first_and_next(&letters.consumer, topic, partition, until)?;
            }
        }
        Ok(letters)
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> i32 {
        self.ends.len() as i32
    }

    /// Hands the records of a partition from offset `from` on to `visit`, until it breaks off. One
    /// at a time: what is to be kept has to be copied. Nothing for a partition that is not there.
    ///
    /// # Errors
    /// Those of `visit`, and [`StreamError::Topic`] when the broker falls silent.
    pub fn read<E: From<StreamError>>(
        &self,
        partition: i32,
        from: i64,
        mut visit: impl FnMut(&Entry<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let ends = usize::try_from(partition).ok().and_then(|index| self.ends.get(index));
        let Some(&(first, next)) = ends.filter(|(first, next)| from.max(*first) < *next) else {
            return Ok(());
        };
        self.assign(partition, from.max(first))?;
        let mut heard = Instant::now();
        while heard.elapsed() < STALLED {
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) if message.offset() >= next => return Ok(()),
                Some(Ok(message)) => {
                    let written_at = message.timestamp().to_millis().unwrap_or_default();
                    let entry = Entry { record: Record(&message), written_at };
                    if visit(&entry)?.is_break() {
                        return Ok(());
                    }
                    heard = Instant::now(); // however long `visit` took
                }
                // The last offsets need not be records: ends of transactions have one too.
                Some(Err(KafkaError::PartitionEOF(at))) if at == partition => return Ok(()),
                Some(Err(error)) if is_passing(&error) => {
                    tracing::warn!(%error, topic = self.topic, "read");
                }
                Some(Err(error)) => return Err(StreamError::from(error).into()),
            }
        }
        let problem = format!("partition {partition}: nothing came for {} s", STALLED.as_secs());
        Err(StreamError::Topic { topic: self.topic.clone(), problem }.into())
    }

    fn assign(&self, partition: i32, from: i64) -> Result<(), StreamError> {
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&self.topic, partition, Offset::Offset(from))?;
        Ok(self.consumer.assign(&assignment)?)
    }
}

fn ends(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    partitions: i32,
) -> Result<Vec<(i64, i64)>, StreamError> {
    let until = Instant::now() + CALL;
    (0..partitions).map(|partition| first_and_next(consumer, topic, partition, until)).collect()
}

fn reader(connection: &Connection, isolation: &str) -> Result<BaseConsumer<Quiet>, StreamError> {
    connection
        .reader("letters", "mailpulse-letters")
        .set("isolation.level", isolation)
        .set("queued.max.messages.kbytes", FETCHED_AHEAD_KIB)
        .create_with_context(Quiet)
        .map_err(|error| StreamError::Settings(error.to_string()))
}

/// Sends letters back on their way, as the only one who does: whoever opens it next ends this one.
///
/// What was sent is known from the topic alone, by records written in the same transaction. So it
/// is opened in this order: the transactional id first, which ends the transaction of whoever had
/// it before and lets none of theirs be committed any more; then the view of the topic, which has
/// every record they did commit.
pub struct Redrive {
    transactions: Transactions,
    letters: Letters,
    dead_letters: String,
}

/// Why letters were not sent back.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// Another one was opened; nothing of this batch is visible.
    #[error("another redrive has begun and ended this one; what it reported as done is done")]
    Superseded,
    /// The batch is visible as a whole or not at all, and only a new [`Redrive`] knows.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

impl RedriveError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Superseded => "redrive_superseded",
            Self::Stream(error) => error.code(),
        }
    }
}

impl Redrive {
    /// Takes the transactional id over, and returns when every record before that is decided;
    /// `within` bounds the wait for other members' open transactions.
    ///
    /// # Errors
    /// [`StreamError::Topic`] when there are no dead letters, or a transaction stays open.
    pub fn open(
        connection: &Connection,
        topics: &Topics,
        within: Duration,
    ) -> Result<Self, StreamError> {
        let id = topics.group("redrive");
        let transactions = Transactions::open(connection.producer("redrive"), &id)?;
        let letters = Letters::settled(connection, &topics.dead_letters, within)?;
        Ok(Self { transactions, letters, dead_letters: topics.dead_letters.clone() })
    }

    /// The dead letters when this was opened.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    /// All that `fill` sends becomes visible together or not at all. It must not take long: the
    /// broker ends a transaction after ten seconds.
    ///
    /// # Errors
    /// See [`RedriveError`]. Not to be used again after one.
    pub fn commit<T>(
        &self,
        fill: impl FnOnce(&mut Output<'_>) -> Result<T, StreamError>,
    ) -> Result<T, RedriveError> {
        let producer = self.transactions.begin().map_err(explain)?;
        let mut out = Output {
            producer,
            dead_letters: &self.dead_letters,
            stage: "redrive",
            sent: 0,
            refused: 0,
        };
        let filled = fill(&mut out);
        let is_empty = out.sent == 0;
        filled.and_then(|filled| self.finish(is_empty).map(|()| filled)).map_err(|error| {
            match producer.client().fatal_error() {
                Some((code, _)) if is_fenced(code) => RedriveError::Superseded,
                _ => explain(error),
            }
        })
    }

    fn finish(&self, is_empty: bool) -> Result<(), StreamError> {
        if is_empty {
            return self.transactions.forget();
        }
        // No offsets of a group go with it: what was sent back says so itself.
        let none = TopicPartitionList::new();
        let group = self.letters.consumer.group_metadata().ok_or(KafkaError::Canceled)?;
        self.transactions.commit(&none, &group)
    }
}

fn explain(error: StreamError) -> RedriveError {
    match error {
        StreamError::Kafka(KafkaError::Transaction(why)) if is_fenced(why.code()) => {
            RedriveError::Superseded
        }
        error => RedriveError::Stream(error),
    }
}

/// What a producer hears whose transactional id somebody else has taken over.
const fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
    matches!(code, Fenced | InvalidProducerEpoch | ProducerFenced)
}
