//! All entries in memory, with two writers.
//!
//! The stage knows what it has committed in its partitions; the follower learns of it later. So while the stage owns a
//! partition, the follower leaves the records of events there to it. What operators write comes through the follower
//! always.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use suppression::entry::EntryFacts;
use suppression::table::{Form, Found, Table};
use suppression::{Author, EntryKey, Mark, Policy, RecipientDigest, State};

/// An entry to which something happens by itself, and when, in seconds.
pub type DueEntry = (i64, RecipientDigest, u32);

/// All entries.
#[derive(Debug)]
pub struct Store {
    pub table: Table,
    policy: Policy,
    partitions: Mutex<Vec<Partition>>,
}

#[derive(Debug, Clone, Default)]
struct Partition {
    /// Whether the stage of this instance owns it.
    is_owned: bool,
    /// The offset after the last record that the table contains, as far as the follower knows.
    next: i64,
    /// Its value when the stage became the owner. Since then, the follower may have left out records of another owner:
    /// a stage that is stopped for a while learns late that it has lost the partition.
    owned_from: i64,
    /// Whether the follower has to read again from `next`.
    is_rewound: bool,
    /// Entries of events that end or are forgotten by themselves. Some have changed since.
    due: BTreeSet<DueEntry>,
}

impl Store {
    /// Creates a store for a topic with this number of partitions.
    pub fn new(policy: Policy, partitions: usize) -> Self {
        let partitions = Mutex::new(vec![Partition::default(); partitions]);
        Self { table: Table::default(), policy, partitions }
    }

    /// Applies a record that the follower has read.
    pub fn follow(
        &self,
        partition: i32,
        offset: i64,
        key: &EntryKey<'_>,
        facts: Option<EntryFacts>,
    ) {
        let mut partitions = self.lock();
        let Some(partition) = at(&mut partitions, partition) else { return };
        if !(partition.is_owned && key.author == Author::Event) {
            self.put(partition, key, facts);
        }
        partition.advance(offset);
    }

    /// Notes a record that cannot be read, so that it is not read again.
    pub fn skip(&self, partition: i32, offset: i64) {
        if let Some(partition) = at(&mut self.lock(), partition) {
            partition.advance(offset);
        }
    }

    /// Returns the offsets at which the follower, which is at `offsets`, has to read again, once. `None`: it goes on.
    pub fn rewind(&self, offsets: &[i64]) -> Option<Vec<i64>> {
        let mut rewound = None;
        for (number, partition) in self.lock().iter_mut().enumerate() {
            let Some(&offset) = offsets.get(number) else { break };
            if std::mem::take(&mut partition.is_rewound) && partition.next < offset {
                let offsets: &mut Vec<i64> = rewound.get_or_insert_with(|| offsets.to_vec());
                offsets[number] = partition.next;
            }
        }
        rewound
    }

    /// Applies a record that the stage has committed or restored.
    pub fn commit(&self, partition: i32, key: &EntryKey<'_>, facts: Option<EntryFacts>) {
        if let Some(partition) = at(&mut self.lock(), partition) {
            self.put(partition, key, facts);
        }
    }

    /// Gives a partition to the stage. Returns the offset from which it has to read what the table lacks.
    pub fn own(&self, partition: i32) -> i64 {
        let mut partitions = self.lock();
        let Some(partition) = at(&mut partitions, partition) else { return 0 };
        partition.is_owned = true;
        partition.owned_from = partition.next;
        partition.next
    }

    /// Takes a partition back from the stage. The follower reads again what it has left out.
    pub fn release(&self, partition: i32) {
        let mut partitions = self.lock();
        let Some(partition) = at(&mut partitions, partition).filter(|it| it.is_owned) else {
            return;
        };
        partition.is_owned = false;
        partition.is_rewound = true;
        partition.next = partition.owned_from;
    }

    /// Returns the state of an entry of an event.
    pub fn mark(&self, key: &EntryKey<'_>) -> Option<Mark> {
        self.table.get(key).map(|found| mark_of(&found))
    }

    /// Returns the entries of a partition to which something happens until `now`, the earliest first.
    pub fn due(&self, partition: i32, now: i64) -> Vec<DueEntry> {
        let mut partitions = self.lock();
        let Some(partition) = at(&mut partitions, partition) else { return Vec::new() };
        partition.due.iter().take_while(|(at, ..)| *at <= now).copied().collect()
    }

