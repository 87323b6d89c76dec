//! The format of the changelog records. Each commit writes one record per partition, or several if
//! one would be too large.
//!
//! All numbers are big-endian.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | version, 3 |
//! | 8 | writer: a random number for each assignment of the partition |
//! | 8 | sequence: increases by one from record to record of the partition |
//! | 4 | number of ids |
//! | 20 each | id: hour of `occurred_at` (4, hours since the epoch), event id (16) |
//! | 4 | number of memories |
//! | 17 or more each | memory: message id (16), length (1), the bytes of `memory_bytes.rs` |
//!
//! Versions 1 and 2 are read but no longer written. Their memories have no length: it is 5 in version 1
//! and 25 in version 2, and the bytes are those of earlier releases.
//!
//! Applying a record twice has the same result as applying it once, because ids are a set and a
//! memory has its full state.

use event::EventId;

use crate::Hour;
use crate::memory_bytes::{LENGTH_V1, LENGTH_V2, MAX_LENGTH};
use crate::overlay::IdKey;

const VERSION: u8 = 3;
/// The versions that earlier releases wrote.
const VERSION_1: u8 = 1;
const VERSION_2: u8 = 2;
const HEADER: usize = 1 + 8 + 8;
const COUNT: usize = 4;
const ID: usize = IdKey::LENGTH;
const MESSAGE_ID: usize = 16;
const MEMORY_V1: usize = MESSAGE_ID + LENGTH_V1;
const MEMORY_V2: usize = MESSAGE_ID + LENGTH_V2;

/// The maximum size of a record: half of the brokers' default limit.
const MAX_RECORD: usize = 512 * 1024;
/// The maximum size of a memory. A record has no further memory if this one might not fit.
const MAX_MEMORY: usize = MESSAGE_ID + 1 + MAX_LENGTH;

/// A record that this version cannot decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedEntry {
    /// The record has an unknown version.
    #[error(
        "record has version {0}, but this binary reads only versions up to {VERSION}; run the \
         release that wrote it, or a newer one"
    )]
    Version(u8),
    /// The length of the record does not match its counts.
    #[error("record is damaged: its length does not match its counts")]
    Length,
}

/// One changelog record. It borrows the ids and memories from the record's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Identifies the assignment of the partition that wrote the record.
    pub writer: u64,
    /// The number of the record in the partition's sequence.
    pub sequence: u64,
    ids: &'a [[u8; ID]],
    memories: Memories<'a>,
}

/// A message id, and the bytes of its memory.
type Memory<'a> = (EventId, &'a [u8]);

/// The memories in the format of the record's version. Their bytes have been checked for length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memories<'a> {
    V1(&'a [[u8; MEMORY_V1]]),
    V2(&'a [[u8; MEMORY_V2]]),
    V3(&'a [u8]),
}

impl<'a> Entry<'a> {
    /// Decodes the value of a changelog record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MalformedEntry> {
        let (&version, rest) = bytes.split_first().ok_or(MalformedEntry::Length)?;
        if !matches!(version, VERSION_1 | VERSION_2 | VERSION) {
            return Err(MalformedEntry::Version(version));
        }
        let (writer, rest) = take_u64(rest)?;
        let (sequence, rest) = take_u64(rest)?;
        let (count, rest) = take_count(rest)?;
        let (ids, rest) = take_array(count, rest)?;
        let (count, rest) = take_count(rest)?;
        let (memories, rest) = match version {
            VERSION_1 => take_array(count, rest).map(|(all, rest)| (Memories::V1(all), rest))?,
            VERSION_2 => take_array(count, rest).map(|(all, rest)| (Memories::V2(all), rest))?,
            _ => take_memories(count, rest).map(|(all, rest)| (Memories::V3(all), rest))?,
        };
        if !rest.is_empty() {
            return Err(MalformedEntry::Length);
        }
        Ok(Self { writer, sequence, ids, memories })
    }

    /// Returns the hours and ids of the events that were passed on.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = (Hour, EventId)> + use<'a> {
        self.keys().map(|key| (key.hour(), key.id()))
    }

    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = IdKey> + use<'a> {
        self.ids.iter().copied().map(IdKey)
    }

    /// Returns whether a release wrote the record that stored undated events by their hour only.
    pub(crate) fn is_of_earlier_release(&self) -> bool {
        !matches!(self.memories, Memories::V3(_))
    }

    /// Returns the message ids and the bytes of their memories.
    pub fn memories(&self) -> impl Iterator<Item = Memory<'a>> + use<'a> {
        let none: (&[[u8; MEMORY_V1]], &[[u8; MEMORY_V2]], &[u8]) = (&[], &[], &[]);
        let (v1, v2, mut v3) = match self.memories {
            Memories::V1(all) => (all, none.1, none.2),
            Memories::V2(all) => (none.0, all, none.2),
            Memories::V3(all) => (none.0, none.1, all),
        };
        let v1 = v1.iter().filter_map(|memory| split_id(memory));
        let v2 = v2.iter().filter_map(|memory| split_id(memory));
        let v3 = std::iter::from_fn(move || {
            let (memory, rest) = split_memory(v3)?;
            v3 = rest;
            Some(memory)
        });
        v1.chain(v2).chain(v3)
    }
}

