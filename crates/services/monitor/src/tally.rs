//! The events of one round, added up by scope and pane.

use std::collections::HashMap;

use window::{Counts, Fact, PaneStart, Scope};

use crate::facts::RatedEvent;

/// So many combinations of names are remembered; beyond it all are forgotten and learnt anew.
const FAMILIES_AT_MOST: usize = 1 << 16;

/// Counts by family and pane; a family is a combination of names that belongs to the same scopes.
///
/// Which scopes are a family's is remembered from round to round, so that an event costs one
/// look-up, and no scope is named twice.
#[derive(Default)]
pub(crate) struct Tally {
    families: HashMap<Box<[u8]>, usize>,
    /// By family, places in `scopes`.
    members: Vec<Vec<usize>>,
    places: HashMap<Scope, usize>,
    scopes: Vec<Named>,
    /// The round's, by family and pane.
    counts: HashMap<(usize, PaneStart), Counts>,
    /// Scratch.
    names: Vec<u8>,
}

/// A scope with its key.
#[derive(Debug, Clone)]
struct Named {
    scope: Scope,
    key: Box<str>,
}

/// What a round adds to one pane of a scope.
#[derive(Debug)]
pub(crate) struct Sum<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) key: &'a str,
    pub(crate) pane: PaneStart,
    pub(crate) counts: Counts,
}

impl Tally {
    /// Counts one event.
    pub(crate) fn add(&mut self, event: &RatedEvent<'_>, fact: &Fact) {
        write_names(event, &mut self.names);
        let family = match self.families.get(self.names.as_slice()) {
            Some(&family) => family,
            None => self.learn(event),
        };
        let pane = PaneStart::of(event.time());
        self.counts.entry((family, pane)).or_default().add_fact(fact);
    }

    fn learn(&mut self, event: &RatedEvent<'_>) -> usize {
        let scopes = &mut self.scopes;
        let members = event.scopes().map(|scope| {
            *self.places.entry(scope).or_insert_with_key(|scope| {
                scopes.push(Named { scope: scope.clone(), key: scope.key().into() });
                scopes.len() - 1
            })
        });
        self.members.push(members.collect());
        let family = self.members.len() - 1;
        self.families.insert(self.names.as_slice().into(), family);
        family
    }

    /// Says what the round adds to each pane, without the zeros, and begins the next round.
    pub(crate) fn take<E>(
        &mut self,
        mut say: impl FnMut(Sum<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut sums: HashMap<(usize, PaneStart), Counts> = HashMap::new();
        for ((family, pane), counts) in self.counts.drain() {
            if !counts.is_zero() {
                for &place in &self.members[family] {
                    *sums.entry((place, pane)).or_default() += &counts;
                }
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_unstable_by_key(|&(place_and_pane, _)| place_and_pane);
        for ((place, pane), counts) in sums {
            let Named { scope, key } = &self.scopes[place];
            say(Sum { scope, key, pane, counts })?;
        }
        if self.families.len() > FAMILIES_AT_MOST {
            *self = Self::default();
        }
        Ok(())
    }

    /// Forgets the round.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
    }
}

/// The names that decide a family, told apart by a byte that UTF-8 does not know, the absent ones
/// by another.
fn write_names(event: &RatedEvent<'_>, names: &mut Vec<u8>) {
    const END: u8 = 0xFF;
    const ABSENT: u8 = 0xFE;
    names.clear();
    names.push(event.provider as u8);
    names.extend(event.source.as_bytes());
    for part in [&event.mailbox_provider, &event.campaign] {
        names.push(END);
        match part {
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

    type Told<'a> = (&'a str, Option<&'a str>, Option<&'a str>, i64, &'a str);

    /// What a round with these events says, as `key@pane: counts`. An event is its source, mailbox
    /// provider, campaign, second and kind.
    fn round(tally: &mut Tally, events: &[Told<'_>]) -> Vec<String> {
        for &(source, mailbox_provider, campaign, second, kind) in events {
            let at = second * 1_000_000;
            let json = json!({
                "kind": kind, "provider": "ses", "source": source,
                "mailbox_provider": mailbox_provider, "campaign": campaign,
                "occurred_at": at, "received_at": at,
            })
            .to_string();
            let event = RatedEvent::read(json.as_bytes()).unwrap();
            let fact = event.fact(|| None).unwrap();
            tally.add(&event, &fact);
        }
        let mut said = Vec::new();
        let done = tally.take(|Sum { scope, key, pane, counts }| {
            assert_eq!(scope.key(), key);
            let counts = serde_json::to_string(&counts).unwrap();
            said.push(format!("{key}@{}: {counts}", pane.micros() / 1_000_000));
            Ok::<(), Infallible>(())
        });
        assert_eq!(done, Ok(()));
        said
    }

    fn said(events: &[Told<'_>]) -> Vec<String> {
        round(&mut Tally::default(), events)
    }

    #[test]
    fn an_event_counts_for_each_of_its_scopes() {
        assert_eq!(
            said(&[
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
    fn a_round_is_told_once_and_one_that_is_forgotten_never() {
        let mut tally = Tally::default();
        let event = ("acme", None, None, 7, "delivered");
        let one = [r#"source/ses/acme@0: {"delivered":1}"#];
        assert_eq!(round(&mut tally, &[event]), one);
        assert_eq!(round(&mut tally, &[]), [""; 0]);
        let json = r#"{"kind":"delivered","provider":"ses","source":"acme","occurred_at":1,"received_at":1}"#;
        let read = RatedEvent::read(json.as_bytes()).unwrap();
        let fact = read.fact(|| None).unwrap();
        tally.add(&read, &fact);
        tally.clear();
        assert_eq!(round(&mut tally, &[event]), one);
    }

    #[test]
    fn parts_of_names_do_not_run_into_one_another() {
        let of = |source, mailbox| (source, Some(mailbox), None, 0, "delivered");
        assert_eq!(said(&[of("a", "bc"), of("ab", "c")]).len(), 4);
        let unlike = [("a", None, None, 0, "delivered"), ("a", Some(""), None, 0, "delivered")];
        let both = [r#"source/ses/a@0: {"delivered":2}"#, r#"mailbox/ses/a/@0: {"delivered":1}"#];
        assert_eq!(said(&unlike), both);
    }

    #[test]
    fn events_that_count_for_nothing_are_not_told() {
        let nothing = [("acme", None, None, 0, "other"), ("acme", None, None, 0, "opened")];
        assert_eq!(said(&nothing), [""; 0]);
    }

    #[test]
    fn names_without_end_are_forgotten() {
        let mut tally = Tally::default();
        for number in 0..=FAMILIES_AT_MOST {
            let json = format!(
                r#"{{"kind":"delivered","provider":"ses","source":"s{number}","occurred_at":1,"received_at":1}}"#
            );
            let event = RatedEvent::read(json.as_bytes()).unwrap();
            let fact = event.fact(|| None).unwrap();
            tally.add(&event, &fact);
        }
        assert_eq!(round(&mut tally, &[]).len(), FAMILIES_AT_MOST + 1);
        assert!(tally.families.is_empty() && tally.scopes.is_empty());
    }
}
