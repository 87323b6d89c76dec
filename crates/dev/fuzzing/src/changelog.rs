//! Values that stages read: of the changelogs, `mail.events`, `mail.panes`, `mail.rates` and
//! `mail.alerts`. The first byte chooses the kind of value.

use alerting::{Alert, ScopeEpisodes};
use event::CounterSet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use state::{Entry, MessageMemory};
use window::{Pane, PaneDelta, Scope, ScopeRate, WindowResult};

/// Checks that every value that can be read is unchanged after it is written and read again, so
/// that a restart loses and adds nothing.
pub fn check(data: &[u8]) {
    check_value(data);
}

/// Like [`check`]. Returns whether the bytes are a valid value.
fn check_value(data: &[u8]) -> bool {
    let Some((&choice, record)) = data.split_first() else { return false };
    match choice % 8 {
        0 => check_entry(record),
        1 => check_json::<Pane>(record),
        2 => check_json::<ScopeEpisodes>(record),
        3 => check_json::<PaneDelta>(record),
        4 => check_json::<ScopeRate>(record) && check_rates(record),
        5 => check_json::<Alert>(record),
        6 => check_event(record),
        _ => check_key(record),
    }
}

/// A value of dedupe's changelog has 25 bytes, 20 for each event id, and for each memory of a message 21
/// (version 1), 41 (version 2), or 17 and its length (version 3).
fn check_entry(record: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(record) else { return false };
    let ids = &record[21..];
    assert_eq!(record[1..9], entry.writer.to_be_bytes());
    assert_eq!(record[9..17], entry.sequence.to_be_bytes());
    for ((hour, id), bytes) in entry.ids().zip(ids.chunks(20)) {
        assert_eq!([&hour.0.to_be_bytes()[..], &id.0].concat(), bytes);
    }
    let mut memories = &record[25 + 20 * entry.ids().len()..];
    for (id, memory) in entry.memories() {
        let length_at = if record[0] < 3 { 0 } else { 1 };
        assert_eq!(memories[..16], id.0);
        assert_eq!(&memories[16 + length_at..][..memory.len()], memory);
        memories = &memories[16 + length_at + memory.len()..];
        check_memory(memory);
    }
    assert!(memories.is_empty());
    assert!(Entry::decode(&record[..record.len() - 1]).is_err(), "the length is checked");
    assert!(Entry::decode(&[record, &[0]].concat()).is_err(), "the length is checked");
    true
}

/// What can be read of a message counts for each thing at most once.
fn check_memory(bytes: &[u8]) {
    let Some(memory) = MessageMemory::from_bytes(bytes) else { return };
    let mut seen = CounterSet::EMPTY;
    for (counter, _) in memory.contributions() {
        assert!(!seen.contains(counter), "{counter:?}");
        seen = seen.with(counter);
    }
}

fn check_json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    record: &[u8],
) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(record) else { return false };
    let written = serde_json::to_vec(&value).expect("a value that was read can be written");
    let reread: T = serde_json::from_slice(&written).expect("a value that was written can be read");
    assert_eq!(reread, value);
    true
}

/// `archive` stores the rates that it reads, so they must be equal to those that `monitor`
/// computed.
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
    let reread: event::Event<'_> = serde_json::from_slice(&written).expect("and read");
    assert_eq!(reread.event_id, event.event_id);
    assert_eq!(reread.engagement_id(), event.engagement_id());
    assert_eq!(serde_json::to_vec(&reread).expect("and written"), written);
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
    fn every_seed_is_a_valid_value() {
        let seeds = crate::seeds("changelog");
        assert!(seeds.iter().all(|(path, seed)| check_value(seed) || panic!("{path:?}")));
        let choices: std::collections::BTreeSet<u8> =
            seeds.iter().map(|(_, seed)| seed[0]).collect();
        assert_eq!(choices.len(), 8, "every kind of value has a seed");
    }
}
