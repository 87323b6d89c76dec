//! Remembers which input records cannot be processed because what they become is too large for
//! Kafka, or invalid in another way that no retry repairs. They become dead letters in the next
//! attempt; the other records of the batch pass.
//!
//! The broker rejects whole batches of outputs. If the rejected outputs belong to several inputs, these
//! are only suspected: in the next attempt the outputs of each are sent alone, so that the broker
//! rejects those of one input only.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{Messages, partition_of};
use crate::transaction::{Input, Rejected};
use crate::{NextOffset, Offset, TopicPartition};

/// The records per transaction while some are suspected. Sending a record alone takes about 3 ms, and
/// the broker ends a transaction after 10 s.
pub(super) const SUSPECT_BATCH: usize = 200;

/// How large a dead letter may be in later attempts, in bytes. In the first one it may be as large as any
/// record. If the broker rejects that, the topic accepts less than the settings say.
pub(crate) const SMALLER_DEAD_LETTERS: [usize; 2] = [64 << 10, 8 << 10];

/// What happens after outputs were rejected.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The batch is read again, and processed in another way.
    Retry,
    /// The next attempt would fail in the same way.
    Hopeless,
}

/// The unfit and the suspected records of the partitions of this member.
#[derive(Debug, Default)]
pub(super) struct Unfit {
    /// The largest dead letter, in bytes.
    unfit: BTreeMap<(TopicPartition, Offset), usize>,
    suspected: BTreeSet<(TopicPartition, Offset)>,
}

impl Unfit {
    pub(super) fn is_empty(&self) -> bool {
        self.unfit.is_empty() && self.suspected.is_empty()
    }

    pub(super) fn has_suspects(&self) -> bool {
        !self.suspected.is_empty()
    }

    /// Returns the largest size of the dead letter that the record becomes, in bytes. `None` if the
    /// record must be processed.
    pub(super) fn dead_letter_bytes(&self, name: &TopicPartition, offset: Offset) -> Option<usize> {
        self.unfit.get(&(name.clone(), offset)).copied()
    }

    /// Returns whether the outputs of the record must be sent alone.
    pub(super) fn is_suspected(&self, name: &TopicPartition, offset: Offset) -> bool {
        let key = (name.clone(), offset);
        self.suspected.contains(&key) || self.unfit.contains_key(&key)
    }

    /// Learns from a failed attempt. `max_bytes` is the size of the largest record.
    pub(super) fn learn(
        &mut self,
        batch: &Messages<'_>,
        rejected: &Rejected,
        max_bytes: usize,
    ) -> Verdict {
        let records = |inputs: &BTreeSet<Input>| -> Vec<_> {
            inputs.iter().filter_map(|&input| record_of(batch, input)).collect()
        };
        let too_large = records(&rejected.too_large);
        if too_large.is_empty() {
            return self.learn_records(records(&rejected.inputs), max_bytes);
        }
        for record in too_large {
            self.suspected.remove(&record);
            self.unfit.entry(record).or_insert(max_bytes);
        }
        Verdict::Retry
    }

    fn learn_records(
        &mut self,
        inputs: Vec<(TopicPartition, Offset)>,
        max_bytes: usize,
    ) -> Verdict {
        match <[_; 1]>::try_from(inputs) {
            Ok([only]) => {
                self.suspected.remove(&only);
                self.reject(only, max_bytes)
            }
            Err(several) if several.is_empty() => Verdict::Hopeless,
            Err(several) => {
                self.suspected.extend(several);
                Verdict::Retry
            }
        }
    }

    fn reject(&mut self, record: (TopicPartition, Offset), max_bytes: usize) -> Verdict {
        let Some(bytes) = self.unfit.get_mut(&record) else {
            self.unfit.insert(record, max_bytes);
            return Verdict::Retry;
        };
        match SMALLER_DEAD_LETTERS.into_iter().find(|smaller| smaller < bytes) {
            Some(smaller) => {
                *bytes = smaller;
                Verdict::Retry
            }
            None => Verdict::Hopeless,
        }
    }

    /// Forgets the records before `next`, which are committed.
    pub(super) fn committed(&mut self, name: &TopicPartition, next: NextOffset) {
        self.retain(|partition, offset| partition != name || offset >= next.offset());
    }

    /// Forgets a partition that moved to another member.
    pub(super) fn release(&mut self, name: &TopicPartition) {
        self.retain(|partition, _| partition != name);
    }

    fn retain(&mut self, stays: impl Fn(&TopicPartition, Offset) -> bool) {
        self.unfit.retain(|(name, offset), _| stays(name, *offset));
        self.suspected.retain(|(name, offset)| stays(name, *offset));
    }
}

/// Returns the record of a batch that an output belongs to.
pub(super) fn record_of(batch: &Messages<'_>, input: Input) -> Option<(TopicPartition, Offset)> {
    use rdkafka::message::Message;
    let message = batch.get(input.checked_sub(1)?)?;
    Some((partition_of(message), Offset(message.offset())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 20 << 20;

    fn record(offset: i64) -> (TopicPartition, Offset) {
        (TopicPartition { topic: "t".to_owned(), partition: 3 }, Offset(offset))
    }

    fn dead_letter_bytes(unfit: &Unfit, offset: i64) -> Option<usize> {
        let (name, offset) = record(offset);
        unfit.dead_letter_bytes(&name, offset)
    }

    #[test]
    fn one_rejected_input_is_unfit_and_several_are_suspected_first() {
        let mut unfit = Unfit::default();
        assert_eq!(unfit.learn_records(vec![record(1), record(2)], MAX), Verdict::Retry);
        assert!(unfit.has_suspects());
        assert_eq!(dead_letter_bytes(&unfit, 1), None, "a suspect is processed once more");
        assert_eq!(unfit.learn_records(vec![record(2)], MAX), Verdict::Retry);
        assert_eq!(dead_letter_bytes(&unfit, 2), Some(MAX));
        let (name, _) = record(0);
        unfit.committed(&name, NextOffset(2));
        assert!(!unfit.has_suspects(), "record 1 is committed");
        assert_eq!(dead_letter_bytes(&unfit, 2), Some(MAX), "record 2 is not");
        unfit.release(&name);
        assert!(unfit.is_empty());
    }

    #[test]
    fn a_rejected_dead_letter_becomes_smaller_until_there_is_no_hope() {
        let mut unfit = Unfit::default();
        let mut sizes = Vec::new();
        while unfit.learn_records(vec![record(1)], MAX) == Verdict::Retry {
            sizes.push(dead_letter_bytes(&unfit, 1).unwrap());
        }
        assert_eq!(sizes, [MAX, 64 << 10, 8 << 10]);
    }

    #[test]
    fn outputs_without_an_input_are_hopeless() {
        assert_eq!(Unfit::default().learn_records(Vec::new(), MAX), Verdict::Hopeless);
    }
}
