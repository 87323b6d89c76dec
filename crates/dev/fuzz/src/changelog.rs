//! What the stages tell each other and themselves: records of the changelogs, of `mail.events`,
//! `mail.panes`, `mail.rates` and `mail.alerts`. The first byte chooses which.

use serde::Serialize;
use serde::de::DeserializeOwned;
use state::Entry;
use window::{Alert, Episodes, Pane, PaneDelta, Scope, ScopeRate, WindowResult};

/// Checks that what is read can be written and is then read as the same, so that a restart takes
/// nothing away and adds nothing.
pub fn check(data: &[u8]) {
    reads(data);
}

/// The same, and whether it is a record at all.
fn reads(data: &[u8]) -> bool {
    let Some((&choice, record)) = data.split_first() else { return false };
    match choice % 8 {
        0 => check_entry(record),
        1 => check_json::<Pane>(record),
        2 => check_json::<Episodes>(record),
        3 => check_json::<PaneDelta>(record),
        4 => check_json::<ScopeRate>(record) && check_rates(record),
        5 => check_json::<Alert>(record),
        6 => check_event(record),
        _ => check_key(record),
    }
}

/// A record of `dedupe`'s: 25 bytes, 20 more for an id, 21 more for a mark.
fn check_entry(record: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(record) else { return false };
    let ids = &record[21..];
    assert_eq!(record[1..9], entry.writer.to_be_bytes());
    assert_eq!(record[9..17], entry.sequence.to_be_bytes());
    for ((hour, id), bytes) in entry.ids().zip(ids.chunks(20)) {
        assert_eq!([&hour.0.to_be_bytes()[..], &id.0].concat(), bytes);
    }
    assert_eq!((record.len() - 25 - 20 * entry.ids().len()) % 21, 0);
    assert!(Entry::decode(&record[..record.len() - 1]).is_err(), "its length is part of it");
    assert!(Entry::decode(&[record, &[0]].concat()).is_err(), "its length is part of it");
    true
}

fn check_json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    record: &[u8],
) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(record) else { return false };
    let written = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, value);
    true
}

/// The rates of any counts arrive as `monitor` computed them: `archive` stores what it reads.
fn check_rates(record: &[u8]) -> bool {
    let Ok(ScopeRate { window, .. }) = serde_json::from_slice(record) else { return false };
    let computed = WindowResult::new(window.width, window.end, window.counts, window.revision);
    let written = serde_json::to_vec(&computed).expect("a window can be written");
    let read: WindowResult = serde_json::from_slice(&written).expect("and read");
    assert_eq!(read, computed);
    true
}

fn check_event(record: &[u8]) -> bool {
    let Ok(event) = serde_json::from_slice::<event::Event<'_>>(record) else { return false };
    let written = serde_json::to_vec(&event).expect("an event can be written");
    let again: event::Event<'_> = serde_json::from_slice(&written).expect("and read");
    assert_eq!(again.event_id, event.event_id);
    assert_eq!(again.engagement_id(), event.engagement_id());
    assert_eq!(serde_json::to_vec(&again).expect("and written"), written);
    true
}

fn check_key(record: &[u8]) -> bool {
    let scope = std::str::from_utf8(record).map(Scope::parse);
    let Ok(Ok(scope)) = scope else { return false };
    assert_eq!(scope.key().as_bytes(), record);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_record() {
        let seeds = crate::seeds("changelog");
        assert!(seeds.iter().all(|(path, seed)| reads(seed) || panic!("{path:?}")));
        let choices: std::collections::BTreeSet<u8> =
            seeds.iter().map(|(_, seed)| seed[0]).collect();
        assert_eq!(choices.len(), 8, "of every kind");
    }
}
