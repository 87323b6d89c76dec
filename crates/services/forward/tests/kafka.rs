//! The binary on a real Kafka with real receivers: what is sent, in which order, and what a crash repeats.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use harness::{Cluster, DEADLINE, eventually, holds_for, layout, seen};
use support::{Hook, OLD_SECRET, Posted, SECRET, TestEvent, forward, group, launch, produce};

fn cluster(name: &str, partitions: i32) -> Cluster {
    Cluster::new(name, layout(partitions, 1))
}

/// Returns the numbers of one recipient's messages, in the order in which they were accepted.
fn of<'m>(messages: &'m [(String, String)], recipient: &str) -> Vec<&'m str> {
    let of = messages.iter().filter(|(address, _)| address == recipient);
    of.map(|(_, message)| &**message).collect()
}

#[test]
fn only_events_that_match_the_filter_are_sent() {
    let (hook, all) = (Hook::start(|_| Some(200)), Hook::start(|_| Some(200)));
    let cluster = cluster("forward-filter", 2);
    let filter = "kinds = [\"clicked\", \"bounced\"]\nproviders = [\"ses\"]\nsources = [\"ses/ac*\"]\n\
                  campaigns = [\"spring-*\"]\nrecipients = \"@example\\\\.com$\"";
    let tables = [
        forward("crm", &hook, filter),
        forward("all", &all, "human = false\nrecipient = \"none\""),
    ];
    let event = |number| TestEvent::new("ada@example.com", number).with("campaign", "spring-1");
    let machine = serde_json::json!({"reason": "scanner", "confidence": 0.9});
    let matching = [event(0), event(1).with("kind", "bounced")];
    let others = [
        event(2).with("kind", "opened"),
        event(3).with("provider", "mailgun"),
        event(4).with("source", "other"),
        event(5).with("campaign", "autumn"),
        TestEvent::new("ada@example.com", 6),
        TestEvent::new("ada@example.org", 7).with("campaign", "spring-1"),
        event(8).with("automation", machine),
    ];
    let forged = event(9).with("authentic", false);
    produce(&cluster, &[&others[..], &[forged], &matching[..]].concat());
    let mut service = launch(&cluster, &tables).start();

    // The forward of all shows that everything was read.
    assert_eq!(all.await_messages(9).len(), 9, "not the forged one");
    cluster.await_all_read(&group(&cluster, "crm"), &cluster.topics.events);
    let messages = hook.await_messages(2);
    assert_eq!(messages, matching.map(|event| event.message()));
    let posted = hook.accepted();
    let body = posted[0].json();
    assert_eq!((&body["type"], &body["forward"]), (&"mail.events".into(), &"crm".into()));
    assert_eq!(body["timestamp"], "2026-11-21T10:00:01Z");
    assert_eq!(posted[0].headers["content-type"], "application/json");
    let hidden =
        all.posted().iter().all(|one| !String::from_utf8_lossy(&one.body).contains("ada@"));
    assert!(hidden, "without the recipient, no event has its address");
    let labels = [("forward", "crm"), ("outcome", "delivered")];
    service.await_metric("mailpulse_forward_events_total", &labels, |events| events == 2.0);
    service.stop();
}

#[test]
fn a_batch_that_is_retried_holds_back_only_its_recipients() {
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    let hook = Hook::start(move |posted| {
        let is_refused = posted.names("ada@example.com") && !open.load(Ordering::SeqCst);
        Some(if is_refused { 503 } else { 200 })
    });
    let cluster = cluster("forward-order", 1);
    let events: Vec<_> = (0..3)
        .flat_map(|number| {
            [TestEvent::new("ada@example.com", number), TestEvent::new("bob@example.com", number)]
        })
        .collect();
    produce(&cluster, &events);
    let table = forward("crm", &hook, "batch = { events = 1 }");
    let mut service = launch(&cluster, &[table]).start();

    let messages = hook.await_messages(3);
    assert_eq!(of(&messages, "bob@example.com"), ["m0", "m1", "m2"]);
    hook.await_posted(10);
    let of_ada =
        |posted: &Posted| posted.messages() == [TestEvent::new("ada@example.com", 0).message()];
    let refused: Vec<_> = hook.posted().into_iter().filter(|one| !one.is_accepted()).collect();
    assert!(refused.iter().all(of_ada), "later events of the recipient wait");
    let ids: BTreeSet<_> = refused.iter().map(|one| &one.id).collect();
    assert_eq!(ids.len(), 1, "every attempt has the same id");
    assert_eq!(cluster.committed_sum(&group(&cluster, "crm"), &cluster.topics.events), 0);

    is_open.store(true, Ordering::SeqCst);
    let messages = hook.await_messages(6);
    assert_eq!(of(&messages, "ada@example.com"), ["m0", "m1", "m2"]);
    cluster.await_all_read(&group(&cluster, "crm"), &cluster.topics.events);
    service.stop();
}

