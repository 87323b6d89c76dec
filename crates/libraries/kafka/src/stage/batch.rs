//! A batch of records, and the offsets it covers in each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rdkafka::message::{BorrowedMessage, Message};

use crate::{NextOffset, Offset, TopicPartition};

/// Records in the order in which they were polled.
pub(super) type Messages<'c> = Vec<BorrowedMessage<'c>>;

/// Records, and the partitions whose end was reached after them.
#[derive(Default)]
pub(super) struct Batch<'c> {
    pub(super) messages: Messages<'c>,
    /// Whether the offset of a partition is outside of it.
    pub(super) is_out_of_range: bool,
    ends: Ends,
}

impl Batch<'_> {
    /// The end of a partition is reached after the records so far.
    pub(super) fn end_reached(&mut self, partition: i32) {
        self.ends.0.insert(partition, (self.messages.len(), Instant::now()));
    }

    /// Returns when the end of a partition was reached, if the batch has no later record of it.
    pub(super) fn ends_since(&self, name: &TopicPartition) -> Option<Instant> {
        let &(position, reached) = self.ends.0.get(&name.partition)?;
        let later = self.messages.get(position..).unwrap_or_default();
        let has_later = later
            .iter()
            .any(|message| message.partition() == name.partition && message.topic() == name.topic);
        (!has_later).then_some(reached)
    }

    /// Removes the records of these partitions. Returns the partitions that had any. These will be
    /// read again, so the end that they had reached is forgotten.
    pub(super) fn remove(
        &mut self,
        revoked: &BTreeSet<TopicPartition>,
    ) -> BTreeSet<TopicPartition> {
        let mut removed = BTreeSet::new();
        let (mut index, mut indices) = (0, Vec::new());
        self.messages.retain(|message| {
            let partition = partition_of(message);
            let stays = !revoked.contains(&partition);
            if !stays {
                removed.insert(partition);
                indices.push(index);
            }
            index += 1;
            stays
        });
        self.ends.remove(&indices, &removed);
        removed
    }
}

/// By partition number: how many messages the batch had when the end was reached, and when that was.
/// librdkafka reports only the number; a stage that uses [`super::Stage::idle`] has one input.
#[derive(Default)]
struct Ends(BTreeMap<i32, (usize, Instant)>);

impl Ends {
    /// The messages at these ascending indices, all those of `partitions`, were removed.
    fn remove(&mut self, indices: &[usize], partitions: &BTreeSet<TopicPartition>) {
        self.0.retain(|number, _| partitions.iter().all(|name| name.partition != *number));
        for (position, _) in self.0.values_mut() {
            *position -= indices.partition_point(|index| index < position);
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removing_records_moves_the_ends_of_the_other_partitions() {
        let reached = Instant::now();
        let mut ends = Ends([(0, (2, reached)), (1, (5, reached)), (2, (0, reached))].into());
        let revoked = TopicPartition { topic: "t".to_owned(), partition: 0 };
        ends.remove(&[0, 1, 4, 6], &BTreeSet::from([revoked]));
        let positions: Vec<_> =
            ends.0.iter().map(|(number, (position, _))| (*number, *position)).collect();
        assert_eq!(positions, [(1, 2), (2, 0)], "partition 0 will be read again");
    }
}
