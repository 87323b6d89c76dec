//! The rate step's changelog, `mail.changelog.monitor`: compacted, one partition for each of
//! `mail.panes`.
//!
//! | key | value |
//! |---|---|
//! | `pane/<start>/<scope key>` | a [`window::Pane`], or a tombstone once it expired |
//! | `episodes/<scope key>` | [`window::Episodes`], or a tombstone when none is open |
//! | `mark` | [`Mark`] |
//!
//! All values are JSON.

use serde::{Deserialize, Serialize};
use window::PaneStart;

use crate::clock::Clock;

/// Written with every commit that changes anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// How many commits have changed the shard. The last one's number is also the metadata of the
    /// committed offset, so who restores knows how much there is to read.
    pub(crate) commits: u64,
    /// The time as of this commit.
    pub(crate) clock: Clock,
}

/// Whose value a record holds; scopes by their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Pane(PaneStart, &'a str),
    Episodes(&'a str),
    Mark,
}

/// A key that none of our versions wrote.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no key of the monitor's changelog")]
pub(crate) struct UnknownKey(String);

impl<'a> Entry<'a> {
    pub(crate) fn key(self) -> String {
        match self {
            Self::Pane(start, scope) => format!("pane/{}/{scope}", start.micros()),
            Self::Episodes(scope) => format!("episodes/{scope}"),
            Self::Mark => "mark".to_owned(),
        }
    }

    pub(crate) fn parse(key: &'a [u8]) -> Result<Self, UnknownKey> {
        let unknown = || UnknownKey(String::from_utf8_lossy(key).into_owned());
        let text = std::str::from_utf8(key).map_err(|_| unknown())?;
        if text == "mark" {
            return Ok(Self::Mark);
        }
        if let Some(scope) = text.strip_prefix("episodes/") {
            return Ok(Self::Episodes(scope));
        }
        let (start, scope) =
            text.strip_prefix("pane/").and_then(|rest| rest.split_once('/')).ok_or_else(unknown)?;
        let start: i64 = start.parse().map_err(|_| unknown())?;
        let start = PaneStart::try_from(start).map_err(|_| unknown())?;
        Ok(Self::Pane(start, scope))
    }
}

#[cfg(test)]
mod tests {
    use event::OccurredAt;

    use super::*;

    #[test]
    fn keys_round_trip() {
        let scope = "campaign/mailgun/shop/spring%2Fsale%201";
        let pane = PaneStart::of(OccurredAt(1_700_000_000_000_000));
        for entry in [Entry::Pane(pane, scope), Entry::Episodes(scope), Entry::Mark] {
            assert_eq!(Entry::parse(entry.key().as_bytes()).unwrap(), entry);
        }
        for wrong in ["pane/7/source/mailgun/shop", "pane/x/y", "pane", "else", ""] {
            assert!(Entry::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
