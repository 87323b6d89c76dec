//! All entries in memory: 22 bytes for each.
//!
//! Ten million entries must fit into 300 MB with everything else, so a row has the digest without its first two bytes,
//! which its prefix stands for, a number in place of everything that few entries differ in, and the time in seconds.
//! The rows of a prefix are sorted. The rows of neighbouring prefixes share one allocation, so that allocations are large: the
//! allocator puts many small ones of one size on the same pages, and keeps these until the last one is free.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use event::EventId;

use crate::RecipientDigest;
use crate::entry::{Author, EntryFacts, EntryKey, Purpose, Reason, State};

/// The number of locks: one for each value of the first byte of a digest.
const SHARDS: usize = 256;
/// The number of buckets of a shard. With ten million rows, a bucket has 13 kB. jemalloc keeps allocations of this size in
/// pairs; it keeps dozens of smaller ones together, and adds a page to larger ones.
const BUCKETS: usize = 64;
/// How many values of the second byte of a digest share a bucket.
const PREFIXES: usize = 256 / BUCKETS;
/// The size of a row.
const ROW_BYTES: usize = size_of::<Row>();
/// The greatest number of forms with an incident: about one or two for each list and incident. They take less than 10 MB.
/// Entries of further incidents are kept without its id.
const MAX_INCIDENT_FORMS: usize = 50_000;

/// What many entries have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Form {
    pub list: Arc<str>,
    pub scope: Arc<str>,
    pub reason: Reason,
    pub author: Author,
    pub state: State,
    /// The mail that the entry stops. `None`: all.
    pub purpose: Option<Purpose>,
    /// After how many hours the entry ends by itself, rounded up; 0 for never.
    pub hours: u32,
    pub provisional: bool,
    /// The id of the incident during which the entry began.
    pub incident: Option<EventId>,
}

/// A row that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub form: Form,
    /// The number of the form; see [`Table::form`].
    pub number: u32,
    /// Seconds since 1970.
    pub since: i64,
}

/// A row. All fields are bytes, so that it needs no padding.
#[derive(Clone, Copy)]
struct Row {
    rest: [u8; 14],
    form: [u8; 4],
    since: [u8; 4],
}

impl Row {
    fn form(&self) -> usize {
        u32::from_le_bytes(self.form) as usize
    }

    fn since(&self) -> i64 {
        i64::from(u32::from_le_bytes(self.since))
    }
}

/// The rows of neighbouring prefixes.
#[derive(Clone, Default)]
struct Bucket {
    rows: Vec<Row>,
    /// Where the rows of each prefix end.
    ends: [u32; PREFIXES],
}

impl Bucket {
    /// Returns the positions of the rows of a prefix.
    fn of(&self, prefix: usize) -> Range<usize> {
        let start = if prefix == 0 { 0 } else { self.ends[prefix - 1] };
        start as usize..self.ends[prefix] as usize
    }

    /// Returns the positions of the rows with this digest.
    fn run(&self, prefix: usize, rest: &[u8; 14]) -> Range<usize> {
        let rows = self.of(prefix);
        let found = run(&self.rows[rows.clone()], rest);
        rows.start + found.start..rows.start + found.end
    }

    fn insert(&mut self, position: usize, prefix: usize, row: Row) {
        if self.rows.len() == self.rows.capacity() {
            self.rows.reserve_exact(larger_capacity(self.rows.len()) - self.rows.len());
        }
        self.rows.insert(position, row);
        self.ends[prefix..].iter_mut().for_each(|end| *end += 1);
    }

    fn remove(&mut self, position: usize, prefix: usize) {
        self.rows.remove(position);
        self.ends[prefix..].iter_mut().for_each(|end| *end -= 1);
    }
}

/// The forms by their number.
#[derive(Debug, Default)]
struct Forms {
    all: Vec<Form>,
    numbers: HashMap<Form, u32>,
    /// How many of them have an incident.
    with_incident: usize,
    /// The scopes of each list, so that forms share these texts.
    lists: HashMap<Arc<str>, HashSet<Arc<str>>>,
}

