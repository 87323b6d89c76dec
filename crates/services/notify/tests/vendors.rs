//! PagerDuty, Slack and Microsoft Teams: stubs that enforce the documented schemas accept every message.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alerting::Change::{Digest, Escalated, Handled, Opened, Reminder, Resolved, Updated};
use harness::{DEADLINE, eventually, seen};
use notify::delivery::{Deliveries, Retry};
use notify::open_incidents::Identity;
use serde_json::Value;
use support::vendors::{pagerduty, slack, teams};
use support::{
    Answer, Hook, Posted, TestClock, at_clock, await_done, await_undeliverable, delivery_settings,
    read, received, sample, start,
};

const RETRY: Retry = Retry {
    min: Duration::from_millis(10),
    max: Duration::from_millis(40),
    give_up_after: DEADLINE,
};

const KEY: &str = "0123456789abcdef0123456789abcdef";

fn pagerduty_channel(hook: &Hook) -> String {
    format!(
        r#"{{ kind = "pagerduty", name = "pd", routing_key = "{KEY}", url = "http://{}", allow_private = true }}"#,
        hook.address
    )
}

fn channel(kind: &str, hook: &Hook, more: &str) -> String {
    let url = hook.url();
    format!(r#"{{ kind = "{kind}", name = "{kind}", url = "{url}", allow_private = true{more} }}"#)
}

/// Returns an incident whose texts are as long as possible and have every special character.
fn monstrous(change: alerting::Change, source: &str) -> Value {
    let mut incident = sample::incident(change, 1, source);
    incident["lead"]["summary"] = "<@U1> & *_`~[x](y) ``` \u{1F4A5}".repeat(400).into();
    incident["lead"]["runbook"] = format!("https://example.com/{}", "x".repeat(4000)).into();
    incident
}

/// Sends incidents one after the other and returns the requests.
fn send_all(deliveries: &mut Deliveries, hook: &Hook, incidents: &[Value]) -> Vec<Posted> {
    for (offset, incident) in (1..).zip(incidents) {
        deliveries.send(read(incident, offset));
        assert_eq!(await_done(deliveries), offset, "the stub accepted it: {incident:#}");
    }
    hook.posted()
}

#[test]
fn pagerduty_has_one_incident_from_trigger_to_resolve() {
    let hook = pagerduty();
    let (mut deliveries, _) = start(&[pagerduty_channel(&hook)], delivery_settings(RETRY));
    let mut acknowledged = sample::incident(Handled, 3, "acme");
    acknowledged["people"]["acknowledged_by"] = "ada".into();
    let mut snoozed = sample::incident(Handled, 4, "acme");
    snoozed["people"]["snoozed_until"] = 5.into();
    let incidents = [
        sample::incident(Opened, 1, "acme"),
        sample::incident(Updated, 2, "acme"),
        acknowledged,
        snoozed,
        sample::incident(Escalated, 5, "acme"),
        sample::incident(Reminder, 6, "acme"),
        sample::incident(Resolved, 7, "acme"),
        monstrous(Opened, "other"),
    ];
    let posted = send_all(&mut deliveries, &hook, &incidents);
    let events: Vec<_> = posted.iter().map(Posted::json).collect();
    let actions: Vec<_> = events.iter().map(|event| event["event_action"].clone()).collect();
    assert_eq!(actions, ["trigger", "acknowledge", "trigger", "trigger", "resolve", "trigger"]);
    for event in &events[..5] {
        assert_eq!(event["dedup_key"], incidents[0]["id"]);
        assert_eq!(event["routing_key"], KEY);
    }
    assert_eq!(events[0]["payload"]["severity"], "warning");
    assert_eq!(events[2]["payload"]["severity"], "critical");
    assert_eq!(events[0]["payload"]["source"], "acme at sendgrid");
    assert_eq!(events[0]["payload"]["custom_details"]["numerator"], 82);
    assert_eq!(events[5]["links"][0]["text"], "Runbook");
}

#[test]
fn slack_shows_the_page_and_no_markup_of_others() {
    let hook = slack();
    let (mut deliveries, _) = start(&[channel("slack", &hook, "")], delivery_settings(RETRY));
    let incidents = [
        sample::incident(Opened, 1, "acme"),
        sample::incident(Digest, 2, "acme"),
        sample::incident(Resolved, 3, "acme"),
        monstrous(Opened, "other"),
    ];
    let posted = send_all(&mut deliveries, &hook, &incidents);
    assert_eq!(posted.len(), 4);
    let section = |posted: &Posted| posted.json()["blocks"][1]["text"]["text"].to_string();
    assert!(section(&posted[0]).contains("82 of 501 sent"), "{}", section(&posted[0]));
    assert!(section(&posted[2]).contains("[RESOLVED]"), "{}", section(&posted[2]));
    assert!(!section(&posted[3]).contains("<@U1>"), "{}", section(&posted[3]));
}

#[test]
fn teams_shows_the_page_as_a_card() {
    let hook = teams();
    let (mut deliveries, _) = start(&[channel("teams", &hook, "")], delivery_settings(RETRY));
    let incidents = [
        sample::incident(Opened, 1, "acme"),
        sample::incident(Escalated, 2, "acme"),
        sample::incident(Resolved, 3, "acme"),
        monstrous(Opened, "other"),
    ];
    let posted = send_all(&mut deliveries, &hook, &incidents);
    let title = |n: usize| posted[n].json()["attachments"][0]["content"]["body"][0].clone();
    assert!(title(0)["text"].as_str().unwrap().contains("82 of 501 sent"));
    assert_eq!(title(0)["color"], "Warning");
    assert_eq!(title(1)["color"], "Attention");
    assert_eq!(title(2)["color"], "Good");
}

#[test]
fn what_waits_for_people_becomes_one_message() {
    let is_open = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&is_open);
    let hook = Hook::start(move |_| Some(if open.load(Ordering::SeqCst) { 200 } else { 503 }));
    let (mut deliveries, _) = start(&[channel("slack", &hook, "")], delivery_settings(RETRY));
    let last_text = || hook.posted().last().unwrap().json()["text"].to_string();
    deliveries.send(received(Opened, 1, "acme", 1));
    hook.wait_for(1);
    deliveries.send(received(Resolved, 2, "acme", 2));
    eventually("an attempt with one message for both", DEADLINE, || {
        seen(last_text(), |text| text.contains("Began and is over"))
    });
    is_open.store(true, Ordering::SeqCst);
    assert_eq!((await_done(&mut deliveries), await_done(&mut deliveries)), (1, 2));
    assert!(last_text().contains("Began and is over"));
}

