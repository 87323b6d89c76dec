//! An encoder for ClickHouse's Native format. Columns grow as rows are added. A finished block is a
//! list of buffers that are sent without being copied.
//!
//! Sources: <https://clickhouse.com/docs/interfaces/formats/Native>, and the serializations in
//! ClickHouse's `src/DataTypes/Serializations/` (`SerializationLowCardinality`,
//! `SerializationArray`, `SerializationMap`, `SerializationNullable`). `tests/it/native.rs`
//! compares our output with that of a server byte by byte. Over HTTP, without
//! `client_protocol_version`, a block is
//!
//! ```text
//! varint columns · varint rows · per column: name · type · data        (names as varint length + bytes)
//! ```

mod collections;
mod dictionary;
mod low_cardinality;

use bytes::Bytes;

pub use collections::{NumberMap, StringArray, StringMap};
pub use low_cardinality::{LowCardinality, LowCardinalityArray};

/// A finished block: the bytes of one `INSERT … FORMAT Native`, in pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    pub rows: usize,
    /// The bytes, in order. They are reference-counted, so cloning is cheap.
    pub pieces: Vec<Bytes>,
}

impl Block {
    /// Returns the number of bytes.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// A column of a block that is being built. Every row adds one value to each column.
pub trait Column: Default {
    /// The type, as ClickHouse writes it.
    const TYPE: &'static str;

    /// Moves the data of the column to `out`. The column is empty afterwards.
    fn write(&mut self, out: &mut BlockWriter);
}

/// Collects the pieces of a block. Small buffers are copied together, large ones become pieces
/// without being copied.
#[derive(Default)]
pub struct BlockWriter {
    pieces: Vec<Bytes>,
    tail: Vec<u8>,
    rows: usize,
}

/// The size in bytes from which a buffer becomes a piece without being copied.
const LARGE: usize = 16 * 1024;

impl BlockWriter {
    /// Starts a block with its header.
    pub fn new(columns: usize, rows: usize) -> Self {
        let mut writer = Self { rows, ..Self::default() };
        varint(&mut writer.tail, columns);
        varint(&mut writer.tail, rows);
        writer
    }

    /// Adds a column to the block. The column is empty afterwards.
    pub fn column<C: Column>(&mut self, name: &str, column: &mut C) {
        string(&mut self.tail, name.as_bytes());
        string(&mut self.tail, C::TYPE.as_bytes());
        column.write(self);
    }

    /// Returns the finished block.
    pub fn finish(mut self) -> Block {
        self.flush_tail();
        Block { rows: self.rows, pieces: self.pieces }
    }

    fn u64(&mut self, value: usize) {
        self.tail.extend_from_slice(&(value as u64).to_le_bytes());
    }

    /// Moves the bytes of a buffer to the block.
    fn append(&mut self, buffer: &mut Vec<u8>) {
        if buffer.len() < LARGE {
            self.tail.append(buffer);
        } else {
            self.flush_tail();
            self.pieces.push(std::mem::take(buffer).into());
        }
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(std::mem::take(&mut self.tail).into());
        }
    }
}

/// Appends a number as LEB128, the encoding of all lengths in the format.
fn varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// `String`. The values need not be UTF-8.
#[derive(Debug, Default)]
pub struct Strings(Vec<u8>);

impl Strings {
    /// Adds a value.
    pub fn push(&mut self, bytes: &[u8]) {
        string(&mut self.0, bytes);
    }
}

impl Column for Strings {
    const TYPE: &'static str = "String";

    fn write(&mut self, out: &mut BlockWriter) {
        out.append(&mut self.0);
    }
}

