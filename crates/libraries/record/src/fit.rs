//! Cuts a dead letter to the largest record that Kafka accepts. A record that is too large must not
//! stop its partition, and neither must the dead letter about it.

use std::borrow::Cow;

use crate::{DeadLetter, names};

/// What Kafka's format adds to a record and to the batch around it, with room to spare: 61 bytes for
/// the batch and up to 36 for the record (<https://kafka.apache.org/documentation/#messageformat>).
const RECORD_OVERHEAD: usize = 256;
/// What the format adds to a header: two lengths of up to five bytes.
const HEADER_OVERHEAD: usize = 10;
/// The longest explanation of a dead letter that is cut, in bytes.
const MAX_DETAIL: usize = 1024;

/// The parts of a dead letter, cut if they had to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedDeadLetter<'a> {
    /// The key of the original record, or its beginning.
    pub key: &'a [u8],
    /// The value of the original record, or its beginning.
    pub value: Option<&'a [u8]>,
    /// The headers of the original record, if they fit, and those of the dead letter. The last one is
    /// [`names::TRUNCATED`] if anything is missing.
    pub headers: Vec<(&'a str, Cow<'a, [u8]>)>,
}

/// Returns an upper bound of the bytes that a record needs in an uncompressed batch of its own.
/// `headers` has the lengths of their names and values.
pub fn record_bytes(
    key: usize,
    value: usize,
    headers: impl Iterator<Item = (usize, usize)>,
) -> usize {
    let headers = headers.map(|(name, value)| name + value + HEADER_OVERHEAD);
    RECORD_OVERHEAD + key + value + headers.sum::<usize>()
}

/// Makes a dead letter of at most `max_bytes` by [`record_bytes`]. `max_bytes` is at least 8 KiB. If the
/// whole record does not fit, the explanation is cut, the headers of the original record are left out
/// if they need more than a quarter, the key is cut to a quarter, and the value to the rest.
pub fn fit<'a>(
    dead_letter: DeadLetter<'a>,
    key: &'a [u8],
    value: Option<&'a [u8]>,
    original_headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    max_bytes: usize,
) -> FittedDeadLetter<'a> {
    let borrowed = |(name, value)| (name, Cow::Borrowed(value));
    let original: Vec<(&str, Cow<'_, [u8]>)> = original_headers.map(borrowed).collect();
    let length = value.map_or(0, <[u8]>::len);
    let mut headers = original.clone();
    headers.extend(dead_letter.headers());
    if record_bytes(key.len(), length, lengths(&headers)) <= max_bytes {
        return FittedDeadLetter { key, value, headers };
    }
    let quarter = max_bytes / 4;
    let mut headers = original;
    if record_bytes(0, 0, lengths(&headers)) > quarter {
        headers.clear();
    }
    let detail = &dead_letter.detail[..dead_letter.detail.floor_char_boundary(MAX_DETAIL)];
    headers.extend(DeadLetter { detail, ..dead_letter }.headers());
    headers.push((names::TRUNCATED, Cow::Owned(length.to_string().into_bytes())));
    let key = &key[..key.len().min(quarter)];
    let rest = max_bytes.saturating_sub(record_bytes(key.len(), 0, lengths(&headers)));
    FittedDeadLetter { key, value: value.map(|value| &value[..value.len().min(rest)]), headers }
}

fn lengths(headers: &[(&str, Cow<'_, [u8]>)]) -> impl Iterator<Item = (usize, usize)> {
    headers.iter().map(|(name, value)| (name.len(), value.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeadLetterHeaders, Offset, Origin, Reason, Stage};

    const ROOM: usize = 8 << 10;

    fn dead_letter(detail: &str) -> DeadLetter<'_> {
        let origin = Origin { topic: "t", partition: 0, offset: Offset(1) };
        DeadLetter { stage: Stage::Enrich, reason: Reason::TooLarge, detail, origin: Some(origin) }
    }

    /// Returns the lengths of key and value, the number of headers, and the original length.
    fn fitted(
        detail: &str,
        key: usize,
        value: usize,
        header: usize,
    ) -> (usize, usize, usize, Option<u64>) {
        let (key, value, header) = (vec![b'k'; key], vec![b'v'; value], vec![b'h'; header]);
        let original = [("source", &header[..])];
        let fitted = fit(dead_letter(detail), &key, Some(&value), original.into_iter(), ROOM);
        let headers: Vec<_> =
            fitted.headers.iter().map(|(name, value)| (*name, &value[..])).collect();
        let (key, value) = (fitted.key.len(), fitted.value.unwrap().len());
        assert!(record_bytes(key, value, lengths(&fitted.headers)) <= ROOM);
        assert_eq!(DeadLetterHeaders::read(&headers).origin, "t/0/1", "the origin stays");
        let length = DeadLetterHeaders::original_length(&headers);
        let original = DeadLetterHeaders::original(&headers);
        assert!(original.iter().all(|(name, _)| *name == "source"), "{original:?}");
        (key, value, headers.len(), length)
    }

    #[test]
    fn a_dead_letter_that_fits_stays_whole() {
        assert_eq!(fitted("d", 10, 6_000, 20), (10, 6_000, 5, None));
    }

    #[test]
    fn the_value_is_cut_first_and_its_length_is_kept() {
        let (key, value, headers, length) = fitted("d", 10, 9_000, 20);
        assert_eq!((key, headers, length), (10, 6, Some(9_000)));
        assert!(value > 7_000, "{value} bytes: more was cut than necessary");
    }

    #[test]
    fn every_other_part_is_bounded_too() {
        assert_eq!(fitted("d", 10, 5, 9_000), (10, 5, 5, Some(5)));
        assert_eq!(fitted("d", 9_000, 5, 20), (ROOM / 4, 5, 6, Some(5)));
        let long = "ä".repeat(9_000);
        assert_eq!(fitted(&long, 10, 5, 20), (10, 5, 6, Some(5)));
        let (.., length) = fitted(&long, 9_000, 9_000, 9_000);
        assert_eq!(length, Some(9_000));
    }

    #[test]
    fn a_header_of_the_original_record_is_not_taken_for_ours() {
        let theirs = [(names::TRUNCATED, &b"7"[..])];
        let fitted = fit(dead_letter("d"), b"", Some(b"v"), theirs.into_iter(), ROOM);
        let headers: Vec<_> =
            fitted.headers.iter().map(|(name, value)| (*name, &value[..])).collect();
        assert_eq!(DeadLetterHeaders::original_length(&headers), None);
        assert_eq!(DeadLetterHeaders::original(&headers), theirs);
    }
}