#[test]
fn an_incident_that_pagerduty_never_knew_calls_nobody() {
    let hook = Hook::start(|_| Some(503));
    let (mut deliveries, _) = start(&[pagerduty_channel(&hook)], delivery_settings(RETRY));
    deliveries.send(received(Opened, 1, "acme", 1));
    hook.wait_for(1);
    deliveries.send(received(Resolved, 2, "acme", 2));
    assert_eq!((await_done(&mut deliveries), await_done(&mut deliveries)), (1, 2));
    assert!(hook.posted().iter().all(|posted| posted.json()["event_action"] == "trigger"));
}

#[test]
fn a_rejection_is_a_dead_letter_with_the_answer() {
    let hook = Hook::answering(|_| {
        Some(Answer { body: "invalid_payload".to_owned(), ..Answer::status(400) })
    });
    let (mut deliveries, _) = start(&[channel("slack", &hook, "")], delivery_settings(RETRY));
    deliveries.send(received(Opened, 1, "acme", 7));
    let (offset, detail) = await_undeliverable(&mut deliveries);
    assert_eq!(offset, 7);
    assert!(detail.contains("channel slack") && detail.contains("invalid_payload"), "{detail}");
}

#[test]
fn a_redirect_is_not_followed() {
    let other = Hook::start(|_| Some(200));
    let location = other.url();
    let hook = Hook::answering(move |_| {
        Some(Answer { location: Some(location.clone()), ..Answer::status(307) })
    });
    let retry = Retry { give_up_after: Duration::from_millis(300), ..RETRY };
    let (mut deliveries, _) = start(&[channel("slack", &hook, "")], delivery_settings(retry));
    deliveries.send(received(Opened, 1, "acme", 1));
    let (_, detail) = await_undeliverable(&mut deliveries);
    assert!(detail.contains("307") || detail.contains("away for too long"), "{detail}");
    assert!(other.posted().is_empty());
}

