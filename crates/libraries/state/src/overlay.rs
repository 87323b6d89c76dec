use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use event::EventId;

use crate::changelog::add_memory;
use crate::{Hour, MessageMemory};

/// An event id prefixed with the hour in which its event occurred: the key on disk and in the
/// changelog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdKey(pub(crate) [u8; 20]);

impl IdKey {
    pub(crate) const LENGTH: usize = 20;

    pub(crate) fn new(hour: Hour, id: &EventId) -> Self {
        let mut key = [0; Self::LENGTH];
        key[..4].copy_from_slice(&hour.0.to_be_bytes());
        key[4..].copy_from_slice(id.as_bytes());
        Self(key)
    }

    pub(crate) fn hour(&self) -> Hour {
        let [a, b, c, d, ..] = self.0;
        Hour(u32::from_be_bytes([a, b, c, d]))
    }

    pub(crate) fn id(&self) -> EventId {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[4..]);
        EventId(id)
    }
}

/// The changes that the open batch has made to one partition.
///
/// When the Kafka transaction of the batch commits, they are added to
/// [`Pending`](crate::pending::Pending). If it aborts, they are all dropped. Look-ups read the overlay
/// first, so a duplicate within one batch is found.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// The new ids in the order of their events. The set that is searched is
    /// [`Pending::ids`](crate::pending::Pending::ids).
    pub(crate) ids: Vec<IdKey>,
    /// The full new state of each memory that has changed.
    pub(crate) memories: HashMap<EventId, MessageMemory, BuildHasherDefault<FirstBytes>>,
    /// The same memories in the format of the changelog. Empty before the batch ends.
    pub(crate) encoded_memories: Vec<u8>,
    /// The hours of the events that were not duplicates.
    pub(crate) hours: Vec<Hour>,
    /// The number of changelog records that hold these changes.
    pub(crate) records: u64,
}

impl Overlay {
    pub(crate) fn add(&mut self, key: IdKey) {
        self.ids.push(key);
        self.hours.push(key.hour());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hours.is_empty() && self.memories.is_empty()
    }

    pub(crate) fn encode_memories(&mut self) {
        self.encoded_memories.clear();
        for (id, memory) in &self.memories {
            add_memory(&mut self.encoded_memories, id, memory.to_bytes().as_slice());
        }
    }

    /// Removes all changes and keeps the allocated memory for the next batch.
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.memories.clear();
        self.encoded_memories.clear();
        self.hours.clear();
        self.records = 0;
    }
}

impl Hash for IdKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[4..]);
    }
}

/// A hasher that returns the first eight bytes of an id. Ids are digests, so any eight of their
/// bytes are a good hash.
#[derive(Debug, Default)]
pub(crate) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// Ignores the length that is hashed before a slice: all ids have the same length.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
