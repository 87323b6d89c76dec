//! Columns whose values are maps or arrays. The format has the ends of all rows first, then the entries of all rows.

use super::{BlockWriter, Column, Strings, U16, U64};

/// Where the rows end among the entries of all rows.
#[derive(Debug, Default)]
struct Ends {
    /// For each row, the number of entries in all rows up to and including it.
    bytes: Vec<u8>,
    entries: u64,
}

impl Ends {
    fn count(&mut self) {
        self.entries += 1;
    }

    fn end_row(&mut self) {
        self.bytes.extend_from_slice(&self.entries.to_le_bytes());
    }

    fn write(&mut self, out: &mut BlockWriter) {
        self.entries = 0;
        out.append(&mut self.bytes);
    }
}

/// `Map(String, String)`. The values need not be UTF-8, and a key may occur several times.
#[derive(Debug, Default)]
pub struct StringMap {
    ends: Ends,
    keys: Strings,
    values: Strings,
}

impl StringMap {
    /// Adds a row with these entries.
    pub fn push<'a>(&mut self, entries: impl Iterator<Item = (&'a str, &'a [u8])>) {
        for (key, value) in entries {
            self.keys.push(key.as_bytes());
            self.values.push(value);
            self.ends.count();
        }
        self.ends.end_row();
    }
}

impl Column for StringMap {
    const TYPE: &'static str = "Map(String, String)";

    fn write(&mut self, out: &mut BlockWriter) {
        self.ends.write(out);
        self.keys.write(out);
        self.values.write(out);
    }
}

/// `Map(UInt16, UInt64)`, such as an offset by partition.
#[derive(Debug, Default)]
pub struct NumberMap {
    ends: Ends,
    keys: U16,
    values: U64,
}

impl NumberMap {
    /// Adds a row with these entries.
    pub fn push(&mut self, entries: impl Iterator<Item = (u16, u64)>) {
        for (key, value) in entries {
            self.keys.push(key);
            self.values.push(value);
            self.ends.count();
        }
        self.ends.end_row();
    }
}

impl Column for NumberMap {
    const TYPE: &'static str = "Map(UInt16, UInt64)";

    fn write(&mut self, out: &mut BlockWriter) {
        self.ends.write(out);
        self.keys.write(out);
        self.values.write(out);
    }
}

/// `Array(String)`. The values need not be UTF-8.
#[derive(Debug, Default)]
pub struct StringArray {
    ends: Ends,
    values: Strings,
}

impl StringArray {
    /// Adds a row with these values.
    pub fn push<'a>(&mut self, values: impl Iterator<Item = &'a str>) {
        for value in values {
            self.values.push(value.as_bytes());
            self.ends.count();
        }
        self.ends.end_row();
    }
}

impl Column for StringArray {
    const TYPE: &'static str = "Array(String)";

    fn write(&mut self, out: &mut BlockWriter) {
        self.ends.write(out);
        self.values.write(out);
    }
}
