use event::{CounterSet, DimensionDigests, OccurredAt};

use crate::HeaderError;
use crate::headers::names;

/// What `enrich` tells `dedupe` only: the value of the header `for-dedupe`. One header instead of three,
/// because each header of a record costs about a hundred nanoseconds in every service that reads it.
///
/// | bytes | content |
/// |---|---|
/// | 1 | bit 0: the next field is known; bit 1: the last field is present |
/// | 4 | what the event would count for: the bits of a [`CounterSet`], little endian |
/// | 10 | the [`DimensionDigests`] |
/// | 8 | the send time: UTC microseconds, little endian |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ForDedupe {
    /// What the event counts for if it is the first of its kind for its message and recipient. `None` if
    /// it counts for nothing, because its request was not verified.
    pub would_count: Option<CounterSet>,
    /// Digests of the values by which scopes are formed.
    pub digests: DimensionDigests,
    /// When the provider began to send the message.
    pub sent_at: Option<OccurredAt>,
}

const COUNTS: u8 = 1;
const SENT_AT: u8 = 2;

impl ForDedupe {
    /// The greatest number of bytes of the value.
    pub const MAX_BYTES: usize = 23;

    /// Writes the value of the header to `buffer`, and returns it.
    pub fn write<'b>(&self, buffer: &'b mut [u8; Self::MAX_BYTES]) -> &'b [u8] {
        let Self { would_count, digests, sent_at } = self;
        let counts = if would_count.is_some() { COUNTS } else { 0 };
        let sent = if sent_at.is_some() { SENT_AT } else { 0 };
        buffer[0] = counts | sent;
        buffer[1..5].copy_from_slice(&would_count.unwrap_or_default().bits().to_le_bytes());
        buffer[5..15].copy_from_slice(&digests.to_bytes());
        match sent_at {
            Some(at) => {
                buffer[15..].copy_from_slice(&at.micros().to_le_bytes());
                buffer
            }
            None => &buffer[..15],
        }
    }

    /// Reads the value of the header.
    ///
    /// # Errors
    /// Fails if the value has another length or contains bits of unknown meaning.
    pub fn read(value: &[u8]) -> Result<Self, HeaderError> {
        Self::parse(value).ok_or(HeaderError(names::FOR_DEDUPE))
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (&flags, rest) = value.split_first()?;
        let (counts, rest) = rest.split_first_chunk()?;
        let (digests, rest) = rest.split_at_checked(10)?;
        let counts = CounterSet::from_bits(u32::from_le_bytes(*counts))?;
        let known = flags & COUNTS != 0;
        let sent_at = match (flags & SENT_AT != 0, rest) {
            (true, rest) => Some(OccurredAt(i64::from_le_bytes(rest.try_into().ok()?))),
            (false, []) => None,
            (false, _) => return None,
        };
        let is_valid = flags & !(COUNTS | SENT_AT) == 0 && (known || counts.is_empty());
        is_valid.then_some(Self {
            would_count: known.then_some(counts),
            digests: DimensionDigests::from_bytes(digests)?,
            sent_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use event::Counter;

    use super::*;

    #[test]
    fn values_are_read_as_they_were_written() {
        let counted = CounterSet::EMPTY.with(Counter::Delivered).with(Counter::Unclassified);
        for would_count in [None, Some(CounterSet::EMPTY), Some(counted)] {
            for sent_at in [None, Some(OccurredAt(-5)), Some(OccurredAt(i64::MAX))] {
                let digests = DimensionDigests([1, 2, 0, 0, 0xffff]);
                let value = ForDedupe { would_count, digests, sent_at };
                let mut buffer = [0xff; ForDedupe::MAX_BYTES];
                let bytes = value.write(&mut buffer);
                assert_eq!(ForDedupe::read(bytes), Ok(value));
                for length in 0..bytes.len() {
                    assert!(ForDedupe::read(&bytes[..length]).is_err(), "{length} bytes");
                }
                assert!(ForDedupe::read(&[bytes, &[0]].concat()).is_err());
            }
        }
        let mut unknown = [0; 15];
        unknown[0] = 4;
        assert!(ForDedupe::read(&unknown).is_err());
        unknown[..5].copy_from_slice(&[1, 0, 0, 0, 0x80]);
        assert!(ForDedupe::read(&unknown).is_err(), "no counter has this bit");
        unknown[..5].copy_from_slice(&[0, 1, 0, 0, 0]);
        assert!(ForDedupe::read(&unknown).is_err(), "counters without the flag");
    }

    /// Records of earlier releases contain this form.
    #[test]
    fn the_form_does_not_change() {
        let value = ForDedupe {
            would_count: Some(CounterSet::EMPTY.with(Counter::Delivered)),
            digests: DimensionDigests([1, 2, 3, 4, 0x0506]),
            sent_at: Some(OccurredAt(7)),
        };
        let bytes = value.write(&mut [0; ForDedupe::MAX_BYTES]).to_vec();
        let digests = value.digests.to_bytes();
        let expected = [&[3, 2, 0, 0, 0][..], &digests, &[7, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(bytes, expected);
    }
}
