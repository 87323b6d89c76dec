//! Fixed offset ranges, the pending one recorded before it is acted on.
//!
//! The group's committed offset of a partition is the first offset not yet done; its metadata names
//! the range that is being done, as `first-last`. Who takes the partition over knows from it which
//! range may or may not have happened, and cuts its first batch exactly there.

use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::changelog::is_passing;
use crate::rebalance::{Change, Group};
use crate::tally::Tally;
use crate::{Connection, Record, StreamError, TopicPartition};

const CALL: Duration = Duration::from_secs(30);

/// Offsets `first..=last` of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first offset.
    pub first: i64,
    /// The last offset, included.
    pub last: i64,
}

impl Range {
    /// The form in the offset's metadata.
    pub fn to_metadata(self) -> String {
        format!("{}-{}", self.first, self.last)
    }

    /// Reads it back; `None` for anything else.
    pub fn from_metadata(metadata: &str) -> Option<Self> {
        let (first, last) = metadata.split_once('-')?;
        let range = Self { first: first.parse().ok()?, last: last.parse().ok()? };
        (0 <= range.first && range.first <= range.last).then_some(range)
    }
}

/// A partition that is ours from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which.
    pub partition: TopicPartition,
    /// The first offset not done; `None` before the first commit ever.
    pub next: Option<i64>,
    /// The range its predecessor may or may not have finished. It begins at `next`.
    pub pending: Option<Range>,
    /// What became of everything before `next`.
    pub tally: Tally,
}

/// What a poll brought.
pub enum Polled<'a> {
    /// Partitions that came; polling goes on at their `next`.
    Assigned(Vec<Assignment>),
    /// Partitions that went: what is not marked done is their new owner's.
    Revoked(Vec<TopicPartition>),
    /// A record.
    Record(&'a Record<'a>),
}

/// A member of the group.
pub struct Ranges {
    consumer: Group,
}

impl Ranges {
    /// Joins the group. `partitions` is their number in all topics together.
    pub fn open(
        connection: &Connection,
        job: &'static str,
        group: &str,
        topics: &[&str],
        partitions: usize,
    ) -> Result<Self, StreamError> {
        let config = connection.consumer(job, group, partitions);
        Ok(Self { consumer: Group::join(connection, config, job, group, topics)? })
    }

    /// Polls once and hands over what came, ownership changes before the record that may have come
    /// with them. To be called at least every five minutes (`max.poll.interval.ms`), also while
    /// partitions are paused.
    pub fn poll<E: From<StreamError>>(
        &self,
        timeout: Duration,
        mut then: impl FnMut(Polled<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.consumer.check()?;
        let polled = self.consumer.poll(timeout);
        for change in self.consumer.changes() {
            match change {
                Change::Assigned(partitions) => {
                    then(Polled::Assigned(self.assignments(&partitions)?))?;
                }
                Change::Revoked(partitions) => then(Polled::Revoked(partitions))?,
            }
        }
        match polled {
            Some(Ok(message)) => then(Polled::Record(&Record(&message))),
            Some(Err(KafkaError::PartitionEOF(_))) | None => Ok(()),
            Some(Err(error)) if is_passing(&error) => {
                tracing::warn!(%error, "consume");
                Ok(())
            }
            Some(Err(error)) => Err(StreamError::from(error).into()),
        }
    }

    fn assignments(&self, partitions: &[TopicPartition]) -> Result<Vec<Assignment>, StreamError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&partition.topic, partition.partition);
        }
        let committed = self.consumer.committed_offsets(list, CALL)?;
        Ok(committed
            .elements()
            .iter()
            .map(|element| {
                let next = element.offset().to_raw().filter(|&offset| offset >= 0);
                let (range, tally) = Tally::split_from(element.metadata());
                Assignment {
                    partition: TopicPartition {
                        topic: element.topic().to_owned(),
                        partition: element.partition(),
                    },
                    next,
                    pending: Range::from_metadata(range).filter(|range| Some(range.first) == next),
                    tally,
                }
            })
            .collect())
    }

    /// Records, durably and for all given partitions at once, that these ranges are being done and
    /// everything before them is, with what became of that.
    pub fn mark_pending<'p>(
        &self,
        ranges: impl Iterator<Item = (&'p TopicPartition, Range, Tally)>,
    ) -> Result<(), StreamError> {
        self.commit(ranges.map(|(partition, range, tally)| {
            (partition, range.first, tally.append_to(&range.to_metadata()))
        }))
    }

    /// Records that everything before `next` is done, and what became of it.
    pub fn mark_done<'p>(
        &self,
        next: impl Iterator<Item = (&'p TopicPartition, i64, Tally)>,
    ) -> Result<(), StreamError> {
        self.commit(next.map(|(partition, next, tally)| (partition, next, tally.append_to(""))))
    }

    fn commit<'p>(
        &self,
        offsets: impl Iterator<Item = (&'p TopicPartition, i64, String)>,
    ) -> Result<(), StreamError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset, metadata) in offsets {
            let mut element = list.add_partition(&partition.topic, partition.partition);
            element.set_offset(Offset::Offset(offset))?;
            element.set_metadata(metadata);
        }
        if list.count() == 0 {
            return Ok(());
        }
        Ok(self.consumer.commit(&list, CommitMode::Sync)?)
    }

    /// Stops fetching a partition; records already fetched are kept back too.
    pub fn pause(&self, partition: &TopicPartition) -> Result<(), StreamError> {
        self.consumer.pause(partition)
    }

    /// Goes on fetching a partition.
    pub fn resume(&self, partition: &TopicPartition) -> Result<(), StreamError> {
        self.consumer.resume(partition)
    }

    /// Reads a partition again from `offset`.
    pub fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<(), StreamError> {
        let offset = Offset::Offset(offset);
        Ok(self.consumer.seek(&partition.topic, partition.partition, offset, CALL)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_round_trip_through_metadata() {
        let range = Range { first: 7, last: 7 };
        assert_eq!(Range::from_metadata(&range.to_metadata()), Some(range));
        for wrong in ["", "7", "8-7", "-1-3", "a-b", "1-2-3"] {
            assert_eq!(Range::from_metadata(wrong), None, "{wrong}");
        }
    }
}
