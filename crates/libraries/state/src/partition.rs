use std::sync::atomic::Ordering;

use event::EventId;
use fjall::OwnedWriteBatch;

use crate::event_hour::EventHour;
use crate::files::{PartitionFiles, Position};
use crate::overlay::{IdKey, Overlay};
use crate::{Entry, Hour, MessageMemory, StateError, changelog, expiry};

/// Whether an event id was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Seen {
    /// The id was not seen within the horizon. From now on it is.
    First,
    /// The id was seen within the horizon.
    Duplicate,
    /// The event is older than the horizon, so its id may or may not have been seen. The id is not
    /// stored. The caller passes the event on: a duplicate can be removed later, but a lost event
    /// cannot be recovered.
    BeyondHorizon,
}

/// How far back a partition remembers, in hours of event time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizons {
    /// For event ids.
    pub ids: u32,
    /// For the memories of messages. Not below `ids`.
    pub memories: u32,
}

impl Horizons {
    /// Returns the horizons. Undated events are remembered like messages, so these are remembered at
    /// least as long as ids.
    pub fn new(ids: u32, memories: u32) -> Self {
        Self { ids, memories: memories.max(ids) }
    }
}

/// The ids and memories of one partition.
pub struct Partition {
    files: PartitionFiles,
    horizons: Horizons,
    event_hour: EventHour,
    /// The first hour within the horizon of ids; 0 while there is no event hour.
    horizon_start: Hour,
    /// The first hour within the horizon of memories.
    memories_start: Hour,
    /// See [`Position::undated_until`].
    undated_until: Option<Hour>,
    /// Identifies this assignment of the partition in the changelog.
    writer: u64,
    /// The position of the last changelog record that is in the files; `None` before the first.
    pub(crate) position: Option<Position>,
    open_batch: Overlay,
}

impl Partition {
    pub(crate) fn new(
        files: PartitionFiles,
        horizons: Horizons,
        writer: u64,
        position: Option<Position>,
    ) -> Result<Self, StateError> {
        let event_hour = EventHour::starting_at(position.and_then(|position| position.event_hour));
        let mut partition = Self {
            files,
            horizons,
            event_hour,
            horizon_start: Hour(0),
            memories_start: Hour(0),
            undated_until: position.and_then(|position| position.undated_until),
            writer,
            position,
            open_batch: Overlay::default(),
        };
        partition.expire()?;
        Ok(partition)
    }

    /// Returns whether an event id was seen before, and stores it if it was not. `hour` is the hour
    /// in which the event occurred; duplicates of the event have the same.
    pub fn insert(&mut self, id: &EventId, hour: Hour) -> Result<Seen, StateError> {
        if hour < self.horizon_start {
            self.open_batch.hours.push(hour);
            return Ok(Seen::BeyondHorizon);
        }
        let key = IdKey::new(hour, id);
        if self.open_batch.contains(&key) || self.files.ids.contains_key(key.0)? {
            return Ok(Seen::Duplicate);
        }
        self.open_batch.add(key);
        Ok(Seen::First)
    }

    /// Like [`Self::insert`], for an event without a time of its provider. `hour` is then the hour of
    /// receipt, which differs between duplicates, so the event also has a memory under its id. It may
    /// be of a later hour: a batch may be read again after newer events.
    pub fn insert_undated(&mut self, id: &EventId, hour: Hour) -> Result<Seen, StateError> {
        if hour < self.horizon_start {
            return self.insert(id, hour);
        }
        if let Some(known) = self.stored_memory(id)?
            && known.since >= self.horizon_start
            && known.since.0.abs_diff(hour.0) <= self.horizons.ids
        {
            return Ok(Seen::Duplicate);
        }
        if self.has_undated_of_earlier_release(id, hour)? {
            return Ok(Seen::Duplicate);
        }
        let seen = self.insert(id, hour)?;
        if seen == Seen::First {
            self.set_memory(id, MessageMemory { since: hour, ..MessageMemory::UNKNOWN });
        }
        Ok(seen)
    }

