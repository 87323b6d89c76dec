//! A changelog partition without Kafka, with offsets, transaction markers and retention.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use event::{Counter, CounterSet, DimensionDigests, EventId, Kind, OccurredAt};
use record::FirstSeen;
use state::{Hour, Observation, Partition, StateError, Store};

pub const PARTITION: i32 = 3;

#[derive(Debug, Default, Clone)]
pub struct Log {
    /// Offset and value of each committed record.
    pub records: Vec<(i64, Vec<u8>)>,
    /// The first offset.
    pub start: i64,
    /// The offset after the last transaction marker.
    pub end: i64,
}

impl Log {
    /// Appends the records and the marker of a transaction that commits.
    pub fn append(&mut self, records: Vec<Vec<u8>>) {
        if records.is_empty() {
            return;
        }
        for record in records {
            self.records.push((self.end, record));
            self.end += 1;
        }
        self.end += 1;
    }

    /// Skips the offsets that the records and the marker of an aborted transaction take.
    pub fn abort(&mut self, records: &[Vec<u8>]) {
        if !records.is_empty() {
            self.end += records.len() as i64 + 1;
        }
    }

    /// Removes all records before `start`, as retention does.
    pub fn trim(&mut self, start: i64) {
        self.start = start;
        self.records.retain(|(offset, _)| *offset >= start);
    }

    /// Reads like `Restore::changelog`: an offset out of range means the beginning.
    pub fn read(
        &self,
        from: Option<i64>,
        apply: &mut dyn FnMut(&[u8]) -> Result<(), StateError>,
    ) -> Result<i64, StateError> {
        let from = from.filter(|from| (self.start..=self.end).contains(from));
        let mut next = from.unwrap_or(0);
        for (offset, record) in &self.records {
            if *offset >= from.unwrap_or(0) {
                apply(record)?;
                next = offset + 1;
            }
        }
        Ok(next)
    }

    pub fn restore(&self, store: &mut Store) {
        store.restore(PARTITION, |from, apply| self.read(from, apply)).unwrap();
    }

    /// Restores the partition and returns the start offset of each read of the changelog.
    pub fn restore_counting(&self, store: &mut Store) -> Vec<Option<i64>> {
        let mut start_offsets = Vec::new();
        store
            .restore(PARTITION, |from, apply| {
                start_offsets.push(from);
                self.read(from, apply)
            })
            .unwrap();
        start_offsets
    }
}

/// Returns the changelog records of the open batch.
pub fn records(store: &mut Store) -> Vec<Vec<u8>> {
    store
        .changelog()
        .map(|(partition, record)| {
            assert_eq!(partition, PARTITION);
            record
        })
        .collect()
}

/// Commits the open batch: first to the changelog, then to the store.
pub fn commit(store: &mut Store, log: &mut Log) {
    let records = records(store);
    log.append(records);
    store.commit().unwrap();
}

/// Returns the beginning of an hour.
pub fn start_of(hour: Hour) -> OccurredAt {
    OccurredAt(i64::from(hour.0) * 3_600_000_000)
}

/// Returns an event of a person.
pub fn observation(kind: Kind, counted_at: OccurredAt) -> Observation {
    let counters: &[Counter] = match kind {
        Kind::Delivered => &[Counter::Delivered],
        Kind::Opened => &[Counter::Opened, Counter::Engaged],
        Kind::Clicked => &[Counter::Clicked, Counter::Engaged],
        Kind::Bounced => &[Counter::BouncedHard],
        _ => &[],
    };
    Observation {
        kind,
        machine: false,
        counted_at,
        sent_at: None,
        would_count: counters.iter().copied().collect::<CounterSet>(),
        digests: DimensionDigests::default(),
        may_be_duplicate: false,
    }
}

/// Records an event of a person and returns what it is the first of.
pub fn engage(partition: &mut Partition, id: &EventId, kind: Kind, hour: Hour) -> FirstSeen {
    let mut memory = partition.memory(id).unwrap();
    let effect = memory.observe(&observation(kind, start_of(hour)));
    partition.set_memory(id, memory);
    effect.first
}

/// Returns ids that are evenly distributed, like digests.
pub fn id(seed: u64) -> EventId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    id[8..].copy_from_slice(&seed.to_be_bytes());
    EventId(id)
}
