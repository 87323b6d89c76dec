//! What is left of a run: a report, and where it went wrong the logs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Runtime;

use super::action::Seconds;
use super::ledger::Ledger;
use super::mail::Taken;
use super::schedule::Schedule;
use super::stage::Deeds;
use crate::pipeline::Pipeline;
use crate::{build, check, scrape};

/// How a run ended.
pub(super) struct Outcome {
    pub(super) deeds: Deeds,
    pub(super) ledger: Ledger,
    pub(super) figures: Vec<(&'static str, u64)>,
}

impl Outcome {
    /// For people.
    pub(super) fn report(&self, command: &str, took: Duration) -> String {
        let Self { deeds, ledger, figures } = self;
        let figures: String =
            figures.iter().map(|(what, n)| format!("  {what:<56}{n:>10}\n")).collect();
        let verdict = if ledger.is_balanced() { "balances" } else { "DOES NOT BALANCE" };
        format!(
            "\nwhat was done\n{deeds}\n\nfigures\n{figures}{ledger}\nthe ledger {verdict} · \
             {command} · {}",
            Seconds(took)
        )
    }

    /// For machines.
    pub(super) fn json(
        &self,
        command: &str,
        schedule: &Schedule,
        took: Duration,
    ) -> serde_json::Value {
        let Self { deeds, ledger, figures } = self;
        let steps = schedule.0.iter().map(|step| {
            json!({"rest_seconds": step.rest.as_secs_f64(), "action": step.action.to_string()})
        });
        let figures = figures.iter().map(|&(what, n)| (what.to_owned(), n.into()));
        json!({
            "command": command,
            "seconds": took.as_secs_f64(),
            "is_balanced": ledger.is_balanced(),
            "schedule": steps.collect::<Vec<_>>(),
            "deeds": deeds,
            "figures": figures.collect::<serde_json::Map<_, _>>(),
            "ledger": ledger,
        })
    }
}

/// What is worth knowing beside the ledger.
pub(super) fn figures(
    runtime: &Runtime,
    pipeline: &Pipeline,
    clickhouse: &str,
    taken: &Taken,
    deeds: &Deeds,
) -> anyhow::Result<Vec<(&'static str, u64)>> {
    let count = |sql: &str| runtime.block_on(check::count(clickhouse, sql));
    let events = taken.events.len() as u64;
    let client = reqwest::Client::new();
    let monitors = pipeline.members.iter().filter(|(member, _)| member.service == "monitor");
    let late = monitors.map(|(_, admin)| {
        let text = runtime.block_on(scrape::one(&client, admin)).unwrap_or_default();
        scrape::sum(&text, "mailpulse_late_events_total", "") as u64
    });
    let refused = deeds.full_disks.iter().map(|full_disk| full_disk.refused);
    Ok(vec![
        ("requests answered 2xx", taken.requests),
        ("forged requests refused", taken.refused),
        ("posted again for want of a 2xx", taken.posted_again),
        ("refused with Kafka away and the spool's disk full", refused.sum()),
        ("events in the receipts", taken.accepted),
        ("duplicates among them, removed", taken.accepted.saturating_sub(events)),
        ("events archived", count("SELECT count() FROM mailpulse.events")?),
        (
            "windows published, revisions included",
            count(
                "SELECT toUInt64(sum(o + 1)) FROM (SELECT max(kafka_offset) AS o \
             FROM mailpulse.rates GROUP BY kafka_partition)",
            )?,
        ),
        ("windows corrected", count("SELECT countIf(revision > 0) FROM mailpulse.rates FINAL")?),
        ("events counted as late since the monitors last started", late.sum()),
        ("services started again", u64::from(pipeline.supervisor.restarts())),
    ])
}

/// Copies the logs of a run out of its directory, which goes away with it: for whoever looks for
/// the reason.
pub(super) fn keep_logs(run: &Path) -> anyhow::Result<PathBuf> {
    let kept = build::workspace().join(".mailpulse/chaos");
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
