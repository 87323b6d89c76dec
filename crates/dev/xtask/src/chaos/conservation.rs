//! What on-call would be told: the rules of deploy/prometheus over what the members export, by a
//! real Prometheus.

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use devstack::process::{self, Child};
use serde_json::Value;

use super::ledger::Ledger;
use crate::build;
use crate::pipeline::Pipeline;

const STARTED_WITHIN: Duration = Duration::from_secs(30);
/// Lag is known every ten seconds, by figures that are five seconds old.
const TOLD_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The rule by which nothing is missing.
const RULE: &str = "mailpulse:missing_events";
const ARCHIVED: &str = "sum(mailpulse_ledger_records{job=\"archive\", \
                        topic=~\".*mail[.]events\", entry=\"passed\"})";

/// A Prometheus that looks at every member once a second, and forgets it all at its end.
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
        process.wait_until("Prometheus", STARTED_WITHIN, |child| {
            child.has_said("Server is ready to receive web requests")
        })?;
        Ok(Self { url: format!("http://127.0.0.1:{port}"), _process: process })
    }

    /// The value of an expression as soon as it is the expected one, or else what it stays at.
    async fn settled(&self, expression: &str, expected: f64) -> anyhow::Result<f64> {
        let deadline = Instant::now() + TOLD_WITHIN;
        loop {
            let value = self.value(expression).await?;
            if value == Some(expected) || Instant::now() > deadline {
                return value.with_context(|| format!("{expression} is not known"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The value of an expression without labels; `None` while something of it is not known.
    async fn value(&self, expression: &str) -> anyhow::Result<Option<f64>> {
        let url = format!("{}/api/v1/query", self.url);
        let request = reqwest::Client::new().get(url).query(&[("query", expression)]);
        let answer: Value = request.send().await?.json().await?;
        let result = &answer["data"]["result"];
        let Some(samples) = result.as_array() else { bail!("Prometheus answers {answer}") };
        let [sample] = samples.as_slice() else { return Ok(None) };
        let value = sample["value"][1].as_str().context("a sample is a time and a text")?;
        Ok(Some(value.parse()?))
    }
}

/// Every event is accounted for by what is exported, too: `events` are rows, and none is missing.
pub(super) async fn prove(
    ledger: &mut Ledger,
    prometheus: &Prometheus,
    events: u64,
) -> anyhow::Result<()> {
    const PART: &str = "as Prometheus sees it";
    let archived = prometheus.settled(ARCHIVED, events as f64).await?;
    ledger.line(PART, "events archived, by the members' tallies", archived as u64, events);
    let missing = prometheus.settled(RULE, 0.0).await?;
    // Events that are missing, or there too often.
    ledger.line(PART, RULE, missing.abs() as u64, 0);
    Ok(())
}

/// Our rules, and every member under the name of its job.
fn configuration(pipeline: &Pipeline) -> anyhow::Result<String> {
    let rules = build::workspace().join("deploy/prometheus/rules.yml");
    let mut yaml = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{:?}]\n\
         scrape_configs:\n- job_name: mailpulse\n  honor_labels: true\n  static_configs:\n",
        rules.display().to_string()
    );
    for (member, admin) in &pipeline.members {
        let job = member.service;
        writeln!(yaml, "  - {{targets: [{admin:?}], labels: {{job: {job}}}}}")?;
    }
    Ok(yaml)
}
