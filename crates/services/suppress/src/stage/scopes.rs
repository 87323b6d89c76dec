//! Bounds the scopes of a list, because senders choose them.

use std::collections::{HashMap, HashSet};

use suppression::list::MAX_SCOPES;
use suppression::table::Table;

/// The scopes that this batch adds to each list.
#[derive(Debug, Default)]
pub(super) struct Scopes(HashMap<String, HashSet<String>>);

impl Scopes {
    /// Returns whether an unsubscription may have this scope. One that is new to a full list may not, and gets the empty
    /// scope, which counts for all of them.
    pub(super) fn admit(&mut self, table: &Table, list: &str, scope: &str) -> bool {
        let is_new = |added: &HashSet<String>| !added.contains(scope);
        if scope.is_empty() || table.has_scope(list, scope) || !self.0.get(list).is_none_or(is_new)
        {
            return true;
        }
        if self.is_full(table, list) {
            return false;
        }
        self.0.entry(list.to_owned()).or_default().insert(scope.to_owned());
        true
    }

    /// Returns whether a list takes no further scopes. Unsubscriptions with the empty scope then stop all mail, because
    /// the purposes of the scopes that share it may differ.
    pub(super) fn is_full(&self, table: &Table, list: &str) -> bool {
        let added = self.0.get(list).map_or(0, HashSet::len);
        table.scopes(list) + added >= MAX_SCOPES
    }

    /// The batch has ended: the table has what was committed.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use suppression::entry::EntryFacts;
    use suppression::{Author, EntryKey, Reason, RecipientDigest, State};

    use super::*;

    #[test]
    fn a_full_list_takes_no_further_scope() {
        let (table, mut scopes) = (Table::default(), Scopes::default());
        let key = EntryKey {
            list: "a".into(),
            recipient: RecipientDigest([1; 16]),
            reason: Reason::Unsubscribe,
            scope: "known".into(),
            author: Author::Event,
        };
        let facts = EntryFacts {
            state: State::Suppressed,
            purpose: None,
            since: 1,
            expires_at: None,
            provisional: false,
            incident: None,
        };
        table.apply(&key, Some(facts));
        for number in 1..MAX_SCOPES {
            assert!(!scopes.is_full(&table, "a"), "{number}");
            assert!(scopes.admit(&table, "a", &number.to_string()), "{number}");
        }
        assert!(scopes.is_full(&table, "a") && !scopes.is_full(&table, "b"));
        for (list, scope, expected) in [
            ("a", "new", false),
            ("a", "known", true),
            ("a", "7", true),
            ("a", "", true),
            ("b", "new", true),
        ] {
            assert_eq!(scopes.admit(&table, list, scope), expected, "{list} {scope}");
        }
        scopes.clear();
        assert!(scopes.admit(&table, "a", "new"), "the batch was rolled back");
    }
}
