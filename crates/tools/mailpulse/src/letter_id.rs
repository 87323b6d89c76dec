//! How a dead letter is named.

use std::fmt;
use std::str::FromStr;

/// Where a letter lies in `mail.dead-letters`, written `partition/offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LetterId {
    /// Its partition.
    pub(crate) partition: i32,
    /// Its offset.
    pub(crate) offset: i64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As one text, so that a width given to it holds.
        f.pad(&format!("{}/{}", self.partition, self.offset))
    }
}

/// The text is not the id of a letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write it as `ls` does: partition/offset, such as 3/1042")]
pub(crate) struct NotAnId;

impl FromStr for LetterId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (partition, offset) = text.split_once('/').ok_or(NotAnId)?;
        let partition = partition.parse().map_err(|_| NotAnId)?;
        let offset = offset.parse().map_err(|_| NotAnId)?;
        if partition < 0 || offset < 0 { Err(NotAnId) } else { Ok(Self { partition, offset }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let id = LetterId { partition: 3, offset: 1042 };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("{id:<8}|"), "3/1042  |");
        for text in ["", "3", "3/", "/3", "-1/2", "1/-2", "1/2/3", "a/b"] {
            assert_eq!(text.parse::<LetterId>(), Err(NotAnId), "{text}");
        }
    }
}
