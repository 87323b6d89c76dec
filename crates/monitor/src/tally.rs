//! The events of one round, added up by scope and pane.

use std::collections::{BTreeMap, HashMap};

use window::{Counts, Fact, PaneStart, Scope};

use crate::facts::RatedEvent;

/// Events that belong to the same scopes and the same pane.
struct Group {
    scopes: Vec<Scope>,
    pane: PaneStart,
    counts: Counts,
}

/// Counts by what decides the scopes; those are only named once a round and group.
#[derive(Default)]
pub(crate) struct Tally {
    places: HashMap<Box<[u8]>, usize>,
    groups: Vec<Group>,
    /// Scratch.
    key: Vec<u8>,
}

impl Tally {
    /// Counts one event.
    pub(crate) fn add(&mut self, event: &RatedEvent<'_>, fact: &Fact) {
        let pane = PaneStart::of(event.time());
        write_key(event, pane, &mut self.key);
        let place = match self.places.get(self.key.as_slice()) {
            Some(&place) => place,
            None => {
                let scopes = event.scopes().collect();
                self.groups.push(Group { scopes, pane, counts: Counts::default() });
                self.places.insert(self.key.as_slice().into(), self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        self.groups[place].counts.add_fact(fact);
    }

    /// What the round adds to each pane, without the zeros, in an order that depends on the events
    /// alone. Begins the next round.
    pub(crate) fn take(&mut self) -> BTreeMap<(Scope, PaneStart), Counts> {
        let mut deltas = BTreeMap::new();
        self.places.clear();
        for Group { scopes, pane, counts } in self.groups.drain(..) {
            if counts.is_zero() {
                continue;
            }
            for scope in scopes {
                let sum: &mut Counts = deltas.entry((scope, pane)).or_default();
                *sum += &counts;
            }
        }
        deltas
    }

    /// Forgets the round.
    pub(crate) fn clear(&mut self) {
        self.places.clear();
        self.groups.clear();
    }
}

/// The parts that decide a group, told apart by a byte that UTF-8 does not know, the absent ones by
/// another.
fn write_key(event: &RatedEvent<'_>, pane: PaneStart, key: &mut Vec<u8>) {
    const END: u8 = 0xFF;
    const ABSENT: u8 = 0xFE;
    key.clear();
    key.extend(pane.micros().to_le_bytes());
    key.push(event.provider as u8);
    key.extend(event.source.as_bytes());
    for part in [&event.mailbox_provider, &event.campaign] {
        key.push(END);
        match part {
            Some(text) => key.extend(text.as_bytes()),
            None => key.push(ABSENT),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a round with these events says, as `key@pane: counts`. An event is its source, mailbox
    /// provider, campaign, second and kind.
    fn said(events: &[(&str, Option<&str>, Option<&str>, i64, &str)]) -> Vec<String> {
        let mut tally = Tally::default();
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
        let said = tally.take();
        assert!(tally.take().is_empty(), "a round is told once");
        said.iter()
            .map(|((scope, pane), counts)| {
                let counts = serde_json::to_string(counts).unwrap();
                format!("{scope}@{}: {counts}", pane.micros() / 1_000_000)
            })
            .collect()
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
    fn parts_of_names_do_not_run_into_one_another() {
        let of = |source, mailbox| (source, Some(mailbox), None, 0, "delivered");
        assert_eq!(said(&[of("a", "bc"), of("ab", "c")]).len(), 4);
        let unlike = [("a", None, None, 0, "delivered"), ("a", Some(""), None, 0, "delivered")];
        assert_eq!(
            said(&unlike),
            [r#"source/ses/a@0: {"delivered":2}"#, r#"mailbox/ses/a/@0: {"delivered":1}"#,]
        );
    }

    #[test]
    fn events_that_count_for_nothing_are_not_told() {
        assert_eq!(
            said(&[("acme", None, None, 0, "other"), ("acme", None, None, 0, "opened")]),
            [""; 0]
        );
    }
}
