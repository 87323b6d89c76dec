//! The payload that the ingress spools for a request: its headers and its body.
//!
//! An entry is the length of the headers (4 bytes little-endian), the headers as a JSON object, and
//! the body. It contains the whole body instead of its events, so that a later release can still
//! split it.

use record::RawHeaders;

/// Returns the entry of a request.
///
/// # Errors
/// If the headers cannot be written as JSON, which does not happen.
pub fn encode(headers: &RawHeaders<'_>, body: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let mut entry = vec![0; 4];
    serde_json::to_writer(&mut entry, headers)?;
    let length = u32::try_from(entry.len() - 4).unwrap_or(u32::MAX);
    entry[..4].copy_from_slice(&length.to_le_bytes());
    entry.extend_from_slice(body);
    Ok(entry)
}

/// Returns the headers and the body, or `None` if this release cannot read the entry.
pub fn decode(entry: &[u8]) -> Option<(RawHeaders<'_>, &[u8])> {
    let (length, rest) = entry.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (headers, body) = rest.split_at_checked(length)?;
    Some((serde_json::from_slice(headers).ok()?, body))
}

#[cfg(test)]
mod tests {
    use event::{Provider, ReceivedAt};

    use super::*;

    const HEADERS: RawHeaders<'_> = RawHeaders {
        provider: Provider::Mailgun,
        source: "shop",
        received_at: ReceivedAt(1_795_255_200_123_456),
        request_id: "r1",
        authentic: true,
    };

    #[test]
    fn an_encoded_entry_is_decoded_to_the_same_request() {
        for body in [&b"\x00 not { json \xff"[..], b""] {
            let entry = encode(&HEADERS, body).unwrap();
            assert_eq!(decode(&entry), Some((HEADERS, body)));
        }
        let forged = RawHeaders { authentic: false, ..HEADERS };
        assert_eq!(decode(&encode(&forged, b"").unwrap()), Some((forged, &b""[..])));
        for cut in 0..10 {
            assert_eq!(decode(&encode(&HEADERS, b"").unwrap()[..cut]), None);
        }
    }

    #[test]
    fn the_format_stays_byte_for_byte_so_that_an_old_spool_can_be_drained() {
        let json = br#"{"provider":"mailgun","source":"shop","received_at":1795255200123456,"request_id":"r1"}"#;
        let entry = [&(json.len() as u32).to_le_bytes()[..], json, b"body"].concat();
        assert_eq!(encode(&HEADERS, b"body").unwrap(), entry);
        assert_eq!(decode(&entry), Some((HEADERS, &b"body"[..])));
    }
}
