//! The place of a client in the delta feed.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;

use crate::entry::KEEP_LIFTS;

/// At most this many partitions of a cursor are read.
const MAX_PARTITIONS: usize = 10_000;

/// The next offset of each partition of `mail.suppressions`, and when it was handed out. Clients treat its text as
/// opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Seconds since 1970.
    pub at: i64,
    pub offsets: Vec<i64>,
}

/// The text is not a cursor that this service has handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no cursor of this feed")]
pub struct InvalidCursor;

impl Cursor {
    /// Returns the cursor of a client that knows nothing yet.
    pub fn beginning(partitions: usize, now: i64) -> Self {
        Self { at: now, offsets: vec![0; partitions] }
    }

    /// Returns whether lifts may be gone that the client has not seen, so that it has to start again.
    pub const fn is_too_old(&self, now: i64) -> bool {
        now.saturating_sub(self.at) >= KEEP_LIFTS
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offsets: Vec<String> = self.offsets.iter().map(i64::to_string).collect();
        let text = format!("1:{}:{}", self.at, offsets.join(","));
        f.write_str(&BASE64URL_NOPAD.encode(text.as_bytes()))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| InvalidCursor)?;
        let text = String::from_utf8(bytes).map_err(|_| InvalidCursor)?;
        let mut parts = text.split(':');
        let (Some("1"), Some(at), Some(offsets), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidCursor);
        };
        let at = at.parse().map_err(|_| InvalidCursor)?;
        let offsets: Result<Vec<i64>, _> =
            offsets.split(',').take(MAX_PARTITIONS).map(str::parse).collect();
        let offsets = offsets.map_err(|_| InvalidCursor)?;
        if offsets.iter().any(|offset| *offset < 0) {
            return Err(InvalidCursor);
        }
        Ok(Self { at, offsets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_become_old() {
        let cursor = Cursor { at: 1_000, offsets: vec![0, 17, i64::MAX] };
        let text = cursor.to_string();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(text.parse(), Ok(cursor.clone()));
        assert!(
            !cursor.is_too_old(1_000 + KEEP_LIFTS - 1) && cursor.is_too_old(1_000 + KEEP_LIFTS)
        );
        for text in ["", "x", "MTo1", &BASE64URL_NOPAD.encode(b"1:5:1,-2")] {
            assert_eq!(text.parse::<Cursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
