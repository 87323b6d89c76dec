//! The Alertmanager channel against a real Alertmanager (Debian's `prometheus-alertmanager`).
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "an alert expires relative to now")]

mod support;

use std::process::Command;
use std::time::Duration;

use devstack::process::{self, Child};
use harness::{DEADLINE, eventually, free_port, http, seen};
use notify::backoff::Retry;
use notify::delivery::Deliveries;
use serde_json::Value;
use service::Shutdown;
use support::{ESCALATED, FIRED, Hook, RESOLVED, channels, delivery};

const RETRY: Retry = Retry {
    min: Duration::from_millis(50),
    max: Duration::from_millis(200),
    give_up_after: DEADLINE,
};

/// An Alertmanager with its own directory. It ends with the test.
struct Alertmanager {
    _process: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Alertmanager {
    /// Starts an Alertmanager that sends one notification per episode to `hook`.
    fn start(hook: &Hook) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("alertmanager.yml");
        let yaml = format!(
            "route:\n  receiver: hook\n  group_by: [alertname, scope, provider, source, \
             mailbox_provider, campaign]\n  group_wait: 0s\n  group_interval: 1s\n  \
             repeat_interval: 4h\nreceivers:\n  - name: hook\n    webhook_configs:\n      - url: \
             {}\n        send_resolved: true\n",
            hook.url()
        );
        std::fs::write(&config, yaml).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(fetch::alertmanager().unwrap());
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=");
        let process = process::spawn(command, &directory.path().join("log")).unwrap();
        let alertmanager = Self { _process: process, address, _directory: directory };
        eventually("Alertmanager to be ready", DEADLINE, || {
            let response = http::get(&alertmanager.address, "/-/ready");
            response.is_some_and(|response| response.status == 200)
        });
        alertmanager
    }

    /// Waits until alerts of exactly these severities are active, and returns them. An alert becomes
    /// active after its request was answered.
    fn await_active(&self, severities: &[&str]) -> Vec<Value> {
        let what = format!("alerts of the severities {severities:?} to be active");
        eventually(&what, DEADLINE, || {
            let response = http::get(&self.address, "/api/v2/alerts").ok_or("no response")?;
            let body = String::from_utf8(response.body_bytes()).unwrap();
            let alerts: Vec<Value> =
                serde_json::from_str(&body).map_err(|error| error.to_string())?;
            seen(alerts, |alerts| {
                let found = alerts.iter().map(|alert| alert["labels"]["severity"].as_str());
                found.eq(severities.iter().map(|severity| Some(*severity)))
                    && alerts.iter().all(|alert| alert["status"]["state"] == "active")
            })
        })
    }
}

fn deliver(deliveries: &mut Deliveries, transition: (&str, &str, i64), offset: i64) {
    deliveries.send(&delivery(transition, "acme", offset));
    deliveries.await_finished(DEADLINE);
    assert_eq!(deliveries.next_finished().unwrap().offset.0, offset);
}

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
fn an_episode_is_one_alert_from_firing_to_resolved() {
    let pager = Hook::start(|_| Some(200));
    let alertmanager = Alertmanager::start(&pager);
    let list = format!(
        r#"[{{ kind = "alertmanager", name = "am", url = "http://{}/" }}]"#,
        alertmanager.address
    );
    let mut deliveries = Deliveries::start(channels(&list), RETRY, Shutdown::new()).unwrap();

    deliver(&mut deliveries, FIRED, 1);
    assert_alert(&alertmanager.await_active(&["warning"])[0], "warning");
    let fired = pager.wait_for(1)[0].json();
    assert_eq!(alerts_in(&fired), [pair("firing", "warning")]);

    deliver(&mut deliveries, ESCALATED, 2);
    // The warning is resolved.
    assert_alert(&alertmanager.await_active(&["critical"])[0], "critical");
    let escalated = pager.wait_for(2)[1].json();
    assert_eq!(alerts_in(&escalated), [pair("firing", "critical"), pair("resolved", "warning")]);

    // A crash between delivery and commit repeats a transition; it causes no second notification.
    deliver(&mut deliveries, ESCALATED, 2);
    deliver(&mut deliveries, RESOLVED, 3);
    alertmanager.await_active(&[]);
    let resolved = pager.wait_for(3)[2].json();
    assert_eq!(resolved["status"], "resolved");
    assert!(alerts_in(&resolved).contains(&pair("resolved", "critical")), "{resolved:#}");
    assert_eq!(pager.posted().len(), 3, "one each for firing, escalation and resolution");

    for notification in [&escalated, &resolved] {
        assert_eq!(notification["groupKey"], fired["groupKey"], "one group per episode");
    }
}

fn assert_alert(alert: &Value, severity: &str) {
    let labels = serde_json::json!({
        "alertname": "bounce_rate",
        "severity": severity,
        "scope": "campaign",
        "provider": "sendgrid",
        "source": "acme",
        "campaign": "spring sale",
    });
    assert_eq!(alert["labels"], labels);
    let annotations = &alert["annotations"];
    assert_eq!(annotations["summary"], "bounce rate 7.5 % in 5m (15 of 200 sent), over 5 %");
    assert_eq!(annotations["value"], "0.075");
    assert_eq!(annotations["threshold"], "0.05");
    assert_eq!(annotations["volume"], "200");
    assert_eq!(annotations["runbook"], "docs/runbooks.md#bounce-rate");
    assert!(alert["startsAt"].as_str().unwrap().starts_with("2023-11-14T22:13:20"), "{alert}");
    let ends: jiff::Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
    let hours = ends.duration_since(jiff::Timestamp::now()).as_hours();
    assert!((23..=24).contains(&hours), "expires in {hours} hours");
}
