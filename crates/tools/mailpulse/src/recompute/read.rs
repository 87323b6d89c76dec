//! Reads a topic up to its present end.

use std::time::{Duration, Instant};

use anyhow::bail;
use kafka::tail::{Next, Start, Tail};
use kafka::{Connection, OwnedRecord, topics};

const POLL: Duration = Duration::from_millis(200);
/// How long Kafka may send no record although there are more.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first offset of a partition, and the one after its last record.
pub(super) type Range = (i64, i64);

/// Passes the committed records of a topic to `receive`, those of each partition in their order, up to the end of each
/// partition at the time of the call. Returns the range of each partition.
pub(super) fn to_the_end(
    connection: &Connection,
    topic: &str,
    mut receive: impl FnMut(&OwnedRecord) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Range>> {
    let partitions = topics::partitions_of(connection, topic)?;
    // Asked first: if the reader has reached the end of each partition once, it has read these ranges.
    let ranges = topics::watermarks(connection, topic, partitions)?;
    let mut next: Vec<i64> = ranges.iter().map(|(first, _)| *first).collect();
    let mut tail = Tail::open(connection, "recompute", topic, Start::Beginning)?;
    let mut heard_at = Instant::now();
    while !tail.has_caught_up() && ranges.iter().zip(&next).any(|((_, end), next)| next < end) {
        let problem = match tail.next(POLL)? {
            Next::Record(record) => {
                heard_at = Instant::now();
                let index = usize::try_from(record.partition)?;
                if let (Some(next), Some((_, end))) = (next.get_mut(index), ranges.get(index))
                    && record.offset.0 < *end
                {
                    *next = record.offset.0 + 1;
                    receive(&record)?;
                }
                continue;
            }
            Next::Nothing => "no record comes".to_owned(),
            Next::Away(reason) => reason,
        };
        if heard_at.elapsed() > PATIENCE {
            bail!("{topic} could not be read to its end: {problem}");
        }
    }
    Ok(ranges)
}
