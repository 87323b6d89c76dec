//! The distinct values of a `LowCardinality` column, numbered in the order in which they were
//! added.

use super::varint;

const EMPTY: u32 = u32::MAX;

/// A set of byte strings. All bytes are in one buffer, in the form in which they are sent. A known
/// value costs one hash and one comparison; a new value needs no allocation of its own.
#[derive(Debug)]
pub(super) struct Dictionary {
    /// The values in the Native format: varint length, bytes.
    encoded: Vec<u8>,
    /// The start and length of each value in `encoded`.
    spans: Vec<(usize, usize)>,
    /// A hash table with open addressing: numbers of values, or [`EMPTY`]. Its length is a power of
    /// two, and at most half of it is used.
    slots: Vec<u32>,
}

impl Default for Dictionary {
    /// Value 0 is the empty string, because ClickHouse's dictionaries start with the type's
    /// default.
    fn default() -> Self {
        let mut dictionary =
            Self { encoded: Vec::new(), spans: Vec::new(), slots: vec![EMPTY; 64] };
        dictionary.number(b"");
        dictionary
    }
}

impl Dictionary {
    /// Returns the number of a value, and adds the value if it is new.
    pub(super) fn number(&mut self, value: &[u8]) -> u32 {
        let slot = self.find(value);
        if self.slots[slot] != EMPTY {
            return self.slots[slot];
        }
        let number = self.spans.len() as u32;
        varint(&mut self.encoded, value.len());
        self.spans.push((self.encoded.len(), value.len()));
        self.encoded.extend_from_slice(value);
        self.slots[slot] = number;
        if self.spans.len() * 2 > self.slots.len() {
            self.grow();
        }
        number
    }

    /// Returns the value with this number.
    pub(super) fn value(&self, number: u32) -> &[u8] {
        let (start, length) = self.spans[number as usize];
        &self.encoded[start..start + length]
    }

    /// Returns the number of values.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Returns all values in the Native format.
    pub(super) fn into_encoded(self) -> Vec<u8> {
        self.encoded
    }

    /// Returns the slot of a value, or the empty slot for it.
    fn find(&self, value: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash(value) as usize & mask;
        while self.slots[slot] != EMPTY && self.value(self.slots[slot]) != value {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let slots = self.slots.len() * 4;
        self.slots.clear();
        self.slots.resize(slots, EMPTY);
        for number in 0..self.spans.len() as u32 {
            let slot = self.find(self.value(number));
            self.slots[slot] = number;
        }
    }
}

/// A multiply-and-fold hash over eight bytes at a time, fast for short keys. It does not resist
/// chosen collisions. It need not, because all values come from requests that a provider has
/// signed.
fn hash(value: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(FACTOR);
        (product as u64) ^ (product >> 64) as u64
    };
    let mut state = (value.len() as u64).wrapping_mul(FACTOR) ^ FACTOR;
    let (words, rest) = value.as_chunks::<8>();
    for word in words {
        state = mix(state, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(state, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_number_when_the_table_grows() {
        let mut dictionary = Dictionary::default();
        let text = |n: u32| format!("value {n} of a campaign");
        for n in 0..10_000 {
            assert_eq!(dictionary.number(text(n).as_bytes()), n + 1);
        }
        for n in 0..10_000 {
            assert_eq!(dictionary.number(text(n).as_bytes()), n + 1);
            assert_eq!(dictionary.value(n + 1), text(n).as_bytes());
        }
        assert_eq!(dictionary.number(b""), 0);
        assert_eq!(dictionary.len(), 10_001);
    }

    #[test]
    fn values_that_differ_only_in_zero_bytes_are_distinct() {
        let mut dictionary = Dictionary::default();
        assert_ne!(dictionary.number(b"a"), dictionary.number(b"a\0"));
        assert_ne!(dictionary.number(b"\0"), 0);
    }
}
