//! ClickHouse's own compression framing (`compress=1`, `decompress=1`).
//!
//! A block is a CityHash128 (v1.0.2, 16 bytes little-endian, low half first) of all that follows
//! in it, a method byte, the compressed size with this 9-byte header, the uncompressed size (both
//! `u32` little-endian), and the data. Source: ClickHouse's documentation of the Native protocol,
//! "Compression".

use crate::exception::{Exception, code};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::io::{self, Read};

const CHECKSUM: usize = 16;
const HEADER: usize = 9;
const METHOD_NONE: u8 = 0x02;
const METHOD_LZ4: u8 = 0x82;
const METHOD_ZSTD: u8 = 0x90;
/// Uncompressed bytes of a written block (ClickHouse's `max_compress_block_size`).
const BLOCK: usize = 1024 * 1024;
/// The largest size of a block, compressed or uncompressed, that ClickHouse accepts.
const LIMIT: usize = 0x4000_0000;

/// Returns the data as LZ4 blocks.
pub(crate) fn compress(data: &[u8]) -> io::Result<Bytes> {
    let mut framed = BytesMut::new();
    for chunk in data.chunks(BLOCK) {
        let compressed = lz4_flex::block::compress(chunk);
        let mut block = BytesMut::with_capacity(HEADER + compressed.len());
        block.put_u8(METHOD_LZ4);
        block.put_u32_le(u32::try_from(HEADER + compressed.len()).map_err(io::Error::other)?);
        block.put_u32_le(u32::try_from(chunk.len()).map_err(io::Error::other)?);
        block.put_slice(&compressed);
        framed.put_u128_le(checksum(&block));
        framed.put(block);
    }
    Ok(framed.freeze())
}

fn checksum(block: &[u8]) -> u128 {
    cityhash_rs::cityhash_102_128(block).rotate_right(64)
}

/// Reads blocks and returns the data in them.
pub(crate) struct BlockReader<R> {
    source: R,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> BlockReader<R> {
    pub fn new(source: R) -> Self {
        Self { source, block: Vec::new(), at: 0 }
    }

    /// Reads the next block into `self.block`. Returns false at the end of the data.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut head = [0; CHECKSUM + HEADER];
        match fill(&mut self.source, &mut head)? {
            0 => return Ok(false),
            read if read < head.len() => return Err(truncated()),
            _ => {}
        }
        let expected = u128::from_le_bytes(array(&head[..CHECKSUM]));
        let method = head[CHECKSUM];
        let size = u32::from_le_bytes(array(&head[CHECKSUM + 1..CHECKSUM + 5])) as usize;
        let uncompressed = u32::from_le_bytes(array(&head[CHECKSUM + 5..])) as usize;
        if !(HEADER..=LIMIT).contains(&size) || uncompressed > LIMIT {
            return Err(Exception::new(
                code::TOO_LARGE_SIZE_COMPRESSED,
                format_args!("Bad sizes of a compressed block: {size} and {uncompressed} bytes"),
            )
            .into());
        }
        let mut framed = head[CHECKSUM..].to_vec();
        let data = size - HEADER;
        if (&mut self.source).take(data as u64).read_to_end(&mut framed)? < data {
            return Err(truncated());
        }
        let found = checksum(&framed);
        if found != expected {
            return Err(Exception::new(
                code::CHECKSUM_DOESNT_MATCH,
                format_args!("Checksum doesn't match: {found:032x} instead of {expected:032x}"),
            )
            .into());
        }
        self.block = decompress(method, &framed[HEADER..], uncompressed)?;
        self.at = 0;
        Ok(true)
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let count = buffer.len().min(self.block.len() - self.at);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

fn decompress(method: u8, data: &[u8], uncompressed: usize) -> io::Result<Vec<u8>> {
    let block = match method {
        METHOD_NONE => data.to_vec(),
        METHOD_LZ4 => {
            lz4_flex::block::decompress(data, uncompressed).map_err(|error| cannot(&error))?
        }
        METHOD_ZSTD => {
            zstd::bulk::decompress(data, uncompressed).map_err(|error| cannot(&error))?
        }
        other => {
            return Err(Exception::new(
                code::UNKNOWN_COMPRESSION_METHOD,
                format_args!("Unknown compression method of a block: {other:#04x}"),
            )
            .into());
        }
    };
    if block.len() == uncompressed {
        Ok(block)
    } else {
        Err(cannot(&"its size differs from the size in its header"))
    }
}

fn cannot(error: &dyn std::fmt::Display) -> io::Error {
    Exception::new(code::CANNOT_DECOMPRESS, format_args!("Cannot decompress a block: {error}"))
        .into()
}

fn truncated() -> io::Error {
    Exception::new(code::CANNOT_READ_ALL_DATA, "The last compressed block is truncated").into()
}

/// Fills the buffer as far as the source has bytes, and returns the count.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Copies a slice of exactly `N` bytes.
fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(slice);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(framed: &[u8]) -> Result<Vec<u8>, u32> {
        let mut data = Vec::new();
        BlockReader::new(framed)
            .read_to_end(&mut data)
            .map(|_| data)
            .map_err(|error| Exception::from(error).code())
    }

    #[test]
    fn blocks_round_trip() {
        for size in [0, 1, 1000, BLOCK, 2 * BLOCK + 7] {
            let data: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let framed = compress(&data).expect("compresses");
            assert_eq!(read(&framed).as_ref(), Ok(&data), "{size} bytes");
        }
    }

    #[test]
    fn uncompressed_blocks_are_read() {
        let mut block = vec![METHOD_NONE];
        block.put_u32_le(HEADER as u32 + 2);
        block.put_u32_le(2);
        block.extend_from_slice(b"1\n");
        let mut framed = checksum(&block).to_le_bytes().to_vec();
        framed.extend_from_slice(&block);
        assert_eq!(read(&framed), Ok(b"1\n".to_vec()));
    }

    #[test]
    fn damaged_blocks_are_errors() {
        let framed = compress(b"some data, some data, some data").expect("compresses").to_vec();
        for at in 0..framed.len() {
            let mut damaged = framed.clone();
            damaged[at] ^= 1;
            let error = read(&damaged).expect_err("damaged");
            assert!(
                [
                    code::CHECKSUM_DOESNT_MATCH,
                    code::CANNOT_READ_ALL_DATA,
                    code::TOO_LARGE_SIZE_COMPRESSED
                ]
                .contains(&error),
                "byte {at}: {error}"
            );
        }
        for length in 1..framed.len() {
            assert_eq!(read(&framed[..length]), Err(code::CANNOT_READ_ALL_DATA));
        }
    }
}