#[test]
fn routes_decide_which_channel_gets_an_incident() {
    let (pages, mailgun) = (slack(), teams());
    let list = [
        channel("slack", &pages, r#", severities = ["page"]"#),
        channel("teams", &mailgun, r#", sources = ["mailgun/*"]"#),
    ];
    let (mut deliveries, _) = start(&list, delivery_settings(RETRY));
    deliveries.send(received(Opened, 1, "acme", 1));
    deliveries.send(received(Escalated, 2, "acme", 2));
    let mut done: Vec<_> = (0..4).map(|_| await_done(&mut deliveries)).collect();
    done.sort_unstable();
    assert_eq!(done, [1, 1, 2, 2]);
    assert_eq!((pages.posted().len(), mailgun.posted().len()), (1, 0));
}

#[test]
fn warnings_wait_for_the_end_of_the_quiet_hours() {
    let hook = slack();
    let night = r#", quiet_hours = { from = "22:00", to = "07:00", zone = "UTC" }"#;
    let clock = TestClock::at("2026-03-02T23:00:00Z");
    let (mut deliveries, _) = start(&[channel("slack", &hook, night)], at_clock(RETRY, &clock));
    for (offset, source) in (1..).zip(["a", "b", "c"]) {
        deliveries.send(received(Opened, 1, source, offset));
        assert_eq!(await_done(&mut deliveries), offset, "it is finished, but not delivered");
    }
    deliveries.send(received(Resolved, 2, "b", 4));
    assert_eq!(await_done(&mut deliveries), 4);
    assert_eq!(hook.posted().len(), 0);

    // An escalation is delivered at once, as the start of its incident.
    deliveries.send(received(Escalated, 2, "c", 5));
    assert_eq!(await_done(&mut deliveries), 5);
    let page = hook.posted()[0].json()["text"].to_string();
    assert!(page.contains("[PAGE] c at SendGrid"), "{page}");

    clock.set("2026-03-03T07:00:00Z");
    let digest = hook.wait_for(2)[1].json()["blocks"][1]["text"]["text"].to_string();
    assert!(digest.contains("2 incidents with warnings"), "{digest}");
    assert!(digest.contains("Open      a at SendGrid"), "{digest}");
    assert!(digest.contains("Over      b at SendGrid"), "{digest}");
    assert!(!digest.contains("c at SendGrid"), "{digest}");

    deliveries.send(received(Opened, 1, "d", 6));
    assert_eq!(await_done(&mut deliveries), 6);
    assert_eq!(hook.posted().len(), 3);
}

#[test]
fn a_new_process_knows_what_waited_for_the_end_of_the_quiet_hours() {
    // The samples are of 2023-11-14T22:13:20Z, and records are a few minutes old when they are held back.
    for from in ["22:00", "22:20"] {
        let hook = slack();
        let night = format!(r#", quiet_hours = {{ from = "{from}", to = "07:00", zone = "UTC" }}"#);
        let clock = TestClock::at("2023-11-15T06:59:00Z");
        let (deliveries, _) = start(&[channel("slack", &hook, &night)], at_clock(RETRY, &clock));
        let mut silent = sample::incident(Updated, 1, "c");
        silent["page"] = 0.into();
        let waiting =
            [received(Opened, 1, "a", 1), received(Escalated, 2, "b", 2), read(&silent, 3)];
        for received in &waiting {
            deliveries.restore(received, &Identity::of(&received.incident));
        }
        clock.set("2023-11-15T07:00:01Z");
        let digest = hook.wait_for(1)[0].json()["blocks"][1]["text"]["text"].to_string();
        assert!(digest.contains("1 incident with warnings"), "{digest}");
    }
}

#[test]
fn messages_beyond_the_rate_wait_and_pages_do_not() {
    let hook = slack();
    let (mut deliveries, _) =
        start(&[channel("slack", &hook, ", max_per_minute = 30")], delivery_settings(RETRY));
    // 30 per minute: 30 at once, then one every 2 s.
    for offset in 1..=31 {
        deliveries.send(received(Opened, 1, &format!("source-{offset}"), offset));
    }
    let done: BTreeSet<_> = (0..30).map(|_| await_done(&mut deliveries)).collect();
    let began = std::time::Instant::now();
    deliveries.send(received(Escalated, 1, "page", 32));
    assert_eq!(await_done(&mut deliveries), 32);
    let last = (1..=31).find(|offset| !done.contains(offset)).unwrap();
    assert_eq!(await_done(&mut deliveries), last);
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
}
