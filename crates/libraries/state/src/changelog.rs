//! The changelog's records: one per commit and partition, more only where one would be too large.
//!
//! All numbers are big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version, 2 |
//! | 8 | writer: drawn at random by a member each time it takes the partition over |
//! | 8 | sequence: grows by one from record to record of the partition |
//! | 4 | number of ids |
//! | 20 each | id: hour of `occurred_at` (4, hours since the epoch), event id (16) |
//! | 4 | number of marks |
//! | 41 each | mark: engagement id (16), hour it expires by (4), bits (1: opened 1, clicked 2, by a machine 4 and 8), delivery (8, microseconds), run of clicks (8, microseconds), its links (4, bits) |
//!
//! Version 1, which is read and no longer written, ends its marks after the bits.
//!
//! Applying a record twice is applying it once: ids are a set, and a mark is its whole state.

use event::EventId;

use crate::overlay::IdKey;
use crate::{Engagement, Hour};

const VERSION: u8 = 2;
/// Of what older binaries wrote.
const VERSION_1: u8 = 1;
const HEAD: usize = 1 + 8 + 8;
const COUNT: usize = 4;
const ID: usize = IdKey::LENGTH;
const MARK: usize = 16 + Engagement::LENGTH;
const MARK_1: usize = 16 + Engagement::LENGTH_1;

/// A record is no larger than this: half of what brokers take by default.
const ROOM: usize = 512 * 1024 - HEAD - 2 * COUNT;

/// The bytes are not a changelog record as this version knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedEntry {
    /// Written by another version.
    #[error("a record of version {0}, this binary knows version {VERSION}")]
    Version(u8),
    /// Its length does not fit its counts.
    #[error("a record whose length is not what it says")]
    Length,
}

/// One record of the changelog, read in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Which ownership of the partition wrote it.
    pub writer: u64,
    /// Its place in the partition's sequence.
    pub sequence: u64,
    ids: &'a [[u8; ID]],
    marks: Marks<'a>,
}

/// As the record's version has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marks<'a> {
    Of1(&'a [[u8; MARK_1]]),
    Of2(&'a [[u8; MARK]]),
}

impl<'a> Entry<'a> {
    /// Reads a record's value.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MalformedEntry> {
        let (&version, rest) = bytes.split_first().ok_or(MalformedEntry::Length)?;
        if !matches!(version, VERSION_1 | VERSION) {
            return Err(MalformedEntry::Version(version));
        }
        let (writer, rest) = take_u64(rest)?;
        let (sequence, rest) = take_u64(rest)?;
        let (ids, rest) = take_array(rest)?;
        let (marks, rest) = if version == VERSION_1 {
            take_array(rest).map(|(marks, rest)| (Marks::Of1(marks), rest))?
        } else {
            take_array(rest).map(|(marks, rest)| (Marks::Of2(marks), rest))?
        };
        if !rest.is_empty() {
            return Err(MalformedEntry::Length);
        }
        Ok(Self { writer, sequence, ids, marks })
    }

    /// The events that were let through.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = (Hour, EventId)> + use<'a> {
        self.keys().map(|key| (key.hour(), key.id()))
    }

    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = IdKey> + use<'a> {
        self.ids.iter().copied().map(IdKey)
    }

    pub(crate) fn marks(&self) -> impl Iterator<Item = (EventId, Engagement)> + use<'a> {
        let (of_1, of_2): (&[[u8; MARK_1]], &[[u8; MARK]]) = match self.marks {
            Marks::Of1(marks) => (marks, &[]),
            Marks::Of2(marks) => (&[], marks),
        };
        let of_1 = of_1.iter().filter_map(|mark| read_mark(mark, Engagement::from_bytes_1));
        let of_2 = of_2.iter().filter_map(|mark| read_mark(mark, Engagement::from_bytes));
        of_1.chain(of_2)
    }
}

/// The lengths add up by construction.
fn read_mark<const N: usize>(
    mark: &[u8],
    read: fn(&[u8; N]) -> Engagement,
) -> Option<(EventId, Engagement)> {
    let (id, engagement) = mark.split_first_chunk()?;
    Some((EventId(*id), read(engagement.try_into().ok()?)))
}

fn take_u64(bytes: &[u8]) -> Result<(u64, &[u8]), MalformedEntry> {
    let (number, rest) = bytes.split_first_chunk().ok_or(MalformedEntry::Length)?;
    Ok((u64::from_be_bytes(*number), rest))
}

fn take_array<const N: usize>(bytes: &[u8]) -> Result<(&[[u8; N]], &[u8]), MalformedEntry> {
    let (count, rest) = bytes.split_first_chunk().ok_or(MalformedEntry::Length)?;
    let length = u64::from(u32::from_be_bytes(*count)) * N as u64;
    let length = usize::try_from(length).map_err(|_| MalformedEntry::Length)?;
    let (items, rest) = rest.split_at_checked(length).ok_or(MalformedEntry::Length)?;
    Ok((items.as_chunks().0, rest))
}

