//! The Alertmanager channel against a real Alertmanager (Debian's `prometheus-alertmanager`).
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "an alert expires relative to now")]

mod support;

use std::time::{Duration, Instant};

use alerting::Change::{Escalated, Opened, Resolved, Updated};
use harness::{DEADLINE, eventually, seen};
use jiff::Timestamp;
use notify::delivery::Retry;
use notify::open_incidents::Identity;
use serde_json::Value;
use support::alertmanager::Alertmanager;
use support::{Hook, await_done, delivery_settings, read, received, sample, start, with_severity};

const RETRY: Retry = Retry {
    min: Duration::from_millis(50),
    max: Duration::from_millis(200),
    give_up_after: DEADLINE,
};

/// Returns status and severity of each alert in a notification, sorted.
fn alerts_in(notification: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alerts = notification["alerts"].as_array().unwrap().iter();
    let mut found: Vec<_> =
        alerts.map(|a| (text(&a["status"]), text(&a["labels"]["severity"]))).collect();
    found.sort();
    found
}

fn pair(status: &str, severity: &str) -> (String, String) {
    (status.to_owned(), severity.to_owned())
}

#[test]
fn an_incident_is_one_alert_from_its_start_to_its_end() {
    let pager = Hook::start(|_| Some(200));
    let alertmanager = Alertmanager::start(&pager);
    let (mut deliveries, _) = start(&[alertmanager.channel("")], delivery_settings(RETRY));

    deliveries.send(received(Opened, 1, "acme", 1));
    assert_eq!(await_done(&mut deliveries), 1);
    assert_alert(&alertmanager.await_active(&["warning"])[0], "warning");
    let opened = pager.wait_for(1)[0].json();
    assert_eq!(alerts_in(&opened), [pair("firing", "warning")]);

    deliveries.send(received(Escalated, 2, "acme", 2));
    assert_eq!(await_done(&mut deliveries), 2);
    // The warning is resolved.
    assert_alert(&alertmanager.await_active(&["page"])[0], "page");
    let escalated = pager.wait_for(2)[1].json();
    assert_eq!(alerts_in(&escalated), [pair("firing", "page"), pair("resolved", "warning")]);

    // A crash between delivery and commit repeats a change; it causes no second notification. Neither
    // does an update, although it moves the incident to another group.
    deliveries.send(received(Escalated, 2, "acme", 2));
    assert_eq!(await_done(&mut deliveries), 2);
    let mut updated = with_severity(sample::incident(Updated, 3, "acme"), "page");
    updated["group"] = "mailbox_provider".into();
    updated["of"] = "gmail".into();
    deliveries.send(read(&updated, 3));
    assert_eq!(await_done(&mut deliveries), 3);
    assert_alert(&alertmanager.await_active(&["page"])[0], "page");

    let end = with_severity(sample::incident(Resolved, 4, "acme"), "page");
    deliveries.send(read(&end, 4));
    assert_eq!(await_done(&mut deliveries), 4);
    alertmanager.await_active(&[]);
    let resolved = pager.wait_for(3)[2].json();
    assert_eq!(resolved["status"], "resolved");
    assert!(alerts_in(&resolved).contains(&pair("resolved", "page")), "{resolved:#}");
    assert_eq!(pager.posted().len(), 3, "one each for start, escalation and end");

    for notification in [&escalated, &resolved] {
        assert_eq!(notification["groupKey"], opened["groupKey"], "one group per incident");
    }
}

#[test]
fn an_alertmanager_that_lost_its_data_knows_open_incidents_again() {
    let pager = Hook::start(|_| Some(200));
    let mut alertmanager = Alertmanager::start(&pager);
    let channel = alertmanager.channel(r#", resend = "1s", expires_after = "20s""#);
    let (mut deliveries, _) = start(&[channel], delivery_settings(RETRY));
    deliveries.send(received(Opened, 1, "acme", 1));
    deliveries.send(received(Opened, 1, "over", 2));
    deliveries.send(received(Resolved, 2, "over", 3));
    for _ in 0..3 {
        await_done(&mut deliveries);
    }
    alertmanager.await_active(&["warning"]);

    alertmanager.kill_and_forget();
    let restarted = Instant::now();
    let alert = alertmanager.await_active(&["warning"]).remove(0);
    assert!(restarted.elapsed() < Duration::from_secs(10), "{:?}", restarted.elapsed());
    assert_eq!(alert["labels"]["source"], "acme");

    // While it is sent again, its end moves on.
    let end = |alert: &Value| alert["endsAt"].as_str().unwrap().parse::<Timestamp>().unwrap();
    let first_end = end(&alert);
    eventually("a later end", DEADLINE, || {
        seen(end(&alertmanager.await_active(&["warning"])[0]), |later| *later > first_end)
    });
    let end = sample::incident(Resolved, 2, "acme");
    deliveries.send(read(&end, 4));
    assert_eq!(await_done(&mut deliveries), 4);
    alertmanager.await_active(&[]);
}

#[test]
fn a_new_process_sends_open_incidents_again_at_once() {
    let pager = Hook::start(|_| Some(200));
    let alertmanager = Alertmanager::start(&pager);
    let (deliveries, _) = start(&[alertmanager.channel("")], delivery_settings(RETRY));
    let open = received(Updated, 3, "open", 1);
    let mut silent = sample::incident(Updated, 1, "silent");
    silent["page"] = 0.into();
    for received in [&open, &received(Resolved, 4, "over", 2), &read(&silent, 3)] {
        deliveries.restore(received, &Identity::of(&received.incident));
    }
    let alert = alertmanager.await_active(&["warning"]).remove(0);
    assert_eq!(alert["labels"]["source"], "open");
}

/// Checks labels, annotations and times. Alertmanager ends the alert after `expires_after`, here 5 min.
fn assert_alert(alert: &Value, severity: &str) {
    let labels = serde_json::json!({
        "alertname": "mailpulse_bounces",
        "family": "bounces",
        "incident": sample::incident(Opened, 1, "acme")["id"],
        "severity": severity,
        "provider": "sendgrid",
        "source": "acme",
    });
    assert_eq!(alert["labels"], labels);
    let annotations = &alert["annotations"];
    let summary = annotations["summary"].as_str().unwrap();
    assert!(summary.contains("hard bounces 16.4 % in 5 min (82 of 501 sent)"), "{summary}");
    assert_eq!(annotations["value"], "0.164");
    assert_eq!(annotations["bound"], "0.114");
    assert_eq!(annotations["threshold"], "0.1");
    assert_eq!(annotations["numerator"], "82");
    assert_eq!(annotations["volume"], "501");
    assert!(annotations["runbook"].as_str().unwrap().contains("hard-bounces"), "{alert:#}");
    assert!(alert["startsAt"].as_str().unwrap().starts_with("2023-11-14T22:13:20"), "{alert}");
    let ends: Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
    let seconds = ends.duration_since(Timestamp::now()).as_secs();
    assert!((200..=300).contains(&seconds), "expires in {seconds} seconds");
}
