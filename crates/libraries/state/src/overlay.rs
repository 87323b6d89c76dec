use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use event::EventId;

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
/// They stay in memory until the Kafka transaction of the batch commits. Then they are written to
/// disk all together. If the transaction aborts, they are all dropped. Look-ups read the overlay
/// before the files, so a duplicate within one batch is found.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    new_ids: HashSet<IdKey, BuildHasherDefault<FirstBytes>>,
    /// The ids of `new_ids` in the order of their events.
    pub(crate) ids: Vec<IdKey>,
    /// The full new state of each memory that has changed.
    pub(crate) memories: HashMap<EventId, MessageMemory, BuildHasherDefault<FirstBytes>>,
    /// The hours of the events that were not duplicates.
    pub(crate) hours: Vec<Hour>,
    /// The number of changelog records that hold these changes.
    pub(crate) records: u64,
}

impl Overlay {
    pub(crate) fn contains(&self, key: &IdKey) -> bool {
        self.new_ids.contains(key)
    }

    pub(crate) fn add(&mut self, key: IdKey) {
        self.new_ids.insert(key);
        self.ids.push(key);
        self.hours.push(key.hour());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hours.is_empty() && self.memories.is_empty()
    }

    /// Removes all changes and keeps the allocated memory for the next batch.
    pub(crate) fn clear(&mut self) {
        self.new_ids.clear();
        self.ids.clear();
        self.memories.clear();
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
