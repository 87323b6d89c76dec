//! The provisional entries of a partition, with their records.
//!
//! When an incident is over, the records of its entries are written again without the mark. They must not lose the
//! evidence, and the table does not have it.

use std::collections::BTreeMap;

use alerting::IncidentId;
use suppression::EntryKey;

/// The records of provisional entries, by the incident that they wait for.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    by_incident: BTreeMap<IncidentId, BTreeMap<EntryKey<'static>, Box<str>>>,
    bytes: usize,
}

impl Waiting {
    /// Replaces what an entry waits for. `None`: it is final or lifted.
    pub fn set(&mut self, key: &EntryKey<'_>, record: Option<(IncidentId, Box<str>)>) {
        if self.by_incident.is_empty() && record.is_none() {
            return; // almost always
        }
        let key = key.clone().into_owned();
        for entries in self.by_incident.values_mut() {
            if let Some(old) = entries.remove(&key) {
                self.bytes = self.bytes.saturating_sub(bytes(&key, &old));
            }
        }
        if let Some((incident, value)) = record {
            self.bytes += bytes(&key, &value);
            self.by_incident.entry(incident).or_default().insert(key, value);
        }
        self.by_incident.retain(|_, entries| !entries.is_empty());
    }

    /// Returns at most `most` records of entries whose incident is not `is_open` any more.
    pub fn over<'w>(
        &'w self,
        is_open: impl Fn(IncidentId) -> bool + 'w,
        most: usize,
    ) -> impl Iterator<Item = (&'w EntryKey<'static>, &'w str)> {
        let over = self.by_incident.iter().filter(move |(id, _)| !is_open(**id));
        over.flat_map(|(_, entries)| entries).map(|(key, value)| (key, &**value)).take(most)
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.by_incident.values().map(BTreeMap::len).sum()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_incident.is_empty()
    }

    /// Returns about how much memory they take, in bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Returns about how much memory an entry takes, in bytes.
fn bytes(key: &EntryKey<'_>, value: &str) -> usize {
    /// The key, the pointers to its texts and to the value, and a share of the tree.
    const FIXED: usize = 128;
    FIXED + key.list.len() + value.len()
}

#[cfg(test)]
mod tests {
    use suppression::{Author, Reason, RecipientDigest};

    use super::*;

    fn key(recipient: u8) -> EntryKey<'static> {
        EntryKey {
            list: "a".into(),
            recipient: RecipientDigest([recipient; 16]),
            reason: Reason::HardBounce,
            scope: "".into(),
            author: Author::Event,
        }
    }

    fn id(id: char) -> IncidentId {
        IncidentId::try_from(id.to_string().repeat(32)).unwrap()
    }

    #[test]
    fn an_entry_waits_for_one_incident_and_its_memory_is_counted() {
        let mut waiting = Waiting::default();
        waiting.set(&key(1), Some((id('a'), "one".into())));
        waiting.set(&key(2), Some((id('a'), "two".into())));
        waiting.set(&key(1), Some((id('b'), "newer".into())));
        let over = |waiting: &Waiting, open: char, most| -> Vec<String> {
            let over = waiting.over(move |it| it == id(open), most);
            over.map(|(_, value)| value.to_owned()).collect()
        };
        assert_eq!(over(&waiting, 'b', 9), ["two"]);
        assert_eq!(over(&waiting, 'a', 9), ["newer"]);
        assert_eq!(over(&waiting, 'c', 1).len(), 1);
        let known = waiting.bytes();
        waiting.set(&key(2), None);
        assert!(waiting.len() == 1 && waiting.bytes() < known);
        waiting.set(&key(1), None);
        assert!(waiting.is_empty() && waiting.bytes() == 0);
    }
}
