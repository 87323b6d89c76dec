use std::sync::atomic::Ordering;

use event::EventId;
use fjall::OwnedWriteBatch;

use crate::event_hour::EventHour;
use crate::files::{PartitionFiles, Position};
use crate::overlay::{IdKey, Overlay};
use crate::{Engagement, Entry, Hour, StateError, changelog, expiry};

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

/// The ids and engagements of one partition.
pub struct Partition {
    files: PartitionFiles,
    horizon_hours: u32,
    event_hour: EventHour,
    /// The first hour within the horizon; 0 while there is no event hour.
    horizon_start: Hour,
    /// Identifies this assignment of the partition in the changelog.
    writer: u64,
    /// The position of the last changelog record that is in the files; `None` before the first.
    pub(crate) position: Option<Position>,
    open_batch: Overlay,
}

impl Partition {
    pub(crate) fn new(
        files: PartitionFiles,
        horizon_hours: u32,
        writer: u64,
        position: Option<Position>,
    ) -> Result<Self, StateError> {
        let event_hour = EventHour::starting_at(position.and_then(|position| position.event_hour));
        let mut partition = Self {
            files,
            horizon_hours,
            event_hour,
            horizon_start: Hour(0),
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
    /// receipt, which differs between duplicates, so the id is looked up in every hour within the
    /// horizon of that hour, later ones included: a batch may be read again after newer events.
    pub fn insert_undated(&mut self, id: &EventId, hour: Hour) -> Result<Seen, StateError> {
        if hour < self.horizon_start {
            return self.insert(id, hour);
        }
        let first = Hour(hour.0.saturating_sub(self.horizon_hours)).max(self.horizon_start);
        for other in first.0..=hour.0.saturating_add(self.horizon_hours) {
            let key = IdKey::new(Hour(other), id);
            if self.open_batch.contains(&key) || self.files.ids.contains_key(key.0)? {
                return Ok(Seen::Duplicate);
            }
        }
        self.insert(id, hour)
    }

    /// Returns the stored engagement, or [`Engagement::UNKNOWN`] if there is none within the
    /// horizon.
    pub fn engagement(&self, id: &EventId) -> Result<Engagement, StateError> {
        let stored = match self.open_batch.engagements.get(id) {
            Some(&stored) => Some(stored),
            None => {
                let bytes = self.files.engagements.get(id.as_bytes())?;
                bytes.and_then(|bytes| Engagement::decode(&bytes))
            }
        };
        let recent = stored.filter(|stored| stored.since >= self.horizon_start);
        Ok(recent.unwrap_or(Engagement::UNKNOWN))
    }

    /// Stores an engagement in place of the one with the same id.
    pub fn set_engagement(&mut self, id: &EventId, engagement: Engagement) {
        self.open_batch.engagements.insert(*id, engagement);
    }

    /// Returns the median hour of the last [`MEDIAN_SAMPLES`](crate::MEDIAN_SAMPLES) committed
    /// events; `None` until there were as many.
    pub fn event_hour(&self) -> Option<Hour> {
        self.event_hour.current()
    }

    /// Encodes the open batch as changelog records.
    pub(crate) fn changelog_records(&mut self) -> Vec<Vec<u8>> {
        let engagements: Vec<_> =
            self.open_batch.engagements.iter().map(|(&id, &engagement)| (id, engagement)).collect();
        let sequence = self.position.map_or(0, |position| position.sequence) + 1;
        let records = changelog::encode(self.writer, sequence, &self.open_batch.ids, &engagements);
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
        for key in &batch.ids {
            writes.insert(&self.files.ids, key.0, []);
        }
        for (id, engagement) in &batch.engagements {
            writes.insert(&self.files.engagements, *id.as_bytes(), engagement.to_bytes());
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
        });
        self.position
    }

    /// Adds the content of a changelog record to `writes` and returns the position of the record.
    pub(crate) fn apply(&mut self, entry: &Entry<'_>, writes: &mut OwnedWriteBatch) -> Position {
        for key in entry.keys() {
            writes.insert(&self.files.ids, key.0, []);
        }
        for (id, engagement) in entry.engagements() {
            writes.insert(&self.files.engagements, *id.as_bytes(), engagement.to_bytes());
        }
        self.event_hour.observe(entry.keys().map(|key| key.hour()));
        let position = Position {
            writer: entry.writer,
            sequence: entry.sequence,
            offset: self.position.map_or(0, |last| last.offset + 1),
            event_hour: self.event_hour.current(),
        };
        self.position = Some(position);
        position
    }

    pub(crate) fn clear_open_batch(&mut self) {
        self.open_batch.clear();
    }

    /// Moves the start of the horizon after the event hour has changed, and deletes what is older.
    pub(crate) fn expire(&mut self) -> Result<(), StateError> {
        let event_hour = self.event_hour.current().unwrap_or(Hour(0));
        let start = Hour(event_hour.0.saturating_sub(self.horizon_hours));
        if start == self.horizon_start {
            return Ok(());
        }
        self.files.horizon_start.store(start.0, Ordering::Relaxed);
        if start > self.horizon_start {
            expiry::drop_ids(&self.files.ids, start)?;
        }
        self.horizon_start = start;
        Ok(())
    }
}