impl Forms {
    /// Returns the texts that all forms of this list and scope share.
    fn shared(&mut self, list: Arc<str>, scope: Arc<str>) -> (Arc<str>, Arc<str>) {
        let known = self.lists.get_key_value(&list).map(|(list, _)| list.clone());
        let list = known.unwrap_or(list);
        let scopes = self.lists.entry(list.clone()).or_default();
        let scope = scopes.get(&scope).cloned().unwrap_or(scope);
        scopes.insert(scope.clone());
        (list, scope)
    }
}

/// All entries. Lookups and changes may come from several threads.
pub struct Table {
    shards: Vec<RwLock<Vec<Bucket>>>,
    forms: RwLock<Forms>,
}

impl Default for Table {
    fn default() -> Self {
        let shard = || RwLock::new(vec![Bucket::default(); BUCKETS]);
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), forms: RwLock::default() }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("rows", &self.len()).finish_non_exhaustive()
    }
}

impl Table {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| read(shard).iter().map(|bucket| bucket.rows.len()).sum::<usize>())
            .sum()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Applies a record: it takes the place of the earlier record with the same key, unless that is newer. `None`
    /// removes the record. Returns whether the table has changed.
    pub fn apply(&self, key: &EntryKey<'_>, facts: Option<EntryFacts>) -> bool {
        match facts {
            None => self.remove(key),
            Some(facts) => self.put(key, facts),
        }
    }

    /// Returns all rows of a recipient.
    pub fn of(&self, recipient: RecipientDigest) -> Vec<Found> {
        let (place, rest) = Place::of(recipient);
        let shard = read(&self.shards[place.shard]);
        let bucket = &shard[place.bucket];
        self.found(&bucket.rows[bucket.run(place.prefix, &rest)])
    }

    /// Returns all rows of each of these recipients, in the same order. Recipients without rows are left out; the number
    /// says which recipient it is.
    ///
    /// This is faster than [`Self::of`] for each: a lock makes the processor wait for all reads before it, so that the
    /// reads of different recipients, which miss its caches, could not overlap. Here, the lock of each shard is taken once.
    pub fn of_each(&self, recipients: &[RecipientDigest]) -> Vec<(usize, Vec<Found>)> {
        let mut order: Vec<usize> = (0..recipients.len()).collect();
        order.sort_unstable_by_key(|&number| Place::of(recipients[number]).0.shard);
        let mut found = Vec::new();
        let shard_of = |number: usize| Place::of(recipients[number]).0.shard;
        for numbers in order.chunk_by(|&one, &other| shard_of(one) == shard_of(other)) {
            let Some(&first) = numbers.first() else { continue };
            let shard = read(&self.shards[shard_of(first)]);
            for &number in numbers {
                let (place, rest) = Place::of(recipients[number]);
                let bucket = &shard[place.bucket];
                let run = bucket.run(place.prefix, &rest);
                if !run.is_empty() {
                    found.push((number, self.found(&bucket.rows[run])));
                }
            }
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        found
    }

    fn found(&self, rows: &[Row]) -> Vec<Found> {
        if rows.is_empty() {
            return Vec::new(); // most recipients
        }
        let forms = read(&self.forms);
        let found = |row: &Row| {
            let form = forms.all.get(row.form())?.clone();
            Some(Found { form, number: u32::from_le_bytes(row.form), since: row.since() })
        };
        rows.iter().filter_map(found).collect()
    }

    /// Returns the row of a record.
    pub fn get(&self, key: &EntryKey<'_>) -> Option<Found> {
        self.of(key.recipient).into_iter().find(|found| is_of(&found.form, key))
    }

    /// Returns the form with this number.
    pub fn form(&self, number: u32) -> Option<Form> {
        read(&self.forms).all.get(number as usize).cloned()
    }

    /// Returns whether any entry is on this list.
    pub fn has_list(&self, list: &str) -> bool {
        read(&self.forms).lists.contains_key(list)
    }

    /// Returns whether any entry of this list has had this scope.
    pub fn has_scope(&self, list: &str, scope: &str) -> bool {
        read(&self.forms).lists.get(list).is_some_and(|scopes| scopes.contains(scope))
    }

    /// Returns how many scopes entries of this list have had. The empty scope is none.
    pub fn scopes(&self, list: &str) -> usize {
        let forms = read(&self.forms);
        forms.lists.get(list).map_or(0, |scopes| scopes.len() - usize::from(scopes.contains("")))
    }

    /// Calls `visit` for every row.
    pub fn for_each(&self, mut visit: impl FnMut(RecipientDigest, &Form, i64)) {
        for (first, shard) in (0..=u8::MAX).zip(&self.shards) {
            let (shard, forms) = (read(shard), read(&self.forms));
            let prefixes = shard.iter().flat_map(|bucket| {
                (0..PREFIXES).map(move |prefix| &bucket.rows[bucket.of(prefix)])
            });
            for (second, rows) in (0..=u8::MAX).zip(prefixes) {
                for row in rows {
                    let Some(form) = forms.all.get(row.form()) else { continue };
                    let mut digest = [0; 16];
                    digest[..2].copy_from_slice(&[first, second]);
                    digest[2..].copy_from_slice(&row.rest);
                    visit(RecipientDigest(digest), form, row.since());
                }
            }
        }
    }

    fn put(&self, key: &EntryKey<'_>, facts: EntryFacts) -> bool {
        let since = facts.since.div_euclid(1_000_000);
        let since = u32::try_from(since.max(0)).unwrap_or(u32::MAX);
        let number = self.number(key, &facts, i64::from(since));
        let (place, rest) = Place::of(key.recipient);
        let row = Row { rest, form: number.to_le_bytes(), since: since.to_le_bytes() };
        let mut shard = write(&self.shards[place.shard]);
        let bucket = &mut shard[place.bucket];
        let run = bucket.run(place.prefix, &rest);
        match self.position(&bucket.rows, run.clone(), key) {
            Some(position) if bucket.rows[position].since() > row.since() => false,
            Some(position) => {
                bucket.rows[position] = row;
                true
            }
            None => {
                bucket.insert(run.end, place.prefix, row);
                true
            }
        }
    }

    fn remove(&self, key: &EntryKey<'_>) -> bool {
        let (place, rest) = Place::of(key.recipient);
        let mut shard = write(&self.shards[place.shard]);
        let bucket = &mut shard[place.bucket];
        let run = bucket.run(place.prefix, &rest);
        let position = self.position(&bucket.rows, run, key);
        position.map(|position| bucket.remove(position, place.prefix)).is_some()
    }

    fn position(&self, rows: &[Row], mut run: Range<usize>, key: &EntryKey<'_>) -> Option<usize> {
        let forms = read(&self.forms);
        run.find(|&index| forms.all.get(rows[index].form()).is_some_and(|it| is_of(it, key)))
    }

    /// Returns the number of the form, which may be new.
    fn number(&self, key: &EntryKey<'_>, facts: &EntryFacts, since: i64) -> u32 {
        let hours = facts.expires_at.map_or(0, |at| {
            let seconds = at.div_euclid(1_000_000).saturating_sub(since).max(1);
            u32::try_from((seconds + 3599) / 3600).unwrap_or(u32::MAX)
        });
        let form = |list, scope, incident| Form {
            list,
            scope,
            reason: key.reason,
            author: key.author,
            state: facts.state,
            purpose: facts.purpose,
            hours,
            provisional: facts.provisional,
            incident,
        };
        let mut wanted = form(Arc::from(&*key.list), Arc::from(&*key.scope), facts.incident);
        if let Some(number) = read(&self.forms).numbers.get(&wanted) {
            return *number;
        }
        let mut forms = write(&self.forms);
        let is_known = forms.numbers.contains_key(&wanted);
        if !is_known && forms.with_incident >= MAX_INCIDENT_FORMS {
            wanted.incident = None;
        }
        if let Some(number) = forms.numbers.get(&wanted) {
            return *number;
        }
        let number = forms.all.len() as u32;
        let (list, scope) = forms.shared(wanted.list, wanted.scope);
        let wanted = form(list, scope, wanted.incident);
        forms.with_incident += usize::from(wanted.incident.is_some());
        forms.all.push(wanted.clone());
        forms.numbers.insert(wanted, number);
        number
    }
}

