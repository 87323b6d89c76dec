use std::fmt;
use std::str::FromStr;

/// The position of a dead letter in `mail.dead-letters`, written as `partition/offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeadLetterId {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` applies the width of a format string.
        f.pad(&format!("{}/{}", self.partition, self.offset))
    }
}

/// The text is not the id of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write the id as `ls` does: partition/offset, such as 3/1042")]
pub(crate) struct InvalidDeadLetterId;

impl FromStr for DeadLetterId {
    type Err = InvalidDeadLetterId;

    fn from_str(text: &str) -> Result<Self, InvalidDeadLetterId> {
        let (partition, offset) = text.split_once('/').ok_or(InvalidDeadLetterId)?;
        let partition = partition.parse().map_err(|_| InvalidDeadLetterId)?;
        let offset = offset.parse().map_err(|_| InvalidDeadLetterId)?;
        if partition < 0 || offset < 0 {
            return Err(InvalidDeadLetterId);
        }
        Ok(Self { partition, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let id = DeadLetterId { partition: 3, offset: 1042 };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("{id:<8}|"), "3/1042  |");
        for text in ["", "3", "3/", "/3", "-1/2", "1/-2", "1/2/3", "a/b"] {
            assert_eq!(text.parse::<DeadLetterId>(), Err(InvalidDeadLetterId), "{text}");
        }
    }
}
