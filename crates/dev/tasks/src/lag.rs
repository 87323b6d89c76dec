//! How much of a topic a stage has not read yet.

use anyhow::Context;
use kafka::{Connection, inspect, topics};

/// Returns how many records of a topic a group has not read. The last record of a partition that is written in
/// transactions is a marker.
pub(crate) fn lag(connection: &Connection, group: &str, topic: &str) -> anyhow::Result<i64> {
    let counts = topics::partition_counts(connection)?;
    let partitions = *counts.get(topic).with_context(|| format!("no topic {topic}"))?;
    let ends = topics::watermarks(connection, topic, partitions)?;
    let committed = inspect::committed_offsets(connection, group, topic, partitions)?;
    let left = ends.iter().zip(committed).map(|(&(first, end), committed)| {
        let at = committed.map_or(first, |(offset, _)| offset);
        if end > first { (end - 1 - at).max(0) } else { 0 }
    });
    Ok(left.sum())
}
