//! Runs `mailpulse alerts verify --all`, which counts the events of each alert with SQL of its own.

use std::process::Command;

use anyhow::Context;
use serde::Deserialize;

use super::balance::{Balance, Errors};
use crate::binaries;
use crate::pipeline::Pipeline;

/// A line of its output.
#[derive(Debug, Deserialize)]
struct Line {
    result: String,
}

/// Every alert must be equal.
pub(super) fn prove(balance: &mut Balance, pipeline: &Pipeline) -> anyhow::Result<()> {
    const PART: &str = "mailpulse alerts verify --all";
    let program = binaries::directory()?.join("mailpulse");
    let output = Command::new(&program)
        .args(["--config", &pipeline.config.display().to_string()])
        .args(["alerts", "verify", "--all", "--json"])
        .env("NO_COLOR", "1")
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut equal, mut others, mut all) = (0, Errors::default(), 0);
    for line in text.lines() {
        let Line { result } = serde_json::from_str(line).with_context(|| line.to_owned())?;
        all += 1;
        if result == "equal" {
            equal += 1;
        } else {
            others.add(|| line.to_owned());
        }
    }
    balance.line(PART, "alerts that are equal", equal, all);
    balance.none(PART, "alerts that are different or unverifiable", &others);
    let failed = !output.status.success();
    balance.line(PART, "exit status other than 0", u64::from(failed), 0);
    if failed {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
