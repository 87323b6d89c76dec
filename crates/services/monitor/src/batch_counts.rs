//! The events of one batch, counted by scope and pane.

use std::collections::HashMap;

use window::{CountedEvent, Counts, PaneStart, Scope};

use crate::rated_event::RatedEvent;

/// The maximum number of scope sets to remember. Above it, all are dropped and built again, which
/// bounds the memory if campaign names never repeat.
const MAX_SCOPE_SETS: usize = 1 << 16;

/// Counts by scope set and pane. A scope set holds the scopes of all events with the same provider,
/// source, mailbox provider and campaign.
///
/// The scope sets are remembered from batch to batch. An event therefore costs one look-up, and the
/// key of a scope is built only once.
#[derive(Default)]
pub(crate) struct BatchCounts {
    /// By the names of an event: an index into `scopes_of_set`.
    sets: HashMap<Box<[u8]>, usize>,
    /// By scope set: indices into `scopes`.
    scopes_of_set: Vec<Vec<usize>>,
    /// By scope: an index into `scopes`.
    scope_indices: HashMap<Scope, usize>,
    scopes: Vec<KeyedScope>,
    /// The counts of the current batch, by scope set and pane.
    counts: HashMap<(usize, PaneStart), Counts>,
    /// Reused for each event, to avoid an allocation.
    names: Vec<u8>,
}

#[derive(Debug, Clone)]
struct KeyedScope {
    scope: Scope,
    key: Box<str>,
}

/// The counts that a batch adds to one pane of a scope.
#[derive(Debug)]
pub(crate) struct PaneCounts<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) key: &'a str,
    pub(crate) pane: PaneStart,
    pub(crate) counts: Counts,
}

impl BatchCounts {
    pub(crate) fn add(&mut self, event: &RatedEvent<'_>, counted: &CountedEvent) {
        write_names(event, &mut self.names);
        let set = match self.sets.get(self.names.as_slice()) {
            Some(&set) => set,
            None => self.insert_set(event),
        };
        let pane = PaneStart::of(event.counted_at());
        self.counts.entry((set, pane)).or_default().add_event(counted);
    }

    fn insert_set(&mut self, event: &RatedEvent<'_>) -> usize {
        let scopes = &mut self.scopes;
        let indices = event.scopes().map(|scope| {
            *self.scope_indices.entry(scope).or_insert_with_key(|scope| {
                scopes.push(KeyedScope { scope: scope.clone(), key: scope.key().into() });
                scopes.len() - 1
            })
        });
        self.scopes_of_set.push(indices.collect());
        let set = self.scopes_of_set.len() - 1;
        self.sets.insert(self.names.as_slice().into(), set);
        set
    }

    /// Passes the counts of each pane to `emit`, without panes whose counts are all 0, and starts
    /// the next batch.
    pub(crate) fn drain<E>(
        &mut self,
        mut emit: impl FnMut(PaneCounts<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut by_scope: HashMap<(usize, PaneStart), Counts> = HashMap::new();
        for ((set, pane), counts) in self.counts.drain() {
            if !counts.is_zero() {
                for &index in &self.scopes_of_set[set] {
                    *by_scope.entry((index, pane)).or_default() += &counts;
                }
            }
        }
        let mut by_scope: Vec<_> = by_scope.into_iter().collect();
        by_scope.sort_unstable_by_key(|&(index_and_pane, _)| index_and_pane);
        for ((index, pane), counts) in by_scope {
            let KeyedScope { scope, key } = &self.scopes[index];
            emit(PaneCounts { scope, key, pane, counts })?;
        }
        if self.sets.len() > MAX_SCOPE_SETS {
            *self = Self::default();
        }
        Ok(())
    }

    /// Discards the counts of the current batch.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
    }
}

