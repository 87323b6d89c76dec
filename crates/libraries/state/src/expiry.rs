//! Deletes ids and memories that are older than their horizons from the disk.
//!
//! This only frees disk space, at times when it costs little. Expired entries may stay on disk for a
//! while; look-ups ignore them, because they compare hours with the start of the horizon.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use fjall::{AbstractTree, Keyspace};

use crate::{Hour, MessageMemory, StateError};

/// The first hour within the horizon, for each keyspace of memories by name. Shared with the
/// compaction threads, which read it when they start a compaction.
#[derive(Debug, Default)]
pub(crate) struct HorizonStarts(Mutex<HashMap<String, Arc<AtomicU32>>>);

impl HorizonStarts {
    pub(crate) fn of(&self, keyspace: &str) -> Arc<AtomicU32> {
        let mut horizon_starts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(horizon_starts.entry(keyspace.to_owned()).or_default())
    }
}

/// Deletes the files that contain only ids older than `horizon_start`, without reading them. Ids
/// are ordered by hour, so these files hold nearly all expired ids.
pub(crate) fn drop_ids(ids: &Keyspace, horizon_start: Hour) -> Result<(), StateError> {
    // `tree` and `AbstractTree` are public but hidden in fjall's documentation. The documented way
    // is one keyspace per hour, which would create a directory for every wrong time in an event.
    ids.tree.drop_range(..horizon_start.0.to_be_bytes()).map_err(fjall::Error::from)?;
    Ok(())
}

/// Drops expired memories during compaction. Memories are ordered by id, so new ones spread over all
/// files of a keyspace, and every file takes part in compactions again and again.
#[derive(Debug)]
pub(crate) struct OldMemories(pub(crate) Arc<AtomicU32>);

impl Factory for OldMemories {
    fn name(&self) -> &str {
        "old memories"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Before(Hour(self.0.load(Ordering::Relaxed))))
    }
}

struct Before(Hour);

impl CompactionFilter for Before {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let value = item.value()?;
        let is_old = MessageMemory::since_from_bytes(&value).is_none_or(|since| since < self.0);
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
    fn compaction_drops_expired_memories() {
        let directory = tempfile::tempdir().unwrap();
        let all = Files::open(directory.path()).unwrap();
        let files = all.partition(0).unwrap();
        for hour in HOURS {
            let memory = MessageMemory { since: Hour(hour), ..MessageMemory::UNKNOWN };
            files.memories.insert(*id(hour).as_bytes(), memory.to_bytes().as_slice()).unwrap();
        }
        // An earlier release wrote these.
        for hour in [59, 60] {
            files.memories.insert(*id(1000 + hour).as_bytes(), [0, 0, 0, hour as u8, 1]).unwrap();
        }
        files.horizon_start.store(60, Ordering::Relaxed);
        files.memories.rotate_memtable_and_wait().unwrap();
        files.memories.major_compact().unwrap();
        assert_eq!(files.memories.len().unwrap(), 41);
        let has = |number| files.memories.contains_key(id(number).as_bytes()).unwrap();
        assert!(!has(59) && has(60));
        assert!(!has(1059) && has(1060));
    }

    #[test]
    fn files_with_only_expired_ids_are_deleted() {
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
        // The file with hours 60 to 69 stays, because part of it is within the horizon.
        assert_eq!(files.ids.len().unwrap(), 40);
        assert!(!files.ids.contains_key(IdKey::new(Hour(59), &id(59)).0).unwrap());
        assert!(files.ids.contains_key(IdKey::new(Hour(60), &id(60)).0).unwrap());
    }
}
