use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use record::{Stage, Topics};

use super::DeadLetterView;
use crate::stage::PendingCounts;
use crate::transaction::Transactions;
use crate::{Connection, Error, Output};

/// Redrives dead letters. Only one redrive can be open at a time: the next one ends this one.
///
/// Markers in the dead-letter topic record which dead letters were redriven. They are written in
/// the same transaction. Therefore opening first registers the transactional id, which ends the
/// open transaction of the previous redrive and fences it. Only then does it read the topic, which
/// now has all of its markers.
pub struct Redrive {
    transactions: Transactions,
    view: DeadLetterView,
    dead_letter_topic: String,
    /// The largest record, in bytes.
    max_bytes: usize,
}

/// Why dead letters were not redriven.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// Another redrive was opened. This batch has no effect.
    #[error(
        "another redrive has started and ended this one; dead letters reported as redriven stay \
         redriven"
    )]
    Superseded,
    /// The batch is either visible as a whole or not at all. Open a new [`Redrive`] to find out.
    #[error(transparent)]
    Kafka(#[from] Error),
}

impl RedriveError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Superseded => "redrive_superseded",
            Self::Kafka(error) => error.code(),
        }
    }
}

impl Redrive {
    /// Registers the transactional id. Returns when every earlier record is committed or aborted;
    /// `timeout` bounds the wait for open transactions of other members.
    ///
    /// # Errors
    /// [`Error::Topic`] if the dead-letter topic is missing or a transaction stays open.
    pub fn open(
        connection: &Connection,
        topics: &Topics,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let component = Stage::Redrive.code();
        let id = topics.group(component);
        let transactions = Transactions::open(connection.producer(component), &id)?;
        let view = DeadLetterView::settled(connection, &topics.dead_letters, timeout)?;
        let (dead_letter_topic, max_bytes) =
            (topics.dead_letters.clone(), connection.max_message_bytes);
        Ok(Self { transactions, view, dead_letter_topic, max_bytes })
    }

    /// The dead letters at the time of opening.
    pub const fn view(&self) -> &DeadLetterView {
        &self.view
    }

    /// Makes everything that `fill` sends visible together, or nothing. `fill` must not take long,
    /// because the broker ends a transaction after ten seconds.
    ///
    /// # Errors
    /// See [`RedriveError`]. Do not use this redrive after an error.
    pub fn commit<T>(
        &self,
        fill: impl FnOnce(&mut Output<'_>) -> Result<T, Error>,
    ) -> Result<T, RedriveError> {
        let producer = self.transactions.begin().map_err(explain)?;
        let mut counts = PendingCounts::default();
        let mut out = Output {
            producer,
            dead_letter_topic: &self.dead_letter_topic,
            stage: Stage::Redrive,
            counts: &mut counts,
            max_bytes: self.max_bytes,
            input: 0,
            sent: 0,
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

    fn finish(&self, is_empty: bool) -> Result<(), Error> {
        if is_empty {
            return self.transactions.abort_empty();
        }
        // A redrive commits no offsets of a group, because the markers record what was redriven.
        let no_offsets = TopicPartitionList::new();
        self.transactions.commit(&no_offsets, &self.view.group_metadata()?)
    }
}

fn explain(error: Error) -> RedriveError {
    match error {
        Error::Kafka(KafkaError::Transaction(reason)) if is_fenced(reason.code()) => {
            RedriveError::Superseded
        }
        error => RedriveError::Kafka(error),
    }
}

/// Returns whether the error means that another producer registered the same transactional id.
const fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{Fenced, InvalidProducerEpoch, ProducerFenced};
    matches!(code, Fenced | InvalidProducerEpoch | ProducerFenced)
}