    /// Looks an undated event up in every hour within the horizon of `hour` in which an earlier
    /// release may have stored it. After one horizon there is none.
    fn has_undated_of_earlier_release(&self, id: &EventId, hour: Hour) -> Result<bool, StateError> {
        let Some(until) = self.undated_until else { return Ok(false) };
        let first = Hour(hour.0.saturating_sub(self.horizons.ids)).max(self.horizon_start);
        let last = Hour(hour.0.saturating_add(self.horizons.ids)).min(until);
        for hour in first.0..=last.0 {
            if self.files.ids.contains_key(IdKey::new(Hour(hour), id).0)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns what is remembered of a message, or [`MessageMemory::UNKNOWN`] if there is nothing
    /// within the horizon.
    pub fn memory(&self, id: &EventId) -> Result<MessageMemory, StateError> {
        let recent = self.stored_memory(id)?.filter(|memory| memory.since >= self.memories_start);
        Ok(recent.unwrap_or(MessageMemory::UNKNOWN))
    }

    fn stored_memory(&self, id: &EventId) -> Result<Option<MessageMemory>, StateError> {
        if let Some(&memory) = self.open_batch.memories.get(id) {
            return Ok(Some(memory));
        }
        let bytes = self.files.memories.get(id.as_bytes())?;
        Ok(bytes.and_then(|bytes| MessageMemory::from_bytes(&bytes)))
    }

    /// Stores what is remembered of a message.
    pub fn set_memory(&mut self, id: &EventId, memory: MessageMemory) {
        self.open_batch.memories.insert(*id, memory);
    }

    /// Returns whether every message with an event in this hour is still remembered, so that a message
    /// that is not remembered had none.
    pub fn remembers(&self, hour: Hour) -> bool {
        hour >= self.memories_start
    }

    /// Returns the median hour of the last [`MEDIAN_SAMPLES`](crate::MEDIAN_SAMPLES) committed
    /// events; `None` until there were as many.
    pub fn event_hour(&self) -> Option<Hour> {
        self.event_hour.current()
    }

    /// Encodes the open batch as changelog records.
    pub(crate) fn changelog_records(&mut self) -> Vec<Vec<u8>> {
        let memories = self.open_batch.memories.iter().map(|(&id, &memory)| (id, memory));
        let sequence = self.position.map_or(0, |position| position.sequence) + 1;
        let records = changelog::encode(self.writer, sequence, &self.open_batch.ids, memories);
        self.open_batch.records = records.len() as u64;
        records
    }

    /// Adds the open batch to `writes`. Returns the new position, or `None` if the batch has no
    /// changelog records.
    pub(crate) fn write_open_batch(&mut self, writes: &mut OwnedWriteBatch) -> Option<Position> {
        let batch = &self.open_batch;
        if batch.is_empty() {
            return None;
        }
        self.event_hour.observe(batch.hours.iter().copied());
        if batch.records == 0 {
            return None;
        }
        // In order, neighbours in the tables are written one after the other.
        let mut ids: Vec<_> = batch.ids.iter().map(|key| key.0).collect();
        ids.sort_unstable();
        for key in ids {
            writes.insert(&self.files.ids, key, []);
        }
        let mut memories: Vec<_> = batch.memories.iter().collect();
        memories.sort_unstable_by_key(|(id, _)| *id);
        for (id, memory) in memories {
            writes.insert(&self.files.memories, *id.as_bytes(), memory.to_bytes().as_slice());
        }
        let (sequence, offset) = match self.position {
            // The offset after the last record belongs to the commit marker of its transaction.
            Some(last) => (last.sequence, last.offset + 1),
            None => (0, -1),
        };
        self.position = Some(Position {
            writer: self.writer,
            sequence: sequence + batch.records,
            offset: offset + batch.records.cast_signed(),
            event_hour: self.event_hour.current(),
            undated_until: self.undated_until,
        });
        self.position
    }

    /// Takes note of a changelog record that is being restored and returns its position.
    pub(crate) fn advance(&mut self, entry: &Entry<'_>) -> Position {
        self.event_hour.observe(entry.keys().map(|key| key.hour()));
        if entry.is_of_earlier_release() {
            let last = entry.keys().map(|key| key.hour()).max();
            self.undated_until = self.undated_until.max(last);
        }
        let position = Position {
            writer: entry.writer,
            sequence: entry.sequence,
            offset: self.position.map_or(0, |last| last.offset + 1),
            event_hour: self.event_hour.current(),
            undated_until: self.undated_until,
        };
        self.position = Some(position);
        position
    }

    /// Adds ids and memories from the changelog to `writes`.
    pub(crate) fn write_restored<'m>(
        &self,
        ids: &[IdKey],
        memories: impl Iterator<Item = (EventId, &'m [u8])>,
        writes: &mut OwnedWriteBatch,
    ) {
        for key in ids {
            writes.insert(&self.files.ids, key.0, []);
        }
        for (id, memory) in memories {
            writes.insert(&self.files.memories, id.0, memory);
        }
    }

    /// Writes what is in memory to files.
    pub(crate) fn flush(&self) -> Result<(), StateError> {
        self.files.ids.rotate_memtable_and_wait()?;
        self.files.memories.rotate_memtable_and_wait()?;
        Ok(())
    }

    pub(crate) fn clear_open_batch(&mut self) {
        self.open_batch.clear();
    }

    /// Moves the starts of the horizons after the event hour has changed, and deletes what is older.
    pub(crate) fn expire(&mut self) -> Result<(), StateError> {
        let event_hour = self.event_hour.current().unwrap_or(Hour(0));
        let before = |hours| Hour(event_hour.0.saturating_sub(hours));
        let (start, memories_start) = (before(self.horizons.ids), before(self.horizons.memories));
        self.memories_start = memories_start;
        self.files.horizon_start.store(memories_start.0, Ordering::Relaxed);
        if start > self.horizon_start {
            expiry::drop_ids(&self.files.ids, start)?;
        }
        self.horizon_start = start;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;

    #[test]
    fn ids_and_memories_have_horizons_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path()).unwrap().partition(0).unwrap();
        let event_hour = Some(Hour(500));
        let position =
            Position { writer: 1, sequence: 1, offset: 0, event_hour, undated_until: None };
        let horizons = Horizons::new(10, 30);
        let mut partition = Partition::new(files, horizons, 1, Some(position)).unwrap();
        assert_eq!(partition.files.horizon_start.load(Ordering::Relaxed), 470, "for compaction");
        let id = EventId([7; 16]);
        assert_eq!(partition.insert(&id, Hour(489)).unwrap(), Seen::BeyondHorizon);
        assert_eq!(partition.insert(&id, Hour(490)).unwrap(), Seen::First);
        assert!(partition.remembers(Hour(470)) && !partition.remembers(Hour(469)));
        assert_eq!(Horizons::new(10, 5).memories, 10, "undated events are memories, too");
    }
}
