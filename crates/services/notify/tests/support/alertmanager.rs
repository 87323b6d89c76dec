//! A real Alertmanager (Debian's `prometheus-alertmanager`).

use std::process::Command;

use devstack::process::{self, Child};
use harness::{DEADLINE, eventually, free_port, http, seen};
use serde_json::Value;

use super::Hook;

/// An Alertmanager with its own directory. It ends with the test.
pub struct Alertmanager {
    process: Child,
    pub address: String,
    directory: tempfile::TempDir,
}

impl Alertmanager {
    /// Starts an Alertmanager that sends one notification per incident to `hook`.
    pub fn start(hook: &Hook) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let yaml = format!(
            "route:\n  receiver: hook\n  group_by: [incident]\n  group_wait: 0s\n  group_interval: \
             1s\n  repeat_interval: 4h\nreceivers:\n  - name: hook\n    webhook_configs:\n      - url: \
             {}\n        send_resolved: true\n",
            hook.url()
        );
        std::fs::write(directory.path().join("alertmanager.yml"), yaml).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let process = Self::spawn(&directory, &address, "data");
        let alertmanager = Self { process, address, directory };
        alertmanager.await_ready();
        alertmanager
    }

    /// Kills it, and starts it at the same address without its data.
    pub fn kill_and_forget(&mut self) {
        self.process.kill().unwrap();
        self.process = Self::spawn(&self.directory, &self.address, "new-data");
        self.await_ready();
    }

    fn spawn(directory: &tempfile::TempDir, address: &str, data: &str) -> Child {
        let path = |name: &str| directory.path().join(name);
        let mut command = Command::new(fetch::alertmanager().unwrap());
        command
            .arg(format!("--config.file={}", path("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", path(data).display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=");
        process::spawn(command, &path("log")).unwrap()
    }

    fn await_ready(&self) {
        eventually("Alertmanager to be ready", DEADLINE, || {
            let response = http::get(&self.address, "/-/ready");
            response.is_some_and(|response| response.status == 200)
        });
    }

    /// Waits until alerts of exactly these severities are active, and returns them. An alert becomes
    /// active after its request was answered.
    pub fn await_active(&self, severities: &[&str]) -> Vec<Value> {
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

    /// Returns a channel with further settings.
    pub fn channel(&self, more: &str) -> String {
        let url = format!("http://{}/", self.address);
        format!(r#"{{ kind = "alertmanager", name = "am", url = "{url}"{more} }}"#)
    }
}
