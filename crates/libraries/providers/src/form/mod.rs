//! Decodes `application/x-www-form-urlencoded` without loss: signatures cover the decoded bytes,
//! and the usual decoders replace bytes that are not UTF-8. [`multipart`] decodes the other type of
//! form.

mod multipart;

use std::borrow::Cow;

pub(crate) use multipart::multipart;

/// The decoded name and value of a field.
pub(crate) type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Returns the fields in the order of the body.
pub(crate) fn fields(body: &[u8]) -> impl Iterator<Item = Field<'_>> {
    body.split(|&byte| byte == b'&').filter(|field| !field.is_empty()).map(|field| {
        let mut halves = field.splitn(2, |&byte| byte == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        (decode(name), decode(value))
    })
}

/// Returns the fields if there are at most `limit`. They are counted before anything is decoded or
/// allocated, because a body of separators would otherwise become fields of many times its size.
pub(crate) fn at_most(body: &[u8], limit: usize) -> Option<Vec<Field<'_>>> {
    let named = |body: &&[u8]| !body.is_empty();
    let count = body.split(|&byte| byte == b'&').filter(named).take(limit + 1).count();
    (count <= limit).then(|| {
        let mut all = Vec::with_capacity(count);
        all.extend(fields(body));
        all
    })
}

/// Decodes `+` to a space and `%41` to `A`. A `%` without two digits is kept (URL standard §5.1).
fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'+', _) => (b' ', after),
            (b'%', [high, low, beyond @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, beyond),
                _ => (byte, after),
            },
            _ => (byte, after),
        };
        decoded.push(byte);
        rest = after;
    }
    Cow::Owned(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For UTF-8 there is an independent decoder to compare with.
        #[test]
        fn agrees_with_the_url_standard(body in "[a-f0-9%+=&é ]{0,40}") {
            let ours: Vec<_> = fields(body.as_bytes()).collect();
            let theirs: Vec<_> = form_urlencoded::parse(body.as_bytes()).collect();
            prop_assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(theirs) {
                prop_assert_eq!(String::from_utf8_lossy(&ours.0), theirs.0);
                prop_assert_eq!(String::from_utf8_lossy(&ours.1), theirs.1);
            }
        }
    }

    #[test]
    fn too_many_fields_are_refused_and_not_decoded() {
        assert_eq!(at_most(b"a=1&&b=2&", 2).map(|fields| fields.len()), Some(2));
        assert_eq!(at_most(b"a=1&b=2&c=3", 2), None);
        assert_eq!(at_most(b"", 0), Some(Vec::new()));
        assert_eq!(at_most(&b"a&".repeat(1 << 20), 16), None);
    }

    #[test]
    fn every_byte_survives() {
        let bytes: Vec<u8> = (0..=255).collect();
        let body: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(decode(body.as_bytes()), bytes);
    }
}
