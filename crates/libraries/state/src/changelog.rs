//! The format of the changelog records. Each commit writes one record per partition, or several if
//! one would be too large.
//!
//! All numbers are big-endian.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | version, 2 |
//! | 8 | writer: a random number for each assignment of the partition |
//! | 8 | sequence: increases by one from record to record of the partition |
//! | 4 | number of ids |
//! | 20 each | id: hour of `occurred_at` (4, hours since the epoch), event id (16) |
//! | 4 | number of engagements |
//! | 41 each | engagement: engagement id (16), hour it counts from (4), bits (1: opened 1, clicked 2, by a machine 4 and 8), time of delivery (8, microseconds), start of the latest run of clicks (8, microseconds), links in that run (4, bits) |
//!
//! In version 1, which is read but no longer written, an engagement ends after the bits.
//!
//! Applying a record twice has the same result as applying it once, because ids are a set and an
//! engagement record contains its full state.

use event::EventId;

use crate::overlay::IdKey;
use crate::{Engagement, Hour};

const VERSION: u8 = 2;
/// The version that older binaries wrote.
const VERSION_1: u8 = 1;
const HEADER: usize = 1 + 8 + 8;
const COUNT: usize = 4;
const ID: usize = IdKey::LENGTH;
const ENGAGEMENT: usize = 16 + Engagement::LENGTH;
const ENGAGEMENT_V1: usize = 16 + Engagement::LENGTH_V1;

/// The maximum size of ids and engagements in one record. It keeps a record below 512 KiB, half of
/// the brokers' default limit.
const MAX_PAYLOAD: usize = 512 * 1024 - HEADER - 2 * COUNT;

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

/// One changelog record. It borrows the ids and engagements from the record's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Identifies the assignment of the partition that wrote the record.
    pub writer: u64,
    /// The number of the record in the partition's sequence.
    pub sequence: u64,
    ids: &'a [[u8; ID]],
    engagements: Engagements<'a>,
}

/// The engagements in the format of the record's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engagements<'a> {
    V1(&'a [[u8; ENGAGEMENT_V1]]),
    V2(&'a [[u8; ENGAGEMENT]]),
}

impl<'a> Entry<'a> {
    /// Decodes the value of a changelog record.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, MalformedEntry> {
        let (&version, rest) = bytes.split_first().ok_or(MalformedEntry::Length)?;
        if !matches!(version, VERSION_1 | VERSION) {
            return Err(MalformedEntry::Version(version));
        }
        let (writer, rest) = take_u64(rest)?;
        let (sequence, rest) = take_u64(rest)?;
        let (ids, rest) = take_array(rest)?;
        let (engagements, rest) = if version == VERSION_1 {
            take_array(rest).map(|(engagements, rest)| (Engagements::V1(engagements), rest))?
        } else {
            take_array(rest).map(|(engagements, rest)| (Engagements::V2(engagements), rest))?
        };
        if !rest.is_empty() {
            return Err(MalformedEntry::Length);
        }
        Ok(Self { writer, sequence, ids, engagements })
    }

    /// Returns the hours and ids of the events that were passed on.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = (Hour, EventId)> + use<'a> {
        self.keys().map(|key| (key.hour(), key.id()))
    }

    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = IdKey> + use<'a> {
        self.ids.iter().copied().map(IdKey)
    }

    pub(crate) fn engagements(&self) -> impl Iterator<Item = (EventId, Engagement)> + use<'a> {
        let (v1, v2): (&[[u8; ENGAGEMENT_V1]], &[[u8; ENGAGEMENT]]) = match self.engagements {
            Engagements::V1(engagements) => (engagements, &[]),
            Engagements::V2(engagements) => (&[], engagements),
        };
        let v1 = v1
            .iter()
            .filter_map(|engagement| read_engagement(engagement, Engagement::from_bytes_v1));
        let v2 =
            v2.iter().filter_map(|engagement| read_engagement(engagement, Engagement::from_bytes));
        v1.chain(v2)
    }
}

/// Reads one engagement. It never returns `None`, because the lengths are constants that add up.
fn read_engagement<const N: usize>(
    engagement: &[u8],
    read: fn(&[u8; N]) -> Engagement,
) -> Option<(EventId, Engagement)> {
    let (id, engagement) = engagement.split_first_chunk()?;
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

/// Encodes ids and engagements as records, numbered from `sequence`. Returns no record if both are
/// empty.
pub(crate) fn encode(
    writer: u64,
    mut sequence: u64,
    mut ids: &[IdKey],
    mut engagements: &[(EventId, Engagement)],
) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !ids.is_empty() || !engagements.is_empty() {
        let (some_ids, more_ids) = ids.split_at(ids.len().min(MAX_PAYLOAD / ID));
        let rest = MAX_PAYLOAD - some_ids.len() * ID;
        let (some_engagements, more_engagements) =
            engagements.split_at(engagements.len().min(rest / ENGAGEMENT));
        records.push(record(writer, sequence, some_ids, some_engagements));
        (ids, engagements, sequence) = (more_ids, more_engagements, sequence + 1);
    }
    records
}

