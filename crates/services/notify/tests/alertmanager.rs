//! The Alertmanager channel against a real Alertmanager (Debian's `prometheus-alertmanager`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use notify::backoff::Retry;
use notify::delivery::Deliveries;
use serde_json::Value;
use service::Shutdown;
use support::{ESCALATED, FIRED, Hook, RESOLVED, channels, parcel, wait_until};

const RETRY: Retry = Retry {
    min: Duration::from_millis(50),
    max: Duration::from_millis(200),
    give_up_after: Duration::from_secs(20),
};

/// A running Alertmanager with its own directory; ends with the test.
struct Alertmanager {
    process: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl Alertmanager {
    /// Starts one that tells `hook` what it would tell people, one notification per episode.
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
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(devstack::fetch::alertmanager().unwrap())
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let alertmanager = Self { process, url, _directory: directory };
        wait_until("Alertmanager", || get(&format!("{}/-/ready", alertmanager.url)));
        alertmanager
    }

    /// The alerts it holds to be active, by severity.
    fn active(&self) -> Vec<Value> {
        let text = get(&format!("{}/api/v2/alerts", self.url)).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn get(url: &str) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let response = reqwest::get(url).await.ok()?;
        response.status().is_success().then_some(())?;
        response.text().await.ok()
    })
}

fn deliver(deliveries: &mut Deliveries, step: (&str, &str, i64), offset: i64) {
    deliveries.send(&parcel(step, "acme", offset));
    deliveries.await_finished(support::DEADLINE);
    assert_eq!(deliveries.next_finished().unwrap().offset, offset);
}

/// Status and severity of each alert in a notification, sorted.
fn told(notification: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alerts = notification["alerts"].as_array().unwrap().iter();
    let mut told: Vec<_> =
        alerts.map(|a| (text(&a["status"]), text(&a["labels"]["severity"]))).collect();
    told.sort();
    told
}

fn pair(status: &str, severity: &str) -> (String, String) {
    (status.to_owned(), severity.to_owned())
}

#[test]
fn an_episode_is_one_alert_from_firing_to_resolved() {
    let pager = Hook::start(|_| Some(200));
    let alertmanager = Alertmanager::start(&pager);
    let list =
        format!(r#"[{{ kind = "alertmanager", name = "am", url = "{}/" }}]"#, alertmanager.url);
    let mut deliveries = Deliveries::start(channels(&list), RETRY, Shutdown::new()).unwrap();

    deliver(&mut deliveries, FIRED, 1);
    let active = alertmanager.active();
    assert_eq!(active.len(), 1, "{active:#?}");
    assert_active(&active[0], "warning");
    let fired = pager.wait_for(1)[0].json();
    assert_eq!(told(&fired), [pair("firing", "warning")]);

    deliver(&mut deliveries, ESCALATED, 2);
    let active = alertmanager.active();
    assert_eq!(active.len(), 1, "the warning is over: {active:#?}");
    assert_active(&active[0], "critical");
    let escalated = pager.wait_for(2)[1].json();
    assert_eq!(told(&escalated), [pair("firing", "critical"), pair("resolved", "warning")]);

    // A crash between delivery and commit repeats a transition: nobody is told twice.
    deliver(&mut deliveries, ESCALATED, 2);
    deliver(&mut deliveries, RESOLVED, 3);
    assert_eq!(alertmanager.active(), Vec::<Value>::new());
    let resolved = pager.wait_for(3)[2].json();
    assert_eq!(resolved["status"], "resolved");
    assert!(told(&resolved).contains(&pair("resolved", "critical")), "{resolved:#}");
    assert_eq!(pager.posted().len(), 3, "told when it fired, when it got worse, when it was over");

    for notification in [&escalated, &resolved] {
        assert_eq!(notification["groupKey"], fired["groupKey"], "one page per episode");
    }
}

fn assert_active(alert: &Value, severity: &str) {
    assert_eq!(alert["status"]["state"], "active");
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
