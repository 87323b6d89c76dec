use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use event::EventId;

use crate::{Engagement, Hour};

/// An event id behind the hour its event occurred in: the key on disk and in the changelog.
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

/// What one partition's open round has added. It is written as a whole or dropped as a whole.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    known: HashSet<IdKey, BuildHasherDefault<FirstBytes>>,
    /// The same ids in the order they came.
    pub(crate) ids: Vec<IdKey>,
    /// Engagements of which something has become known, with all that is known now.
    pub(crate) marks: HashMap<EventId, Engagement, BuildHasherDefault<FirstBytes>>,
    /// Hours of the events that were no repeats.
    pub(crate) hours: Vec<Hour>,
    /// How many changelog records tell of it.
    pub(crate) records: u64,
}

impl Overlay {
    pub(crate) fn contains(&self, key: &IdKey) -> bool {
        self.known.contains(key)
    }

    pub(crate) fn add(&mut self, key: IdKey) {
        self.known.insert(key);
        self.ids.push(key);
        self.hours.push(key.hour());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.hours.is_empty() && self.marks.is_empty()
    }

    /// Forgets everything and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.ids.clear();
        self.marks.clear();
        self.hours.clear();
        self.records = 0;
    }
}

impl Hash for IdKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[4..]);
    }
}

/// Ids are digests already: their first bytes are as good a hash as any of them.
#[derive(Debug, Default)]
pub(crate) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length that is hashed before a slice says nothing here.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
