//! A changelog partition without Kafka: offsets, transaction markers, retention.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use event::{EventId, Kind};
use record::FirstSight;
use state::{Hour, Partition, StateError, Store};

pub const PARTITION: i32 = 3;

#[derive(Debug, Default, Clone)]
pub struct Log {
    /// Offset and value of what is there and committed.
    pub records: Vec<(i64, Vec<u8>)>,
    /// First offset, and the one after the last marker.
    pub start: i64,
    pub end: i64,
}

impl Log {
    /// A transaction that commits.
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

    /// A transaction that is aborted: its records and marker take up offsets.
    pub fn abort(&mut self, records: &[Vec<u8>]) {
        if !records.is_empty() {
            self.end += records.len() as i64 + 1;
        }
    }

    /// Retention removes all before `start`.
    pub fn trim(&mut self, start: i64) {
        self.start = start;
        self.records.retain(|(offset, _)| *offset >= start);
    }

    /// As `Restore::changelog` reads: an offset out of range means the beginning. Counts reads.
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
        store.take_over(PARTITION, |from, apply| self.read(from, apply)).unwrap();
    }

    /// Restores and returns the offsets of the records that were read.
    pub fn restore_counting(&self, store: &mut Store) -> Vec<Option<i64>> {
        let mut asked = Vec::new();
        store
            .take_over(PARTITION, |from, apply| {
                asked.push(from);
                self.read(from, apply)
            })
            .unwrap();
        asked
    }
}

/// The open round's changelog records.
pub fn records(store: &mut Store) -> Vec<Vec<u8>> {
    store
        .changelog()
        .map(|(partition, record)| {
            assert_eq!(partition, PARTITION);
            record
        })
        .collect()
}

/// Ends the round as Kafka and then the store would.
pub fn commit(store: &mut Store, log: &mut Log) {
    let records = records(store);
    log.append(records);
    store.commit().unwrap();
}

/// A person opens or clicks.
pub fn engage(partition: &mut Partition, id: &EventId, kind: Kind, hour: Hour) -> FirstSight {
    let mut engagement = partition.engagement(id).unwrap();
    let first = engagement.engaged(kind, false, hour);
    partition.remember(id, engagement);
    first
}

/// Well spread, as digests are.
pub fn id(seed: u64) -> EventId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    id[8..].copy_from_slice(&seed.to_be_bytes());
    EventId(id)
}
