//! The events of one batch, counted by scope, pane and cohort.

use event::{CounterSet, Dimension, DimensionSet, OccurredAt};
use foldhash::{HashMap, HashMapExt};
use record::Corrections;
use window::{Counts, HourStart, PaneStart, Scope, ScopeKind};

use crate::rated_event::RatedEvent;

/// The maximum number of scope sets to remember. Above it, all are dropped and built again, which
/// bounds the memory if campaign names never repeat.
const MAX_SCOPE_SETS: usize = 1 << 16;
/// The maximum length of their names, in bytes. The keys of their scopes repeat a name about seven times.
const MAX_NAME_BYTES: usize = 8 << 20;

/// By how much a send time may be after the receipt of an event, in microseconds: one day. It comes from
/// another event of the message, which may have been received much later. A still later one is wrong.
const LATEST_SENT: i64 = 24 * 3_600_000_000;

/// Counts by scope set, pane and cohort. A scope set holds the scopes of all events with the same
/// provider, source and values of dimensions.
///
/// The scope sets are remembered from batch to batch. An event therefore costs one look-up, and the
/// key of a scope is built only once.
pub(crate) struct BatchCounts {
    /// The kinds of scopes that are counted.
    kinds: Vec<ScopeKind>,
    /// The dimensions of these kinds.
    dimensions: Vec<Dimension>,
    /// By the names of an event: an index into `scopes_of_set`.
    sets: HashMap<Box<[u8]>, usize>,
    /// By scope set: indices into `scopes`.
    scopes_of_set: Vec<Vec<usize>>,
    /// By scope: an index into `scopes`.
    scope_indices: HashMap<Scope, usize>,
    scopes: Vec<KeyedScope>,
    /// The counts of the current batch. A group that was changed stays, also if its counts are 0, so
    /// that the panes do not depend on what a batch contains.
    counts: HashMap<Group, Counts>,
    /// Reused for each event, to avoid an allocation.
    names: Vec<u8>,
    /// The length of the names of all scope sets.
    name_bytes: usize,
}

#[derive(Debug, Clone)]
struct KeyedScope {
    scope: Scope,
    key: Box<str>,
    /// The key of its source or tenant; see [`Scope::whole`].
    whole: Box<str>,
    /// Its dimensions, as in [`Group::dimensions`].
    dimensions: u8,
}

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Group {
    set: usize,
    pane: PaneStart,
    cohort: Option<HourStart>,
    /// One bit for each dimension. The counts belong to the scopes that have no other dimension.
    dimensions: u8,
}

/// The counts that a batch adds to one pane of a scope, for the messages of one cohort.
#[derive(Debug)]
pub(crate) struct ScopeCounts<'a> {
    /// The key of the scope.
    pub(crate) key: &'a str,
    /// The key of its source or tenant.
    pub(crate) whole: &'a str,
    pub(crate) pane: PaneStart,
    pub(crate) cohort: Option<HourStart>,
    pub(crate) counts: Counts,
}

impl BatchCounts {
    pub(crate) fn new(kinds: Vec<ScopeKind>) -> Self {
        let is_used =
            |dimension: &Dimension| kinds.iter().any(|kind| kind.dimensions().contains(dimension));
        let dimensions = Dimension::ALL.into_iter().filter(is_used).collect();
        Self {
            kinds,
            dimensions,
            sets: HashMap::new(),
            scopes_of_set: Vec::new(),
            scope_indices: HashMap::new(),
            scopes: Vec::new(),
            counts: HashMap::new(),
            names: Vec::new(),
            name_bytes: 0,
        }
    }

    /// Adds what an event counts for, and what it corrects. `sent` is when its message was sent.
    pub(crate) fn add(
        &mut self,
        event: &RatedEvent<'_>,
        counts: CounterSet,
        sent: Option<OccurredAt>,
        corrections: Option<&Corrections>,
    ) {
        if counts.is_empty() && corrections.is_none() {
            return;
        }
        let set = self.set(event);
        let latest = event.time().received_at.saturating_add(LATEST_SENT);
        let sent = sent.map(|sent| if sent.0 <= latest { sent } else { event.counted_at() });
        let cohort = sent.map(HourStart::of);
        let group = |at, dimensions| Group { set, pane: PaneStart::of(at), cohort, dimensions };
        if !counts.is_empty() {
            let group = group(event.counted_at(), bits_of(DimensionSet::ALL));
            self.counts.entry(group).or_default().add_each(counts);
        }
        if let Some(Corrections { dimensions, changes }) = corrections {
            let dimensions = bits_of(*dimensions);
            for change in changes {
                let counts = self.counts.entry(group(change.at, dimensions)).or_default();
                counts.increase(change.counter, if change.adds { 1 } else { -1 });
            }
        }
    }