    /// Removes what [`Self::due`] has returned and was committed.
    pub fn remove_due(&self, partition: i32, entries: &[DueEntry]) {
        if let Some(partition) = at(&mut self.lock(), partition) {
            for entry in entries {
                partition.due.remove(entry);
            }
        }
    }

    /// Returns the form with a number of [`DueEntry`].
    pub fn form(&self, number: u32) -> Option<Form> {
        self.table.form(number)
    }

    fn put(&self, partition: &mut Partition, key: &EntryKey<'_>, facts: Option<EntryFacts>) {
        self.table.apply(key, facts);
        let is_watched = key.author == Author::Event && facts.is_some();
        let found = is_watched.then(|| self.table.get(key)).flatten();
        if let Some((found, (at, _))) = found.and_then(|found| {
            let due = self.policy.due(key.reason, mark_of(&found))?;
            Some((found, due))
        }) {
            partition.due.insert((at, key.recipient, found.number));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Partition>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Partition {
    /// Notes that the follower has read a record.
    const fn advance(&mut self, offset: i64) {
        // Until it reads again, the records after `next` do not count.
        if !self.is_rewound {
            self.next = offset + 1;
        }
    }
}

fn at(partitions: &mut [Partition], number: i32) -> Option<&mut Partition> {
    partitions.get_mut(usize::try_from(number).ok()?)
}

/// Returns the state that a row says.
pub fn mark_of(found: &Found) -> Mark {
    Mark { at: found.since, is_lifted: found.form.state == State::Lifted }
}

#[cfg(test)]
mod tests {
    use suppression::Reason;

    use super::*;

    fn store() -> Store {
        let policy = Policy { soft_bounces: 5, soft_within: 100, soft_for: 1_000 };
        Store::new(policy, 2)
    }

    fn key(author: Author) -> EntryKey<'static> {
        EntryKey {
            list: "a".into(),
            recipient: RecipientDigest([3; 16]),
            reason: Reason::SoftBounces,
            scope: "".into(),
            author,
        }
    }

    fn facts(since: i64) -> Option<EntryFacts> {
        let (purpose, expires_at, provisional) = (None, None, false);
        let since = since * 1_000_000;
        Some(EntryFacts { state: State::Suppressed, purpose, since, expires_at, provisional })
    }

    #[test]
    fn the_follower_leaves_the_records_of_events_to_the_stage_that_owns_the_partition() {
        let store = store();
        store.follow(1, 0, &key(Author::Event), facts(5));
        assert_eq!(store.own(1), 1);
        store.commit(1, &key(Author::Event), facts(9));
        store.follow(1, 1, &key(Author::Event), None);
        assert_eq!(store.mark(&key(Author::Event)).unwrap().at, 9, "what is committed stays");
        store.follow(1, 2, &key(Author::Operator), facts(7));
        assert_eq!(store.mark(&key(Author::Operator)).unwrap().at, 7);
        store.release(1);
        store.follow(1, 3, &key(Author::Event), None);
        assert_eq!(store.mark(&key(Author::Event)), None);
    }

    #[test]
    fn what_the_follower_has_left_out_is_read_again_when_the_partition_was_lost() {
        let store = store();
        store.follow(1, 0, &key(Author::Operator), facts(1));
        assert_eq!(store.own(1), 1);
        // Another owner writes this, while this stage is stopped.
        store.follow(1, 1, &key(Author::Event), facts(9));
        assert_eq!(store.mark(&key(Author::Event)), None);
        store.release(1);
        store.follow(1, 2, &key(Author::Operator), facts(2));
        assert_eq!(store.own(1), 1, "the stage reads it if it owns the partition again");
        store.release(1);
        assert_eq!(store.rewind(&[7, 3]), Some(vec![7, 1]));
        store.follow(1, 1, &key(Author::Event), facts(9));
        assert_eq!(store.mark(&key(Author::Event)).unwrap().at, 9);
        assert_eq!(store.own(1), 2);
        assert_eq!(store.rewind(&[7, 2]), None, "only once");
    }

    #[test]
    fn what_is_due_is_found_by_partition_and_time() {
        let store = store();
        store.follow(0, 0, &key(Author::Event), facts(5));
        store.follow(0, 1, &key(Author::Operator), facts(5));
        assert_eq!(store.due(0, 1_004), []);
        assert_eq!(store.due(1, 2_000), []);
        let due = store.due(0, 1_005);
        assert_eq!(due.len(), 1);
        store.remove_due(0, &due);
        assert_eq!(store.due(0, 2_000), []);
    }
}
