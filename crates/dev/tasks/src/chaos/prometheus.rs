//! Evaluates the rules of deploy/prometheus on the metrics of all members with a real Prometheus.

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use devstack::process::{self, Child};
use serde_json::Value;

use super::balance::Balance;
use crate::pipeline::Pipeline;

const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Lag is measured every ten seconds, and the end offsets are up to five seconds old.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);

/// The rule whose value is the number of missing events.
const RULE: &str = "mailpulse:missing_events";
const ARCHIVED: &str = "sum(mailpulse_ledger_records{component=\"archive\", \
                        topic=~\".*mail[.]events\", entry=\"passed\"})";

/// A Prometheus that scrapes every member once a second.
pub(super) struct Prometheus {
    url: String,
    _process: Child,
}

impl Prometheus {
    /// Starts it and returns when it answers.
    pub(super) fn start(pipeline: &Pipeline) -> anyhow::Result<Self> {
        let directory = pipeline.dirs.run.join("prometheus");
        std::fs::create_dir_all(&directory)?;
        let config = directory.join("prometheus.yml");
        std::fs::write(&config, configuration(pipeline)?)?;
        let port = process::free_port()?;
        let mut command = Command::new(devstack::fetch::prometheus()?);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut process = process::spawn(command, &directory.join("prometheus.log"))?;
        process.wait_until("Prometheus", START_TIMEOUT, |child| {
            child.has_logged("Server is ready to receive web requests")
        })?;
        Ok(Self { url: format!("http://127.0.0.1:{port}"), _process: process })
    }

    /// Waits until an expression has the expected value. Returns its last value.
    async fn settled(&self, expression: &str, expected: f64) -> anyhow::Result<f64> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let value = self.value(expression).await?;
            if value == Some(expected) || Instant::now() > deadline {
                return value.with_context(|| format!("{expression} has no value"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Returns the value of an expression without labels, or `None` while a series is missing.
    async fn value(&self, expression: &str) -> anyhow::Result<Option<f64>> {
        let url = format!("{}/api/v1/query", self.url);
        let request = reqwest::Client::new().get(url).query(&[("query", expression)]);
        let answer: Value = request.send().await?.json().await?;
        let result = &answer["data"]["result"];
        let Some(samples) = result.as_array() else { bail!("Prometheus answered {answer}") };
        let [sample] = samples.as_slice() else { return Ok(None) };
        let value = sample["value"][1].as_str().context("a sample is not a time and a text")?;
        Ok(Some(value.parse()?))
    }
}

/// Checks that the exported ledgers account for every event: `events` are archived, and no event is
/// missing.
pub(super) async fn prove(
    balance: &mut Balance,
    prometheus: &Prometheus,
    events: u64,
) -> anyhow::Result<()> {
    const PART: &str = "metrics in Prometheus";
    let archived = prometheus.settled(ARCHIVED, events as f64).await?;
    balance.line(PART, "events archived, by the exported ledgers", archived as u64, events);
    let missing = prometheus.settled(RULE, 0.0).await?;
    // A negative value means events that are archived more than once.
    balance.line(PART, RULE, missing.abs() as u64, 0);
    Ok(())
}

/// Returns a configuration with our rules that scrapes every member.
fn configuration(pipeline: &Pipeline) -> anyhow::Result<String> {
    let rules = devstack::fetch::workspace().join("deploy/prometheus/rules.yml");
    let mut yaml = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{:?}]\n\
         scrape_configs:\n- job_name: mailpulse\n  static_configs:\n",
        rules.display().to_string()
    );
    for admin in pipeline.members.values() {
        writeln!(yaml, "  - {{targets: [{admin:?}]}}")?;
    }
    Ok(yaml)
}
