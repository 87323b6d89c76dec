//! Compares committed offsets with positions, holds partitions where they differ, and writes positions.

use std::collections::{BTreeSet, HashMap};

use super::batch::{Batch, Spans};
use super::batch_loop::Member;
use super::partition::OwnedPartition;
use super::{Outgoing, Output, Stage};
use crate::positions::{self, Comparison, Position, PositionsTopic};
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
        let comparison = Comparison {
            connection: self.connection,
            topic,
            group: self.group,
            readers,
            has_ledgers: true,
        };
        let mut held = BTreeSet::new();
        for found in self.group.committed(names)? {
            let name = found.partition.clone();
            let id = ids.get(&name.topic).map(String::as_str);
            let mismatch = comparison.find(&found, id)?;
            let Some(partition) = self.owned.get_mut(&name) else { continue };
            partition.topic_id = id.map(str::to_owned);
            if partition.mismatch.is_some() {
                continue;
            }
            if let Some(mismatch) = mismatch {
                partition.mismatch = Some(mismatch);
                self.group.pause(&name)?;
                positions::hold(Self::COMPONENT, &name, mismatch);
                held.insert(name);
            }
        }
        batch.remove(&held);
        Ok(())
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
        let Some(partition) = owned.get(name) else { continue };
        let (topic_id, ledger) = (partition.topic_id.clone(), partition.ledger_after_batch());
        let value = Position { next: span.next, topic_id, ledger }.to_value();
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
