//! What one commit of fold adds to one partition of `mail.panes`. Rate applies it as a whole and then judges
//! the rules, so that a verdict is a function of a prefix of the log.

use std::collections::BTreeMap;

use alerting::AsOf;
use serde::{Deserialize, Serialize};
use window::{Counts, HourStart, PaneStart};

use crate::deliveries::Deliveries;
use crate::watermarks::Watermarks;

/// The length of the deltas above which a part ends, in bytes of JSON. Every topic accepts it.
const PART_BYTES: usize = 256 << 10;

/// The value of a record of `mail.panes` with the key [`CommitPart::KEY`]. A commit with many deltas has
/// several parts, in one transaction and in order; the last one has everything but deltas.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitPart {
    /// The member of fold: the least number of its event partitions. Parts of other members may be between.
    pub(crate) from: i32,
    /// The number of the part, from 0.
    pub(crate) part: u32,
    /// The number of parts.
    pub(crate) parts: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) deltas: Vec<KeyedDelta>,
    /// The next offset of each event partition of the member. Exactly the events before are counted.
    #[serde(default)]
    pub(crate) as_of: AsOf,
    /// The event partitions whose progress has changed.
    #[serde(default)]
    pub(crate) watermarks: Watermarks,
    /// The sources and tenants with newer deliveries.
    #[serde(default)]
    pub(crate) deliveries: Deliveries,
}

/// The counts to add to one pane of one scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyedDelta {
    /// The key of the scope.
    pub(crate) scope: String,
    pub(crate) pane: PaneStart,
    /// The hour in which the messages were sent, if it is known and the scope has cohorts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cohort: Option<HourStart>,
    pub(crate) counts: Counts,
}

impl CommitPart {
    /// Differs from the key of every scope, which contains a slash.
    pub(crate) const KEY: &[u8] = b"commit";

    /// Returns whether the part has nothing to say.
    fn is_empty(&self) -> bool {
        self.deltas.is_empty()
            && self.as_of.0.is_empty()
            && self.watermarks.0.is_empty()
            && self.deliveries.0.is_empty()
    }
}

/// The parts of one commit for one partition, while they are built.
#[derive(Debug, Default)]
pub(crate) struct CommitBuilder {
    parts: Vec<Vec<KeyedDelta>>,
    bytes: usize,
}

impl CommitBuilder {
    pub(crate) fn add(&mut self, delta: KeyedDelta) {
        // Counts are short: a name and a number for each that is not 0.
        let bytes = delta.scope.len() + 100;
        if self.parts.is_empty() || self.bytes + bytes > PART_BYTES {
            self.parts.push(Vec::new());
            self.bytes = 0;
        }
        self.bytes += bytes;
        if let Some(part) = self.parts.last_mut() {
            part.push(delta);
        }
    }

    /// Returns the parts. `last` has everything but deltas. There is none if the commit says nothing.
    pub(crate) fn finish(&mut self, last: &CommitPart) -> Vec<CommitPart> {
        let mut deltas = std::mem::take(&mut self.parts);
        self.bytes = 0;
        if deltas.is_empty() {
            deltas.push(Vec::new());
        }
        let parts = u32::try_from(deltas.len()).unwrap_or(u32::MAX);
        let from = last.from;
        let numbered = (0..).zip(deltas).map(|(part, deltas)| match part + 1 == parts {
            true => CommitPart { part, parts, deltas, ..last.clone() },
            false => CommitPart { from, part, parts, deltas, ..CommitPart::default() },
        });
        numbered.filter(|part| part.parts > 1 || !part.is_empty()).collect()
    }
}

/// The parts of commits whose last part has not been read yet, by member of fold.
#[derive(Debug, Default)]
pub(crate) struct IncompleteCommits(BTreeMap<i32, Vec<CommitPart>>);

