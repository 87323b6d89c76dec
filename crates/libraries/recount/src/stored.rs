//! Which events the table `events` has.

use std::collections::BTreeMap;

use clickhouse::Row;
use serde::Deserialize;

use crate::Transition;

/// The query for the [`PartitionRows`] of every partition.
pub const PARTITIONS: &str = "SELECT kafka_partition AS partition, count() AS rows, \
                              toUnixTimestamp64Micro(min(occurred_at)) AS oldest FROM events GROUP BY kafka_partition";

/// What is known of the events of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct StoredPartition {
    /// The offset up to which archive has stored everything.
    archived: u64,
    /// The rows that archive has inserted, and the records that it gave up on.
    inserted: u64,
    dead_letters: u64,
    /// The rows that the table has now.
    rows: u64,
    /// The time of the oldest one, UTC microseconds.
    oldest: Option<i64>,
}

/// What is known of all partitions of `mail.events`.
#[derive(Debug, Default)]
pub struct StoredEvents(BTreeMap<u16, StoredPartition>);

/// The rows of one partition of `mail.events`.
#[derive(Debug, Clone, Copy, Row, Deserialize)]
pub struct PartitionRows {
    pub partition: u16,
    pub rows: u64,
    /// The time of the oldest one, UTC microseconds.
    pub oldest: i64,
}

impl StoredEvents {
    /// `committed` are the offset and the metadata that archive has committed for each partition, from 0; `None`
    /// before the first commit.
    pub fn new(committed: Vec<Option<(i64, String)>>, rows: Vec<PartitionRows>) -> Self {
        let mut stored = Self::default();
        for (partition, committed) in (0..).zip(committed) {
            let Some((offset, metadata)) = committed else { continue };
            let it = stored.0.entry(partition).or_default();
            it.archived = u64::try_from(offset).unwrap_or(0);
            (it.inserted, it.dead_letters) = ledger(&metadata).unwrap_or_default();
        }
        for PartitionRows { partition, rows, oldest } in rows {
            let it = stored.0.entry(partition).or_default();
            (it.rows, it.oldest) = (rows, Some(oldest));
        }
        stored
    }

    /// Returns why the events of a transition are not all stored yet.
    pub fn not_yet(&self, transition: &Transition) -> Option<String> {
        transition.as_of.iter().find_map(|(partition, next)| {
            let archived = self.0.get(partition).map_or(0, |it| it.archived);
            (archived < *next).then(|| {
                format!(
                    "archive has stored partition {partition} of mail.events up to offset {archived}, and the alert \
                     counts up to {next}; try again later"
                )
            })
        })
    }

    /// Returns why the stored events cannot tell, because some that were counted are not in the table. Their absence
    /// proves nothing if the numbers are equal, unless everything up to the window is gone.
    pub fn missing(&self, transition: &Transition, is_equal: bool) -> Option<String> {
        let parts = transition.as_of.iter().filter_map(|(partition, _)| self.0.get(partition));
        let parts: Vec<StoredPartition> = parts.copied().collect();
        let removed: u64 = parts.iter().map(|it| it.inserted.saturating_sub(it.rows)).sum();
        let dead_letters: u64 = parts.iter().map(|it| it.dead_letters).sum();
        let oldest = parts.iter().filter_map(|it| it.oldest).min();
        if oldest.is_none() {
            return Some("the table events has no event of these partitions any more".to_owned());
        }
        let is_gone = oldest.is_none_or(|oldest| oldest > transition.window_from);
        if removed > 0 && (is_gone || !is_equal) {
            return Some(format!(
                "{removed} events that archive had stored are no longer in the table events, because of its retention \
                 or an erasure"
            ));
        }
        if dead_letters > 0 && !is_equal {
            return Some(format!(
                "archive gave up on {dead_letters} events that monitor counted; redrive its dead letters, and compare \
                 later alerts"
            ));
        }
        None
    }
}

/// Reads rows and dead letters from the metadata that archive commits: `…@read,passed,dropped,dead letters,redriven`.
fn ledger(metadata: &str) -> Option<(u64, u64)> {
    let (_, counts) = metadata.rsplit_once('@')?;
    let counts: Vec<u64> = counts.split(',').map_while(|count| count.parse().ok()).collect();
    Some((*counts.get(1)?, *counts.get(3)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transition() -> Transition {
        Transition { as_of: vec![(0, 10), (3, 5)], window_from: 1000, ..Transition::default() }
    }

    fn stored(parts: [(u64, u64, u64, u64, i64); 2]) -> StoredEvents {
        let parts = [0, 3].into_iter().zip(parts);
        StoredEvents(
            parts
                .map(|(partition, (archived, inserted, dead_letters, rows, oldest))| {
                    let oldest = Some(oldest);
                    (partition, StoredPartition { archived, inserted, dead_letters, rows, oldest })
                })
                .collect(),
        )
    }

    #[test]
    fn everything_counted_must_be_archived() {
        let complete = stored([(10, 8, 0, 8, 1500), (5, 4, 0, 4, 1500)]);
        assert_eq!(complete.not_yet(&transition()), None);
        assert_eq!(complete.missing(&transition(), false), None);
        let behind = stored([(10, 8, 0, 8, 1500), (4, 4, 0, 4, 1500)]);
        let reason = behind.not_yet(&transition()).unwrap();
        assert!(reason.contains("partition 3") && reason.contains("up to 5"), "{reason}");
        let reason = StoredEvents::default().not_yet(&transition()).unwrap();
        assert!(reason.contains("partition 0"), "{reason}");
    }

    #[test]
    fn a_page_whose_events_are_gone_is_never_equal() {
        let gone = stored([(10, 8, 0, 2, 1500), (5, 4, 0, 4, 1500)]);
        assert!(gone.missing(&transition(), true).unwrap().contains("6 events"));
        let older_gone = stored([(10, 8, 0, 2, 900), (5, 4, 0, 4, 1500)]);
        assert_eq!(older_gone.missing(&transition(), true), None);
        assert!(older_gone.missing(&transition(), false).is_some(), "an erasure may be the cause");
        let reason = StoredEvents::default().missing(&transition(), true).unwrap();
        assert!(reason.contains("no event"), "{reason}");
        let given_up = stored([(10, 7, 1, 7, 900), (5, 4, 0, 4, 1500)]);
        assert_eq!(given_up.missing(&transition(), true), None);
        assert!(given_up.missing(&transition(), false).unwrap().contains("dead letters"));
    }

    #[test]
    fn the_ledger_is_read_with_and_without_a_range() {
        assert_eq!(ledger("@10,9,0,1,0"), Some((9, 1)));
        assert_eq!(ledger("3-9@10,9,0,1,0"), Some((9, 1)));
        assert_eq!(ledger(""), None);
        assert_eq!(ledger("@x"), None);
    }
}
