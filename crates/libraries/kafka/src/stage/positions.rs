//! Compares committed offsets with positions, holds partitions where they differ, and writes positions.

use std::collections::{BTreeSet, HashMap};

use super::batch::{Batch, Spans};
use super::batch_loop::Member;
use super::partition::OwnedPartition;
use super::{Outgoing, Output, Stage};
use crate::group::Committed;
use crate::ledger::Ledger;
use crate::positions::{Found, Mismatch, Position, PositionsTopic};
use crate::restore::ChangelogReaders;
use crate::{Error, TopicPartition};

impl<S: Stage> Member<'_, S> {
    /// Compares the offsets of partitions with their positions. A partition where they differ is held:
    /// it is not fetched, and its records are removed from the batch.
    pub(super) fn check_positions(
        &mut self,
        names: &BTreeSet<TopicPartition>,
        readers: &ChangelogReaders,
        batch: &mut Batch<'_>,
    ) -> Result<(), Error> {
        let Some(topic) = &self.settings.positions else { return Ok(()) };
        let topics: BTreeSet<&str> = names.iter().map(|name| &*name.topic).collect();
        let ids = self.group.topic_ids(topics.into_iter())?;
        let mut held = BTreeSet::new();
        for found in self.group.committed(names)? {
            let name = found.partition.clone();
            let id = ids.get(&name.topic).map(String::as_str);
            let mismatch = self.find_mismatch(topic, &found, id, readers)?;
            let Some(partition) = self.owned.get_mut(&name) else { continue };
            partition.topic_id = id.map(str::to_owned);
            if partition.mismatch.is_some() {
                continue;
            }
            if let Some(mismatch) = mismatch {
                tracing::error!(
                    component = Self::COMPONENT, partition = %name, code = mismatch.code(),
                    runbook = "docs/runbooks.md#position-mismatch",
                    "partition held: {mismatch}"
                );
                partition.mismatch = Some(mismatch);
                self.group.pause(&name)?;
                export(Self::COMPONENT, &name, mismatch, true);
                held.insert(name);
            }
        }
        batch.remove(&held);
        Ok(())
    }

    fn find_mismatch(
        &self,
        topic: &PositionsTopic,
        committed: &Committed,
        topic_id: Option<&str>,
        readers: &ChangelogReaders,
    ) -> Result<Option<Mismatch>, Error> {
        let Committed { partition, next, metadata } = committed;
        let position = readers.position(self.connection, topic, &self.settings.group, partition)?;
        Ok(Mismatch::find(Found {
            committed: *next,
            is_ours: Ledger::is_in(metadata),
            position: position.as_ref(),
            topic_id,
            available: self.group.available(partition)?,
        }))
    }
}

/// Writes the position after each span, in the open transaction.
pub(super) fn write(
    topic: &PositionsTopic,
    group: &str,
    spans: &Spans,
    owned: &HashMap<TopicPartition, OwnedPartition>,
    out: &mut Output<'_>,
) -> Result<(), Error> {
    for (name, span) in spans {
        let topic_id = owned.get(name).and_then(|partition| partition.topic_id.clone());
        let value = Position { next: span.next, topic_id }.to_value();
        out.send(Outgoing {
            topic: &topic.name,
            partition: Some(topic.partition_of(name.partition)),
            key: Position::key(group, name).as_bytes(),
            value: Some(value.as_bytes()),
            headers: &[],
        })?;
    }
    Ok(())
}

/// Exports whether a partition is held because its offset and its position differ.
pub(super) fn export(
    component: &'static str,
    name: &TopicPartition,
    mismatch: Mismatch,
    is_held: bool,
) {
    metrics::gauge!("mailpulse_position_mismatch",
        "component" => component,
        "topic" => name.topic.clone(),
        "partition" => name.partition.to_string(),
        "reason" => mismatch.code())
    .set(f64::from(u8::from(is_held)));
}