/// The records that tell these ids and marks, numbered from `sequence`; none for nothing.
pub(crate) fn encode(
    writer: u64,
    mut sequence: u64,
    mut ids: &[IdKey],
    mut marks: &[(EventId, Engagement)],
) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !ids.is_empty() || !marks.is_empty() {
        let (some_ids, more_ids) = ids.split_at(ids.len().min(ROOM / ID));
        let room = ROOM - some_ids.len() * ID;
        let (some_marks, more_marks) = marks.split_at(marks.len().min(room / MARK));
        records.push(record(writer, sequence, some_ids, some_marks));
        (ids, marks, sequence) = (more_ids, more_marks, sequence + 1);
    }
    records
}

fn record(writer: u64, sequence: u64, ids: &[IdKey], marks: &[(EventId, Engagement)]) -> Vec<u8> {
    let length = HEAD + 2 * COUNT + ids.len() * ID + marks.len() * MARK;
    let mut bytes = Vec::with_capacity(length);
    bytes.push(VERSION);
    bytes.extend(writer.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    // Both counts are bounded by ROOM.
    bytes.extend((ids.len() as u32).to_be_bytes());
    ids.iter().for_each(|key| bytes.extend(key.0));
    bytes.extend((marks.len() as u32).to_be_bytes());
    for (id, mark) in marks {
        bytes.extend(id.as_bytes());
        bytes.extend(mark.to_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn id(seed: u32) -> EventId {
        let mut id = [7; 16];
        id[..4].copy_from_slice(&seed.to_be_bytes());
        EventId(id)
    }

    fn round_trip(ids: &[IdKey], marks: &[(EventId, Engagement)]) -> Vec<Vec<u8>> {
        let records = encode(9, 40, ids, marks);
        let entries: Vec<_> = records.iter().map(|r| Entry::decode(r).unwrap()).collect();
        for (entry, sequence) in entries.iter().zip(40..) {
            assert_eq!((entry.writer, entry.sequence), (9, sequence));
        }
        let read: Vec<_> = entries.iter().flat_map(Entry::keys).collect();
        assert_eq!(read, ids);
        let read: Vec<_> = entries.iter().flat_map(Entry::marks).collect();
        assert_eq!(read, marks);
        records
    }

    proptest! {
        #[test]
        fn records_round_trip(
            ids in vec((any::<u32>(), any::<[u8; 16]>()), 0..50),
            marks in vec((any::<[u8; 16]>(), any::<[u8; Engagement::LENGTH]>()), 0..50),
        ) {
            let ids: Vec<_> =
                ids.into_iter().map(|(hour, id)| IdKey::new(Hour(hour), &EventId(id))).collect();
            let marks: Vec<_> = marks
                .into_iter()
                .map(|(id, bytes)| (EventId(id), Engagement::from_bytes(&bytes)))
                .collect();
            round_trip(&ids, &marks);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Entry::decode(&bytes);
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let ids = [IdKey::new(Hour(0x0102_0304), &id(5))];
        let mark = Engagement { first: Hour(7), bits: 3, delivered: 4, run: 5, links: 6 };
        let marks = [(id(6), mark)];
        let record = encode(8, 9, &ids, &marks).remove(0);
        let mut expected = vec![2];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 8]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 9]);
        expected.extend([0, 0, 0, 1]);
        expected.extend([1, 2, 3, 4]);
        expected.extend(id(5).0);
        expected.extend([0, 0, 0, 1]);
        expected.extend(id(6).0);
        expected.extend([0, 0, 0, 7, 3]);
        let before = expected.len();
        expected.extend([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6]);
        assert_eq!(record, expected);

        let of_1 = [&[1], &record[1..before]].concat();
        let entry = Entry::decode(&of_1).unwrap();
        let old = Engagement { first: Hour(7), bits: 3, ..Engagement::UNKNOWN };
        assert_eq!(entry.keys().collect::<Vec<_>>(), ids);
        assert_eq!(entry.marks().collect::<Vec<_>>(), [(id(6), old)]);
    }

    #[test]
    fn many_are_split_at_512_kib() {
        let ids: Vec<_> = (0..60_000).map(|n| IdKey::new(Hour(n), &id(n))).collect();
        let mark = |n| (id(n), Engagement { first: Hour(n), ..Engagement::UNKNOWN });
        let marks: Vec<_> = (0..30_000).map(mark).collect();
        let records = round_trip(&ids, &marks);
        assert_eq!(records.len(), 5, "2.43 MB");
        assert!(records.iter().all(|record| record.len() <= 512 * 1024));
        assert!(encode(1, 1, &[], &[]).is_empty());
    }

    #[test]
    fn damage_is_named() {
        let record = encode(8, 9, &[IdKey::new(Hour(1), &id(1))], &[]).remove(0);
        assert_eq!(Entry::decode(&[]), Err(MalformedEntry::Length));
        assert_eq!(Entry::decode(&record[..30]), Err(MalformedEntry::Length));
        let longer = [&record[..], &[0]].concat();
        assert_eq!(Entry::decode(&longer), Err(MalformedEntry::Length));
        let newer = [&[3], &record[1..]].concat();
        assert_eq!(Entry::decode(&newer), Err(MalformedEntry::Version(3)));
    }
}