fn is_of(form: &Form, key: &EntryKey<'_>) -> bool {
    (form.reason, form.author) == (key.reason, key.author)
        && *form.list == *key.list
        && *form.scope == *key.scope
}

/// Where the rows of a digest are.
struct Place {
    shard: usize,
    bucket: usize,
    /// Within the bucket.
    prefix: usize,
}

impl Place {
    fn of(RecipientDigest(digest): RecipientDigest) -> (Self, [u8; 14]) {
        let [first, second, rest @ ..] = digest;
        let (bucket, prefix) = (usize::from(second) / PREFIXES, usize::from(second) % PREFIXES);
        (Self { shard: first.into(), bucket, prefix }, rest)
    }
}

/// Returns the positions of the rows with this digest among those of its prefix.
fn run(rows: &[Row], rest: &[u8; 14]) -> Range<usize> {
    let near = near(rows, rest);
    let low = near.start;
    let start = low + rows[near].partition_point(|row| row.rest < *rest);
    let found = rows.get(start..).unwrap_or_default();
    start..start + found.iter().take_while(|row| row.rest == *rest).count()
}

/// Returns a range in which a digest is, or belongs. Digests are as good as random, so the first bytes tell about where.
/// A binary search of all rows would read twice as much memory.
fn near(rows: &[Row], rest: &[u8; 14]) -> Range<usize> {
    /// How many rows away the second look is.
    const STEP: usize = 8;
    if rows.is_empty() {
        return 0..0;
    }
    let [a, b, c, d, ..] = *rest;
    let share = u64::from(u32::from_be_bytes([a, b, c, d]));
    let guess = ((share * rows.len() as u64) >> 32) as usize;
    let is_before = |index: usize| rows[index].rest < *rest;
    let mut step = STEP;
    if is_before(guess) {
        let mut low = guess + 1;
        while low + step < rows.len() {
            if !is_before(low + step) {
                return low..low + step;
            }
            low += step + 1;
            step *= 2;
        }
        return low..rows.len();
    }
    let mut high = guess;
    while high >= step {
        if is_before(high - step) {
            return high - step + 1..high;
        }
        high -= step;
        step *= 2;
    }
    0..high
}