/// Reads a memory of a fixed length. It never returns `None`, because the lengths are constants.
fn split_id(memory: &[u8]) -> Option<Memory<'_>> {
    let (id, memory) = memory.split_first_chunk()?;
    Some((EventId(*id), memory))
}

/// Reads a memory that begins with its id and length. Also returns the bytes after it.
pub(crate) fn split_memory(bytes: &[u8]) -> Option<(Memory<'_>, &[u8])> {
    let (id, rest) = bytes.split_first_chunk()?;
    let (&length, rest) = rest.split_first()?;
    let (memory, rest) = rest.split_at_checked(length.into())?;
    Some(((EventId(*id), memory), rest))
}

fn take_u64(bytes: &[u8]) -> Result<(u64, &[u8]), MalformedEntry> {
    let (number, rest) = bytes.split_first_chunk().ok_or(MalformedEntry::Length)?;
    Ok((u64::from_be_bytes(*number), rest))
}

fn take_count(bytes: &[u8]) -> Result<(u32, &[u8]), MalformedEntry> {
    let (count, rest) = bytes.split_first_chunk().ok_or(MalformedEntry::Length)?;
    Ok((u32::from_be_bytes(*count), rest))
}

fn take_array<const N: usize>(
    count: u32,
    bytes: &[u8],
) -> Result<(&[[u8; N]], &[u8]), MalformedEntry> {
    let length = u64::from(count) * N as u64;
    let length = usize::try_from(length).map_err(|_| MalformedEntry::Length)?;
    let (items, rest) = bytes.split_at_checked(length).ok_or(MalformedEntry::Length)?;
    Ok((items.as_chunks().0, rest))
}

fn take_memories(count: u32, bytes: &[u8]) -> Result<(&[u8], &[u8]), MalformedEntry> {
    let mut rest = bytes;
    for _ in 0..count {
        (_, rest) = split_memory(rest).ok_or(MalformedEntry::Length)?;
    }
    Ok(bytes.split_at(bytes.len() - rest.len()))
}

