//! `mailpulse canary`: sends a test event at intervals, from outside, and waits until it is a row.
//!
//! Every attempt is `mailpulse send` as a process of its own, so that one that hangs, or that a server brings down, does not
//! stop the next.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use metrics::{counter, gauge};
use serde::Deserialize;
use service::{Service, Settings, Shutdown};

use crate::args::Canary;
use crate::{InputError, Outcome};

/// How much longer than `--wait` an attempt may take.
const GRACE: Duration = Duration::from_secs(30);
/// How long the dead-man service may take to answer.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);
/// The last step of an event that has arrived.
const ROW: &str = "row";
/// What follows the last step that was reached, if another one was waited for in vain.
const MISSING: &str = "missing";

/// A line of `mailpulse send --json`.
#[derive(Debug, Deserialize)]
struct Step {
    step: String,
    seconds: f64,
    text: String,
}

/// Sends test events until SIGTERM or Ctrl-C.
///
/// # Errors
/// If the settings are invalid or the admin port cannot be opened.
pub(crate) fn run(config: Option<&Path>, args: &Canary) -> anyhow::Result<Outcome> {
    let settings = Settings::discover(config)?;
    let heartbeat = args.heartbeat.as_deref().map(service::resolve).transpose();
    let heartbeat = heartbeat.map_err(|error| InputError(format!("--heartbeat: {error}")))?;
    let service = Service::from_settings("canary", env!("CARGO_PKG_VERSION"), settings, false)?;
    service.open(args.admin)?;
    service.health.ready();
    let client = reqwest::Client::builder().timeout(HEARTBEAT_TIMEOUT).build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    while !service.shutdown.requested() {
        let began = Instant::now();
        let steps = attempt(config, args, &service.shutdown)?;
        if service.shutdown.requested() {
            break;
        }
        let has_arrived = steps.last().is_some_and(|last| last.step == ROW);
        report(&steps, has_arrived);
        if let Some(url) = heartbeat.as_deref().filter(|_| has_arrived) {
            runtime.block_on(beat(&client, url));
        }
        while began.elapsed() < args.every && !service.shutdown.requested() {
            std::thread::sleep(POLL);
        }
    }
    Ok(Outcome::Done)
}

/// Runs `mailpulse send` and returns its steps.
fn attempt(config: Option<&Path>, args: &Canary, shutdown: &Shutdown) -> anyhow::Result<Vec<Step>> {
    let own = std::env::current_exe().context("find the program of this process")?;
    let mut command = Command::new(own);
    command
        .args(["send", &args.source, "--json", "--wait"])
        .arg(format!("{}ms", args.wait.as_millis()));
    if let Some(url) = &args.to.url {
        command.arg("--url").arg(url);
    }
    for file in &args.with.secret_files {
        command.arg("--secret-file").arg(file);
    }
    command.arg("--key-id").arg(&args.with.key_id);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    // A few lines, which the pipe holds until the end.
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("start an attempt")?;
    let deadline = Instant::now() + args.wait + GRACE;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline || shutdown.requested() {
            child.kill()?;
            break;
        }
        std::thread::sleep(POLL);
    }
    let output = child.wait_with_output().context("read the output of an attempt")?;
    Ok(steps(&String::from_utf8_lossy(&output.stdout)))
}

fn steps(output: &str) -> Vec<Step> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Sets the metrics, and logs what stopped the event.
fn report(steps: &[Step], has_arrived: bool) {
    for Step { step, seconds, .. } in steps {
        gauge!("mailpulse_canary_step_seconds", "step" => step.clone()).set(*seconds);
    }
    let result = result(steps);
    let text: Vec<String> = steps.iter().map(|it| format!("{}: {}", it.step, it.text)).collect();
    let text = text.join("; ");
    if has_arrived {
        let now = crate::now().as_second() as f64;
        gauge!("mailpulse_canary_last_success_timestamp_seconds").set(now);
        tracing::info!(text, "the test event is a row");
    } else {
        tracing::error!(
            code = "canary_failed",
            step = result,
            text,
            "the test event has not arrived; `mailpulse trace` with its request id shows how far it came"
        );
    }
    counter!("mailpulse_canary_attempts_total", "result" => result).increment(1);
}

/// Returns the last step that the event reached. Without one, `send` has ended with an error, which it has written to
/// standard error.
fn result(steps: &[Step]) -> String {
    let reached = steps.iter().rev().find(|step| step.step != MISSING);
    reached.map_or_else(|| "failed".to_owned(), |step| step.step.clone())
}

/// Tells the dead-man service that mail events arrive. It raises an alarm if it is told nothing for a while.
async fn beat(client: &reqwest::Client, url: &str) {
    let answer = client.get(url).send().await.and_then(reqwest::Response::error_for_status);
    if let Err(error) = answer {
        // The URL is a secret: who knows it can silence the alarm.
        let error = error.without_url();
        tracing::warn!(code = "heartbeat_failed", %error, "the dead-man service was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_and_other_lines_are_left_out() {
        let output = "{\"step\":\"answered\",\"seconds\":0.01,\"text\":\"200\"}\nnote\n\
                      {\"step\":\"row\",\"seconds\":1.5,\"text\":\"stored\"}\n";
        let steps = steps(output);
        let names: Vec<&str> = steps.iter().map(|step| step.step.as_str()).collect();
        assert_eq!(names, ["answered", "row"]);
        assert!((steps[1].seconds - 1.5).abs() < f64::EPSILON);
        assert_eq!(result(&steps), "row");
    }

    #[test]
    fn the_result_is_the_last_step_that_was_reached() {
        let of = |names: &[&str]| {
            let step =
                |name: &&str| Step { step: (*name).to_owned(), seconds: 0.0, text: String::new() };
            result(&names.iter().map(step).collect::<Vec<_>>())
        };
        assert_eq!(of(&["answered", "raw", "missing"]), "raw");
        assert_eq!(of(&["answered", "dead_letter"]), "dead_letter");
        assert_eq!(of(&[]), "failed");
    }
}
