//! The changelog of rate, `mail.changelog.monitor`. It is compacted, and each of its partitions
//! belongs to the partition of `mail.panes` with the same number.
//!
//! | key | value |
//! |---|---|
//! | `pane/<start>/<scope key>` | a [`window::Pane`] of ten seconds, or a tombstone after it expired |
//! | `day/<start>/<scope key>` | the same for five minutes, unless it is the sum of panes of ten seconds in the changelog |
//! | `cohort/<start of hour>/<scope key>` | a [`window::Cohort`], or a tombstone after it expired |
//! | `waiting/<scope key>` | the corrected windows of a source that are published when the minute is over, or a tombstone if there are none |
//! | `deliveries/<scope key>` | the latest hour in which the source or tenant has delivered a message |
//! | `episodes/<scope key>` | [`alerting::ScopeEpisodes`], or a tombstone if there are none |
//! | `campaign/<scope key>` | the [`alerting::Campaign`] of a campaign |
//! | `baseline/<hour of the week>/<scope key>` | an [`alerting::Bucket`]: the counts of this hour in the last weeks, or a tombstone after it expired |
//! | `engagement/<scope key>` | the [`alerting::EngagementHistory`], or a tombstone after it expired |
//! | `history/<scope key>` | the ends of the panes of the last events, by [`alerting::Series`], or a tombstone if there are none |
//! | `part/<member>/<number>` | a [`crate::commit::CommitPart`] of a commit whose last part was not read yet |
//! | `mark` | [`LastCommit`] |
//!
//! All values are JSON.

use alerting::{AsOf, Zone};
use serde::{Deserialize, Serialize};
use window::{HourStart, PaneStart, Ring};

use crate::clock::ShardClock;

/// Written with every commit that changes the shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastCommit {
    /// The number of commits that changed the shard. The metadata of the committed offset is the
    /// same number. At a restore, a smaller number in the changelog means that records are missing.
    pub(crate) commits: u64,
    pub(crate) clock: ShardClock,
    /// The next offset of each partition of `mail.events`: exactly the events before are counted.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) as_of: AsOf,
}

fn is_empty(as_of: &AsOf) -> bool {
    as_of.0.is_empty()
}

