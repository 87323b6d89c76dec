//! The bytes of a segment: entries one after the other, each as length, checksum and payload.
//!
//! `length` is the length of the payload, 4 bytes little-endian, never 0. `checksum` is the CRC-32
//! (ISO-HDLC, as in gzip) of the 4 bytes of the length and the payload, 4 bytes little-endian. A
//! segment has no header and no trailer: every prefix that ends between two entries is a valid
//! segment.

/// The bytes of an entry in addition to its payload.
pub const FRAME_BYTES: usize = 8;
/// The longest payload, longer than any webhook body that the ingress accepts.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its last entry.
    Clean,
    /// In the middle of an entry, because a write was interrupted. The append of such an entry
    /// never returned successfully.
    Torn,
    /// With enough bytes for an entry, but not a valid one: the disk lost or changed some of them.
    Damaged,
}

/// Appends an entry to a buffer.
///
/// The payload must have 1 to [`MAX_PAYLOAD_BYTES`] bytes.
pub(crate) fn write_entry(payload: &[u8], buffer: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    buffer.extend_from_slice(&length);
    buffer.extend_from_slice(&checksum(length, payload).to_le_bytes());
    buffer.extend_from_slice(payload);
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&length);
    crc.update(payload);
    crc.finalize()
}

/// Iterates over the payloads of a segment, up to the first entry that is incomplete or damaged.
///
/// Accepts any bytes. After the last payload, [`Entries::end`] returns how the segment ends.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl<'a> Entries<'a> {
    /// Starts at the first entry of a segment.
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, read: 0 }
    }

    /// Returns the length of the entries read so far, frames included.
    pub const fn read_bytes(&self) -> usize {
        self.read
    }

    /// Returns how the segment ends. Call it when the iterator has returned `None`.
    pub fn end(&self) -> End {
        let rest = &self.bytes[self.read..];
        if rest.is_empty() {
            return End::Clean;
        }
        // A file system may extend a file before it writes the data.
        let is_blank = rest.iter().all(|&byte| byte == 0);
        match payload_length(rest) {
            _ if is_blank => End::Torn,
            None => End::Torn,
            Some(length) if length > MAX_PAYLOAD_BYTES || length == 0 => End::Damaged,
            Some(length) if rest.len() < FRAME_BYTES + length => End::Torn,
            Some(_) => End::Damaged,
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.read..];
        let length =
            payload_length(rest).filter(|length| (1..=MAX_PAYLOAD_BYTES).contains(length))?;
        let payload = rest.get(FRAME_BYTES..FRAME_BYTES + length)?;
        let (length_bytes, stored) = (rest.first_chunk::<4>()?, rest.get(4..)?.first_chunk::<4>()?);
        if checksum(*length_bytes, payload) != u32::from_le_bytes(*stored) {
            return None;
        }
        self.read += FRAME_BYTES + length;
        Some(payload)
    }
}

/// A part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// The payload of an entry.
    Entry(&'a [u8]),
    /// Bytes that are no valid entry, with their frame.
    Damaged(&'a [u8]),
}

/// Iterates over all parts of a segment with their offsets. Together they are the whole segment.
///
/// Accepts any bytes. After a damaged entry it continues with the next one, which it finds by the
/// damaged entry's length. It never searches for an entry: a payload may contain bytes that look like
/// one, and they come from strangers. If the length is damaged too, the rest of the segment is one
/// damaged part.
#[derive(Debug, Clone)]
pub struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Parts<'a> {
    /// Starts at the first part of a segment.
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self::from_offset(bytes, 0)
    }

    /// Starts at an offset that an iterator over the same segment has returned.
    pub const fn from_offset(bytes: &'a [u8], offset: usize) -> Self {
        Self { bytes, at: offset }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = (usize, Part<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (offset, rest) = (self.at, self.bytes.get(self.at..)?);
        if rest.is_empty() {
            return None;
        }
        let part = match valid_payload(rest) {
            Some(payload) => {
                self.at += FRAME_BYTES + payload.len();
                Part::Entry(payload)
            }
            None => {
                let length = damaged_length(rest).unwrap_or(rest.len());
                self.at += length;
                Part::Damaged(&rest[..length])
            }
        };
        Some((offset, part))
    }
}

/// Returns how many bytes are before the next valid entry or the end, if the lengths lead there.
fn damaged_length(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += complete_frame(&rest[at..])?;
        if at == rest.len() || valid_payload(&rest[at..]).is_some() {
            return Some(at);
        }
    }
}

/// Returns whether `rest`, which begins with no valid entry, is what an interrupted write leaves. An
/// interrupted write has no successful one after it, so a valid entry anywhere in it means damage.
pub(crate) fn is_torn(rest: &[u8]) -> bool {
    matches!(Entries::of(rest).end(), End::Torn) && !contains_entry(rest)
}

