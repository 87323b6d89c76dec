//! Fixed offset ranges. Each range is recorded in Kafka before its records are written elsewhere.
//!
//! The committed offset of a partition is the first offset that is not done. Its metadata names the
//! range that is in progress, as `first-last`. From this the next owner of the partition knows which
//! range may already have been written, and cuts its first batch at exactly that range.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::error::KafkaError;

use crate::error::is_transient;
use crate::group::{Committed, Group, OwnershipChange, add_offset, is_out_of_range};
use crate::ledger::Ledger;
use crate::positions::Mismatch;
use crate::{Connection, Error, NextOffset, Offset, Record, TopicPartition};

/// The offsets `first..=last` of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub first: Offset,
    pub last: Offset,
}

impl Range {
    /// Returns the range as text for the metadata of an offset.
    pub fn to_metadata(self) -> String {
        format!("{}-{}", self.first, self.last)
    }

    /// Reads the text of [`Range::to_metadata`]. Returns `None` for any other text.
    pub fn from_metadata(metadata: &str) -> Option<Self> {
        let (first, last) = metadata.split_once('-')?;
        let (first, last): (i64, i64) = (first.parse().ok()?, last.parse().ok()?);
        (0 <= first && first <= last).then_some(Self { first: Offset(first), last: Offset(last) })
    }
}

/// A partition that was assigned to this member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub partition: TopicPartition,
    /// The first offset that is not done. `None` before the first commit.
    pub next: Option<NextOffset>,
    /// The range that the previous owner may or may not have finished. It begins at `next`.
    pub pending: Option<Range>,
    /// Counts all records before `next` by outcome.
    pub ledger: Ledger,
    /// Why the partition cannot be read from `next`. It must be paused then.
    pub mismatch: Option<Mismatch>,
}

impl Assignment {
    fn new(committed: Committed, mismatch: Option<Mismatch>) -> Self {
        let Committed { partition, next, metadata } = committed;
        let (range, ledger) = Ledger::split_from(&metadata);
        let pending =
            Range::from_metadata(range).filter(|range| next == Some(NextOffset(range.first.0)));
        Self { partition, next, pending, ledger, mismatch }
    }
}

/// The result of a poll.
pub enum Polled<'a> {
    /// Partitions were assigned. Polling continues at their `next`.
    Assigned(Vec<Assignment>),
    /// Partitions were revoked. Their new owners process everything that is not marked as done.
    Revoked(Vec<TopicPartition>),
    /// The committed offsets of these partitions are outside of them, so they are not read. They must be
    /// paused.
    Outside(Vec<(TopicPartition, Mismatch)>),
    Record(&'a Record<'a>),
}

/// A member of the group.
pub struct Ranges {
    group: Group,
    owned: RefCell<BTreeSet<TopicPartition>>,
}

impl Ranges {
    /// Joins the group. `partitions` is the number of partitions of all topics together.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Kafka`].
    pub fn open(
        connection: &Connection,
        component: &'static str,
        group: &str,
        topics: &[&str],
        partitions: usize,
    ) -> Result<Self, Error> {
        let config = connection.consumer(component, group, partitions);
        let group = Group::join(connection, config, component, group, topics)?;
        Ok(Self { group, owned: RefCell::default() })
    }

    /// Polls once. Passes changes of ownership to `handle` before the record that may have arrived
    /// with them. Call this at least every five minutes (`max.poll.interval.ms`), also while
    /// partitions are paused.
    ///
    /// # Errors
    /// Those of `handle`, and errors from which only a new process recovers.
    pub fn poll<E: From<Error>>(
        &self,
        timeout: Duration,
        mut handle: impl FnMut(Polled<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.group.check_progress()?;
        let polled = self.group.poll(timeout);
        for change in self.group.take_changes() {
            match change {
                OwnershipChange::Assigned(partitions) => {
                    let assignments = self.assignments(&partitions)?;
                    self.owned.borrow_mut().extend(partitions);
                    handle(Polled::Assigned(assignments))?;
                }
                OwnershipChange::Revoked(partitions) => {
                    self.owned.borrow_mut().retain(|owned| !partitions.contains(owned));
                    handle(Polled::Revoked(partitions))?;
                }
            }
        }
        match polled {
            Some(Ok(message)) => handle(Polled::Record(&Record(&message))),
            Some(Err(KafkaError::PartitionEOF(_))) | None => Ok(()),
            Some(Err(error)) if is_out_of_range(&error) => {
                let owned: Vec<_> = self.owned.borrow().iter().cloned().collect();
                let assignments = self.assignments(&owned)?.into_iter();
                let outside = assignments.filter_map(|it| Some((it.partition, it.mismatch?)));
                let outside: Vec<_> = outside.collect();
                if outside.is_empty() {
                    return Err(self.group.out_of_range().into());
                }
                handle(Polled::Outside(outside))
            }
            Some(Err(error)) if is_transient(&error) => {
                tracing::warn!(%error, "Kafka poll failed; retrying");
                Ok(())
            }
            Some(Err(error)) => Err(Error::from(error).into()),
        }
    }

    fn assignments(&self, partitions: &[TopicPartition]) -> Result<Vec<Assignment>, Error> {
        let committed = self.group.committed(partitions)?.into_iter();
        let assignment = |committed| {
            let mismatch = self.group.find_outside(&committed)?;
            Ok(Assignment::new(committed, mismatch))
        };
        committed.map(assignment).collect()
    }

    /// Records durably, for all given partitions at once, that these ranges are in progress and
    /// everything before them is done.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn mark_pending<'p>(
        &self,
        ranges: impl Iterator<Item = (&'p TopicPartition, Range, Ledger)>,
    ) -> Result<(), Error> {
        self.commit(ranges.map(|(partition, range, ledger)| {
            (partition, NextOffset(range.first.0), ledger.append_to(&range.to_metadata()))
        }))
    }

    /// Records durably that everything before the given offsets is done.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn mark_done<'p>(
        &self,
        offsets: impl Iterator<Item = (&'p TopicPartition, NextOffset, Ledger)>,
    ) -> Result<(), Error> {
        self.commit(
            offsets.map(|(partition, next, ledger)| (partition, next, ledger.append_to(""))),
        )
    }

    fn commit<'p>(
        &self,
        offsets: impl Iterator<Item = (&'p TopicPartition, NextOffset, String)>,
    ) -> Result<(), Error> {
        let mut list = TopicPartitionList::new();
        for (partition, next, metadata) in offsets {
            add_offset(&mut list, partition, next, metadata)?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        self.group.commit(&list)
    }

    /// Stops fetching a partition. Records that were already fetched are not returned either.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn pause(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.group.pause(partition)
    }

    /// Continues to fetch a partition.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn resume(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.group.resume(partition)
    }

    /// Reads a partition again from `offset`.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), Error> {
        self.group.seek(partition, Some(NextOffset(offset.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_round_trip_through_metadata() {
        let range = Range { first: Offset(7), last: Offset(7) };
        assert_eq!(Range::from_metadata(&range.to_metadata()), Some(range));
        for wrong in ["", "7", "8-7", "-1-3", "a-b", "1-2-3"] {
            assert_eq!(Range::from_metadata(wrong), None, "{wrong}");
        }
    }
}