/// Writes the names that decide the scope set. Neither `END` nor `ABSENT` occurs in UTF-8.
fn write_names(event: &RatedEvent<'_>, names: &mut Vec<u8>) {
    const END: u8 = 0xFF;
    const ABSENT: u8 = 0xFE;
    names.clear();
    names.push(event.provider as u8);
    names.extend(event.source.as_bytes());
    for name in [&event.mailbox_provider, &event.campaign] {
        names.push(END);
        match name {
            Some(text) => names.extend(text.as_bytes()),
            None => names.push(ABSENT),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::json;

    use super::*;

    /// Source, mailbox provider, campaign, second and kind of an event.
    type TestEvent<'a> = (&'a str, Option<&'a str>, Option<&'a str>, i64, &'a str);

    fn add(batch: &mut BatchCounts, json: &str) {
        let event = RatedEvent::read(json.as_bytes()).unwrap();
        let counted = event.counted(|| None).unwrap();
        batch.add(&event, &counted);
    }

    /// Counts the events and returns the counts of each pane as `key@second: counts`.
    fn count_batch(batch: &mut BatchCounts, events: &[TestEvent<'_>]) -> Vec<String> {
        for &(source, mailbox_provider, campaign, second, kind) in events {
            let at = second * 1_000_000;
            let json = json!({
                "kind": kind, "provider": "ses", "source": source,
                "mailbox_provider": mailbox_provider, "campaign": campaign,
                "occurred_at": at, "received_at": at,
            });
            add(batch, &json.to_string());
        }
        let mut panes = Vec::new();
        let result = batch.drain(|PaneCounts { scope, key, pane, counts }| {
            assert_eq!(scope.key(), key);
            let counts = serde_json::to_string(&counts).unwrap();
            panes.push(format!("{key}@{}: {counts}", pane.micros() / 1_000_000));
            Ok::<(), Infallible>(())
        });
        assert_eq!(result, Ok(()));
        panes
    }

    fn count(events: &[TestEvent<'_>]) -> Vec<String> {
        count_batch(&mut BatchCounts::default(), events)
    }

    #[test]
    fn an_event_counts_for_each_of_its_scopes() {
        assert_eq!(
            count(&[
                ("acme", Some("gmail"), Some("spring"), 7, "delivered"),
                ("acme", Some("gmail"), None, 8, "delivered"),
                ("acme", None, Some("spring"), 9, "accepted"),
                ("acme", Some("gmail"), None, 11, "delivered"),
            ]),
            [
                r#"source/ses/acme@0: {"accepted":1,"delivered":2}"#,
                r#"source/ses/acme@10: {"delivered":1}"#,
                r#"mailbox/ses/acme/gmail@0: {"delivered":2}"#,
                r#"mailbox/ses/acme/gmail@10: {"delivered":1}"#,
                r#"campaign/ses/acme/spring@0: {"accepted":1,"delivered":1}"#,
            ]
        );
    }

    #[test]
    fn a_batch_is_emitted_once_and_a_discarded_batch_never() {
        let mut batch = BatchCounts::default();
        let event = ("acme", None, None, 7, "delivered");
        let one = [r#"source/ses/acme@0: {"delivered":1}"#];
        assert_eq!(count_batch(&mut batch, &[event]), one);
        assert_eq!(count_batch(&mut batch, &[]), [""; 0]);
        add(
            &mut batch,
            r#"{"kind":"delivered","provider":"ses","source":"acme","occurred_at":1,"received_at":1}"#,
        );
        batch.clear();
        assert_eq!(count_batch(&mut batch, &[event]), one);
    }

    #[test]
    fn names_that_concatenate_to_the_same_text_are_different() {
        let of = |source, mailbox| (source, Some(mailbox), None, 0, "delivered");
        assert_eq!(count(&[of("a", "bc"), of("ab", "c")]).len(), 4);
        let unlike = [("a", None, None, 0, "delivered"), ("a", Some(""), None, 0, "delivered")];
        let both = [r#"source/ses/a@0: {"delivered":2}"#, r#"mailbox/ses/a/@0: {"delivered":1}"#];
        assert_eq!(count(&unlike), both);
    }

    #[test]
    fn events_without_a_counter_are_not_emitted() {
        let uncounted = [("acme", None, None, 0, "other"), ("acme", None, None, 0, "opened")];
        assert_eq!(count(&uncounted), [""; 0]);
    }

    #[test]
    fn scope_sets_are_dropped_above_the_maximum() {
        let mut batch = BatchCounts::default();
        for number in 0..=MAX_SCOPE_SETS {
            add(
                &mut batch,
                &format!(
                    r#"{{"kind":"delivered","provider":"ses","source":"s{number}","occurred_at":1,"received_at":1}}"#
                ),
            );
        }
        assert_eq!(count_batch(&mut batch, &[]).len(), MAX_SCOPE_SETS + 1);
        assert!(batch.sets.is_empty() && batch.scopes.is_empty());
    }
}
