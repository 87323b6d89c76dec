//! Runs `mailpulse alerts verify --all`, which counts the events of each alert with SQL of its own.

use std::collections::BTreeMap;
use std::process::Command;

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

/// Verifies every alert of a pipeline.
pub(crate) fn verify_alerts(pipeline: &Pipeline) -> anyhow::Result<VerifiedAlerts> {
    let program = binaries::directory()?.join("mailpulse");
    let output = Command::new(&program)
        .arg("--config")
        .arg(&pipeline.config)
        .args(["alerts", "verify", "--all", "--json"])
        .env("NO_COLOR", "1")
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
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
