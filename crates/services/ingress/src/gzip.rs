//! Decodes bodies with `Content-Encoding: gzip` (RFC 1952).

use std::io::Read;

use flate2::bufread::GzDecoder;

/// The body is not one valid gzip member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GzipError;

/// Header and trailer without optional fields.
const MIN_BYTES: usize = 18;
/// Deflate encodes at most this many bytes in one.
const MAX_RATIO: usize = 1032;

/// Returns the decoded length that the last four bytes state (RFC 1952 §2.3.1), modulo 2^32. It is
/// not verified; [`decode`] does that.
///
/// # Errors
/// Returns an error if so few bytes cannot contain so much.
pub(crate) fn decoded_length(encoded: &[u8]) -> Result<usize, GzipError> {
    let trailer = encoded.last_chunk::<4>().filter(|_| encoded.len() >= MIN_BYTES);
    let length = trailer.map(|length| u32::from_le_bytes(*length)).ok_or(GzipError)?;
    let length = usize::try_from(length).map_err(|_| GzipError)?;
    if length / MAX_RATIO > encoded.len() { Err(GzipError) } else { Ok(length) }
}

/// Decodes a body to exactly `length` bytes, and stops as soon as there are more.
///
/// We accept only one gzip member (§2.2): a body of a million empty members would cost us more than
/// its sender.
///
/// # Errors
/// Returns an error for any other input.
pub(crate) fn decode(encoded: &[u8], length: usize) -> Result<Vec<u8>, GzipError> {
    let mut decoder = GzDecoder::new(encoded);
    // One more byte shows that there is more.
    let mut decoded = Vec::with_capacity(length + 1);
    let limit = length as u64 + 1;
    decoder.by_ref().take(limit).read_to_end(&mut decoded).map_err(|_| GzipError)?;
    let is_whole = decoded.len() == length && decoder.into_inner().is_empty();
    if is_whole { Ok(decoded) } else { Err(GzipError) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode_all(encoded: &[u8]) -> Result<Vec<u8>, GzipError> {
        decode(encoded, decoded_length(encoded)?)
    }

    #[test]
    fn one_member_is_decoded() {
        for bytes in [&b""[..], b"x", &[0; 1 << 20]] {
            assert_eq!(decode_all(&encode(bytes)).as_deref(), Ok(bytes));
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        let good = encode(b"some text");
        for length in 0..good.len() {
            assert_eq!(decode_all(&good[..length]), Err(GzipError), "{length}");
        }
        assert_eq!(decode_all(&[&good[..], &good].concat()), Err(GzipError), "two members");
        assert_eq!(decode_all(&[&good[..], b"x"].concat()), Err(GzipError), "more bytes");
        let mut crc = good.clone();
        crc[good.len() - 8] ^= 1;
        assert_eq!(decode_all(&crc), Err(GzipError));
    }

    #[test]
    fn a_trailer_that_lies_ends_the_work_at_the_stated_length() {
        let mut bomb = encode(&[0; 1 << 20]);
        let end = bomb.len();
        bomb[end - 4..].copy_from_slice(&100_u32.to_le_bytes());
        assert_eq!(decode(&bomb, 100), Err(GzipError));
        bomb[end - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decoded_length(&bomb), Err(GzipError), "more than deflate can encode");
    }
}