#[test]
fn every_recipient_is_in_order_while_many_attempts_fail() {
    let attempts = AtomicUsize::new(0);
    let hook = Hook::start(move |_| {
        Some(if attempts.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) { 500 } else { 200 })
    });
    let cluster = cluster("forward-retries", 3);
    let recipients: Vec<_> = (0..20).map(|n| format!("r{n}@example.com")).collect();
    let events = |number| recipients.iter().map(move |address| TestEvent::new(address, number));
    let events: Vec<_> = (0..25).flat_map(events).collect();
    produce(&cluster, &events);
    let table = forward("crm", &hook, "batch = { events = 3, wait = \"5ms\" }\nconcurrent = 8");
    let mut service = launch(&cluster, &[table]).start();

    let messages = hook.await_messages(events.len());
    let expected: Vec<_> = (0..25).map(|number| format!("m{number}")).collect();
    for recipient in &recipients {
        assert_eq!(of(&messages, recipient), expected, "{recipient}");
    }
    cluster.await_all_read(&group(&cluster, "crm"), &cluster.topics.events);
    service.stop();
}

/// Asserts that each id stands for the same events in all requests, and that no event has two ids.
fn assert_same_batches(posted: &[Posted]) {
    let mut batches: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    let mut ids: BTreeMap<(String, String), &str> = BTreeMap::new();
    for one in posted {
        let messages = one.messages();
        let first = batches.entry(&one.id).or_insert_with(|| messages.clone());
        assert_eq!(*first, messages, "{}", one.id);
        for message in messages {
            let id = *ids.entry(message.clone()).or_insert(&one.id);
            assert_eq!(id, one.id, "{message:?} is in two batches");
        }
    }
}

#[test]
fn a_kill_repeats_batches_but_loses_and_changes_none() {
    let attempts = AtomicUsize::new(0);
    let hook = Hook::start(move |_| {
        Some(if attempts.fetch_add(1, Ordering::SeqCst).is_multiple_of(4) { 503 } else { 200 })
    });
    let cluster = cluster("forward-kill", 2);
    let recipients: Vec<_> = (0..30).map(|n| format!("r{n}@example.com")).collect();
    let lines = "batch = { events = 7, wait = \"3ms\" }\nconcurrent = 8\nin_flight = 6";
    let mut service = launch(&cluster, &[forward("crm", &hook, lines)]).start();
    let mut expected = BTreeSet::new();
    for round in 0..5 {
        let numbers = round * 10..(round + 1) * 10;
        let events: Vec<_> = numbers
            .flat_map(|number| recipients.iter().map(move |to| TestEvent::new(to, number)))
            .collect();
        expected.extend(events.iter().map(TestEvent::message));
        produce(&cluster, &events);
        // In the middle of the round.
        hook.await_messages(round * 300 + 60);
        service.kill();
        service.restart();
    }
    let what = "all events to be accepted";
    eventually(what, DEADLINE, || {
        let found: BTreeSet<_> = hook.messages().into_iter().collect();
        seen(found.len(), |found| *found >= expected.len())
    });
    let found: BTreeSet<_> = hook.messages().into_iter().collect();
    assert_eq!(found, expected);
    assert_same_batches(&hook.posted());
    cluster.await_all_read(&group(&cluster, "crm"), &cluster.topics.events);
    service.stop();

    // What was delivered and committed is not sent again.
    let before = hook.posted().len();
    service.restart();
    produce(&cluster, &[TestEvent::new("r0@example.com", 1_000)]);
    hook.await_posted(before + 1);
    let later: Vec<_> = hook.posted().split_off(before).iter().flat_map(Posted::messages).collect();
    assert!(later.iter().all(|(_, message)| message == "m1000"), "{later:?}");
    service.stop();
}

