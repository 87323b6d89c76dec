//! At-least-once consumption in batches that have the same bounds after a restart.
//!
//! The committed offset of a partition is the first offset that is not done. Its metadata has the *cuts*: the
//! offsets behind the last records of the batches that were formed and are not done. A batch is used only
//! after its cut is committed. So the next owner of the partition, which reads the same records again, forms
//! the same batches, and a receiver recognises them by an id that is made of their offsets.

use std::fmt::Write;
use std::time::Duration;

use crate::feed::{Feed, FeedChange, FeedOptions, Item, Start};
use crate::{Cluster, Error, NextOffset, TopicPartition};

/// The greatest number of cuts of a partition. Kafka limits the metadata to 4,096 bytes by default
/// (`offset.metadata.max.bytes`), and a cut is a number and a comma.
pub const MAX_CUTS: usize = 64;

/// A change of the partitions that this member owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The partition is read from `next`, or from its first record. `cuts` is in ascending order.
    Assigned { partition: TopicPartition, next: Option<NextOffset>, cuts: Vec<NextOffset> },
    /// The next owner does everything that is not committed.
    Revoked(TopicPartition),
}

/// What is committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub partition: TopicPartition,
    /// Everything before this offset is done.
    pub next: NextOffset,
    /// The cuts behind it, in ascending order.
    pub cuts: Vec<NextOffset>,
}

/// A member of a group that reads one topic in batches.
pub struct Cuts(Feed);

impl Cuts {
    /// Joins a group. `component` is the label of its metrics, and `feeds` the number of groups that this
    /// process joins: they share the memory for fetched records.
    ///
    /// # Errors
    /// [`Error::Settings`] or [`Error::Kafka`].
    pub fn open(
        cluster: &Cluster,
        component: &'static str,
        group: &str,
        topic: &str,
        feeds: usize,
        start: Start,
    ) -> Result<Self, Error> {
        let topics = &[topic];
        let options = FeedOptions { component, group, topics, feeds, start, commits: false };
        Feed::open_with(cluster, options).map(Self)
    }

    /// Returns the next record, or `None` if there is none within `timeout`, and the changes of ownership
    /// that came before it.
    ///
    /// # Errors
    /// Errors from which only a new process recovers.
    pub fn next(&mut self, timeout: Duration) -> Result<(Vec<Change>, Option<Item>), Error> {
        let item = self.0.next(timeout)?;
        let changes = self.0.take_changes().into_iter().map(|change| match change {
            FeedChange::Assigned { partition, next, metadata } => {
                let cuts = next.map(|next| from_metadata(next, &metadata)).unwrap_or_default();
                Change::Assigned { partition, next, cuts }
            }
            FeedChange::Revoked(partition) => Change::Revoked(partition),
        });
        Ok((changes.collect(), item))
    }

    /// Commits durably, for all given partitions at once.
    ///
    /// # Errors
    /// [`Error::Kafka`] while Kafka is away or the group is rebalancing.
    pub fn commit(&mut self, commits: &[Commit]) -> Result<(), Error> {
        let metadata = |one: &Commit| to_metadata(one.next, &one.cuts);
        self.0.commit(commits.iter().map(|one| (&one.partition, one.next, metadata(one))))?;
        if !commits.is_empty() {
            self.0.note_progress();
        }
        Ok(())
    }

    /// Stops fetching a partition. Records that were already fetched are not returned either.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn pause(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.0.pause(partition)
    }

    /// Continues to fetch a partition.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn resume(&self, partition: &TopicPartition) -> Result<(), Error> {
        self.0.resume(partition)
    }

    /// Describes a partition that is not read because its offset cannot be right.
    pub fn held(&self) -> Option<String> {
        self.0.held()
    }

    /// Returns whether this member owns a partition.
    pub fn has_partitions(&self) -> bool {
        self.0.owned().next().is_some()
    }

    /// Writes the positions, and leaves the group.
    ///
    /// # Errors
    /// [`Error::Kafka`].
    pub fn close(self) -> Result<(), Error> {
        self.0.close()
    }
}

/// Returns the distances from each offset to the next one, such as `120,35`.
fn to_metadata(next: NextOffset, cuts: &[NextOffset]) -> String {
    let (mut text, mut previous) = (String::new(), next.0);
    for cut in cuts {
        let comma = if text.is_empty() { "" } else { "," };
        // Writing to a text does not fail.
        let _ = write!(text, "{comma}{}", cut.0 - previous);
        previous = cut.0;
    }
    text
}

/// Reads the text of [`to_metadata`]. Any other text has no cuts.
fn from_metadata(next: NextOffset, metadata: &str) -> Vec<NextOffset> {
    let mut cut = next.0;
    let cuts = metadata.split(',').map(|distance| {
        let distance: i64 = distance.parse().ok().filter(|distance| *distance > 0)?;
        cut = cut.checked_add(distance)?;
        Some(NextOffset(cut))
    });
    cuts.take(MAX_CUTS).collect::<Option<_>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_round_trip_through_metadata() {
        let next = NextOffset(1_000);
        for cuts in [vec![], vec![1_001], vec![1_120, 1_155, 9_000_000_000]] {
            let cuts: Vec<_> = cuts.into_iter().map(NextOffset).collect();
            assert_eq!(from_metadata(next, &to_metadata(next, &cuts)), cuts);
        }
        assert_eq!(to_metadata(next, &[NextOffset(1_120), NextOffset(1_155)]), "120,35");
    }

    #[test]
    fn other_metadata_has_no_cuts() {
        for other in ["", "0", "5,-1", "5,x", "7-9@1,2,0,0,0", "9223372036854775807"] {
            assert_eq!(from_metadata(NextOffset(7), other), [], "{other}");
        }
    }

    #[test]
    fn the_metadata_of_the_greatest_number_of_cuts_fits() {
        let cuts: Vec<_> =
            (1..).take(MAX_CUTS).map(|n| NextOffset(n * 1_000_000_000_000)).collect();
        assert!(to_metadata(NextOffset(0), &cuts).len() < 1_024);
    }
}