macro_rules! fixed {
    ($($(#[$doc:meta])+ $name:ident($value:ty) = $type:literal;)+) => {$(
        $(#[$doc])+
        #[derive(Debug, Default)]
        pub struct $name(Vec<u8>);

        impl $name {
            /// Adds a value.
            pub fn push(&mut self, value: $value) {
                self.0.extend_from_slice(&value.to_le_bytes());
            }
        }

        impl Column for $name {
            const TYPE: &'static str = $type;

            fn write(&mut self, out: &mut BlockWriter) {
                out.append(&mut self.0);
            }
        }
    )+};
}

fixed! {
    /// `UInt16`.
    U16(u16) = "UInt16";
    /// `UInt32`.
    U32(u32) = "UInt32";
    /// `UInt64`.
    U64(u64) = "UInt64";
    /// `Float32`.
    F32(f32) = "Float32";
    /// `Float64`.
    F64(f64) = "Float64";
    /// `DateTime64(6, 'UTC')`: microseconds since the Unix epoch.
    Micros(i64) = "DateTime64(6, 'UTC')";
}

impl Micros {
    /// Returns the values added so far.
    pub fn values(&self) -> impl Iterator<Item = i64> {
        self.0.as_chunks().0.iter().map(|&value| i64::from_le_bytes(value))
    }
}

/// `Bool`.
#[derive(Debug, Default)]
pub struct Bools(Vec<u8>);

impl Bools {
    /// Adds a value.
    pub fn push(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }
}

impl Column for Bools {
    const TYPE: &'static str = "Bool";

    fn write(&mut self, out: &mut BlockWriter) {
        out.append(&mut self.0);
    }
}

macro_rules! nullable {
    ($($(#[$doc:meta])+ $name:ident($value:ty) = $type:literal;)+) => {$(
        $(#[$doc])+
        #[derive(Debug, Default)]
        pub struct $name {
            nulls: Vec<u8>,
            values: Vec<u8>,
        }

        impl $name {
            /// Adds a value.
            pub fn push(&mut self, value: Option<$value>) {
                self.nulls.push(u8::from(value.is_none()));
                self.values.extend_from_slice(&value.unwrap_or_default().to_le_bytes());
            }
        }

        impl Column for $name {
            const TYPE: &'static str = $type;

            fn write(&mut self, out: &mut BlockWriter) {
                out.append(&mut self.nulls);
                out.append(&mut self.values);
            }
        }
    )+};
}

nullable! {
    /// `Nullable(UInt32)`.
    NullableU32(u32) = "Nullable(UInt32)";
    /// `Nullable(Int64)`.
    NullableI64(i64) = "Nullable(Int64)";
    /// `Nullable(Float64)`.
    NullableF64(f64) = "Nullable(Float64)";
    /// `Nullable(DateTime64(6, 'UTC'))`.
    NullableMicros(i64) = "Nullable(DateTime64(6, 'UTC'))";
}

/// `Nullable(Bool)`.
#[derive(Debug, Default)]
pub struct NullableBools {
    nulls: Vec<u8>,
    values: Vec<u8>,
}

impl NullableBools {
    /// Adds a value.
    pub fn push(&mut self, value: Option<bool>) {
        self.nulls.push(u8::from(value.is_none()));
        self.values.push(u8::from(value.unwrap_or_default()));
    }
}

impl Column for NullableBools {
    const TYPE: &'static str = "Nullable(Bool)";

    fn write(&mut self, out: &mut BlockWriter) {
        out.append(&mut self.nulls);
        out.append(&mut self.values);
    }
}

/// Returns the name of a column from the name of its field. The field of a column whose name is a word of Rust begins
/// with `r#`.
pub(crate) const fn column_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Declares the columns of a table: a struct with one field per column, in the order they are sent.
macro_rules! columns {
    ($(#[$doc:meta])* $table:ident { $($name:ident: $column:ty),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $table {
            rows: usize,
            $($name: $column,)+
        }

        impl $table {
            /// The names and types of the columns that are sent, in order.
            pub const COLUMNS: &'static [(&'static str, &'static str)] = &[$((
                $crate::native::column_name(stringify!($name)),
                <$column as $crate::native::Column>::TYPE,
            )),+];

            /// Takes all rows and returns them as a block.
            pub fn finish(&mut self) -> $crate::native::Block {
                let rows = std::mem::take(&mut self.rows);
                let mut out = $crate::native::BlockWriter::new(Self::COLUMNS.len(), rows);
                $(out.column($crate::native::column_name(stringify!($name)), &mut self.$name);)+
                out.finish()
            }
        }
    };
}
pub(crate) use columns;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128() {
        let encoded = |number| {
            let mut out = Vec::new();
            varint(&mut out, number);
            out
        };
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(127), [0x7f]);
        assert_eq!(encoded(128), [0x80, 1]);
        assert_eq!(encoded(50_000), [0xd0, 0x86, 3]);
    }

    #[test]
    fn large_buffers_become_pieces_of_their_own() {
        columns!(One { text: Strings, number: U16 });
        let mut one = One::default();
        let long = vec![b'x'; LARGE];
        for value in [&b"a"[..], &long] {
            one.text.push(value);
            one.number.push(7);
            one.rows += 1;
        }
        let block = one.finish();
        assert_eq!((block.rows, block.pieces.len()), (2, 3));
        let mut expected = b"\x02\x02\x04text\x06String\x01a\x80\x80\x01".to_vec();
        expected.extend_from_slice(&long);
        expected.extend_from_slice(b"\x06number\x06UInt16\x07\0\x07\0");
        assert_eq!(block.pieces.concat(), expected);
        assert_eq!(block.bytes(), expected.len());
        assert_eq!(one.finish().rows, 0, "the columns are empty afterwards");
    }
}