/// How many events a batch has depends on when they arrived. After the kill, all of them are there at once.
#[test]
fn a_killed_process_forms_the_same_batches_again() {
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    let hook = Hook::start(move |_| Some(if open.load(Ordering::SeqCst) { 200 } else { 503 }));
    let cluster = cluster("forward-cuts", 1);
    let lines = "batch = { events = 100, wait = \"5ms\" }\nin_flight = 32\nconcurrent = 32\n\
                 breaker = { failures = 1000, open_for = \"1s\" }";
    let mut service = launch(&cluster, &[forward("crm", &hook, lines)]).start();
    for number in 0..5 {
        let events = [0, 1].map(|n| TestEvent::new(&format!("r{n}-{number}@example.com"), number));
        produce(&cluster, &events);
        eventually("a batch with the last event to be sent", DEADLINE, || {
            let is_sent = |posted: &Posted| posted.names(&events[1].recipient);
            seen(hook.posted().iter().any(is_sent), |is_sent| *is_sent)
        });
    }
    service.kill();
    is_open.store(true, Ordering::SeqCst);
    service.restart();
    assert_eq!(hook.await_messages(10).len(), 10);
    assert_same_batches(&hook.posted());
    service.stop();
}

/// A partition moves to a second member, and back when that one is killed.
#[test]
fn a_partition_that_moves_keeps_its_batches_and_its_order() {
    let attempts = AtomicUsize::new(0);
    let hook = Hook::start(move |_| {
        Some(if attempts.fetch_add(1, Ordering::SeqCst).is_multiple_of(4) { 503 } else { 200 })
    });
    let cluster = cluster("forward-move", 4);
    let recipients: Vec<_> = (0..40).map(|n| format!("r{n}@example.com")).collect();
    let lines = "batch = { events = 5, wait = \"3ms\" }\nconcurrent = 8";
    let table = || forward("crm", &hook, lines);
    let mut first = launch(&cluster, &[table()]).start();
    let mut second = None;
    for round in 0..6 {
        let numbers = round * 10..(round + 1) * 10;
        let events: Vec<_> = numbers
            .flat_map(|number| recipients.iter().map(move |to| TestEvent::new(to, number)))
            .collect();
        produce(&cluster, &events);
        hook.await_messages(round * 400 + 100);
        match round {
            1 => second = Some(launch(&cluster, &[table()]).instance("f2").start()),
            3 => drop(second.take()),
            _ => {}
        }
    }
    let messages = hook.await_messages(6 * 400);
    let expected: Vec<_> = (0..60).map(|number| format!("m{number}")).collect();
    for recipient in &recipients {
        assert_eq!(of(&messages, recipient), expected, "{recipient}");
    }
    assert_same_batches(&hook.posted());
    cluster.await_all_read(&group(&cluster, "crm"), &cluster.topics.events);
    first.stop();
}

#[test]
fn a_receiver_that_does_not_answer_delays_no_other_forward() {
    let (slow, fast) = (Hook::start(|_| None), Hook::start(|_| Some(200)));
    let cluster = cluster("forward-slow", 2);
    let tables = [
        forward("slow", &slow, "timeout = \"10m\"\nin_flight = 2\nbatch = { events = 2 }"),
        forward("fast", &fast, ""),
    ];
    let mut service = launch(&cluster, &tables).start();
    slow_and_fast(&cluster, &slow, &fast, 0);
    // The slow forward is full now, and everything still reaches the other one.
    slow_and_fast(&cluster, &slow, &fast, 500);
    assert!(service.is_ready());
    let pending = [("forward", "slow")];
    service.await_metric("mailpulse_forward_pending_events", &pending, |events| events >= 2.0);
    let read = cluster.committed_sum(&group(&cluster, "slow"), &cluster.topics.events);
    assert_eq!(read, 0);
    service.kill();
}

fn slow_and_fast(cluster: &Cluster, slow: &Hook, fast: &Hook, from: usize) {
    let events: Vec<_> = (from..from + 500)
        .map(|number| TestEvent::new(&format!("r{}@example.com", number % 50), number))
        .collect();
    produce(cluster, &events);
    fast.await_messages(from + 500);
    slow.await_posted(1);
    assert!(slow.accepted().is_empty());
}

