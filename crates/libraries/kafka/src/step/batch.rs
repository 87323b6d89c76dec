//! A batch, and what it covers, partition by partition.

use std::collections::BTreeMap;

use rdkafka::message::{BorrowedMessage, Message};

use crate::TopicPartition;

/// Records in the order they came.
pub(super) type Messages<'c> = Vec<BorrowedMessage<'c>>;

/// Where a batch begins and ends in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The offset of its first record.
    pub(super) first: i64,
    /// The offset after its last one.
    pub(super) next: i64,
}

/// The spans of a batch.
pub(super) type Spans = BTreeMap<TopicPartition, Span>;

pub(super) fn spans_of(batch: &Messages<'_>) -> Spans {
    let is_same = |one: &BorrowedMessage<'_>, other: &BorrowedMessage<'_>| {
        one.partition() == other.partition() && one.topic() == other.topic()
    };
    let mut spans = Spans::new();
    // Records of one partition come in runs: one look-up a run.
    for run in batch.chunk_by(is_same) {
        let [first, ..] = run else { continue };
        let next = run.last().map_or(first.offset(), Message::offset) + 1;
        let span = Span { first: first.offset(), next };
        spans
            .entry(partition_of(first))
            .and_modify(|known: &mut Span| known.next = next)
            .or_insert(span);
    }
    spans
}

pub(super) fn partition_of(message: &BorrowedMessage<'_>) -> TopicPartition {
    TopicPartition { topic: message.topic().to_owned(), partition: message.partition() }
}
