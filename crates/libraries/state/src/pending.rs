//! What is not in the files yet.
//!
//! Committed batches are collected in hash tables. From time to time these are sorted and written to new
//! files, so several events of a message are one write. Writing every batch would be more than half of the
//! work of this crate: each entry would go to a journal, into a sorted table in memory and from there
//! into a file, and every look-up would search that table.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;

use event::EventId;

use crate::overlay::{FirstBytes, IdKey};

/// How much is collected in memory before it is written to files.
#[derive(Debug, Clone, Copy)]
pub struct PendingLimits {
    /// A partition with this many ids and memories is written.
    pub entries: usize,
    /// A partition with this many bytes of memories is written. Usually a memory has 40 bytes.
    pub memory_bytes: usize,
    /// If the tables of all partitions together are larger than this, in bytes, the largest is written.
    pub all_bytes: usize,
}

impl PendingLimits {
    /// With these limits, six partitions usually use 15 MiB.
    pub const DEFAULT: Self =
        Self { entries: 48 * 1024, memory_bytes: 4 << 20, all_bytes: 40 << 20 };
}

/// The ids and memories of a partition that are in the changelog and not yet in the files.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Also contains the ids of the open batch, so that an id is looked up only once. A rollback removes
    /// them.
    pub(crate) ids: HashSet<IdKey, BuildHasherDefault<FirstBytes>>,
    pub(crate) memories: MemoryTable,
}

impl Pending {
    pub(crate) fn exceeds(&self, limits: &PendingLimits) -> bool {
        self.ids.len() + self.memories.len() >= limits.entries
            || self.memories.byte_count() >= limits.memory_bytes
    }

    /// Returns the size of the tables in memory, in bytes.
    pub(crate) fn allocated_bytes(&self) -> usize {
        hash_table_bytes::<IdKey>(self.ids.capacity()) + self.memories.allocated_bytes()
    }
}

/// Returns ids in the order of the files.
pub(crate) fn sorted(ids: impl IntoIterator<Item = IdKey>) -> Vec<IdKey> {
    let mut ids: Vec<_> = ids.into_iter().collect();
    ids.sort_unstable_by_key(|key| key.0);
    ids
}

/// Message id → the bytes of its latest memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryTable {
    spans: HashMap<EventId, Span, BuildHasherDefault<FirstBytes>>,
    /// The memories one after the other, and earlier versions that had less space than the latest one.
    bytes: Vec<u8>,
}

/// Where a memory is in the bytes of its table, which never has 4 GiB.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    length: u8,
}

impl MemoryTable {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns the number of bytes of all memories, including those that were replaced.
    pub(crate) fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn get(&self, id: &EventId) -> Option<&[u8]> {
        self.spans.get(id).map(|&span| self.bytes_of(span))
    }

    /// Stores a memory of at most 255 bytes. It replaces an earlier one of the message.
    pub(crate) fn set(&mut self, id: EventId, memory: &[u8]) {
        let length = memory.len() as u8;
        let span = self.spans.entry(id).or_insert(Span { start: 0, length: 0 });
        if length > span.length {
            span.start = self.bytes.len() as u32;
            self.bytes.extend_from_slice(memory);
        } else {
            let start = span.start as usize;
            self.bytes[start..start + memory.len()].copy_from_slice(memory);
        }
        span.length = length;
    }

    /// Returns all memories, ordered by message id.
    pub(crate) fn sorted(&self) -> impl Iterator<Item = (EventId, &[u8])> {
        let mut spans: Vec<_> = self.spans.iter().map(|(&id, &span)| (id, span)).collect();
        spans.sort_unstable_by_key(|(id, _)| *id);
        spans.into_iter().map(|(id, span)| (id, self.bytes_of(span)))
    }

    fn bytes_of(&self, span: Span) -> &[u8] {
        let start = span.start as usize;
        &self.bytes[start..start + usize::from(span.length)]
    }

    fn allocated_bytes(&self) -> usize {
        hash_table_bytes::<(EventId, Span)>(self.spans.capacity()) + self.bytes.capacity()
    }
}

/// Returns the size of a hash table of the standard library. It is at most 7/8 full, and has one more
/// byte for each entry.
const fn hash_table_bytes<T>(capacity: usize) -> usize {
    capacity * 8 / 7 * (size_of::<T>() + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_latest_memory_of_each_message_is_kept(
            memories in vec((0..9_u8, vec(any::<u8>(), 1..40)), 0..60),
        ) {
            let mut table = MemoryTable::default();
            let mut expected = BTreeMap::new();
            for (number, memory) in memories {
                let id = EventId([number; 16]);
                table.set(id, &memory);
                prop_assert_eq!(table.get(&id), Some(&memory[..]));
                expected.insert(id, memory);
            }
            let sorted: Vec<_> = table.sorted().map(|(id, memory)| (id, memory.to_vec())).collect();
            prop_assert_eq!(sorted, expected.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(table.get(&EventId([9; 16])), None);
        }
    }
}
