//! A segment's bytes: records one after the other, each `length`, `checksum`, payload.
//!
//! `length` is the payload's, 4 bytes little-endian, never 0. `checksum` is CRC-32 (ISO-HDLC, as in
//! gzip) over the 4 bytes of the length and the payload, 4 bytes little-endian. There is no header
//! and no trailer: every prefix that ends between two records is a whole segment.

/// Bytes of a record beside its payload.
pub const FRAME_BYTES: usize = 8;
/// The longest payload: more than any webhook body that is accepted.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With its last record.
    Clean,
    /// In the middle of a record, as a write that was cut off leaves it. Such a record was never
    /// confirmed to anybody.
    Torn,
    /// In bytes that are no record though there are enough of them: the disk lost or changed some.
    Damaged,
}

/// Appends a record to a buffer.
///
/// The payload must not be empty and not be longer than [`MAX_PAYLOAD_BYTES`].
pub(crate) fn write(payload: &[u8], buffer: &mut Vec<u8>) {
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

/// The records of a segment, up to the first that is not whole.
///
/// Total: any bytes give some records, and then [`Records::end`] says how they end.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl<'a> Records<'a> {
    /// The records of these bytes.
    pub const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, read: 0 }
    }

    /// Bytes of the records read so far.
    pub const fn read_bytes(&self) -> usize {
        self.read
    }

    /// How the bytes end, once the iterator has.
    pub fn end(&self) -> End {
        let rest = &self.bytes[self.read..];
        if rest.is_empty() {
            return End::Clean;
        }
        // A file system may have extended the file and not yet written what belongs there.
        let is_blank = rest.iter().all(|&byte| byte == 0);
        match announced(rest) {
            _ if is_blank => End::Torn,
            None => End::Torn,
            Some(length) if length > MAX_PAYLOAD_BYTES || length == 0 => End::Damaged,
            Some(length) if rest.len() < FRAME_BYTES + length => End::Torn,
            Some(_) => End::Damaged,
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.read..];
        let length = announced(rest).filter(|length| (1..=MAX_PAYLOAD_BYTES).contains(length))?;
        let payload = rest.get(FRAME_BYTES..FRAME_BYTES + length)?;
        let (frame, written) = (rest.first_chunk::<4>()?, rest.get(4..)?.first_chunk::<4>()?);
        if checksum(*frame, payload) != u32::from_le_bytes(*written) {
            return None;
        }
        self.read += FRAME_BYTES + length;
        Some(payload)
    }
}

/// The payload's length that a frame announces, if the frame is there.
fn announced(bytes: &[u8]) -> Option<usize> {
    bytes.get(..FRAME_BYTES)?;
    usize::try_from(u32::from_le_bytes(*bytes.first_chunk::<4>()?)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        payloads.iter().for_each(|payload| write(payload, &mut bytes));
        bytes
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, End) {
        let mut records = Records::of(bytes);
        let found = records.by_ref().map(<[u8]>::to_vec).collect();
        (found, records.end())
    }

    fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..8)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(payloads in payloads()) {
            prop_assert_eq!(read(&segment(&payloads)), (payloads, End::Clean));
        }

        #[test]
        fn a_cut_loses_the_records_behind_it_only(payloads in payloads(), cut in any::<prop::sample::Index>()) {
            let whole = segment(&payloads);
            let cut = cut.index(whole.len());
            let (found, end) = read(&whole[..cut]);
            prop_assert!(payloads.starts_with(&found));
            let kept = segment(&found).len();
            prop_assert_eq!(end, if kept == cut { End::Clean } else { End::Torn });
        }

        #[test]
        fn a_changed_bit_is_never_read_as_a_record(
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
        fn any_bytes_are_read_to_some_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }
    }

    #[test]
    fn blank_bytes_behind_the_last_record_are_a_torn_write() {
        let mut bytes = segment(&[b"one".to_vec()]);
        bytes.extend([0; 100]);
        assert_eq!(read(&bytes), (vec![b"one".to_vec()], End::Torn));
    }
}
