//! How what is older than the horizon leaves the disk.
//!
//! Nothing here decides what is remembered: look-ups compare hours with the clock. Here only space
//! is won back, whenever it is cheap.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use fjall::{AbstractTree, Keyspace};

use crate::{Engagement, Hour, StateError};

/// The first hour that is still remembered, of every keyspace of marks by its name. Shared with the
/// compaction threads.
#[derive(Debug, Default)]
pub(crate) struct Floors(Mutex<HashMap<String, Arc<AtomicU32>>>);

impl Floors {
    pub(crate) fn of(&self, keyspace: &str) -> Arc<AtomicU32> {
        let mut floors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(floors.entry(keyspace.to_owned()).or_default())
    }
}

/// Drops the files of ids whose every id is older than `floor`. Ids lie ordered by hour, so
/// that is nearly all of them, and none has to be read.
pub(crate) fn drop_ids(ids: &Keyspace, floor: Hour) -> Result<(), StateError> {
    // `tree` and `AbstractTree` are public and left out of fjall's pages; a keyspace per hour is
    // its documented way, and would be one directory for every wrong time a sender makes up.
    ids.tree.drop_range(..floor.0.to_be_bytes()).map_err(fjall::Error::from)?;
    Ok(())
}

/// Leaves old marks out when their files are merged. Marks are ordered by engagement id, so new
/// ones keep all files of a keyspace merging.
#[derive(Debug)]
pub(crate) struct OldMarks(pub(crate) Arc<AtomicU32>);

impl Factory for OldMarks {
    fn name(&self) -> &str {
        "old marks"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Before(Hour(self.0.load(Ordering::Relaxed))))
    }
}

struct Before(Hour);

impl CompactionFilter for Before {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let value = item.value()?;
        let is_old = Engagement::read(&value).is_none_or(|mark| mark.first < self.0);
        Ok(if is_old { Verdict::Remove } else { Verdict::Keep })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Files;
    use crate::overlay::IdKey;
    use event::EventId;

    const HOURS: std::ops::Range<u32> = 0..100;

    fn id(n: u32) -> EventId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.wrapping_mul(0x9E37_79B9).to_be_bytes());
        EventId(id)
    }

    #[test]
    fn merging_leaves_old_marks_out() {
        let directory = tempfile::tempdir().unwrap();
        let all = Files::open(directory.path()).unwrap();
        let files = all.partition(0).unwrap();
        for hour in HOURS {
            let mark = Engagement { first: Hour(hour), bits: 1, ..Engagement::UNKNOWN };
            files.marks.insert(*id(hour).as_bytes(), mark.to_bytes()).unwrap();
        }
        files.floor.store(60, Ordering::Relaxed);
        files.marks.rotate_memtable_and_wait().unwrap();
        files.marks.major_compact().unwrap();
        assert_eq!(files.marks.len().unwrap(), 40);
        assert!(!files.marks.contains_key(id(59).as_bytes()).unwrap());
        assert!(files.marks.contains_key(id(60).as_bytes()).unwrap());
    }

    #[test]
    fn files_of_old_ids_are_dropped_whole() {
        let directory = tempfile::tempdir().unwrap();
        let all = Files::open(directory.path()).unwrap();
        let files = all.partition(0).unwrap();
        for hour in HOURS {
            files.ids.insert(IdKey::new(Hour(hour), &id(hour)).0, []).unwrap();
            if hour % 10 == 9 {
                files.ids.rotate_memtable_and_wait().unwrap();
            }
        }
        drop_ids(&files.ids, Hour(65)).unwrap();
        // The file that has hours from both sides stays.
        assert_eq!(files.ids.len().unwrap(), 40);
        assert!(!files.ids.contains_key(IdKey::new(Hour(59), &id(59)).0).unwrap());
        assert!(files.ids.contains_key(IdKey::new(Hour(60), &id(60)).0).unwrap());
    }
}
