//! All entries in memory, with two writers.
//!
//! The stage knows what it has committed in its partitions; the follower learns of it later. So while the stage owns a
//! partition, the follower leaves the records of events there to it. What operators write comes through the follower
//! always.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use alerting::IncidentId;
use suppression::entry::{EntryFacts, EntryValue};
use suppression::table::{Form, Found, Table};
use suppression::{Author, EntryKey, Mark, Policy, State};

use crate::agenda::{Agenda, DueEntry};
use crate::waiting::Waiting;

/// How much memory the records of provisional entries may take in all partitions together, in bytes. It is enough for
/// more than 100,000; further entries are final at once.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// What a record of `mail.suppressions` says, as far as it is kept.
#[derive(Debug, Clone)]
pub struct Written {
    pub facts: EntryFacts,
    /// Of a provisional entry: the incident that it waits for, and the value of the record.
    waits: Option<(IncidentId, Box<str>)>,
}

impl Written {
    /// Reads the value of a record.
    pub fn read(value: &[u8]) -> Option<Self> {
        let mut facts: EntryFacts = serde_json::from_slice(value).ok()?;
        let waits = facts.provisional.then(|| waits_for(value, &facts)).flatten();
        if facts.provisional && waits.is_none() {
            tracing::warn!(
                since = facts.since,
                "a provisional record of mail.suppressions has no incident or cannot be read in full; it counts as final"
            );
            facts.provisional = false;
        }
        Some(Self { facts, waits })
    }
}