/// Returns how many rows fill the allocator's next size: it has four sizes for each doubling.
fn larger_capacity(rows: usize) -> usize {
    let bytes = (rows + 1) * ROW_BYTES;
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.div_ceil(step) * step / ROW_BYTES
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn facts(since: i64, state: State) -> EntryFacts {
        EntryFacts {
            state,
            purpose: None,
            since: since * 1_000_000,
            expires_at: None,
            provisional: false,
            incident: None,
        }
    }

    #[test]
    fn the_incident_of_an_entry_is_known_and_their_number_is_bounded() {
        let table = Table::default();
        let put = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let key = EntryKey {
                list: "a".into(),
                recipient: RecipientDigest(id),
                reason: Reason::HardBounce,
                scope: "".into(),
                author: Author::Event,
            };
            let incident = Some(EventId(id));
            table.apply(&key, Some(EntryFacts { incident, ..facts(1, State::Suppressed) }));
            (table.get(&key).unwrap().form.incident, incident)
        };
        for number in 0..MAX_INCIDENT_FORMS {
            let (found, expected) = put(number);
            assert_eq!(found, expected, "{number}");
        }
        assert_eq!(put(MAX_INCIDENT_FORMS).0, None);
        let (found, expected) = put(7);
        assert_eq!(found, expected, "a known one is kept");
        assert_eq!(read(&table.forms).all.len(), MAX_INCIDENT_FORMS + 1);
    }

    #[test]
    fn a_row_has_22_bytes_and_a_bucket_wastes_little() {
        assert_eq!(ROW_BYTES, 22);
        for rows in 0..2_000 {
            let capacity = larger_capacity(rows);
            assert!(capacity > rows, "{rows}");
            assert!(
                capacity * ROW_BYTES <= (rows + 1) * ROW_BYTES * 5 / 4 + 16,
                "{rows} {capacity}"
            );
        }
    }

    #[test]
    fn the_table_is_a_map_whose_values_do_not_become_older() {
        let mut rng = StdRng::seed_from_u64(3);
        let (table, mut model) = (Table::default(), BTreeMap::new());
        for _ in 0..50_000 {
            let mut digest = [0; 16];
            // Few digests, some of which share a bucket.
            digest[0] = rng.random_range(0..2);
            digest[1] = [0, 1, 4, 7, 9, 254, 255][rng.random_range(0..7)];
            digest[15] = rng.random_range(0..20);
            let key = EntryKey {
                list: ["a", "b"][rng.random_range(0..2)].into(),
                recipient: RecipientDigest(digest),
                reason: Reason::ALL[rng.random_range(0..2)],
                scope: ["", "x"][rng.random_range(0..2)].into(),
                author: Author::ALL[rng.random_range(0..3)],
            };
            if rng.random_range(0..5) == 0 {
                assert_eq!(table.apply(&key, None), model.remove(&key).is_some());
                continue;
            }
            let since = rng.random_range(0..1_000);
            let state = State::ALL[rng.random_range(0..2)];
            let is_newer = model.get(&key).is_none_or(|(old, _)| since >= *old);
            assert_eq!(table.apply(&key, Some(facts(since, state))), is_newer);
            if is_newer {
                model.insert(key, (since, state));
            }
        }
        assert_eq!(table.len(), model.len());
        assert!(table.has_list("a") && !table.has_list("c"));
        assert!(table.has_scope("b", "x") && !table.has_scope("b", "y"));
        assert_eq!((table.scopes("a"), table.scopes("c")), (1, 0));
        let forms = read(&table.forms);
        let texts: HashSet<_> = forms.all.iter().map(|it| it.scope.as_ptr()).collect();
        assert_eq!((forms.all.len(), texts.len()), (48, 4), "forms share their texts");
        drop(forms);
        for (key, &(since, state)) in &model {
            let found = table.get(key).unwrap();
            assert_eq!((found.since, found.form.state), (since, state));
        }
        // Some of these have no rows, and every recipient is asked for more than once.
        let asked = (0..400_u16).map(|number| {
            let mut digest = [0; 16];
            digest[0] = (number % 2) as u8;
            digest[1] = [0, 1, 2, 9, 255][usize::from(number % 5)];
            digest[15] = (number % 23) as u8;
            RecipientDigest(digest)
        });
        let asked: Vec<_> = asked.collect();
        let each = table.of_each(&asked);
        let one_by_one = asked.iter().map(|recipient| table.of(*recipient)).enumerate();
        let one_by_one: Vec<_> = one_by_one.filter(|(_, rows)| !rows.is_empty()).collect();
        assert!(each == one_by_one && !each.is_empty() && each.len() < asked.len());
        let mut visited = 0;
        table.for_each(|recipient, form, since| {
            visited += 1;
            let (list, scope) = (form.list.to_string().into(), form.scope.to_string().into());
            let (reason, author) = (form.reason, form.author);
            let key = EntryKey { list, recipient, reason, scope, author };
            assert_eq!(model[&key], (since, form.state));
        });
        assert_eq!(visited, model.len());
    }

    #[test]
    fn rows_are_found_in_full_buckets_too() {
        let mut rng = StdRng::seed_from_u64(4);
        let table = Table::default();
        let key = |digest| EntryKey {
            list: "a".into(),
            recipient: RecipientDigest(digest),
            reason: Reason::Complaint,
            scope: "".into(),
            author: Author::Event,
        };
        let mut digest = || {
            let mut digest: [u8; 16] = rng.random();
            digest[0] = 0;
            digest[1] %= 5; // all prefixes of a bucket, and one of the next
            // Some digests are not spread evenly.
            let last = digest[15];
            if last < 30 {
                digest[2..5].fill(last);
            }
            digest
        };
        let digests: Vec<[u8; 16]> = (0..3_000).map(|_| digest()).collect();
        for (since, digest) in (0..).zip(&digests) {
            assert!(table.apply(&key(*digest), Some(facts(since, State::Suppressed))));
        }
        for (since, digest) in (0..).zip(&digests) {
            assert_eq!(table.of(RecipientDigest(*digest)).len(), 1);
            assert_eq!(table.get(&key(*digest)).unwrap().since, since);
        }
        for _ in 0..3_000 {
            assert_eq!(table.of(RecipientDigest(digest())), []);
        }
    }

    #[test]
    fn an_entry_that_ends_keeps_its_hours() {
        let table = Table::default();
        let key = EntryKey {
            list: "a".into(),
            recipient: RecipientDigest([5; 16]),
            reason: Reason::SoftBounces,
            scope: "".into(),
            author: Author::Event,
        };
        let soon = EntryFacts { expires_at: Some(7_201_000_000), ..facts(0, State::Suppressed) };
        table.apply(&key, Some(soon));
        assert_eq!(table.get(&key).unwrap().form.hours, 3);
        assert_eq!(table.of(RecipientDigest([6; 16])), []);
    }
}
