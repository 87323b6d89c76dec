//! The body behind a head: how much of what follows it is, and what was signed of it.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName};

use super::NotARequest;

/// What a body may grow to when it is unpacked: more than any provider's limit.
const MAX_BYTES: u64 = 64 << 20;

/// Unwraps what follows the head. A capture may have been unwrapped by whoever made it and still
/// have the headers of before: then the bytes are taken as they are, and a note says so.
pub(super) fn read(
    headers: &HeaderMap,
    rest: &[u8],
    notes: &mut Vec<String>,
) -> Result<Vec<u8>, NotARequest> {
    let body = if has_token(headers, &TRANSFER_ENCODING, "chunked") {
        dechunked(rest).unwrap_or_else(|| {
            notes.push(
                "the headers say `chunked` and the body is not: taken as it stands".to_owned(),
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
        notes.push("the headers say `gzip` and the body is not: taken as it stands".to_owned());
        return Ok(body);
    }
    notes.push(format!(
        "{} bytes of gzip were unpacked: the signature is over what was in them",
        body.len()
    ));
    unzipped(&body)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// Decides where the capture says how long the body is, and there is more.
fn cut_to_length<'b>(
    headers: &HeaderMap,
    rest: &'b [u8],
    notes: &mut Vec<String>,
) -> Result<&'b [u8], NotARequest> {
    let Some(length) = headers.get(CONTENT_LENGTH) else { return Ok(rest) };
    let length: usize = length
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or(NotARequest::Body("Content-Length is not a number"))?;
    let surplus = rest.len().saturating_sub(length);
    if surplus > 0 {
        notes.push(format!("{surplus} bytes beyond Content-Length are left out"));
    } else if rest.len() < length {
        notes.push(format!(
            "Content-Length says {length} bytes and there are {}: part of the body is missing",
            rest.len()
        ));
    }
    Ok(&rest[..rest.len() - surplus])
}

/// Chunks joined (RFC 9112 §7.1); `None` where these are none. Extensions and trailers are skipped.
fn dechunked(mut rest: &[u8]) -> Option<Vec<u8>> {
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

fn unzipped(body: &[u8]) -> Result<Vec<u8>, NotARequest> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(body)
        .take(MAX_BYTES + 1)
        .read_to_end(&mut plain)
        .map_err(|_| NotARequest::Body("it is not the gzip that its headers say"))?;
    if plain.len() as u64 > MAX_BYTES {
        return Err(NotARequest::Body("it is more than 64 MiB when unpacked"));
    }
    Ok(plain)
}
