//! Totals of the ledgers that the stages commit with their offsets. They count all events since the
//! first one, before and after the upgrade.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::chaos::Balance;
use crate::scrape;
use crate::supervisor::Member;

/// How long everything may take to be processed.
pub(crate) const PROCESSING_TIMEOUT: Duration = Duration::from_secs(180);
pub(crate) const POLL: Duration = Duration::from_millis(250);

const LEDGER: &str = "mailpulse_ledger_records";
const ENRICH: &str = "component=\"enrich\"";
const DEDUPE: &str = "component=\"dedupe\"";
const FOLD: &str = "component=\"monitor-fold\"";
const ARCHIVE: &str = "component=\"archive\"";
/// The end of the label of the topic `mail.events`, without its prefix.
const EVENTS: &str = "mail.events\"";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Raw events that `enrich` has read.
    pub(crate) enriched: u64,
    /// Those of them that became dead letters.
    pub(crate) unreadable: u64,
    /// Events that `dedupe` has dropped.
    pub(crate) duplicates: u64,
    /// Events that `archive` has written.
    pub(crate) archived: u64,
    /// Events that the fold stage of `monitor` has read.
    pub(crate) folded: u64,
    /// The value of the rule `mailpulse:missing_events`.
    pub(crate) missing: i64,
}

impl Totals {
    /// Reads the metrics of all members.
    pub(crate) async fn read(members: &BTreeMap<Member, String>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?;
        let mut text = String::new();
        for address in members.values() {
            text += &scrape::one(&client, address).await?;
        }
        let ledger = |labels: &[&str]| sum(&text, LEDGER, labels);
        let lag = |labels: &[&str]| sum(&text, "mailpulse_lag_records", labels);
        let enriched = ledger(&[ENRICH, "entry=\"read\""]);
        let unreadable = ledger(&[ENRICH, "entry=\"dead_letters\""]);
        let duplicates = ledger(&[DEDUPE, "entry=\"dropped\""]);
        let archived = ledger(&[ARCHIVE, EVENTS, "entry=\"passed\""]);
        let waiting = lag(&[DEDUPE]) + lag(&[ARCHIVE, EVENTS]);
        Ok(Self {
            enriched: enriched.cast_unsigned(),
            unreadable: unreadable.cast_unsigned(),
            duplicates: duplicates.cast_unsigned(),
            archived: archived.cast_unsigned(),
            folded: ledger(&[FOLD, "entry=\"read\""]).cast_unsigned(),
            missing: enriched - unreadable - duplicates - archived - waiting,
        })
    }

    /// Waits until the totals are the expected ones. Returns the last ones at the deadline.
    pub(crate) async fn settle(
        members: &BTreeMap<Member, String>,
        expected: Self,
    ) -> anyhow::Result<Self> {
        let deadline = Instant::now() + PROCESSING_TIMEOUT;
        loop {
            let found = Self::read(members).await?;
            if found == expected || Instant::now() > deadline {
                return Ok(found);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Adds the comparison with the expected totals to a balance.
    pub(crate) fn compare(self, balance: &mut Balance, part: &'static str, expected: Self) {
        balance.line(part, "raw events read since the first one", self.enriched, expected.enriched);
        balance.line(part, "unreadable ones", self.unreadable, expected.unreadable);
        balance.line(part, "duplicates dropped", self.duplicates, expected.duplicates);
        balance.line(part, "events archived", self.archived, expected.archived);
        balance.line(part, "events read by monitor", self.folded, expected.folded);
        balance.line(part, "events missing, or too many", self.missing.unsigned_abs(), 0);
    }
}

/// Returns the sum of a metric over the series that contain all these labels.
fn sum(text: &str, name: &str, labels: &[&str]) -> i64 {
    let selected = text.lines().filter(|line| labels.iter().all(|label| line.contains(label)));
    selected.map(|line| scrape::sum(line, name, "")).sum::<f64>() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_the_series_with_all_labels() {
        let text = "lag{component=\"archive\",topic=\"eu1.mail.events\"} 2\n\
                    lag{component=\"archive\",topic=\"eu1.mail.rates\"} 3\n\
                    lag{component=\"dedupe\",topic=\"eu1.mail.enriched\"} 5\n";
        assert_eq!(sum(text, "lag", &[ARCHIVE, EVENTS]), 2);
        assert_eq!(sum(text, "lag", &[ARCHIVE]), 5);
        assert_eq!(sum(text, "lag", &[]), 10);
    }
}