impl IncompleteCommits {
    /// Adds a part. Returns all parts of its commit if it is the last one.
    pub(crate) fn add(&mut self, part: CommitPart) -> Option<Vec<CommitPart>> {
        if part.part == 0 {
            self.0.remove(&part.from); // parts of an aborted transaction are never read
        }
        if part.part + 1 < part.parts {
            self.0.entry(part.from).or_default().push(part);
            return None;
        }
        let mut parts = self.0.remove(&part.from).unwrap_or_default();
        parts.push(part);
        Some(parts)
    }

    /// Returns the parts by member and number.
    pub(crate) fn parts(&self) -> impl Iterator<Item = ((i32, u32), &CommitPart)> {
        self.0.values().flatten().map(|part| ((part.from, part.part), part))
    }
}

/// Returns the partition of a key among `partitions`, as librdkafka and Kafka's Java client choose it
/// (`murmur2` with the seed 0x9747b28c, org.apache.kafka.common.utils.Utils).
pub(crate) fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2::murmur2(key, murmur2::KAFKA_SEED) & 0x7fff_ffff;
    i32::try_from(positive).unwrap_or_default() % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use event::Counter::Delivered;
    use event::OccurredAt;

    use super::*;

    /// The hashes are those of Kafka's own test, `UtilsTest.testMurmur2`.
    #[test]
    fn partitions_are_those_of_kafka() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            let expected = (hash & 0x7fff_ffff) % 6;
            assert_eq!(partition_of(key.as_bytes(), 6), expected, "{key}");
        }
    }

    fn delta(number: usize, length: usize) -> KeyedDelta {
        KeyedDelta {
            scope: format!("campaign/ses/acme/{number}{}", "x".repeat(length)),
            pane: PaneStart::of(OccurredAt(20_000_000)),
            cohort: None,
            counts: Counts::of([(Delivered, 1)]),
        }
    }

    #[test]
    fn a_commit_is_split_into_parts_and_put_together_again() {
        let mut builder = CommitBuilder::default();
        let deltas: Vec<_> = (0..1000).map(|number| delta(number, 700)).collect();
        deltas.iter().for_each(|delta| builder.add(delta.clone()));
        let as_of = AsOf([(3, 7)].into());
        let last = CommitPart { from: 3, as_of: as_of.clone(), ..CommitPart::default() };
        let parts = builder.finish(&last);
        assert_eq!(parts.len(), 4);
        let mut incomplete = IncompleteCommits::default();
        let mut all = None;
        for (number, part) in parts.into_iter().enumerate() {
            let json = serde_json::to_vec(&part).unwrap();
            assert!(json.len() < PART_BYTES + 1000);
            let other = CommitPart { from: 1, part: 0, parts: 2, ..CommitPart::default() };
            assert_eq!(incomplete.add(other), None, "another member's are apart");
            all = incomplete.add(serde_json::from_slice(&json).unwrap());
            assert_eq!(all.is_some(), number == 3);
        }
        let all = all.unwrap();
        assert_eq!(all.iter().flat_map(|part| part.deltas.clone()).collect::<Vec<_>>(), deltas);
        assert_eq!(all.last().unwrap().as_of, as_of);
        assert_eq!(incomplete.parts().count(), 1);
        assert!(builder.finish(&CommitPart::default()).is_empty(), "it says nothing");
        assert_eq!(builder.finish(&last).len(), 1);
    }

    /// Members of different releases exchange this form during an upgrade.
    #[test]
    fn the_json_form_does_not_change() {
        let part = CommitPart {
            from: 0,
            part: 0,
            parts: 1,
            deltas: vec![delta(1, 0)],
            as_of: AsOf([(0, 9)].into()),
            ..CommitPart::default()
        };
        let json = r#"{"from":0,"part":0,"parts":1,"deltas":[{"scope":"campaign/ses/acme/1","pane":20000000,"counts":{"delivered":1}}],"as_of":{"0":9},"watermarks":{},"deliveries":{}}"#;
        assert_eq!(serde_json::to_string(&part).unwrap(), json);
        assert_eq!(serde_json::from_str::<CommitPart>(json).unwrap(), part);
    }
}