#[test]
fn the_circuit_breaker_makes_no_attempt_while_it_is_open() {
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    let hook = Hook::start(move |_| Some(if open.load(Ordering::SeqCst) { 200 } else { 503 }));
    let cluster = cluster("forward-breaker", 1);
    produce(&cluster, &[TestEvent::new("ada@example.com", 0)]);
    let with = |open_for: &str| {
        let lines = format!("breaker = {{ failures = 3, open_for = \"{open_for}\" }}");
        forward("crm", &hook, &lines)
    };
    let service = launch(&cluster, &[with("1h")]).start();
    let labels = [("forward", "crm")];
    service.await_metric("mailpulse_forward_circuit_open", &labels, |open| open == 1.0);
    let failed = [("forward", "crm"), ("code", "unavailable")];
    service.await_metric("mailpulse_forward_failed_attempts_total", &failed, |n| n == 3.0);
    holds_for("three attempts", Duration::from_secs(1), || {
        seen(hook.posted().len(), |posted| *posted == 3)
    });
    drop(service);

    let mut service = launch(&cluster, &[with("200ms")]).start();
    service.await_metric("mailpulse_forward_circuit_open", &labels, |open| open == 1.0);
    is_open.store(true, Ordering::SeqCst);
    hook.await_messages(1);
    service.await_metric("mailpulse_forward_circuit_open", &labels, |open| open == 0.0);
    service.stop();
}

#[test]
fn a_new_forward_begins_now_and_misses_nothing_after_that() {
    let hook = Hook::start(|_| Some(200));
    let cluster = cluster("forward-now", 1);
    produce(&cluster, &[TestEvent::new("ada@example.com", 0)]);
    let table = forward("crm", &hook, "").replace("start = \"beginning\"\n", "");
    let mut service = launch(&cluster, &[table]).start();
    cluster.await_committed(&group(&cluster, "crm"), &cluster.topics.events, 1);
    service.kill();
    produce(&cluster, &[TestEvent::new("ada@example.com", 1)]);
    service.restart();
    let messages = hook.await_messages(1);
    assert_eq!(of(&messages, "ada@example.com"), ["m1"]);
    service.stop();
}

#[test]
fn lost_offsets_hold_the_partition_instead_of_sending_everything_again() {
    let hook = Hook::start(|_| Some(200));
    let cluster = cluster("forward-lost", 1);
    produce(&cluster, &[TestEvent::new("ada@example.com", 0)]);
    let mut service = launch(&cluster, &[forward("crm", &hook, "")]).start();
    hook.await_messages(1);
    cluster.await_all_read(&group(&cluster, "crm"), &cluster.topics.events);
    service.stop();
    cluster.delete_group(&group(&cluster, "crm"));
    let before = hook.posted().len();
    service.respawn();
    service.await_unready("offset_lost");
    let labels = [("component", "forward-crm"), ("reason", "offset_lost")];
    service.await_metric("mailpulse_position_mismatch", &labels, |held| held == 1.0);
    assert_eq!(hook.posted().len(), before);
}

#[test]
fn both_secrets_are_accepted_while_one_is_replaced() {
    let old = Hook::with_secret(OLD_SECRET, |_| Some(200));
    let new = Hook::with_secret(SECRET, |_| Some(200));
    let wrong = Hook::with_secret(OLD_SECRET, |_| Some(200));
    let cluster = cluster("forward-secrets", 1);
    produce(&cluster, &[TestEvent::new("ada@example.com", 0)]);
    let previous = format!("previous_secret = {OLD_SECRET:?}");
    let tables = [
        forward("old", &old, &previous),
        forward("new", &new, &previous),
        forward("wrong", &wrong, ""),
    ];
    let mut service = launch(&cluster, &tables).start();
    old.await_messages(1);
    new.await_messages(1);
    // A receiver that does not know the secret answers 401, which is final.
    let labels = [("forward", "wrong"), ("outcome", "rejected")];
    service.await_metric("mailpulse_forward_events_total", &labels, |events| events == 1.0);
    assert!(wrong.posted().is_empty());
    service.stop();
}

#[test]
fn private_addresses_are_refused_and_redirects_are_not_followed() {
    let hook = Hook::start(|_| Some(200));
    let cluster = cluster("forward-guard", 1);
    let table = forward("crm", &hook, "").replace("allow_private = true\n", "");
    let (status, log) = launch(&cluster, &[table]).run();
    assert!(!status.success());
    assert!(log.contains("forward[0].url") && log.contains("allow_private = true"), "{log}");

    let redirecting = Hook::start(|_| Some(307));
    produce(&cluster, &[TestEvent::new("ada@example.com", 0)]);
    let lines = "retry = { backoff = \"list\", intervals = [\"10ms\"] }";
    let mut service = launch(&cluster, &[forward("crm", &redirecting, lines)]).start();
    let labels = [("forward", "crm"), ("outcome", "gave_up")];
    service.await_metric("mailpulse_forward_events_total", &labels, |events| events == 1.0);
    assert_eq!(redirecting.posted().len(), 2, "one interval, two attempts");
    service.stop();
}
