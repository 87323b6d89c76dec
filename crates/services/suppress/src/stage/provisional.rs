//! Hard bounces while a mailbox provider's answers are in doubt: entries that wait for the end of an incident.

use alerting::IncidentId;
use event::Event;
use kafka::Output;
use suppression::entry::EntryValue;
use suppression::{Author, EntryKey, State};

use super::{EntryState, Suppress};
use crate::incidents::KnownIncidents;
use crate::store::Store;

/// How many entries one transaction makes final, so that it stays small.
const SETTLED_AT_ONCE: usize = 1_000;

/// That the entry of a hard bounce began during an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The incident. The entry keeps its id, so that it can be lifted with the others.
    pub(super) incident: IncidentId,
    /// Whether the entry waits for its end.
    pub(super) waits: bool,
}

impl Doubt {
    /// Returns what is in doubt about the entry of a hard bounce that happened at `at` (seconds). `before` is the entry
    /// so far, `None` if it begins with this bounce.
    fn of(
        known: &KnownIncidents,
        mailbox_provider: Option<&str>,
        at: i64,
        before: Option<EntryState>,
    ) -> Option<Self> {
        let begins = before.is_none_or(|it| it.is_provisional);
        let kept = before.and_then(|it| it.incident);
        let kept = kept.and_then(|id| IncidentId::try_from(id.to_string()).ok());
        let incident = match kept {
            Some(incident) => incident,
            None if begins => known.about(mailbox_provider?, at)?,
            None => return None, // earlier evidence is not in doubt
        };
        Some(Self { incident, waits: begins && known.is_open(incident) })
    }
}

/// Returns whether an entry has ended: an operator has lifted it, or its record says so.
fn has_ended(store: &Store, key: &EntryKey<'static>, before: EntryState) -> bool {
    let lift = EntryKey { author: Author::Lift, ..key.clone() };
    let lift = store.table.get(&lift).filter(|it| it.form.state == State::Lifted);
    before.mark.is_lifted || lift.is_some_and(|it| it.since >= before.mark.at)
}

impl Suppress<'_> {
    /// Returns what is in doubt about the entry of a hard bounce that happened at `at` (seconds).
    pub(super) fn doubt(
        &mut self,
        partition: i32,
        key: &EntryKey<'static>,
        event: &Event<'_>,
        at: i64,
        before: Option<EntryState>,
    ) -> Option<Doubt> {
        let before = before.filter(|it| !has_ended(&self.store, key, *it));
        let mailbox_provider = event.mailbox_provider.as_ref().map(event::Text::as_str);
        let mut doubt = Doubt::of(&self.known, mailbox_provider, at, before)?;
        if !doubt.waits {
            return Some(doubt);
        }
        doubt.waits = self.store.may_wait(partition);
        if !std::mem::replace(&mut self.is_full, !doubt.waits) && self.is_full {
            let incident = doubt.incident;
            tracing::warn!(
                partition, %incident,
                "there are so many provisional entries that further ones are final at once; \
                 `mailpulse suppressions lift --incident` finds them, too"
            );
        }
        Some(doubt)
    }

    /// Makes entries final whose incident is over. A later batch writes what is too much for this one, and all of it if the
    /// transaction fails, also if another member owns the partition by then.
    pub(super) fn settle(&mut self, out: &mut Output<'_>) -> Result<(), kafka::Error> {
        let known = &self.known;
        for (partition, key, value) in
            self.store.settled(|incident| known.is_open(incident), SETTLED_AT_ONCE)
        {
            if self.pending.contains_key(&key) {
                continue; // this batch has newer evidence, and the next one looks again
            }
            // The store keeps only values that can be read.
            let Ok(mut value) = serde_json::from_str::<EntryValue>(&value) else { continue };
            value.provisional = false;
            self.write(partition, key, &value, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use event::EventId;
    use suppression::entry::EntryFacts;
    use suppression::{Mark, Policy, Reason, RecipientDigest};

    use super::*;
    use crate::incidents::tests::{id, incident};

    const AT: i64 = 150;

    fn entry(incident: Option<char>, is_provisional: bool) -> Option<EntryState> {
        let incident = incident.map(|name| id(name).to_string().parse::<EventId>().unwrap());
        Some(EntryState { mark: Mark { at: 120, is_lifted: false }, is_provisional, incident })
    }

    fn doubt(name: char, waits: bool) -> Option<Doubt> {
        Some(Doubt { incident: id(name), waits })
    }

    #[test]
    fn an_entry_keeps_the_incident_during_which_it_began() {
        let over = serde_json::json!({"state": "resolved", "at": 200_000_000});
        let mut open = KnownIncidents::default();
        open.apply(&incident('b', serde_json::json!({})));
        let mut ended = open.clone();
        ended.apply(&incident('b', over));
        let gmail = Some("gmail");
        for (known, before, expected) in [
            (&open, None, doubt('b', true)),
            (&open, entry(Some('b'), true), doubt('b', true)),
            (&open, entry(Some('a'), true), doubt('a', false)),
            (&open, entry(Some('a'), false), doubt('a', false)),
            (&open, entry(None, false), None),
            (&open, entry(None, true), doubt('b', true)),
            (&ended, None, doubt('b', false)),
            (&ended, entry(Some('b'), true), doubt('b', false)),
            (&ended, entry(Some('b'), false), doubt('b', false)),
        ] {
            assert_eq!(Doubt::of(known, gmail, AT, before), expected, "{before:?}");
        }
        assert_eq!(Doubt::of(&ended, gmail, 201, None), None, "it was over");
        assert_eq!(Doubt::of(&open, None, AT, None), None);
        assert_eq!(Doubt::of(&open, None, AT, entry(Some('a'), false)), doubt('a', false));
    }

    #[test]
    fn an_entry_that_an_operator_has_lifted_begins_anew() {
        let store = Store::new(Policy { soft_bounces: 5, soft_within: 1, soft_for: 1 }, 1);
        let mut key = EntryKey {
            list: "a".into(),
            recipient: RecipientDigest([3; 16]),
            reason: Reason::HardBounce,
            scope: "".into(),
            author: Author::Event,
        };
        let before = entry(Some('a'), false).unwrap();
        assert!(!has_ended(&store, &key, before));
        let is_lifted = Mark { is_lifted: true, ..before.mark };
        assert!(has_ended(&store, &key, EntryState { mark: is_lifted, ..before }));
        for (since, expected) in [(119, false), (120, true)] {
            key.author = Author::Lift;
            let value = EntryValue::new(&key, State::Lifted, since * 1_000_000);
            store.table.apply(&key, Some(EntryFacts::from(&value)));
            key.author = Author::Event;
            assert_eq!(has_ended(&store, &key, before), expected, "{since}");
        }
    }
}
