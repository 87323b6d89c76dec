//! A real Alertmanager that notifies a receiver.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use devstack::process::{self, Child};
use serde::Deserialize;
use serde_json::Value;

use crate::pipeline::free_address;
use crate::recording::receiver::Receiver;

/// How long notify waits before it sends an open incident again, and how long it then may take.
const RESEND: Duration = Duration::from_secs(60);
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

pub(crate) struct Alertmanager {
    process: Option<Child>,
    pub(crate) address: String,
    directory: PathBuf,
    http: reqwest::Client,
}

/// What Alertmanager posts.
#[derive(Deserialize)]
struct Notification {
    status: String,
    alerts: Vec<Value>,
}

impl Alertmanager {
    /// Starts an Alertmanager that notifies once per incident.
    pub(crate) fn start(directory: PathBuf, receiver: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let yaml = format!(
            "route:\n  receiver: hook\n  group_by: [incident]\n  group_wait: 0s\n  group_interval: 1s\n  \
             repeat_interval: 4h\nreceivers:\n  - name: hook\n    webhook_configs:\n      - url: \
             http://{receiver}/alertmanager\n        send_resolved: true\n"
        );
        std::fs::write(directory.join("alertmanager.yml"), yaml)?;
        let (address, http) = (free_address()?, reqwest::Client::new());
        let mut alertmanager = Self { process: None, address, directory, http };
        alertmanager.spawn()?;
        Ok(alertmanager)
    }

    fn spawn(&mut self) -> anyhow::Result<()> {
        let program = devstack::fetch::alertmanager().context("find Alertmanager")?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", self.directory.join("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", self.directory.join("data").display()))
            .arg(format!("--web.listen-address={}", self.address))
            .arg("--cluster.listen-address=");
        self.process = Some(process::spawn(command, &self.directory.join("log"))?);
        Ok(())
    }

    /// Stops it as an upgrade does, and starts it again. Its alerts are only in its memory. It keeps on its
    /// disk whom it has notified of what.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_TIMEOUT)?;
        }
        self.spawn()?;
        let began = Instant::now();
        while self.active().await.is_err() {
            ensure!(
                began.elapsed() < READY_TIMEOUT,
                "Alertmanager is not ready after {READY_TIMEOUT:?}"
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Returns the incidents of the active alerts, in ascending order.
    pub(crate) async fn active(&self) -> anyhow::Result<Vec<String>> {
        let url = format!("http://{}/api/v2/alerts", self.address);
        let alerts: Vec<Value> = self.http.get(url).send().await?.json().await?;
        let ids = alerts.iter().filter(|alert| alert["status"]["state"] == "active");
        let mut ids: Vec<String> = ids.filter_map(incident).collect();
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// Restarts it, and waits until it knows the same incidents again. Returns how long that took.
    pub(crate) async fn restart_and_await(&mut self, open: &[String]) -> anyhow::Result<Duration> {
        self.restart().await?;
        let began = Instant::now();
        loop {
            if self.active().await.is_ok_and(|active| open.iter().all(|id| active.contains(id))) {
                return Ok(began.elapsed());
            }
            ensure!(
                began.elapsed() < RESEND + Duration::from_secs(5),
                "after a restart of Alertmanager, notify has not sent all open incidents again within {RESEND:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

fn incident(alert: &Value) -> Option<String> {
    Some(alert["labels"]["incident"].as_str()?.to_owned())
}

/// Returns how often Alertmanager has notified people of firing alerts of an incident.
pub(crate) fn notified(receiver: &Receiver, id: &str) -> usize {
    let deliveries = receiver.deliveries();
    let own = deliveries.iter().filter(|delivery| delivery.path == "/alertmanager");
    own.filter_map(|delivery| serde_json::from_str::<Notification>(&delivery.body).ok())
        .filter(|notification| {
            notification.status == "firing"
                && notification.alerts.iter().any(|alert| incident(alert).as_deref() == Some(id))
        })
        .count()
}
