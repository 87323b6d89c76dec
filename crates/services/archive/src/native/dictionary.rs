//! The distinct values of a `LowCardinality` column, numbered in the order they came.

use super::varint;

const EMPTY: u32 = u32::MAX;

/// Distinct byte strings. Their bytes lie in one buffer in the very form they are sent, so a value
/// seen before costs a hash and a comparison, and a new one no allocation of its own.
#[derive(Debug)]
pub(super) struct Dictionary {
    /// Every value as the format has it: varint length, bytes.
    sent: Vec<u8>,
    /// Where the bytes of each value lie in `sent`.
    places: Vec<(usize, usize)>,
    /// Open addressing: numbers of values, or [`EMPTY`]. A power of two, at most half full.
    slots: Vec<u32>,
}

impl Default for Dictionary {
    /// Value 0 is the empty string: ClickHouse's own dictionaries begin with the type's default.
    fn default() -> Self {
        let mut dictionary = Self { sent: Vec::new(), places: Vec::new(), slots: vec![EMPTY; 64] };
        dictionary.number(b"");
        dictionary
    }
}

impl Dictionary {
    /// The number of a value, which is new if need be.
    pub(super) fn number(&mut self, value: &[u8]) -> u32 {
        let slot = self.find(value);
        if self.slots[slot] != EMPTY {
            return self.slots[slot];
        }
        let number = self.places.len() as u32;
        varint(&mut self.sent, value.len());
        self.places.push((self.sent.len(), value.len()));
        self.sent.extend_from_slice(value);
        self.slots[slot] = number;
        if self.places.len() * 2 > self.slots.len() {
            self.grow();
        }
        number
    }

    /// A value by its number.
    pub(super) fn value(&self, number: u32) -> &[u8] {
        let (start, length) = self.places[number as usize];
        &self.sent[start..start + length]
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// All of them as they are sent.
    pub(super) fn into_sent(self) -> Vec<u8> {
        self.sent
    }

    /// The slot that holds a value, or the empty one it belongs in.
    fn find(&self, value: &[u8]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = hash(value) as usize & mask;
        while self.slots[slot] != EMPTY && self.value(self.slots[slot]) != value {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let room = self.slots.len() * 4;
        self.slots.clear();
        self.slots.resize(room, EMPTY);
        for number in 0..self.places.len() as u32 {
            let slot = self.find(self.value(number));
            self.slots[slot] = number;
        }
    }
}

/// Multiply and fold, eight bytes at a time: short keys, millions a second. Not for keys that an
/// adversary picks to collide, which here would have to be signed by a customer's own provider.
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
    fn values_keep_their_number_while_it_grows() {
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
    fn values_that_differ_only_in_zero_bytes_are_two() {
        let mut dictionary = Dictionary::default();
        assert_ne!(dictionary.number(b"a"), dictionary.number(b"a\0"));
        assert_ne!(dictionary.number(b"\0"), 0);
    }
}