/// The key of a record in the changelog. Scopes are represented by their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangelogKey<'a> {
    Pane(Ring, PaneStart, &'a str),
    Cohort(HourStart, &'a str),
    Waiting(&'a str),
    Deliveries(&'a str),
    Episodes(&'a str),
    Campaign(&'a str),
    Baseline(u8, &'a str),
    Engagement(&'a str),
    History(&'a str),
    Part(i32, u32),
    LastCommit,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "unknown key `{0}` in the monitor's changelog; a newer release may have written it, so start \
     that release"
)]
pub(crate) struct UnknownKey(String);

impl<'a> ChangelogKey<'a> {
    pub(crate) fn to_text(self) -> String {
        match self {
            Self::Pane(Ring::Fine, start, scope) => format!("pane/{}/{scope}", start.micros()),
            Self::Pane(Ring::Day, start, scope) => format!("day/{}/{scope}", start.micros()),
            Self::Cohort(start, scope) => format!("cohort/{}/{scope}", start.micros()),
            Self::Waiting(scope) => format!("waiting/{scope}"),
            Self::Deliveries(scope) => format!("deliveries/{scope}"),
            Self::Episodes(scope) => format!("episodes/{scope}"),
            Self::Campaign(scope) => format!("campaign/{scope}"),
            Self::Baseline(hour, scope) => format!("baseline/{hour}/{scope}"),
            Self::Engagement(scope) => format!("engagement/{scope}"),
            Self::History(scope) => format!("history/{scope}"),
            Self::Part(from, number) => format!("part/{from}/{number}"),
            Self::LastCommit => "mark".to_owned(),
        }
    }

    pub(crate) fn parse(key: &'a [u8]) -> Result<Self, UnknownKey> {
        let unknown = || UnknownKey(String::from_utf8_lossy(key).into_owned());
        let text = std::str::from_utf8(key).map_err(|_| unknown())?;
        if text == "mark" {
            return Ok(Self::LastCommit);
        }
        let (kind, rest) = text.split_once('/').ok_or_else(unknown)?;
        match kind {
            "episodes" => return Ok(Self::Episodes(rest)),
            "deliveries" => return Ok(Self::Deliveries(rest)),
            "waiting" => return Ok(Self::Waiting(rest)),
            "campaign" => return Ok(Self::Campaign(rest)),
            "engagement" => return Ok(Self::Engagement(rest)),
            "history" => return Ok(Self::History(rest)),
            _ => {}
        }
        let (start, scope) = rest.split_once('/').ok_or_else(unknown)?;
        let start: i64 = start.parse().map_err(|_| unknown())?;
        let pane = || PaneStart::try_from(start).map_err(|_| unknown());
        match kind {
            "part" => {
                let from = i32::try_from(start).map_err(|_| unknown())?;
                Ok(Self::Part(from, scope.parse().map_err(|_| unknown())?))
            }
            "baseline" => {
                let hour = u8::try_from(start).ok().filter(|hour| *hour < Zone::HOURS);
                Ok(Self::Baseline(hour.ok_or_else(unknown)?, scope))
            }
            "pane" => Ok(Self::Pane(Ring::Fine, pane()?, scope)),
            "day" => Ok(Self::Pane(Ring::Day, pane()?, scope)),
            "cohort" => {
                let hour = HourStart::try_from(start).map_err(|_| unknown())?;
                Ok(Self::Cohort(hour, scope))
            }
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use event::OccurredAt;

    use super::*;

    #[test]
    fn keys_round_trip_and_do_not_change() {
        let scope = "campaign/mailgun/shop/spring%2Fsale%201";
        let pane = PaneStart::of(OccurredAt(1_700_000_000_000_000));
        for (key, text) in [
            (
                ChangelogKey::Pane(Ring::Fine, pane, scope),
                "pane/1700000000000000/campaign/mailgun/shop/spring%2Fsale%201",
            ),
            (
                ChangelogKey::Pane(Ring::Day, Ring::Day.pane_of(pane), scope),
                "day/1699999800000000/campaign/mailgun/shop/spring%2Fsale%201",
            ),
            (
                ChangelogKey::Cohort(HourStart::of(OccurredAt(1_700_000_000_000_000)), scope),
                "cohort/1699999200000000/campaign/mailgun/shop/spring%2Fsale%201",
            ),
            (ChangelogKey::Deliveries("source/ses/acme"), "deliveries/source/ses/acme"),
            (ChangelogKey::Waiting("source/ses/acme"), "waiting/source/ses/acme"),
            (ChangelogKey::Episodes(scope), "episodes/campaign/mailgun/shop/spring%2Fsale%201"),
            (ChangelogKey::Campaign(scope), "campaign/campaign/mailgun/shop/spring%2Fsale%201"),
            (
                ChangelogKey::Baseline(167, "mailbox/ses/acme/gmail"),
                "baseline/167/mailbox/ses/acme/gmail",
            ),
            (ChangelogKey::Engagement("source/ses/acme"), "engagement/source/ses/acme"),
            (ChangelogKey::History("source/ses/acme"), "history/source/ses/acme"),
            (ChangelogKey::Part(3, 1), "part/3/1"),
            (ChangelogKey::LastCommit, "mark"),
        ] {
            assert_eq!(key.to_text(), text);
            assert_eq!(ChangelogKey::parse(text.as_bytes()).unwrap(), key);
        }
        for wrong in [
            "pane/7/source/mailgun/shop",
            "pane/x/y",
            "pane",
            "else",
            "else/0/a",
            "cohort/7/a",
            "baseline/168/source/ses/acme",
            "",
        ] {
            assert!(ChangelogKey::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    /// The changelogs of running installations contain this form.
    #[test]
    fn the_json_form_of_the_last_commit_does_not_change() {
        let json =
            r#"{"commits":3,"clock":{"heard":{"0":{"watermark":5,"presence":"busy"}},"now":5}}"#;
        let commit: LastCommit = serde_json::from_str(json).unwrap();
        assert_eq!((commit.commits, commit.clock.now()), (3, 5));
        assert_eq!(serde_json::to_string(&commit).unwrap(), json);
    }
}