/// Searches for a valid entry at every offset. Only to tell damage from an interrupted write; see
/// [`Parts`]. Gives up with `true` when it has computed too many checksums.
fn contains_entry(bytes: &[u8]) -> bool {
    let mut budget = 16 * bytes.len();
    (1..bytes.len()).any(|at| match complete_frame(&bytes[at..]) {
        None => false,
        Some(length) if length > budget => true,
        Some(length) => {
            budget -= length;
            valid_payload(&bytes[at..]).is_some()
        }
    })
}

/// Returns the payload of the entry at the beginning of `bytes`.
fn valid_payload(bytes: &[u8]) -> Option<&[u8]> {
    Entries::of(bytes).next()
}

/// Returns the length of the frame and payload at the beginning of `bytes`, if they are complete.
fn complete_frame(bytes: &[u8]) -> Option<usize> {
    let length = payload_length(bytes).filter(|length| (1..=MAX_PAYLOAD_BYTES).contains(length))?;
    (bytes.len() >= FRAME_BYTES + length).then_some(FRAME_BYTES + length)
}

/// Returns the payload length in a frame, or `None` if the frame is incomplete.
fn payload_length(bytes: &[u8]) -> Option<usize> {
    bytes.get(..FRAME_BYTES)?;
    usize::try_from(u32::from_le_bytes(*bytes.first_chunk::<4>()?)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        payloads.iter().for_each(|payload| write_entry(payload, &mut bytes));
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, End) {
        let mut entries = Entries::of(bytes);
        let found = entries.by_ref().map(<[u8]>::to_vec).collect();
        (found, entries.end())
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..8)
    }

    proptest! {
        #[test]
        fn a_segment_returns_the_payloads_written_to_it(payloads in payloads()) {
            prop_assert_eq!(read(&segment(&payloads)), (payloads, End::Clean));
        }

        #[test]
        fn a_truncated_segment_loses_only_entries_after_the_cut(
            payloads in payloads(), cut in any::<prop::sample::Index>(),
        ) {
            let whole = segment(&payloads);
            let cut = cut.index(whole.len());
            let (found, end) = read(&whole[..cut]);
            prop_assert!(payloads.starts_with(&found));
            let complete = segment(&found).len();
            prop_assert_eq!(end, if complete == cut { End::Clean } else { End::Torn });
        }

        #[test]
        fn an_entry_with_a_flipped_bit_is_never_returned(
            payloads in payloads(), at in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let mut bytes = segment(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (found, end) = read(&bytes);
            prop_assert!(found.len() < payloads.len() && payloads.starts_with(&found));
            prop_assert_ne!(end, End::Clean);
        }

        #[test]
        fn arbitrary_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            read(&bytes);
        }
    }

    proptest! {
        #[test]
        fn all_entries_but_a_damaged_one_are_found(
            payloads in payloads(), damaged in any::<prop::sample::Index>(), bit in 0..8u8,
        ) {
            let damaged = damaged.index(payloads.len());
            let mut bytes = segment(&payloads);
            let offset = segment(&payloads[..damaged]).len();
            bytes[offset + FRAME_BYTES] ^= 1 << bit;
            let parts: Vec<_> = Parts::of(&bytes).collect();
            prop_assert_eq!(parts.len(), payloads.len());
            for (number, (at, part)) in parts.into_iter().enumerate() {
                prop_assert_eq!(at, segment(&payloads[..number]).len());
                match part {
                    Part::Entry(payload) => prop_assert_eq!(payload, &payloads[number][..]),
                    Part::Damaged(frame) => {
                        prop_assert_eq!(number, damaged);
                        prop_assert_eq!(frame.len(), FRAME_BYTES + payloads[number].len());
                    }
                }
            }
        }

        #[test]
        fn the_parts_of_any_bytes_are_all_of_them(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let lengths = Parts::of(&bytes).map(|(_, part)| match part {
                Part::Entry(payload) => FRAME_BYTES + payload.len(),
                Part::Damaged(part) => part.len(),
            });
            prop_assert_eq!(lengths.sum::<usize>(), bytes.len());
        }
    }

    #[test]
    fn a_damaged_length_is_not_taken_for_an_interrupted_write() {
        let mut bytes = segment(&[b"one".to_vec(), b"two".to_vec()]);
        bytes[1] = 1; // the first entry now seems to have 259 bytes
        assert_eq!(read(&bytes).1, End::Torn, "by its length alone");
        assert!(!is_torn(&bytes), "but a valid entry follows");
        assert_eq!(Parts::of(&bytes).collect::<Vec<_>>(), [(0, Part::Damaged(&bytes[..]))]);
        assert!(is_torn(&bytes[..11]));
        assert!(is_torn(&[0; 50]));
    }

    #[test]
    fn zero_bytes_after_the_last_entry_are_a_torn_write() {
        let mut bytes = segment(&[b"one".to_vec()]);
        bytes.extend([0; 100]);
        assert_eq!(read(&bytes), (vec![b"one".to_vec()], End::Torn));
    }
}
