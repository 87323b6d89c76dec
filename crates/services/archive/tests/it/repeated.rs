//! An event that dedupe could not judge is looked for in the table, and is archived once.

use harness::{DEADLINE, Outgoing, eventually, seen};
use record::names;

use crate::records::{assert_each_once, event};
use crate::stack::Stack;

/// Returns a record of event `n` with the headers of dedupe, for partition 0.
fn record(stack: &Stack, n: usize, is_judged: bool) -> Outgoing {
    let value = event(n);
    let json: serde_json::Value = serde_json::from_slice(&value).unwrap();
    let text = |name: &str| match &json[name] {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let record = Outgoing::new(&stack.cluster.topics.events, "ada@example.com", &value)
        .on(0)
        .header(names::EVENT_ID, hex::decode(text("event_id")).unwrap())
        .header(names::SOURCE, text("source"))
        .header(names::KIND, text("kind"))
        .header(names::OCCURRED_AT, text("occurred_at"));
    if is_judged { record } else { record.header(names::UNJUDGED, "") }
}

/// Produces events in one transaction.
fn produce(stack: &Stack, events: &[(usize, bool)]) {
    let records: Vec<_> =
        events.iter().map(|&(n, is_judged)| record(stack, n, is_judged)).collect();
    stack.produce(&records, records.len());
}

#[test]
fn an_unjudged_event_is_archived_unless_the_table_has_it() {
    let stack = Stack::new();
    stack.migrate();
    let mut archive = stack.start();
    produce(&stack, &[(0, true), (1, true), (2, true)]);
    assert_each_once(&stack, 3);
    // Event 0 again, event 3 for the first time and again in the same batch, and event 4, which is judged.
    produce(&stack, &[(0, false), (3, false), (3, false), (4, true)]);
    assert_each_once(&stack, 5);
    produce(&stack, &[(1, false), (2, false), (3, false)]);
    produce(&stack, &[(5, true)]);
    assert_each_once(&stack, 6);
    archive.await_metric("mailpulse_archive_repeated_events_total", &[], |events| events == 5.0);
    archive.stop();
    assert_eq!(ledger(&stack), "11,6,5,0,0", "read, passed, dropped, dead letters, redriven");
}

#[test]
fn a_killed_archive_leaves_out_the_same_events() {
    let stack = Stack::new();
    stack.migrate();
    let mut archive = stack.start();
    produce(&stack, &(0..100).map(|n| (n, true)).collect::<Vec<_>>());
    assert_each_once(&stack, 100);
    for round in 1..=5 {
        let first = 100 * round;
        // Half of the events are in the table, and half are new.
        let events: Vec<_> = (first - 50..first + 50).map(|n| (n, false)).collect();
        produce(&stack, &events);
        let more: Vec<_> = (first + 50..first + 100).map(|n| (n, true)).collect();
        produce(&stack, &more);
        archive.kill();
        archive.restart();
        assert_each_once(&stack, first + 100);
    }
    archive.stop();
    assert_eq!(ledger(&stack), "850,600,250,0,0");
}

/// Waits until everything is committed, and returns the ledger of partition 0.
fn ledger(stack: &Stack) -> String {
    let group = stack.cluster.topics.group("archive");
    let metadata = || {
        let committed = stack.cluster.committed(&group, &stack.cluster.topics.events);
        committed[0].as_ref().map(|committed| committed.metadata.clone()).unwrap_or_default()
    };
    let whole = eventually("the range to be done", DEADLINE, || {
        seen(metadata(), |metadata| metadata.starts_with('@'))
    });
    whole[1..].to_owned()
}
