use std::sync::atomic::Ordering;

use crate::event_hour::EventHour;
use crate::files::{PartitionFiles, Position};
use crate::overlay::{IdKey, Overlay};
use crate::pending::{self, MemoryTable, Pending};
use crate::{Entry, Hour, MessageMemory, StateError, changelog, expiry};
use event::EventId;

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
    /// The position of the last changelog record that is in the files or pending; `None` before the
    /// first record.
    pub(crate) position: Option<Position>,
    /// The position in the files.
    written: Option<Position>,
    open_batch: Overlay,
    pending: Pending,
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
            written: position,
            open_batch: Overlay::default(),
            pending: Pending::default(),
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
        if !self.pending.ids.insert(key) {
            return Ok(Seen::Duplicate);
        }
        if self.files.ids.contains_key(key.0)? {
            self.pending.ids.remove(&key);
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
            let key = IdKey::new(Hour(hour), id);
            if self.pending.ids.contains(&key) || self.files.ids.contains_key(key.0)? {
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
        if let Some(bytes) = self.pending.memories.get(id) {
            return Ok(MessageMemory::from_bytes(bytes));
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
        let sequence = self.position.map_or(0, |position| position.sequence) + 1;
        let batch = &mut self.open_batch;
        batch.encode_memories();
        let records = changelog::encode(self.writer, sequence, &batch.ids, &batch.encoded_memories);
        batch.records = records.len() as u64;
        records
    }

    /// Makes the open batch part of what is pending.
    pub(crate) fn commit(&mut self) -> Result<(), StateError> {
        if self.open_batch.is_empty() {
            return Ok(());
        }
        self.event_hour.observe(self.open_batch.hours.iter().copied());
        if self.open_batch.records == 0 {
            self.roll_back();
            return self.expire();
        }
        let mut memories = self.open_batch.encoded_memories.as_slice();
        while let Some(((id, memory), rest)) = changelog::split_memory(memories) {
            self.pending.memories.set(id, memory);
            memories = rest;
        }
        let (sequence, offset) = match self.position {
            // The offset after the last record belongs to the commit marker of its transaction.
            Some(last) => (last.sequence, last.offset + 1),
            None => (0, -1),
        };
        let records = self.open_batch.records;
        self.position = Some(Position {
            writer: self.writer,
            sequence: sequence + records,
            offset: offset + records.cast_signed(),
            event_hour: self.event_hour.current(),
            undated_until: self.undated_until,
        });
        self.open_batch.clear();
        self.expire()
    }

    /// Drops the changes of the open batch.
    pub(crate) fn roll_back(&mut self) {
        for key in &self.open_batch.ids {
            self.pending.ids.remove(key);
        }
        self.open_batch.clear();
    }

    /// Returns what is not in the files.
    pub(crate) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// Writes everything that has been committed to the files. There must be no open batch.
    pub(crate) fn write_pending(&mut self) -> Result<(), StateError> {
        // This frees the memory of the tables, because other partitions need as much.
        let Pending { ids, memories } = std::mem::take(&mut self.pending);
        self.write(&pending::sorted(ids), &memories)
    }

    /// Writes ids, ascending and without repetition, and memories to the files. They are then at the
    /// position of the partition.
    pub(crate) fn write(
        &mut self,
        ids: &[IdKey],
        memories: &MemoryTable,
    ) -> Result<(), StateError> {
        let Some(mut position) = self.position else { return Ok(()) };
        position.event_hour = self.event_hour.current();
        if !ids.is_empty() || !memories.is_empty() {
            self.files.write(ids, memories.sorted(), &position)?;
        } else if self.written != Some(position) {
            self.files.put_position(&position)?;
        }
        self.written = Some(position);
        Ok(())
    }

    /// Takes note of a changelog record that is being restored, and of its position.
    pub(crate) fn advance(&mut self, entry: &Entry<'_>) {
        self.event_hour.observe(entry.keys().map(|key| key.hour()));
        if entry.is_of_earlier_release() {
            let last = entry.keys().map(|key| key.hour()).max();
            self.undated_until = self.undated_until.max(last);
        }
        self.position = Some(Position {
            writer: entry.writer,
            sequence: entry.sequence,
            offset: self.position.map_or(0, |last| last.offset + 1),
            event_hour: self.event_hour.current(),
            undated_until: self.undated_until,
        });
    }

    /// Moves the starts of the horizons after the event hour has changed, and deletes what is older.
    /// There must be no open batch.
    pub(crate) fn expire(&mut self) -> Result<(), StateError> {
        let event_hour = self.event_hour.current().unwrap_or(Hour(0));
        let before = |hours| Hour(event_hour.0.saturating_sub(hours));
        let (start, memories_start) = (before(self.horizons.ids), before(self.horizons.memories));
        self.write_event_hour()?;
        if start > self.horizon_start {
            expiry::drop_ids(&self.files.ids, start)?;
        }
        self.memories_start = memories_start;
        self.files.horizon_start.store(memories_start.0, Ordering::Relaxed);
        self.horizon_start = start;
        Ok(())
    }

    /// Writes the event hour if it has changed, so that it is the same after a crash. Otherwise we would
    /// look for ids that were deleted by a later event hour.
    fn write_event_hour(&mut self) -> Result<(), StateError> {
        let event_hour = self.event_hour.current();
        if let Some(written) = self.written.as_mut().filter(|it| it.event_hour != event_hour) {
            written.event_hour = event_hour;
            self.files.put_position(written)?;
            self.files.sync()?;
        }
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