fn record(
    writer: u64,
    sequence: u64,
    ids: &[IdKey],
    engagements: &[(EventId, Engagement)],
) -> Vec<u8> {
    let length = HEADER + 2 * COUNT + ids.len() * ID + engagements.len() * ENGAGEMENT;
    let mut bytes = Vec::with_capacity(length);
    bytes.push(VERSION);
    bytes.extend(writer.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    // MAX_PAYLOAD keeps both counts far below u32::MAX.
    bytes.extend((ids.len() as u32).to_be_bytes());
    ids.iter().for_each(|key| bytes.extend(key.0));
    bytes.extend((engagements.len() as u32).to_be_bytes());
    for (id, engagement) in engagements {
        bytes.extend(id.as_bytes());
        bytes.extend(engagement.to_bytes());
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

    fn round_trip(ids: &[IdKey], engagements: &[(EventId, Engagement)]) -> Vec<Vec<u8>> {
        let records = encode(9, 40, ids, engagements);
        let entries: Vec<_> = records.iter().map(|r| Entry::decode(r).unwrap()).collect();
        for (entry, sequence) in entries.iter().zip(40..) {
            assert_eq!((entry.writer, entry.sequence), (9, sequence));
        }
        let read: Vec<_> = entries.iter().flat_map(Entry::keys).collect();
        assert_eq!(read, ids);
        let read: Vec<_> = entries.iter().flat_map(Entry::engagements).collect();
        assert_eq!(read, engagements);
        records
    }

    proptest! {
        #[test]
        fn records_round_trip(
            ids in vec((any::<u32>(), any::<[u8; 16]>()), 0..50),
            engagements in vec((any::<[u8; 16]>(), any::<[u8; Engagement::LENGTH]>()), 0..50),
        ) {
            let ids: Vec<_> =
                ids.into_iter().map(|(hour, id)| IdKey::new(Hour(hour), &EventId(id))).collect();
            let engagements: Vec<_> = engagements
                .into_iter()
                .map(|(id, bytes)| (EventId(id), Engagement::from_bytes(&bytes)))
                .collect();
            round_trip(&ids, &engagements);
        }

        #[test]
        fn decoding_arbitrary_bytes_never_panics(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Entry::decode(&bytes);
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let ids = [IdKey::new(Hour(0x0102_0304), &id(5))];
        let engagement =
            Engagement { since: Hour(7), bits: 3, delivered_at: 4, run_start: 5, links: 6 };
        let engagements = [(id(6), engagement)];
        let record = encode(8, 9, &ids, &engagements).remove(0);
        let mut expected = vec![2];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 8]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 9]);
        expected.extend([0, 0, 0, 1]);
        expected.extend([1, 2, 3, 4]);
        expected.extend(id(5).0);
        expected.extend([0, 0, 0, 1]);
        expected.extend(id(6).0);
        expected.extend([0, 0, 0, 7, 3]);
        let end_of_v1 = expected.len();
        expected.extend([0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6]);
        assert_eq!(record, expected);

        let v1 = [&[1], &record[1..end_of_v1]].concat();
        let entry = Entry::decode(&v1).unwrap();
        let old = Engagement { since: Hour(7), bits: 3, ..Engagement::UNKNOWN };
        assert_eq!(entry.keys().collect::<Vec<_>>(), ids);
        assert_eq!(entry.engagements().collect::<Vec<_>>(), [(id(6), old)]);
    }

    #[test]
    fn records_are_split_at_512_kib() {
        let ids: Vec<_> = (0..60_000).map(|n| IdKey::new(Hour(n), &id(n))).collect();
        let engagement = |n| (id(n), Engagement { since: Hour(n), ..Engagement::UNKNOWN });
        let engagements: Vec<_> = (0..30_000).map(engagement).collect();
        let records = round_trip(&ids, &engagements);
        assert_eq!(records.len(), 5, "2.43 MB");
        assert!(records.iter().all(|record| record.len() <= 512 * 1024));
        assert!(encode(1, 1, &[], &[]).is_empty());
    }

    #[test]
    fn damaged_records_are_rejected_with_the_cause() {
        let record = encode(8, 9, &[IdKey::new(Hour(1), &id(1))], &[]).remove(0);
        assert_eq!(Entry::decode(&[]), Err(MalformedEntry::Length));
        assert_eq!(Entry::decode(&record[..30]), Err(MalformedEntry::Length));
        let longer = [&record[..], &[0]].concat();
        assert_eq!(Entry::decode(&longer), Err(MalformedEntry::Length));
        let newer = [&[3], &record[1..]].concat();
        assert_eq!(Entry::decode(&newer), Err(MalformedEntry::Version(3)));
    }
}