    /// Returns the scope set of an event.
    fn set(&mut self, event: &RatedEvent<'_>) -> usize {
        write_names(event, &self.dimensions, &mut self.names);
        match self.sets.get(self.names.as_slice()) {
            Some(&set) => set,
            None => self.insert_set(event),
        }
    }

    fn insert_set(&mut self, event: &RatedEvent<'_>) -> usize {
        let Self { kinds, scopes, scope_indices, .. } = self;
        let of_event = kinds.iter().filter_map(|&kind| {
            let value = |dimension| event.value(dimension);
            Scope::new(kind, event.provider, &event.source, value)
        });
        let indices = of_event.map(|scope| {
            *scope_indices.entry(scope).or_insert_with_key(|scope| {
                scopes.push(KeyedScope {
                    scope: scope.clone(),
                    key: scope.key().into(),
                    whole: scope.whole().key().into(),
                    dimensions: bits(scope.kind().dimensions().iter().copied()),
                });
                scopes.len() - 1
            })
        });
        self.scopes_of_set.push(indices.collect());
        let set = self.scopes_of_set.len() - 1;
        self.sets.insert(self.names.as_slice().into(), set);
        self.name_bytes += self.names.len();
        set
    }

    /// Passes the counts of each pane and cohort to `emit`, and starts the next batch.
    pub(crate) fn drain<E>(
        &mut self,
        mut emit: impl FnMut(ScopeCounts<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut by_scope: HashMap<(usize, PaneStart, Option<HourStart>), Counts> = HashMap::new();
        for (Group { set, pane, cohort, dimensions }, counts) in self.counts.drain() {
            for &index in &self.scopes_of_set[set] {
                let KeyedScope { scope, dimensions: needed, .. } = &self.scopes[index];
                if needed & !dimensions == 0 {
                    let cohort = cohort.filter(|_| scope.kind().has_cohorts());
                    *by_scope.entry((index, pane, cohort)).or_default() += &counts;
                }
            }
        }
        let mut by_scope: Vec<_> = by_scope.into_iter().collect();
        by_scope.sort_unstable_by_key(|&(position, _)| position);
        for ((index, pane, cohort), counts) in by_scope {
            let KeyedScope { key, whole, .. } = &self.scopes[index];
            emit(ScopeCounts { key, whole, pane, cohort, counts })?;
        }
        if self.sets.len() > MAX_SCOPE_SETS || self.name_bytes > MAX_NAME_BYTES {
            *self = Self::new(std::mem::take(&mut self.kinds));
        }
        Ok(())
    }

    /// Discards the counts of the current batch.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
    }
}

fn bits(dimensions: impl Iterator<Item = Dimension>) -> u8 {
    dimensions.fold(0, |bits, dimension| bits | 1 << dimension as u8)
}

fn bits_of(set: DimensionSet) -> u8 {
    bits(Dimension::ALL.into_iter().filter(|dimension| set.contains(*dimension)))
}

