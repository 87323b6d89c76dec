//! The soft bounces of recipients that do not suppress yet: the changelog `mail.changelog.suppress`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use serde_json::Value;
use suppression::{Policy, RecipientDigest, Streak};

/// The soft bounces of the recipients of all owned partitions.
#[derive(Debug, Default)]
pub struct Streaks {
    partitions: HashMap<i32, BTreeMap<StreakKey, Streak>>,
    /// What changed in this batch, and how it was before.
    changed: HashMap<(i32, StreakKey), Option<Streak>>,
}

/// A recipient on a list.
pub type StreakKey = (RecipientDigest, String);

impl Streaks {
    /// Adds a record of the changelog.
    pub fn restore(&mut self, partition: i32, key: &[u8], value: Option<&[u8]>) {
        let parsed = std::str::from_utf8(key).ok().and_then(|key| {
            let (recipient, list) = key.split_once('|')?;
            Some((recipient.parse().ok()?, list.to_owned()))
        });
        let Some(key) = parsed else {
            tracing::warn!(
                partition,
                "a record of mail.changelog.suppress has no key and is ignored"
            );
            return;
        };
        let streaks = self.partitions.entry(partition).or_default();
        let times = value.and_then(|value| serde_json::from_slice::<Value>(value).ok());
        let times = times.and_then(|times| times.as_array().cloned()).unwrap_or_default();
        let times: Vec<i64> = times.iter().filter_map(Value::as_i64).collect();
        if times.is_empty() {
            streaks.remove(&key);
        } else {
            streaks.insert(key, Streak(times));
        }
    }

    /// Forgets a partition.
    pub fn release(&mut self, partition: i32) {
        self.partitions.remove(&partition);
        self.changed.retain(|(other, _), _| *other != partition);
    }

    /// Forgets all partitions, so that they can be restored.
    pub fn begin(&mut self, partition: i32) {
        self.release(partition);
        self.partitions.insert(partition, BTreeMap::new());
    }

    /// Returns whether a recipient has soft bounces on any list.
    pub fn has(&self, partition: i32, recipient: RecipientDigest) -> bool {
        let from = Bound::Included((recipient, String::new()));
        let streaks = self.partitions.get(&partition);
        let next = streaks.and_then(|it| it.range((from, Bound::Unbounded)).next());
        next.is_some_and(|((found, _), _)| *found == recipient)
    }

    /// Returns a recipient's soft bounces on a list.
    pub fn get(&self, partition: i32, key: &StreakKey) -> Streak {
        let found = self.partitions.get(&partition).and_then(|streaks| streaks.get(key));
        found.cloned().unwrap_or_default()
    }

    /// Replaces a recipient's soft bounces on a list. Returns whether they change.
    pub fn set(&mut self, partition: i32, key: StreakKey, streak: Streak) -> bool {
        let streaks = self.partitions.entry(partition).or_default();
        let before = streaks.get(&key).cloned();
        if before.clone().unwrap_or_default() == streak {
            return false;
        }
        if streak.is_empty() {
            streaks.remove(&key);
        } else {
            streaks.insert(key.clone(), streak);
        }
        self.changed.entry((partition, key)).or_insert(before);
        true
    }

    /// Ends the soft bounces of a partition that are too old at `now`, at most `most` of them.
    pub fn end_old(&mut self, partition: i32, policy: &Policy, now: i64, most: usize) {
        let streaks = self.partitions.get(&partition);
        let old = streaks
            .into_iter()
            .flatten()
            .filter(|(_, streak)| policy.streak_ends(streak).is_some_and(|ends| ends <= now));
        let old: Vec<StreakKey> = old.take(most).map(|(key, _)| key.clone()).collect();
        for key in old {
            self.set(partition, key, Streak::default());
        }
    }

    /// Calls `write` with the partition, key and value of each record of the changelog for this batch.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn changelog<E>(
        &self,
        mut write: impl FnMut(i32, &str, Option<&[u8]>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut changed: Vec<_> = self.changed.keys().collect();
        changed.sort_unstable();
        for (partition, key) in changed {
            let streak = self.get(*partition, key);
            let value = (!streak.is_empty()).then(|| format!("{:?}", streak.0));
            let text = format!("{}|{}", key.0, key.1);
            write(*partition, &text, value.as_deref().map(str::as_bytes))?;
        }
        Ok(())
    }

    /// The batch is durable.
    pub fn committed(&mut self) {
        self.changed.clear();
    }

    /// The batch had no effect.
    pub fn rolled_back(&mut self) {
        for ((partition, key), before) in self.changed.drain() {
            let streaks = self.partitions.entry(partition).or_default();
            match before {
                Some(streak) => drop(streaks.insert(key, streak)),
                None => drop(streaks.remove(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: RecipientDigest = RecipientDigest([1; 16]);

    fn key(list: &str) -> StreakKey {
        (ADA, list.to_owned())
    }

    fn records(streaks: &Streaks) -> Vec<(i32, String, Option<Vec<u8>>)> {
        let mut records = Vec::new();
        let write = |partition, key: &str, value: Option<&[u8]>| {
            records.push((partition, key.to_owned(), value.map(<[u8]>::to_vec)));
            Ok::<_, ()>(())
        };
        streaks.changelog(write).unwrap();
        records
    }

    #[test]
    fn what_is_written_is_restored() {
        let mut streaks = Streaks::default();
        streaks.set(2, key("a|b"), Streak(vec![3, 5]));
        streaks.set(2, key("c"), Streak(vec![9]));
        assert!(
            streaks.has(2, ADA)
                && !streaks.has(1, ADA)
                && !streaks.has(2, RecipientDigest([0; 16]))
        );
        let written = records(&streaks);
        assert_eq!(written.len(), 2);
        let mut restored = Streaks::default();
        for (partition, key, value) in &written {
            restored.restore(*partition, key.as_bytes(), value.as_deref());
        }
        assert_eq!(restored.partitions, streaks.partitions);
        restored.restore(2, written[0].1.as_bytes(), None);
        assert_eq!(restored.get(2, &key("a|b")), Streak::default());
        restored.restore(2, b"no key", Some(b"[1]"));
    }

    #[test]
    fn a_batch_that_is_rolled_back_has_no_effect() {
        let mut streaks = Streaks::default();
        streaks.set(0, key("a"), Streak(vec![1]));
        streaks.committed();
        assert!(!streaks.set(0, key("a"), Streak(vec![1])), "nothing changes");
        streaks.set(0, key("a"), Streak(vec![1, 2]));
        streaks.set(0, key("a"), Streak(vec![1, 2, 3]));
        streaks.set(0, key("b"), Streak(vec![7]));
        streaks.rolled_back();
        assert_eq!(streaks.get(0, &key("a")), Streak(vec![1]));
        assert_eq!(streaks.get(0, &key("b")), Streak::default());
        assert_eq!(records(&streaks), []);
    }

    #[test]
    fn old_soft_bounces_end() {
        let policy = Policy { soft_bounces: 5, soft_within: 100, soft_for: 1_000 };
        let mut streaks = Streaks::default();
        streaks.set(0, key("a"), Streak(vec![1, 50]));
        streaks.set(0, key("b"), Streak(vec![51]));
        streaks.end_old(0, &policy, 150, 10);
        assert!(streaks.get(0, &key("a")).is_empty() && !streaks.get(0, &key("b")).is_empty());
    }
}
