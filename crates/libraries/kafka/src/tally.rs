//! What became of a partition's records since the first one, as counts that survive every crash.
//!
//! They are committed with the offset they belong to, in its metadata, and exported by whoever owns
//! the partition. So the sums over all members of all stages say at any time whether an event is
//! missing: what one stage passed on, the next one has read or has before it.

use std::collections::BTreeMap;

use crate::TopicPartition;

/// Counts of records. `read` is the sum of the next three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Records taken from the partition.
    pub read: u64,
    /// Of those: passed on, or written to a table.
    pub passed: u64,
    /// Of those: meant to end here, repeats for example.
    pub dropped: u64,
    /// Of those: sent to the dead letters.
    pub dead: u64,
    /// Of those read: sent back to this stage by an operator, after it had been a dead letter of it.
    pub again: u64,
}

impl Tally {
    const SEPARATOR: char = '@';

    /// The sum of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            passed: self.passed + other.passed,
            dropped: self.dropped + other.dropped,
            dead: self.dead + other.dead,
            again: self.again + other.again,
        }
    }

    /// Behind what else is in an offset's metadata.
    pub(crate) fn append_to(self, metadata: &str) -> String {
        let Self { read, passed, dropped, dead, again } = self;
        let separator = Self::SEPARATOR;
        format!("{metadata}{separator}{read},{passed},{dropped},{dead},{again}")
    }

    /// Takes an offset's metadata apart again. Offsets committed by others have no tally: counting
    /// begins with them.
    pub(crate) fn split_from(metadata: &str) -> (&str, Self) {
        let parsed = metadata
            .rsplit_once(Self::SEPARATOR)
            .and_then(|(rest, counts)| Some((rest, Self::parse(counts)?)));
        parsed.unwrap_or((metadata, Self::default()))
    }

    fn parse(counts: &str) -> Option<Self> {
        let mut counts = counts.split(',').map(|count| count.parse().ok());
        let mut next = || counts.next().flatten();
        let tally = Self {
            read: next()?,
            passed: next()?,
            dropped: next()?,
            dead: next()?,
            again: next()?,
        };
        counts.next().is_none().then_some(tally)
    }
}

/// Exports the tallies of the partitions a member owns, as sums by topic: the gauge
/// `mailpulse_ledger_records`. Topics of which it owns nothing count as zero.
pub fn report<'t>(
    job: &'static str,
    topics: impl Iterator<Item = &'t str>,
    tallies: impl Iterator<Item = (&'t TopicPartition, Tally)>,
) {
    let mut topics: BTreeMap<&str, Tally> = topics.map(|topic| (topic, Tally::default())).collect();
    for (partition, tally) in tallies {
        let sum = topics.entry(&partition.topic).or_default();
        *sum = sum.plus(tally);
    }
    for (topic, sum) in topics {
        let Tally { read, passed, dropped, dead, again } = sum;
        let entries = [
            ("read", read),
            ("passed", passed),
            ("dropped", dropped),
            ("dead_letters", dead),
            ("again", again),
        ];
        for (entry, count) in entries {
            metrics::gauge!("mailpulse_ledger_records",
                "job" => job, "topic" => topic.to_owned(), "entry" => entry)
            .set(count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_ride_on_other_metadata() {
        let tally = Tally { read: 6, passed: 3, dropped: 2, dead: 1, again: 4 };
        for rest in ["", "7-9", "1762788000000000"] {
            assert_eq!(Tally::split_from(&tally.append_to(rest)), (rest, tally));
        }
        for foreign in ["", "7-9", "a@b", "7-9@1,2,3,4", "7-9@1,2,3,4,5,6", "@1,2,3,4,x"] {
            assert_eq!(Tally::split_from(foreign), (foreign, Tally::default()), "{foreign}");
        }
        assert_eq!(tally.plus(tally).again, 8);
    }
}
