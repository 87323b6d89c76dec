use std::sync::atomic::Ordering;

use event::EventId;
use fjall::OwnedWriteBatch;

use crate::clock::Clock;
use crate::files::{PartitionFiles, Place};
use crate::overlay::{IdKey, Overlay};
use crate::{Engagement, Entry, Hour, StateError, changelog, expiry};

/// What is known of an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    /// Not seen before within the horizon; it is from now on.
    First,
    /// Seen before.
    Repeat,
    /// Its hour is older than the horizon, so it cannot be told from a repeat. It is not
    /// remembered; the caller lets it pass, because a repeat too many can be mended later and a
    /// lost event cannot.
    BeyondHorizon,
}

/// The ids and engagements of one partition.
pub struct Partition {
    files: PartitionFiles,
    horizon_hours: u32,
    clock: Clock,
    /// The first hour that is remembered; 0 without a clock.
    floor: Hour,
    /// This ownership's name in the changelog.
    writer: u64,
    /// The last changelog record that is in the files; `None` before the first.
    pub(crate) place: Option<Place>,
    open: Overlay,
}

impl Partition {
    pub(crate) fn new(
        files: PartitionFiles,
        horizon_hours: u32,
        writer: u64,
        place: Option<Place>,
    ) -> Result<Self, StateError> {
        let clock = Clock::set(place.and_then(|place| place.clock));
        let open = Overlay::default();
        let mut partition =
            Self { files, horizon_hours, clock, floor: Hour(0), writer, place, open };
        partition.expire()?;
        Ok(partition)
    }

    /// Looks an event up, and remembers it when it is the first.
    pub fn sight(&mut self, id: &EventId, hour: Hour) -> Result<Sight, StateError> {
        if hour < self.floor {
            self.open.hours.push(hour);
            return Ok(Sight::BeyondHorizon);
        }
        let key = IdKey::new(hour, id);
        if self.open.contains(&key) || self.files.ids.contains_key(key.0)? {
            return Ok(Sight::Repeat);
        }
        self.open.add(key);
        Ok(Sight::First)
    }

    /// What is known of a message at a recipient, unless it began before the horizon.
    pub fn engagement(&self, id: &EventId) -> Result<Engagement, StateError> {
        let known = match self.open.marks.get(id) {
            Some(&known) => Some(known),
            None => self.files.marks.get(id.as_bytes())?.and_then(|bytes| Engagement::read(&bytes)),
        };
        Ok(known.filter(|known| known.first >= self.floor).unwrap_or(Engagement::UNKNOWN))
    }

    /// Remembers what is known of it now.
    pub fn remember(&mut self, id: &EventId, engagement: Engagement) {
        self.open.marks.insert(*id, engagement);
    }

    /// The clock: see [`CLOCK_SAMPLES`](crate::CLOCK_SAMPLES).
    pub fn now(&self) -> Option<Hour> {
        self.clock.now()
    }

    /// The open round as changelog records.
    pub(crate) fn records(&mut self) -> Vec<Vec<u8>> {
        let marks: Vec<_> = self.open.marks.iter().map(|(&id, &mark)| (id, mark)).collect();
        let sequence = self.place.map_or(0, |place| place.sequence) + 1;
        let records = changelog::encode(self.writer, sequence, &self.open.ids, &marks);
        self.open.records = records.len() as u64;
        records
    }

    /// Puts the open round into the batch; returns the place to go with it, if any.
    pub(crate) fn write(&mut self, batch: &mut OwnedWriteBatch) -> Option<Place> {
        if self.open.is_empty() {
            return None;
        }
        self.clock.observe(self.open.hours.iter().copied());
        if self.open.records == 0 {
            return None;
        }
        for key in &self.open.ids {
            batch.insert(&self.files.ids, key.0, []);
        }
        for (id, mark) in &self.open.marks {
            batch.insert(&self.files.marks, *id.as_bytes(), mark.to_bytes());
        }
        let (sequence, offset) = match self.place {
            // The marker that ended the last record's transaction lies between it and these.
            Some(last) => (last.sequence, last.offset + 1),
            None => (0, -1),
        };
        let records = self.open.records;
        self.place = Some(Place {
            writer: self.writer,
            sequence: sequence + records,
            offset: offset + records.cast_signed(),
            clock: self.clock.now(),
        });
        self.place
    }

    /// Puts a record of the changelog into the batch; returns the place to go with it.
    pub(crate) fn follow(&mut self, entry: &Entry<'_>, batch: &mut OwnedWriteBatch) -> Place {
        for key in entry.keys() {
            batch.insert(&self.files.ids, key.0, []);
        }
        for (id, mark) in entry.marks() {
            batch.insert(&self.files.marks, *id.as_bytes(), mark.to_bytes());
        }
        self.clock.observe(entry.keys().map(|key| key.hour()));
        let place = Place {
            writer: entry.writer,
            sequence: entry.sequence,
            offset: self.place.map_or(0, |last| last.offset + 1),
            clock: self.clock.now(),
        };
        self.place = Some(place);
        place
    }

    /// The round is over, one way or the other.
    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }

    /// Follows the clock: what is older than the horizon is forgotten.
    pub(crate) fn expire(&mut self) -> Result<(), StateError> {
        let now = self.clock.now().unwrap_or(Hour(0));
        let floor = Hour(now.0.saturating_sub(self.horizon_hours));
        if floor == self.floor {
            return Ok(());
        }
        self.files.floor.store(floor.0, Ordering::Relaxed);
        if floor > self.floor {
            expiry::drop_ids(&self.files.ids, floor)?;
        }
        self.floor = floor;
        Ok(())
    }
}
