//! Deliveries to webhooks: signatures, retries, order, and independent channels.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alerting::Change::{Escalated, Handled, Opened, Resolved, Updated};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use harness::{DEADLINE, eventually, holds_for, seen};
use hmac::{Hmac, KeyInit, Mac};
use notify::delivery::{Deliveries, Retry};
use service::Shutdown;
use sha2::Sha256;
use support::{
    Answer, Hook, Posted, await_done, await_undeliverable, delivery_settings, received, start,
};

const KEY: &[u8; 32] = b"an invented key of 32 bytes.....";

const RETRY: Retry = Retry {
    min: Duration::from_millis(10),
    max: Duration::from_millis(40),
    give_up_after: DEADLINE,
};

fn webhook(name: &str, hook: &Hook) -> String {
    let secret = STANDARD.encode(KEY);
    let url = hook.url();
    format!(
        r#"{{ kind = "webhook", name = "{name}", url = "{url}", secret = "whsec_{secret}", allow_private = true }}"#
    )
}

fn deliveries(list: &[String], retry: Retry) -> (Deliveries, Shutdown) {
    start(list, delivery_settings(retry))
}

/// Verifies a request as a receiver that knows only the specification and the key.
fn assert_signed(posted: &Posted) {
    let header = |name: &str| posted.headers[name].clone();
    let seconds: u64 = header("webhook-timestamp").parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(now.abs_diff(seconds) < 60, "{seconds} is not now, {now}");
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).unwrap();
    mac.update(header("webhook-id").as_bytes());
    mac.update(format!(".{seconds}.").as_bytes());
    mac.update(&posted.body);
    let signature = header("webhook-signature");
    let signature = STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    mac.verify_slice(&signature).expect("the signature is wrong");
}

#[test]
fn a_channel_that_never_answers_gives_up_what_exceeds_its_limit() {
    let dead = Hook::start(|_| None);
    let retry = Retry { give_up_after: Duration::from_secs(3600), ..RETRY };
    let (mut deliveries, _) = deliveries(&[webhook("dead", &dead)], retry);
    for offset in 0..1_010 {
        deliveries.send(received(Opened, 1, &format!("source-{offset}"), offset));
    }
    for expected in 1_000..1_010 {
        let (offset, detail) = await_undeliverable(&mut deliveries);
        assert_eq!(offset, expected, "the first 1,000 wait");
        assert!(detail.contains("channel dead: too many"), "{detail}");
    }
}

#[test]
fn a_change_is_sent_until_it_is_accepted() {
    let attempts = AtomicUsize::new(0);
    let hook = Hook::start(move |_| {
        Some(if attempts.fetch_add(1, Ordering::SeqCst) < 2 { 503 } else { 204 })
    });
    let (mut deliveries, _) = deliveries(&[webhook("hook", &hook)], RETRY);
    deliveries.send(received(Escalated, 2, "acme", 5));
    assert_eq!(await_done(&mut deliveries), 5);

    let posted = hook.posted();
    assert_eq!(posted.len(), 3);
    for one in &posted {
        assert_signed(one);
        assert_eq!(one.headers["webhook-id"], posted[0].headers["webhook-id"]);
        assert_eq!(one.body, posted[0].body);
        assert_eq!(one.headers["content-type"], "application/json");
    }
    let body = posted[2].json();
    assert_eq!(body["type"], "incident.escalated");
    assert_eq!(body["timestamp"], "2023-11-14T22:13:21Z");
    assert_eq!(body["data"]["of"], "sendgrid/acme");
    assert_eq!(body["data"]["lead"]["value"], 0.164);
    assert!(body["page"].as_str().unwrap().contains("82 of 501 sent"), "{body:#}");
}

#[test]
fn every_change_has_its_own_id() {
    let hook = Hook::start(|_| Some(200));
    let (deliveries, _) = deliveries(&[webhook("hook", &hook)], RETRY);
    // Programs that receive webhooks are not told what does not notify.
    for (seq, change) in (1..).zip([Opened, Updated, Handled, Escalated, Resolved]) {
        deliveries.send(received(change, seq, "acme", i64::from(seq)));
    }
    let posted = hook.wait_for(3);
    let kinds: Vec<_> = posted.iter().map(Posted::kind).collect();
    assert_eq!(kinds, ["incident.opened", "incident.escalated", "incident.resolved"]);
    let ids: std::collections::BTreeSet<_> =
        posted.iter().map(|one| one.headers["webhook-id"].clone()).collect();
    assert_eq!(ids.len(), 3);
    assert!(
        !ids.iter().any(|id| id.contains('.')),
        "a dot in the id would be ambiguous in the signed text"
    );
}

#[test]
fn a_request_that_was_rejected_for_good_is_not_repeated() {
    let hook = Hook::start(|posted| Some(if posted.source() == "bad" { 410 } else { 200 }));
    let (mut deliveries, _) = deliveries(&[webhook("hook", &hook)], RETRY);
    deliveries.send(received(Opened, 1, "bad", 1));
    let (offset, detail) = await_undeliverable(&mut deliveries);
    assert_eq!(offset, 1);
    assert!(detail.contains("channel hook") && detail.contains("410 Gone"), "{detail}");
    deliveries.send(received(Opened, 1, "good", 2));
    assert_eq!(await_done(&mut deliveries), 2);
    assert_eq!(hook.posted().len(), 2);
}