/// Writes the names that decide the scope set. Neither `END` nor `ABSENT` occurs in UTF-8.
fn write_names(event: &RatedEvent<'_>, dimensions: &[Dimension], names: &mut Vec<u8>) {
    const END: u8 = 0xFF;
    const ABSENT: u8 = 0xFE;
    names.clear();
    names.push(event.provider as u8);
    names.extend(event.source.as_bytes());
    for dimension in dimensions {
        names.push(END);
        match event.value(*dimension) {
            Some(text) => names.extend(text.as_bytes()),
            None => names.push(ABSENT),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use serde_json::{Value, json};

    use super::*;

    fn batch() -> BatchCounts {
        BatchCounts::new(vec![
            ScopeKind::Source,
            ScopeKind::MailboxProvider,
            ScopeKind::Campaign,
            ScopeKind::SendingIp,
            ScopeKind::TenantMailboxProvider,
        ])
    }

    /// Adds an event of the source `ses/acme` with further fields, the counters that it counts for,
    /// when its message was sent, and corrections.
    fn add(batch: &mut BatchCounts, second: i64, fields: Value, tally: [&str; 3]) {
        let at = second * 1_000_000;
        let mut json = json!({
            "provider": "ses", "source": "acme", "occurred_at": at, "received_at": at,
        });
        json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let json = json.to_string();
        let event = RatedEvent::read(json.as_bytes()).unwrap();
        let [counts, sent, corrections] = tally;
        let counts = CounterSet::from_names(counts).unwrap();
        let sent = sent.parse::<i64>().ok().map(|second| OccurredAt(second * 1_000_000));
        let corrections = (!corrections.is_empty()).then(|| corrections.parse().unwrap());
        batch.add(&event, counts, sent, corrections.as_ref());
    }

    /// Returns the counts of each pane as `key@second/cohort: counts`.
    fn drain(batch: &mut BatchCounts) -> Vec<String> {
        let mut panes = Vec::new();
        let result = batch.drain(|ScopeCounts { key, whole, pane, cohort, counts }| {
            assert_eq!(Scope::parse(key).unwrap().whole().key(), whole);
            let counts = serde_json::to_string(&counts).unwrap();
            let cohort = cohort.map(|hour| format!("/{}", hour.micros() / 3_600_000_000));
            let second = pane.micros() / 1_000_000;
            panes.push(format!("{key}@{second}{}: {counts}", cohort.unwrap_or_default()));
            Ok::<(), Infallible>(())
        });
        assert_eq!(result, Ok(()));
        panes
    }

    #[test]
    fn an_event_counts_for_each_of_its_scopes() {
        let mut batch = batch();
        let gmail = json!({"mailbox_provider": "gmail", "stream": "bulk"});
        let both = json!({"mailbox_provider": "gmail", "campaign": "spring", "tenant": "t"});
        let campaign = json!({"campaign": "spring"});
        add(&mut batch, 7, both, ["delivered,delivered_fbl", "", ""]);
        add(&mut batch, 8, gmail.clone(), ["delivered", "", ""]);
        add(&mut batch, 9, campaign, ["injected", "", ""]);
        add(&mut batch, 11, gmail, ["delivered", "", ""]);
        assert_eq!(
            drain(&mut batch),
            [
                r#"source/ses/acme@0: {"injected":1,"delivered":2,"delivered_fbl":1}"#,
                r#"source/ses/acme@10: {"delivered":1}"#,
                r#"mailbox/ses/acme/gmail@0: {"delivered":2,"delivered_fbl":1}"#,
                r#"mailbox/ses/acme/gmail@10: {"delivered":1}"#,
                r#"campaign/ses/acme/spring@0: {"injected":1,"delivered":1,"delivered_fbl":1}"#,
                r#"tenant-mailbox/t/gmail@0: {"delivered":1,"delivered_fbl":1}"#,
                r#"ip/ses/acme/bulk@0: {"delivered":1}"#,
                r#"ip/ses/acme/bulk@10: {"delivered":1}"#,
            ]
        );
    }

    #[test]
    fn counts_are_apart_by_cohort_in_scopes_that_have_cohorts() {
        let mut batch = batch();
        let fields = json!({"sending_ip": "192.0.2.1"});
        add(&mut batch, 7205, fields.clone(), ["opened", "3599", ""]);
        add(&mut batch, 7206, fields.clone(), ["delivered", "7200", ""]);
        add(&mut batch, 7207, fields.clone(), ["delivered", "7204", ""]);
        add(&mut batch, 7208, fields.clone(), ["delivered", "", ""]);
        add(&mut batch, 7208, fields, ["delivered", "99999999", ""]);
        assert_eq!(
            drain(&mut batch),
            [
                r#"source/ses/acme@7200: {"delivered":1}"#,
                r#"source/ses/acme@7200/0: {"opened":1}"#,
                r#"source/ses/acme@7200/2: {"delivered":3}"#,
                r#"ip/ses/acme/192.0.2.1@7200: {"delivered":4,"opened":1}"#,
            ]
        );
    }

    #[test]
    fn a_correction_counts_at_its_own_time_and_only_in_scopes_that_have_not_changed() {
        let mut batch = batch();
        let fields = json!({"mailbox_provider": "gmail", "campaign": "spring"});
        let corrections = "campaign:-bounced_soft@25000000,+deferred@25000000";
        add(&mut batch, 47, fields, ["delivered", "", corrections]);
        assert_eq!(
            drain(&mut batch),
            [
                r#"source/ses/acme@20: {"deferred":1,"bounced_soft":-1}"#,
                r#"source/ses/acme@40: {"delivered":1}"#,
                r#"mailbox/ses/acme/gmail@40: {"delivered":1}"#,
                r#"campaign/ses/acme/spring@20: {"deferred":1,"bounced_soft":-1}"#,
                r#"campaign/ses/acme/spring@40: {"delivered":1}"#,
            ]
        );
    }

    #[test]
    fn a_pane_whose_counts_cancel_out_is_emitted() {
        let mut batch = batch();
        add(&mut batch, 5, json!({}), ["bounced_soft", "", ""]);
        add(&mut batch, 15, json!({}), ["bounced_hard", "", ":-bounced_soft@5000000"]);
        assert_eq!(
            drain(&mut batch),
            ["source/ses/acme@0: {}", r#"source/ses/acme@10: {"bounced_hard":1}"#]
        );
    }

    #[test]
    fn a_batch_is_emitted_once_and_a_discarded_batch_never() {
        let mut batch = batch();
        let one = [r#"source/ses/acme@0: {"delivered":1}"#];
        add(&mut batch, 7, json!({}), ["delivered", "", ""]);
        assert_eq!(drain(&mut batch), one);
        assert_eq!(drain(&mut batch), [""; 0]);
        add(&mut batch, 7, json!({}), ["delivered", "", ""]);
        batch.clear();
        add(&mut batch, 7, json!({}), ["delivered", "", ""]);
        assert_eq!(drain(&mut batch), one);
    }

    #[test]
    fn names_that_concatenate_to_the_same_text_are_different() {
        let count = |sources: [(&str, Option<&str>); 2]| {
            let mut batch = batch();
            for (source, mailbox) in sources {
                let fields = json!({"source": source, "mailbox_provider": mailbox});
                add(&mut batch, 0, fields, ["delivered", "", ""]);
            }
            drain(&mut batch)
        };
        assert_eq!(count([("a", Some("bc")), ("ab", Some("c"))]).len(), 4);
        let both = [r#"source/ses/a@0: {"delivered":2}"#, r#"mailbox/ses/a/@0: {"delivered":1}"#];
        assert_eq!(count([("a", None), ("a", Some(""))]), both);
    }

    #[test]
    fn events_that_count_for_nothing_are_not_emitted() {
        let mut batch = batch();
        add(&mut batch, 0, json!({}), ["", "5", ""]);
        assert_eq!(drain(&mut batch), [""; 0]);
        assert!(batch.sets.is_empty());
    }

    #[test]
    fn scope_sets_are_dropped_above_the_maximum() {
        let mut batch = batch();
        for number in 0..=MAX_SCOPE_SETS {
            let source = json!({"source": format!("s{number}")});
            add(&mut batch, 1, source, ["delivered", "", ""]);
        }
        assert_eq!(drain(&mut batch).len(), MAX_SCOPE_SETS + 1);
        assert!(batch.sets.is_empty() && batch.scopes.is_empty());
        add(&mut batch, 1, json!({}), ["delivered", "", ""]);
        assert_eq!(drain(&mut batch).len(), 1);
    }

    #[test]
    fn scope_sets_with_long_names_are_dropped_earlier() {
        let mut batch = batch();
        let long = "x".repeat(256);
        for number in 0..=MAX_NAME_BYTES / 256 {
            let campaign = json!({"campaign": format!("{number}{long}")});
            add(&mut batch, 1, campaign, ["delivered", "", ""]);
        }
        assert!(batch.sets.len() < MAX_SCOPE_SETS / 2 + 2);
        drain(&mut batch);
        assert!(batch.sets.is_empty());
    }
}
