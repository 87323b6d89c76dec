//! Extracts the signed body from the bytes after the head of a captured request.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName};

use super::CaptureError;

/// The limit of an unpacked body, which is more than any provider's limit.
const MAX_BYTES: u64 = 64 << 20;

/// Joins chunks and unpacks gzip according to the headers. The program that captured the request
/// may have done this already without changing the headers. Then the bytes stay unchanged, and
/// there is a note.
pub(super) fn read(
    headers: &HeaderMap,
    rest: &[u8],
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, CaptureError> {
    let body = if has_token(headers, &TRANSFER_ENCODING, "chunked") {
        join_chunks(rest).unwrap_or_else(|| {
            notes.push(
                "the headers say `chunked`, but the body is not chunked: used unchanged".to_owned(),
            );
            rest.to_vec()
        })
    } else {
        cut_to_length(headers, rest, notes)?.to_vec()
    };
    if !has_token(headers, &CONTENT_ENCODING, "gzip") {
        return Ok(body);
    }
    if !body.starts_with(&[0x1f, 0x8b]) {
        notes.push("the headers say `gzip`, but the body is not packed: used unchanged".to_owned());
        return Ok(body);
    }
    notes.push(format!(
        "{} bytes of gzip were unpacked: the signature is over the unpacked body",
        body.len()
    ));
    unpack(&body)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// Removes bytes after `Content-Length`, and adds a note if bytes are missing.
fn cut_to_length<'b>(
    headers: &HeaderMap,
    rest: &'b [u8],
    notes: &mut Vec<String>,
) -> Result<&'b [u8], CaptureError> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(rest) };
    let length: usize = length
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or(CaptureError::Body("Content-Length is not a number"))?;
    let surplus = rest.len().saturating_sub(length);
    if surplus > 0 {
        notes.push(format!("{surplus} bytes after Content-Length are ignored"));
    } else if rest.len() < length {
        notes.push(format!(
            "Content-Length is {length}, but there are {} bytes: part of the body is missing",
            rest.len()
        ));
    }
    Ok(&rest[..rest.len() - surplus])
}

/// Joins chunks (RFC 9112 §7.1), without extensions and trailers. Returns `None` if the body is not
/// chunked.
fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = &rest[end + 1..];
        if size == 0 {
            return Some(body);
        }
        let (chunk, after) = rest.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").or_else(|| after.strip_prefix(b"\n"))?;
    }
}

fn unpack(body: &[u8]) -> Result<Vec<u8>, CaptureError> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(body)
        .take(MAX_BYTES + 1)
        .read_to_end(&mut plain)
        .map_err(|_| CaptureError::Body("it is not valid gzip, contrary to its headers"))?;
    if plain.len() as u64 > MAX_BYTES {
        return Err(CaptureError::Body("it is more than 64 MiB when unpacked"));
    }
    Ok(plain)
}
