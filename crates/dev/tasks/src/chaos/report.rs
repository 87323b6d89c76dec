//! The report of a run, and its logs if it failed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Runtime;

use super::action::Seconds;
use super::balance::Balance;
use super::execute::ActionLog;
use super::mail::Answers;
use super::schedule::Schedule;
use crate::pipeline::Pipeline;
use crate::scrape;

/// The result of a run.
pub(super) struct Report {
    pub(super) actions: ActionLog,
    pub(super) balance: Balance,
    pub(super) figures: Vec<(&'static str, u64)>,
}

impl Report {
    /// Returns the report for a terminal.
    pub(super) fn text(&self, command: &str, took: Duration) -> String {
        let Self { actions, balance, figures } = self;
        let figures: String =
            figures.iter().map(|(what, n)| format!("  {what:<56}{n:>10}\n")).collect();
        let result = if balance.is_balanced() { "balances" } else { "DOES NOT BALANCE" };
        format!(
            "\nactions\n{actions}\n\nfigures\n{figures}{balance}\nthe run {result} · {command} · {}",
            Seconds(took)
        )
    }

    pub(super) fn json(
        &self,
        command: &str,
        schedule: &Schedule,
        took: Duration,
    ) -> serde_json::Value {
        let Self { actions, balance, figures } = self;
        let steps = schedule.0.iter().map(|step| {
            json!({"pause_seconds": step.pause.as_secs_f64(), "action": step.action.to_string()})
        });
        let figures = figures.iter().map(|&(what, n)| (what.to_owned(), n.into()));
        json!({
            "command": command,
            "seconds": took.as_secs_f64(),
            "is_balanced": balance.is_balanced(),
            "schedule": steps.collect::<Vec<_>>(),
            "actions": actions,
            "figures": figures.collect::<serde_json::Map<_, _>>(),
            "balance": balance,
        })
    }
}

/// Returns numbers that need no comparison.
pub(super) fn figures(
    runtime: &Runtime,
    pipeline: &Pipeline,
    answers: &Answers,
    actions: &ActionLog,
) -> anyhow::Result<Vec<(&'static str, u64)>> {
    let count = |sql: &str| runtime.block_on(pipeline.database.count(sql));
    let events = answers.events.len() as u64;
    let client = reqwest::Client::new();
    let monitors = pipeline.members.iter().filter(|(member, _)| member.service == "monitor");
    let late = monitors.map(|(_, admin)| {
        let text = runtime.block_on(scrape::one(&client, admin)).unwrap_or_default();
        scrape::sum(&text, "mailpulse_monitor_late_events_total", "") as u64
    });
    let rejected = actions.full_disks.iter().map(|full_disk| full_disk.rejected);
    Ok(vec![
        ("requests answered 2xx", answers.requests),
        ("forged requests rejected", answers.forged_rejected),
        ("attempts repeated, without a final answer", answers.repeated),
        ("requests rejected with Kafka down and a full disk", rejected.sum()),
        ("events accepted, duplicates included", answers.accepted),
        ("duplicates dropped", answers.accepted.saturating_sub(events)),
        ("events archived", count("SELECT count() FROM events")?),
        (
            "windows published, revisions included",
            count(
                "SELECT toUInt64(sum(o + 1)) FROM (SELECT max(kafka_offset) AS o \
             FROM rates GROUP BY kafka_partition)",
            )?,
        ),
        ("windows with a correction", count("SELECT countIf(revision > 0) FROM rates FINAL")?),
        ("events counted as late since the monitors last started", late.sum()),
        ("restarted services", u64::from(pipeline.supervisor.restarts())),
    ])
}

/// Copies the logs of a task out of its run directory, which is removed when the task ends.
pub(crate) fn keep_logs(task: &str, run: &Path) -> anyhow::Result<PathBuf> {
    let kept = devstack::fetch::workspace().join(".mailpulse").join(task);
    if kept.exists() {
        std::fs::remove_dir_all(&kept)?;
    }
    std::fs::create_dir_all(&kept)?;
    let parts = std::fs::read_dir(run)?.flatten().map(|entry| entry.path());
    let directories = parts.filter(|path| path.is_dir()).chain([run.to_owned()]);
    for directory in directories {
        for file in std::fs::read_dir(directory)?.flatten().map(|entry| entry.path()) {
            let name = file.file_name().filter(|_| file.extension().is_some_and(|e| e == "log"));
            if let Some(name) = name {
                std::fs::copy(&file, kept.join(name))?;
            }
        }
    }
    Ok(kept)
}
