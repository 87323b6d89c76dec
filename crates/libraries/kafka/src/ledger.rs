//! Counts of a partition's records by outcome, from its first record on. They survive every crash.
//!
//! A stage commits them with the offset they belong to, in its metadata, and the owner of the
//! partition exports them. Their sums over all members of all stages show at any time whether an
//! event is missing: the next stage has either read a passed record, or has it in its lag.

use std::collections::BTreeMap;

use crate::TopicPartition;

/// Counts of records. `read` is the sum of `passed`, `dropped`, `counted` and `dead_letters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Records read from the partition.
    pub read: u64,
    /// Records passed to the next topic, or written to a table.
    pub passed: u64,
    /// Records that end here, such as duplicates.
    pub dropped: u64,
    /// Records that became part of a sum.
    pub counted: u64,
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Records among those read that an operator had redriven for this stage.
    pub redriven: u64,
}

impl Ledger {
    const SEPARATOR: char = '@';

    /// Returns the sum of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            passed: self.passed + other.passed,
            dropped: self.dropped + other.dropped,
            counted: self.counted + other.counted,
            dead_letters: self.dead_letters + other.dead_letters,
            redriven: self.redriven + other.redriven,
        }
    }

    /// Appends the ledger to the metadata of an offset, as `@read,passed,dropped,dead,redriven`.
    /// `counted` is left out, because it is `read` minus the other outcomes. Releases before `counted`
    /// existed can therefore read this text, and this release can read theirs.
    pub(crate) fn append_to(self, metadata: &str) -> String {
        format!("{metadata}{}{}", Self::SEPARATOR, self.to_text())
    }

    /// Returns `read,passed,dropped,dead,redriven`.
    pub(crate) fn to_text(self) -> String {
        let Self { read, passed, dropped, dead_letters, redriven, counted: _ } = self;
        format!("{read},{passed},{dropped},{dead_letters},{redriven}")
    }

    /// Splits the metadata of an offset into the text before the ledger, and the ledger. Metadata
    /// without a ledger was committed by another program; counting then starts at zero.
    pub(crate) fn split_from(metadata: &str) -> (&str, Self) {
        let parsed = metadata
            .rsplit_once(Self::SEPARATOR)
            .and_then(|(rest, counts)| Some((rest, Self::parse(counts)?)));
        parsed.unwrap_or((metadata, Self::default()))
    }

    /// Returns whether the metadata of an offset has a ledger, so that a stage has committed it.
    pub(crate) fn is_in(metadata: &str) -> bool {
        let counts = metadata.rsplit_once(Self::SEPARATOR).map(|(_, counts)| counts);
        counts.and_then(Self::parse).is_some()
    }

    /// Reads the text of [`Self::to_text`].
    pub(crate) fn parse(counts: &str) -> Option<Self> {
        let mut counts = counts.split(',').map(|count| count.parse().ok());
        let mut next = || counts.next().flatten();
        let (read, passed, dropped): (u64, u64, u64) = (next()?, next()?, next()?);
        let (dead_letters, redriven): (u64, u64) = (next()?, next()?);
        // Metadata with impossible counts is still ours: the text before it must not be lost.
        let others = passed.saturating_add(dropped).saturating_add(dead_letters);
        let counted = read.saturating_sub(others);
        let ledger = Self { read, passed, dropped, counted, dead_letters, redriven };
        counts.next().is_none().then_some(ledger)
    }
}

/// Exports the ledgers of the partitions that a member owns, summed by topic, as the gauge
/// `mailpulse_ledger_records`. A topic of which the member owns no partition counts as zero.
pub fn export<'t>(
    component: &'static str,
    topics: impl Iterator<Item = &'t str>,
    ledgers: impl Iterator<Item = (&'t TopicPartition, Ledger)>,
) {
    let mut sums: BTreeMap<&str, Ledger> = topics.map(|topic| (topic, Ledger::default())).collect();
    for (partition, ledger) in ledgers {
        let sum = sums.entry(&partition.topic).or_default();
        *sum = sum.plus(ledger);
    }
    for (topic, sum) in sums {
        let Ledger { read, passed, dropped, counted, dead_letters, redriven } = sum;
        let entries = [
            ("read", read),
            ("passed", passed),
            ("dropped", dropped),
            ("counted", counted),
            ("dead_letters", dead_letters),
            ("redriven", redriven),
        ];
        for (entry, count) in entries {
            metrics::gauge!("mailpulse_ledger_records",
                "component" => component, "topic" => topic.to_owned(), "entry" => entry)
            .set(count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_round_trips_behind_other_metadata() {
        let ledger =
            Ledger { read: 11, passed: 3, dropped: 2, counted: 5, dead_letters: 1, redriven: 4 };
        for rest in ["", "7-9", "1762788000000000"] {
            assert_eq!(Ledger::split_from(&ledger.append_to(rest)), (rest, ledger));
        }
        let foreign =
            ["", "7-9", "a@b", "7-9@1,2,3,4", "7-9@1,2,3,4,5,6", "7-9@9,2,3,4,5,6", "@1,2,3,4,x"];
        for foreign in foreign {
            assert_eq!(Ledger::split_from(foreign), (foreign, Ledger::default()), "{foreign}");
        }
        assert_eq!(ledger.plus(ledger).redriven, 8);
    }

    #[test]
    fn impossible_counts_do_not_hide_the_other_metadata() {
        let (rest, ledger) = Ledger::split_from("7-9@1,2,0,0,0");
        assert_eq!((rest, ledger.read, ledger.counted), ("7-9", 1, 0));
    }

    #[test]
    fn a_ledger_of_the_release_before_counted_existed_is_read() {
        let (rest, ledger) = Ledger::split_from("@6,3,2,1,4");
        let expected =
            Ledger { read: 6, passed: 3, dropped: 2, counted: 0, dead_letters: 1, redriven: 4 };
        assert_eq!((rest, ledger), ("", expected));
        assert_eq!(ledger.append_to(""), "@6,3,2,1,4");
    }
}