/// Encodes ids and memories as records, numbered from `sequence`. Returns no record if both are
/// empty. `memories` was filled by [`add_memory`].
pub(crate) fn encode(
    writer: u64,
    mut sequence: u64,
    mut ids: &[IdKey],
    mut memories: &[u8],
) -> Vec<Vec<u8>> {
    const MOST_IDS: usize = (MAX_RECORD - HEADER - 2 * COUNT) / ID;
    let mut records = Vec::new();
    while !ids.is_empty() || !memories.is_empty() {
        let (some_ids, more_ids) = ids.split_at(ids.len().min(MOST_IDS));
        let length = HEADER + 2 * COUNT + some_ids.len() * ID;
        let (count, some_memories, more_memories) = split_memories(memories, MAX_RECORD - length);
        let mut record = Vec::with_capacity(length + some_memories.len());
        record.push(VERSION);
        record.extend(writer.to_be_bytes());
        record.extend(sequence.to_be_bytes());
        // MAX_RECORD keeps both counts far below u32::MAX.
        record.extend((some_ids.len() as u32).to_be_bytes());
        some_ids.iter().for_each(|key| record.extend_from_slice(&key.0));
        record.extend(count.to_be_bytes());
        record.extend_from_slice(some_memories);
        records.push(record);
        (ids, memories, sequence) = (more_ids, more_memories, sequence + 1);
    }
    records
}

/// Adds a memory in the format of a record.
pub(crate) fn add_memory(out: &mut Vec<u8>, id: &EventId, memory: &[u8]) {
    out.extend_from_slice(id.as_bytes());
    out.push(memory.len() as u8); // at most MAX_LENGTH
    out.extend_from_slice(memory);
}

/// Splits memories after the last one that certainly fits into `space` bytes. Also returns their
/// number.
fn split_memories(memories: &[u8], space: usize) -> (u32, &[u8], &[u8]) {
    let (mut count, mut rest) = (0, memories);
    while memories.len() - rest.len() + MAX_MEMORY <= space
        && let Some((_, more)) = split_memory(rest)
    {
        (count, rest) = (count + 1, more);
    }
    let (some, more) = memories.split_at(memories.len() - rest.len());
    (count, some, more)
}

#[cfg(test)]
mod tests {
    use event::Kind;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::MessageMemory;
    use crate::memory_bytes::tests::any_memory;

    fn id(seed: u32) -> EventId {
        let mut id = [7; 16];
        id[..4].copy_from_slice(&seed.to_be_bytes());
        EventId(id)
    }