#[test]
fn too_many_requests_is_not_final() {
    let first = AtomicBool::new(true);
    let hook = Hook::answering(move |_| {
        let is_first = first.swap(false, Ordering::SeqCst);
        let later = Answer { retry_after: Some(1), ..Answer::status(429) };
        Some(if is_first { later } else { Answer::status(200) })
    });
    let retry = Retry { max: Duration::from_secs(10), ..RETRY };
    let (mut deliveries, _) = deliveries(&[webhook("hook", &hook)], retry);
    let began = Instant::now();
    deliveries.send(received(Opened, 1, "acme", 1));
    assert_eq!(await_done(&mut deliveries), 1);
    assert_eq!(hook.posted().len(), 2);
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "Retry-After was 1 s: {:?}",
        began.elapsed()
    );
}

#[test]
fn after_five_failures_in_a_row_the_receiver_is_left_alone() {
    let hook = Hook::start(|_| Some(500));
    let (mut deliveries, _) = deliveries(&[webhook("hook", &hook)], RETRY);
    deliveries.send(received(Opened, 1, "acme", 1));
    hook.wait_for(5);
    holds_for("no sixth attempt", Duration::from_secs(1), || {
        seen(hook.posted().len(), |posted| *posted == 5)
    });
    assert!(deliveries.next_finished().is_none());
}

#[test]
fn a_change_is_given_up_after_the_configured_time() {
    let hook = Hook::start(|_| Some(500));
    let limit = Duration::from_secs(2);
    let (mut deliveries, _) =
        deliveries(&[webhook("hook", &hook)], Retry { give_up_after: limit, ..RETRY });
    let began = Instant::now();
    deliveries.send(received(Opened, 1, "acme", 1));
    assert_eq!(await_undeliverable(&mut deliveries).0, 1);
    assert!(began.elapsed() >= limit, "gave up after {:?}", began.elapsed());
    assert!(hook.posted().len() > 3);
}

#[test]
fn an_incident_stays_in_order_and_delays_no_other() {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let hook = Hook::start(move |posted| {
        let is_closed = posted.source() == "stuck" && !is_open.load(Ordering::SeqCst);
        Some(if is_closed { 503 } else { 200 })
    });
    let (mut deliveries, _) = deliveries(&[webhook("hook", &hook)], RETRY);
    deliveries.send(received(Opened, 1, "stuck", 1));
    deliveries.send(received(Resolved, 2, "stuck", 2));
    deliveries.send(received(Opened, 1, "other", 3));
    assert_eq!(await_done(&mut deliveries), 3);
    let kinds = |posted: &[Posted]| {
        let mut kinds: Vec<_> =
            posted.iter().filter(|one| one.source() == "stuck").map(Posted::kind).collect();
        kinds.dedup();
        kinds
    };
    assert!(kinds(&hook.posted()).iter().all(|kind| kind == "incident.opened"));
    open.store(true, Ordering::SeqCst);
    assert_eq!(await_done(&mut deliveries), 1);
    assert_eq!(await_done(&mut deliveries), 2);
    assert_eq!(kinds(&hook.posted()), ["incident.opened", "incident.resolved"]);
}

#[test]
fn a_silent_channel_delays_no_other() {
    let silent = Hook::start(|_| None);
    let quick = Hook::start(|_| Some(200));
    let list = [webhook("silent", &silent), webhook("quick", &quick)];
    let (mut deliveries, _) = deliveries(&list, RETRY);
    assert_eq!(deliveries.channels(), 2);
    for offset in 0..20 {
        deliveries.send(received(Opened, 1, &format!("tenant-{offset}"), offset));
    }
    let mut finished: Vec<_> = (0..20).map(|_| await_done(&mut deliveries)).collect();
    finished.sort_unstable();
    assert_eq!(finished, (0..20).collect::<Vec<_>>(), "each once, through the quick channel");
    assert!(deliveries.next_finished().is_none());
    assert_eq!(quick.posted().len(), 20);
    assert!(silent.wait_for(8).len() <= 8, "no more attempts at once than allowed");
}

#[test]
fn a_stop_does_not_wait_for_retries_and_commits_nothing_undelivered() {
    let hook = Hook::start(|_| Some(503));
    let hour = Duration::from_secs(3600);
    let retry = Retry { min: hour, max: hour, give_up_after: 24 * hour };
    let (mut deliveries, shutdown) = deliveries(&[webhook("hook", &hook)], retry);
    deliveries.send(received(Opened, 1, "acme", 1));
    deliveries.send(received(Resolved, 2, "acme", 2));
    hook.wait_for(1);
    shutdown.request();
    let began = Instant::now();
    deliveries.stop();
    assert!(began.elapsed() < DEADLINE);
    assert!(deliveries.next_finished().is_none());
    eventually("one request", DEADLINE, || seen(hook.posted().len(), |posted| *posted == 1));
}
