use super::dictionary::Dictionary;
use super::{BlockWriter, Column};

/// `KeysSerializationVersion::SharedDictionariesWithAdditionalKeys`, the only version.
const KEYS_VERSION: usize = 1;
/// `HasAdditionalKeysBit` and `NeedUpdateDictionary`: the keys follow, and replace all earlier
/// ones. The low byte is the width of the indexes: 0, 1 or 2 for one, two or four bytes.
const FLAGS: usize = 1 << 9 | 1 << 10;

/// `LowCardinality(String)`. Each distinct value is stored once, and a number per row.
#[derive(Debug, Default)]
pub struct LowCardinality {
    dictionary: Dictionary,
    /// For each row, the number of its value.
    numbers: Vec<u32>,
    last: u32,
}

impl LowCardinality {
    /// Adds a value.
    pub fn push(&mut self, value: &str) {
        // Consecutive rows mostly have the same tenant, provider and so on.
        if self.dictionary.value(self.last) != value.as_bytes() {
            self.last = self.dictionary.number(value.as_bytes());
        }
        self.numbers.push(self.last);
    }

    fn write_version(out: &mut BlockWriter) {
        out.u64(KEYS_VERSION);
    }

    /// Writes keys and indexes; nothing if there are no rows.
    fn write_rows(&mut self, out: &mut BlockWriter) {
        let Self { dictionary, numbers, .. } = std::mem::take(self);
        if numbers.is_empty() {
            return;
        }
        let keys = dictionary.len();
        let width = match keys {
            0..=0xff => 0,
            0x100..=0xffff => 1,
            _ => 2,
        };
        out.u64(FLAGS | width);
        out.u64(keys);
        out.append(&mut dictionary.into_encoded());
        out.u64(numbers.len());
        out.append(&mut match width {
            0 => numbers.iter().map(|&number| number as u8).collect(),
            1 => numbers.iter().flat_map(|&number| (number as u16).to_le_bytes()).collect(),
            _ => numbers.iter().flat_map(|&number| number.to_le_bytes()).collect(),
        });
    }
}

impl Column for LowCardinality {
    const TYPE: &'static str = "LowCardinality(String)";

    fn write(&mut self, out: &mut BlockWriter) {
        Self::write_version(out);
        self.write_rows(out);
    }
}

/// `Array(LowCardinality(String))`.
#[derive(Debug, Default)]
pub struct LowCardinalityArray {
    /// For each row, the number of values in all rows up to and including it.
    ends: Vec<u8>,
    values: LowCardinality,
}

impl LowCardinalityArray {
    /// Adds a row with these values.
    pub fn push<'a>(&mut self, values: impl Iterator<Item = &'a str>) {
        values.for_each(|value| self.values.push(value));
        self.ends.extend_from_slice(&(self.values.numbers.len() as u64).to_le_bytes());
    }
}

impl Column for LowCardinalityArray {
    const TYPE: &'static str = "Array(LowCardinality(String))";

    fn write(&mut self, out: &mut BlockWriter) {
        // The version of the inner type precedes the data of the outer type.
        LowCardinality::write_version(out);
        out.append(&mut self.ends);
        self.values.write_rows(out);
    }
}
