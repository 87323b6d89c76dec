//! What a receiver does not accept, what cannot be read, and recipients that were erased.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Cluster, DEADLINE, Outgoing, Record, eventually, layout, seen};
use privacy::ErasureKey;
use record::names;
use support::{Hook, TestEvent, forward, group, launch, produce};

fn dead_letters(cluster: &Cluster, count: usize) -> Vec<Record> {
    eventually(&format!("{count} dead letters"), DEADLINE, || {
        let records = cluster.read_settled(&cluster.topics.dead_letters);
        seen(records, |records| records.len() >= count)
    })
}

fn text<'r>(record: &'r Record, header: &str) -> &'r str {
    std::str::from_utf8(record.header(header).unwrap_or_default()).unwrap()
}

/// Runs the operator's tool, which is built next to the service.
fn mailpulse(cluster: &Cluster, arguments: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("mailpulse.toml");
    std::fs::write(&config, cluster.toml()).unwrap();
    let binary = Path::new(env!("CARGO_BIN_EXE_forward")).with_file_name("mailpulse");
    assert!(binary.exists(), "build the workspace first: cargo build --workspace --bins");
    let output =
        Command::new(binary).arg("--config").arg(&config).args(arguments).output().unwrap();
    let shown = format!("{output:?}");
    assert!(output.status.success(), "{shown}");
    shown
}

#[test]
fn rejected_events_are_dead_letters_and_a_redrive_sends_them_to_this_forward_only() {
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    let hook = Hook::start(move |_| Some(if open.load(Ordering::SeqCst) { 200 } else { 422 }));
    let other = Hook::start(|_| Some(200));
    let cluster = Cluster::new("forward-rejected", layout(2, 1));
    let events: Vec<_> = (0..6).map(|n| TestEvent::new(&format!("r{n}@example.com"), n)).collect();
    produce(&cluster, &events);
    let tables = [forward("crm", &hook, ""), forward("other", &other, "")];
    let mut service = launch(&cluster, &tables).start();

    let records = dead_letters(&cluster, 6);
    assert_eq!(records.len(), 6);
    for record in &records {
        assert_eq!(text(record, names::STAGE), "forward");
        assert_eq!(text(record, names::REASON), "undeliverable");
        assert_eq!(text(record, "forward"), "crm");
        let detail = text(record, names::DETAIL);
        assert!(detail.contains("forward crm") && detail.contains("422"), "{detail}");
        let topic = &cluster.topics.events;
        assert!(text(record, names::ORIGIN).starts_with(&format!("{topic}/")), "{record:?}");
        assert_eq!(record.json()["recipient"], std::str::from_utf8(&record.key).unwrap());
    }
    // They are done, so the offsets move on.
    cluster.await_all_read(&group(&cluster, "crm"), &cluster.topics.events);
    let labels = [("forward", "crm"), ("outcome", "rejected")];
    service.await_metric("mailpulse_forward_events_total", &labels, |events| events == 6.0);
    assert_eq!(other.await_messages(6).len(), 6);

    is_open.store(true, Ordering::SeqCst);
    let listed = mailpulse(&cluster, &["dead-letters", "ls", "--stage", "forward"]);
    assert!(listed.contains("undeliverable"), "{listed}");
    mailpulse(&cluster, &["dead-letters", "redrive", "--stage", "forward", "--yes"]);
    let mut messages = hook.await_messages(6);
    messages.sort();
    assert_eq!(messages, events.iter().map(TestEvent::message).collect::<Vec<_>>());
    // Each partition ends with the marker of the redrive's transaction.
    cluster.await_committed(&group(&cluster, "other"), &cluster.topics.events, 12);
    cluster.await_committed(&group(&cluster, "crm"), &cluster.topics.events, 12);
    assert_eq!(other.messages().len(), 6, "the other forward has sent them before");
    service.stop();
}

#[test]
fn what_is_not_an_event_is_a_dead_letter_and_stops_nothing() {
    let hook = Hook::start(|_| Some(200));
    let cluster = Cluster::new("forward-faulty", layout(1, 1));
    let event = |number| TestEvent::new("ada@example.com", number).record(&cluster);
    let faulty = |value: &str| Outgoing::new(&cluster.topics.events, "ada@example.com", value);
    let time =
        Outgoing::new(&cluster.topics.events, "", "").header(names::TIME, "1795255200000000");
    cluster.produce(&[event(0), faulty("not json"), faulty("{}"), time, event(1)]);
    let mut service = launch(&cluster, &[forward("crm", &hook, "")]).start();

    assert_eq!(hook.await_messages(2).len(), 2);
    let records = dead_letters(&cluster, 2);
    let mut reasons: Vec<_> = records.iter().map(|record| text(record, names::REASON)).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["not_json", "wrong_shape"]);
    cluster.await_all_read(&group(&cluster, "crm"), &cluster.topics.events);
    service.stop();
}

#[test]
fn events_of_erased_recipients_are_not_sent() {
    const KEY: &str = "a key of the tests alone";
    let key = ErasureKey::new(KEY.as_bytes()).unwrap();
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    // Bob is erased while his event is retried.
    let hook = Hook::start(move |posted| {
        let is_refused = posted.names("bob@example.com") && !open.load(Ordering::SeqCst);
        Some(if is_refused { 503 } else { 200 })
    });
    let cluster = Cluster::new("forward-erased", layout(1, 1));
    let erase = |address: &str| {
        let value = format!(r#"{{"key_id":"{}","at":1}}"#, key.id());
        let digest = key.digest(address).to_string();
        cluster.produce(&[Outgoing::new(&cluster.topics.erased, digest, value)]);
    };
    erase("ada@example.com");
    let pseudonym = key.pseudonym("ada@example.com").unwrap();
    produce(
        &cluster,
        &[
            TestEvent::new("ada@example.com", 0),
            TestEvent::new(&pseudonym, 1),
            TestEvent::new("bob@example.com", 2),
            TestEvent::new("eve@example.com", 3).with("campaign", "for ada@example.com"),
        ],
    );
    let table = forward("crm", &hook, "batch = { events = 4, wait = \"1h\" }");
    let config = format!("[privacy]\nerasure_key = {KEY:?}\n");
    let mut service = launch(&cluster, &[table]).config(&config).start();

    let posted = hook.await_posted(1).remove(0);
    let sent: Vec<_> = posted.messages().into_iter().map(|(recipient, _)| recipient).collect();
    assert_eq!(sent, ["bob@example.com", "eve@example.com"]);
    assert!(!String::from_utf8_lossy(&posted.body).contains("ada@example.com"));

    erase("bob@example.com");
    hook.await_messages(1);
    let accepted = hook.accepted().remove(0);
    assert_eq!(accepted.id, posted.id);
    assert_eq!(accepted.messages(), [TestEvent::new("eve@example.com", 3).message()]);
    is_open.store(true, Ordering::SeqCst);
    cluster.await_all_read(&group(&cluster, "crm"), &cluster.topics.events);
    service.stop();
}
