//! A batch of records, and the offsets it covers in each partition.

use std::collections::BTreeMap;

use rdkafka::message::{BorrowedMessage, Message};

use crate::{NextOffset, Offset, TopicPartition};

/// Records in the order in which they were polled.
pub(super) type Messages<'c> = Vec<BorrowedMessage<'c>>;

/// The offsets that a batch covers in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: Offset,
    pub(super) next: NextOffset,
}

/// The spans of a batch by partition.
pub(super) type Spans = BTreeMap<TopicPartition, Span>;

pub(super) fn spans_of(batch: &Messages<'_>) -> Spans {
    let mut spans = Spans::new();
    for run in runs(batch) {
        let [first, ..] = run else { continue };
        let next = Offset(run.last().map_or(first.offset(), Message::offset)).next();
        let span = Span { first: Offset(first.offset()), next };
        spans
            .entry(partition_of(first))
            .and_modify(|known: &mut Span| known.next = next)
            .or_insert(span);
    }
    spans
}

/// Splits a batch into runs of records of the same partition, so that the state of a partition
/// is looked up once per run.
pub(super) fn runs<'b, 'c>(
    batch: &'b Messages<'c>,
) -> impl Iterator<Item = &'b [BorrowedMessage<'c>]> {
    batch
        .chunk_by(|one, other| one.partition() == other.partition() && one.topic() == other.topic())
}

pub(super) fn partition_of(message: &BorrowedMessage<'_>) -> TopicPartition {
    TopicPartition { topic: message.topic().to_owned(), partition: message.partition() }
}