/// Returns the incident that a provisional entry waits for, and the value of its record. `None` if nothing would end the
/// wait: there is no incident, or the record cannot be read when it has to be written again.
fn waits_for(value: &[u8], facts: &EntryFacts) -> Option<(IncidentId, Box<str>)> {
    let incident = IncidentId::try_from(facts.incident?.to_string()).ok()?;
    serde_json::from_slice::<EntryValue>(value).ok()?;
    Some((incident, Box::from(std::str::from_utf8(value).ok()?)))
}

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
    agenda: Agenda,
    /// Entries of events that are provisional.
    waiting: Waiting,
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
        written: Option<Written>,
    ) {
        let mut partitions = self.lock();
        let Some(partition) = at(&mut partitions, partition) else { return };
        if !(partition.is_owned && key.author == Author::Event) {
            self.put(partition, key, written);
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
    pub fn commit(&self, partition: i32, key: &EntryKey<'_>, written: Option<Written>) {
        if let Some(partition) = at(&mut self.lock(), partition) {
            self.put(partition, key, written);
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

    /// Returns the first `most` entries of a partition to which something happens until `now`, the earliest first.
    pub fn due(&self, partition: i32, now: i64, most: usize) -> Vec<DueEntry> {
        let mut partitions = self.lock();
        let Some(partition) = at(&mut partitions, partition) else { return Vec::new() };
        partition.agenda.due(now, most, |entry| self.is_current(entry))
    }

    /// Returns whether what the agenda says of an entry is still so.
    fn is_current(&self, (at, recipient, number): &DueEntry) -> bool {
        self.table.of(*recipient).iter().any(|row| {
            let due = self.policy.due(row.form.reason, mark_of(row));
            row.number == *number && due.is_some_and(|(due, _)| in_seconds(due) == *at)
        })
    }

    /// Removes what [`Self::due`] has returned and was committed.
    pub fn remove_due(&self, partition: i32, entries: &BTreeSet<DueEntry>) {
        if let Some(partition) = at(&mut self.lock(), partition) {
            partition.agenda.remove(entries);
        }
    }

    /// Returns whether a further entry of a partition may be provisional: its record has to be kept meanwhile.
    pub fn may_wait(&self, partition: i32) -> bool {
        let mut partitions = self.lock();
        let share = MAX_WAITING_BYTES / partitions.len().max(1);
        at(&mut partitions, partition).is_some_and(|it| it.waiting.bytes() < share)
    }

    /// Returns records of provisional entries whose incident is not `is_open` any more, at most `most` of them, with
    /// their partitions, which the stage owns.
    pub fn settled(
        &self,
        is_open: impl Fn(IncidentId) -> bool,
        most: usize,
    ) -> Vec<(i32, EntryKey<'static>, Box<str>)> {
        let partitions = self.lock();
        let owned = (0..).zip(&*partitions).filter(|(_, it)| it.is_owned);
        let over = owned.flat_map(|(number, partition)| {
            let over = partition.waiting.over(&is_open, most);
            over.map(move |(key, value)| (number, key.clone(), Box::from(value)))
        });
        over.take(most).collect()
    }

    /// Returns the number of provisional entries.
    pub fn waiting(&self) -> usize {
        self.lock().iter().map(|partition| partition.waiting.len()).sum()
    }

    /// Returns the form with a number of [`DueEntry`].
    pub fn form(&self, number: u32) -> Option<Form> {
        self.table.form(number)
    }

    fn put(&self, partition: &mut Partition, key: &EntryKey<'_>, written: Option<Written>) {
        let facts = written.as_ref().map(|written| written.facts);
        // Most entries do not end by themselves. A record that is read again must not add anything to the agenda.
        let ends = key.author == Author::Event
            && facts
                .is_some_and(|facts| self.policy.due(key.reason, mark_of_facts(&facts)).is_some());
        let row = || self.table.get(key).filter(|_| ends);
        let before = row();
        let has_changed = self.table.apply(key, facts);
        if key.author != Author::Event {
            return;
        }
        // An older record than the known one says nothing.
        if has_changed || facts.is_none() {
            partition.waiting.set(key, written.and_then(|written| written.waits));
        }
        let changed = row().filter(|row| before.as_ref() != Some(row));
        if let Some((row, (at, _))) = changed.and_then(|row| {
            let due = self.policy.due(key.reason, mark_of(&row))?;
            Some((row, due))
        }) {
            partition.agenda.add((in_seconds(at), key.recipient, row.number));
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

/// Returns a time as the agenda has it.
fn in_seconds(at: i64) -> u32 {
    u32::try_from(at.max(0)).unwrap_or(u32::MAX)
}

fn mark_of_facts(facts: &EntryFacts) -> Mark {
    Mark { at: facts.since.div_euclid(1_000_000), is_lifted: facts.state == State::Lifted }
}

/// Returns the state that a row says.
pub fn mark_of(found: &Found) -> Mark {
    Mark { at: found.since, is_lifted: found.form.state == State::Lifted }
}

#[cfg(test)]
mod tests {
    use suppression::{Reason, RecipientDigest};

    use super::*;

    fn mark(store: &Store, author: Author) -> Option<Mark> {
        store.table.get(&key(author)).map(|found| mark_of(&found))
    }

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

    fn facts(since: i64) -> Option<Written> {
        Written::read(format!(r#"{{"state":"suppressed","since":{since}000000}}"#).as_bytes())
    }

    fn provisional(since: i64, incident: char) -> Option<Written> {
        let incident = incident.to_string().repeat(32);
        let mut value = EntryValue::new(&key(Author::Event), State::Suppressed, since * 1_000_000);
        value.provisional = true;
        value.evidence.incident = Some(incident);
        Written::read(&serde_json::to_vec(&value).unwrap())
    }

    #[test]
    fn the_follower_leaves_the_records_of_events_to_the_stage_that_owns_the_partition() {
        let store = store();
        store.follow(1, 0, &key(Author::Event), facts(5));
        assert_eq!(store.own(1), 1);
        store.commit(1, &key(Author::Event), facts(9));
        store.follow(1, 1, &key(Author::Event), None);
        assert_eq!(mark(&store, Author::Event).unwrap().at, 9, "what is committed stays");
        store.follow(1, 2, &key(Author::Operator), facts(7));
        assert_eq!(mark(&store, Author::Operator).unwrap().at, 7);
        store.release(1);
        store.follow(1, 3, &key(Author::Event), None);
        assert_eq!(mark(&store, Author::Event), None);
    }

    #[test]
    fn what_the_follower_has_left_out_is_read_again_when_the_partition_was_lost() {
        let store = store();
        store.follow(1, 0, &key(Author::Operator), facts(1));
        assert_eq!(store.own(1), 1);
        // Another owner writes this, while this stage is stopped.
        store.follow(1, 1, &key(Author::Event), facts(9));
        assert_eq!(mark(&store, Author::Event), None);
        store.release(1);
        store.follow(1, 2, &key(Author::Operator), facts(2));
        assert_eq!(store.own(1), 1, "the stage reads it if it owns the partition again");
        store.release(1);
        assert_eq!(store.rewind(&[7, 3]), Some(vec![7, 1]));
        store.follow(1, 1, &key(Author::Event), facts(9));
        assert_eq!(mark(&store, Author::Event).unwrap().at, 9);
        assert_eq!(store.own(1), 2);
        assert_eq!(store.rewind(&[7, 2]), None, "only once");
    }

    #[test]
    fn what_is_due_is_found_by_partition_and_time() {
        let store = store();
        store.follow(0, 0, &key(Author::Event), facts(5));
        store.follow(0, 1, &key(Author::Operator), facts(5));
        assert_eq!(store.due(0, 1_004, 9), []);
        assert_eq!(store.due(1, 2_000, 9), []);
        let due: BTreeSet<_> = store.due(0, 1_005, 9).into_iter().collect();
        assert_eq!(due.len(), 1);
        store.remove_due(0, &due);
        assert_eq!(store.due(0, 2_000, 9), []);
        store.follow(0, 0, &key(Author::Event), facts(5));
        assert_eq!(store.due(0, 2_000, 9), [], "the same record is read again");
        store.follow(0, 2, &key(Author::Event), facts(6));
        assert_eq!(store.due(0, 2_000, 9).len(), 1, "it has changed");
        store.follow(0, 3, &key(Author::Event), facts(7));
        let due = store.due(0, 2_000, 9);
        assert_eq!(due.len(), 1, "what it was before does not count");
        assert_eq!(due[0].0, 1_007);
    }

    #[test]
    fn an_entry_that_waits_for_no_known_incident_is_final() {
        let value = br#"{"state":"suppressed","since":1000000,"provisional":true}"#;
        assert!(!Written::read(value).unwrap().facts.provisional);
        assert!(provisional(1, 'a').unwrap().facts.provisional);
        assert!(Written::read(b"[]").is_none());
    }

    #[test]
    fn a_provisional_record_that_cannot_be_written_again_is_final() {
        let value = serde_json::json!({
            "list": 7, "state": "suppressed", "since": 1_000_000, "provisional": true, "incident": "a".repeat(32),
        });
        let written = Written::read(value.to_string().as_bytes()).unwrap();
        assert!(!written.facts.provisional && written.facts.incident.is_some());
        let store = store();
        store.own(0);
        store.commit(0, &key(Author::Event), Some(written));
        assert_eq!((store.settled(|_| false, 9), store.waiting()), (Vec::new(), 0));
    }

    #[test]
    fn what_waits_is_settled_by_the_owner_of_the_partition() {
        let store = store();
        let is_open = |open: char| move |id: IncidentId| id.to_string().starts_with(open);
        store.follow(1, 0, &key(Author::Event), provisional(5, 'a'));
        assert_eq!(store.settled(is_open('b'), 9), [], "another instance owns it");
        store.own(1);
        assert_eq!(store.settled(is_open('a'), 9), []);
        let settled = store.settled(is_open('b'), 9);
        assert_eq!((settled.len(), settled[0].0), (1, 1));
        assert!(store.table.get(&settled[0].1).unwrap().form.provisional);
        store.commit(1, &key(Author::Event), facts(5));
        assert_eq!((store.settled(is_open('b'), 9), store.waiting()), (Vec::new(), 0));
        assert!(!store.table.get(&key(Author::Event)).unwrap().form.provisional);
        store.commit(1, &key(Author::Event), provisional(4, 'a'));
        assert_eq!(store.waiting(), 0, "an older record");
    }

    #[test]
    fn the_memory_of_provisional_entries_is_bounded() {
        let store = store();
        let mut number = 0_u64;
        while store.may_wait(0) {
            let mut digest = [0; 16];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            let key = EntryKey { recipient: RecipientDigest(digest), ..key(Author::Event) };
            store.commit(0, &key, provisional(5, 'a'));
            number += 1;
        }
        assert!(number > 100_000, "{number}: the values of this test are short");
        assert!(store.may_wait(1));
    }
}
