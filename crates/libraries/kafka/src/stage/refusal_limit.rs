//! Pauses a partition after a number of dead letters in a row. At that point the fault is ours (a bad
//! release, or a provider's new format), not the records', and whole topics would become dead letters.
//! Every minute the partition is tried again.

use std::time::{Duration, Instant};

use super::partition::OwnedPartition;
use crate::group::Group;
use crate::{Error, TopicPartition};

/// How long a partition is held before it is tried again.
const HOLD: Duration = Duration::from_secs(60);

/// Stops fetching a partition.
pub(super) fn hold(
    group: &Group,
    component: &'static str,
    name: &TopicPartition,
    partition: &mut OwnedPartition,
) -> Result<(), Error> {
    group.pause(name)?;
    partition.held_since = Some(Instant::now());
    export(component, name, true);
    Ok(())
}

/// Continues to fetch a partition that was held long enough.
pub(super) fn release_if_due(
    group: &Group,
    component: &'static str,
    name: &TopicPartition,
    partition: &mut OwnedPartition,
) -> Result<(), Error> {
    if partition.held_since.is_some_and(|since| since.elapsed() >= HOLD) {
        group.resume(name)?;
        partition.held_since = None;
        export(component, name, false);
    }
    Ok(())
}

/// Exports whether a partition is held.
pub(super) fn export(component: &'static str, name: &TopicPartition, is_held: bool) {
    metrics::gauge!("mailpulse_partition_held",
        "component" => component,
        "topic" => name.topic.clone(),
        "partition" => name.partition.to_string())
    .set(f64::from(u8::from(is_held)));
}
