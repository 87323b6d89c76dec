//! Runs `mailpulse alerts verify` (`--all` counts the events of each alert with SQL of its own, and `--complete` looks for
//! alerts that are missing) and `mailpulse recompute`.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::binaries;
use crate::pipeline::Pipeline;

/// What the command has found.
#[derive(Debug, Default)]
pub(crate) struct VerifiedAlerts {
    /// The number of alerts by result: `equal`, `different` or `unverifiable`.
    pub(crate) counts: BTreeMap<String, u64>,
    /// The lines of the alerts that are not equal, with their results.
    pub(crate) others: Vec<(String, String)>,
    /// Whether the exit status was 0.
    pub(crate) succeeded: bool,
}

impl VerifiedAlerts {
    /// Returns the number of alerts with a result.
    pub(crate) fn count(&self, result: &str) -> u64 {
        self.counts.get(result).copied().unwrap_or(0)
    }
}

/// A line of the output.
#[derive(Debug, Deserialize)]
struct Line {
    result: String,
}

/// Looks for breaches without an episode in windows that end between two times, unix seconds. `bound` is how late events
/// and alerts may be, in seconds. Returns what the command has printed, as an error if there are breaches.
pub(crate) fn verify_complete(
    pipeline: &Pipeline,
    (from, to): (i64, i64),
    bound: i64,
) -> anyhow::Result<Result<String, String>> {
    let time = |seconds| jiff::Timestamp::from_second(seconds).map(|time| time.to_string());
    let (from, to) = (time(from)?, time(to)?);
    let bound = format!("{bound}s");
    let arguments =
        ["alerts", "verify", "--complete", "--from", &from, "--to", &to, "--bound", &bound];
    Ok(result(mailpulse(pipeline, &arguments)?))
}

/// Compares all alerts, byte for byte, with what follows from the panes. Returns what the command has printed, as an
/// error if there is a difference.
pub(crate) fn recompute(pipeline: &Pipeline) -> anyhow::Result<Result<String, String>> {
    Ok(result(mailpulse(pipeline, &["recompute"])?))
}

fn result(output: Output) -> Result<String, String> {
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

fn mailpulse(pipeline: &Pipeline, arguments: &[&str]) -> anyhow::Result<Output> {
    let program = binaries::directory()?.join("mailpulse");
    Command::new(&program)
        .arg("--config")
        .arg(&pipeline.config)
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// Verifies every alert of a pipeline.
pub(crate) fn verify_alerts(pipeline: &Pipeline) -> anyhow::Result<VerifiedAlerts> {
    let output = mailpulse(pipeline, &["alerts", "verify", "--all", "--json"])?;
    let succeeded = output.status.success();
    let mut verified = VerifiedAlerts { succeeded, ..VerifiedAlerts::default() };
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Line { result } = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if result != "equal" {
            verified.others.push((result.clone(), line.to_owned()));
        }
        *verified.counts.entry(result).or_default() += 1;
    }
    let is_explained = succeeded || verified.count("different") > 0;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(is_explained, "mailpulse alerts verify failed: {errors}");
    Ok(verified)
}