    fn encode_all(
        (writer, sequence): (u64, u64),
        ids: &[IdKey],
        memories: &[(EventId, MessageMemory)],
    ) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        for (id, memory) in memories {
            add_memory(&mut bytes, id, memory.to_bytes().as_slice());
        }
        encode(writer, sequence, ids, &bytes)
    }

    fn round_trip(ids: &[IdKey], memories: &[(EventId, MessageMemory)]) -> Vec<Vec<u8>> {
        let records = encode_all((9, 40), ids, memories);
        let entries: Vec<_> = records.iter().map(|r| Entry::decode(r).unwrap()).collect();
        for (entry, sequence) in entries.iter().zip(40..) {
            assert_eq!((entry.writer, entry.sequence), (9, sequence));
            assert!(!entry.is_of_earlier_release());
        }
        let read: Vec<_> = entries.iter().flat_map(Entry::keys).collect();
        assert_eq!(read, ids);
        let read = entries.iter().flat_map(Entry::memories);
        let read: Vec<_> =
            read.map(|(id, bytes)| (id, MessageMemory::from_bytes(bytes).unwrap())).collect();
        assert_eq!(read, memories);
        records
    }

    proptest! {
        #[test]
        fn records_round_trip(
            ids in vec((any::<u32>(), any::<[u8; 16]>()), 0..50),
            memories in vec((any::<[u8; 16]>(), any_memory()), 0..50),
        ) {
            let ids: Vec<_> =
                ids.into_iter().map(|(hour, id)| IdKey::new(Hour(hour), &EventId(id))).collect();
            let memories: Vec<_> =
                memories.into_iter().map(|(id, memory)| (EventId(id), memory)).collect();
            round_trip(&ids, &memories);
        }

        #[test]
        fn decoding_arbitrary_bytes_never_panics(
            version in 0..5_u8,
            bytes in vec(any::<u8>(), 0..200),
        ) {
            if let Ok(entry) = Entry::decode(&[&[version], &bytes[..]].concat()) {
                let _ = (entry.keys().count(), entry.memories().count());
            }
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let ids = [IdKey::new(Hour(0x0102_0304), &id(5))];
        let memory = MessageMemory { since: Hour(7), ..MessageMemory::UNKNOWN };
        let record = encode_all((8, 9), &ids, &[(id(6), memory)]).remove(0);
        let mut expected = vec![3];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 8]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 9]);
        expected.extend([0, 0, 0, 1]);
        expected.extend([1, 2, 3, 4]);
        expected.extend(id(5).0);
        expected.extend([0, 0, 0, 1]);
        expected.extend(id(6).0);
        expected.extend([6, 0xf3, 7, 0, 0, 0, 0]);
        assert_eq!(record, expected);
    }

    /// Written by the encoders of earlier releases: one id, and one engagement with an open and a click
    /// by people.
    #[test]
    fn records_of_earlier_releases_are_read() {
        let mut v2 = vec![2];
        v2.extend([0, 0, 0, 0, 0, 0, 0, 8]);
        v2.extend([0, 0, 0, 0, 0, 0, 0, 9]);
        v2.extend([0, 0, 0, 1]);
        v2.extend([1, 2, 3, 4]);
        v2.extend(id(5).0);
        v2.extend([0, 0, 0, 1]);
        v2.extend(id(6).0);
        v2.extend([0, 0, 0, 7, 3]);
        let end_of_v1 = v2.len();
        v2.extend([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6]);
        let v1 = [&[1], &v2[1..end_of_v1]].concat();
        for (record, is_delivered) in [(v2, true), (v1, false)] {
            let entry = Entry::decode(&record).unwrap();
            assert_eq!((entry.writer, entry.sequence), (8, 9));
            assert_eq!(entry.ids().collect::<Vec<_>>(), [(Hour(0x0102_0304), id(5))]);
            assert!(entry.is_of_earlier_release());
            let (message, bytes) = entry.memories().next().unwrap();
            assert_eq!((message, entry.memories().count()), (id(6), 1));
            let memory = MessageMemory::from_bytes(bytes).unwrap();
            assert_eq!(memory.since, Hour(7));
            assert!(memory.has(Kind::Opened, false) && memory.has(Kind::Clicked, false));
            assert_eq!(memory.has(Kind::Delivered, false), is_delivered);
        }
    }

    #[test]
    fn records_are_split_at_512_kib() {
        let ids: Vec<_> = (0..60_000).map(|n| IdKey::new(Hour(n), &id(n))).collect();
        let memory = |n| (id(n), MessageMemory { since: Hour(n), ..MessageMemory::UNKNOWN });
        let memories: Vec<_> = (0..60_000).map(memory).collect();
        let records = round_trip(&ids, &memories);
        assert_eq!(records.len(), 6, "1.2 MB of ids and 1.5 MB of memories");
        assert!(records.iter().all(|record| record.len() <= MAX_RECORD));
        assert!(records[..5].iter().all(|record| record.len() > MAX_RECORD - MAX_MEMORY));
        assert!(encode(1, 1, &[], &[]).is_empty());
    }

    #[test]
    fn damaged_records_are_rejected_with_the_cause() {
        let memory = (id(2), MessageMemory { since: Hour(1), ..MessageMemory::UNKNOWN });
        let ids = [IdKey::new(Hour(1), &id(1))];
        let record = encode_all((8, 9), &ids, &[memory]).remove(0);
        for length in 0..record.len() {
            assert_eq!(Entry::decode(&record[..length]), Err(MalformedEntry::Length), "{length}");
        }
        let longer = [&record[..], &[0]].concat();
        assert_eq!(Entry::decode(&longer), Err(MalformedEntry::Length));
        let newer = [&[4], &record[1..]].concat();
        assert_eq!(Entry::decode(&newer), Err(MalformedEntry::Version(4)));
    }
}
