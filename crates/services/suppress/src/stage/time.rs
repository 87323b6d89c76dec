//! What happens to entries by itself, by the time of time records.

use std::borrow::Cow;

use kafka::Output;
use suppression::entry::Evidence;
use suppression::policy::Due;
use suppression::{Author, EntryKey, Mark};

use super::Suppress;
use crate::agenda::DueEntry;

/// How many entries of a partition one transaction ends or forgets, so that it stays small.
const DUE_AT_ONCE: usize = 1_000;

impl Suppress<'_> {
    /// Ends and forgets what has become old, by the time of a time record.
    pub(super) fn pass(
        &mut self,
        partition: i32,
        time: i64,
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        let now = time.div_euclid(1_000_000);
        self.streaks.end_old(partition, &self.settings.policy, now, DUE_AT_ONCE);
        // Until the commit, the store still has the entries that this transaction has handled.
        for entry in self.store.due(partition, now, DUE_AT_ONCE) {
            if self.handled.entry(partition).or_default().insert(entry) {
                self.end(partition, entry, now, out)?;
            }
        }
        Ok(())
    }

    /// Ends or forgets an entry if its time has come.
    fn end(
        &mut self,
        partition: i32,
        (_, recipient, number): DueEntry,
        now: i64,
        out: &mut Output<'_>,
    ) -> Result<(), kafka::Error> {
        let Some(form) = self.store.form(number) else { return Ok(()) };
        let key = EntryKey {
            list: Cow::Owned(form.list.to_string()),
            recipient,
            reason: form.reason,
            scope: Cow::Owned(form.scope.to_string()),
            author: Author::Event,
        };
        let Some(mark) = self.mark(&key) else { return Ok(()) };
        match self.settings.policy.due(key.reason, mark) {
            Some((at, Due::Expire)) if at <= now => {
                let note = Some("expired".to_owned());
                let evidence = Evidence { note, ..Evidence::default() };
                self.publish(partition, key, Mark { at, is_lifted: true }, evidence, false, out)?;
            }
            Some((at, Due::Forget)) if at <= now && !self.is_needed(&key) => {
                self.send(partition, &key, None, out)?;
                self.pending.insert(key, (partition, None));
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns whether a lift ends what an operator has added, so that it must not be forgotten.
    fn is_needed(&self, key: &EntryKey<'static>) -> bool {
        let added = EntryKey { author: Author::Operator, ..key.clone() };
        self.store.table.get(&added).is_some()
    }
}
