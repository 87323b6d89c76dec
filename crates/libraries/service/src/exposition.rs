//! `/metrics`: the recorder behind the `metrics` macros, and figures of the process itself.

use std::fmt::Write;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of histograms whose names end in `_seconds`.
const SECONDS: [f64; 15] =
    [0.001, 0.002, 0.004, 0.006, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// `USER_HZ`: the unit of times in `/proc/self/stat` on every Linux architecture we build for.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// Installs the recorder of this process and sets the figures that never change.
///
/// # Errors
/// When the process has a recorder already.
pub(crate) fn install(
    job: &'static str,
    version: &'static str,
) -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("the metrics recorder cannot be installed")?;
    metrics::gauge!("mailpulse_build_info", "job" => job, "version" => version).set(1.0);
    metrics::gauge!("mailpulse_up").set(1.0);
    Ok(handle)
}

/// Everything in Prometheus's text format.
pub(crate) fn render(handle: &PrometheusHandle) -> String {
    let mut text = handle.render();
    // Not through the recorder: its counters are whole numbers.
    if let Some(seconds) = cpu_seconds() {
        let _ = write!(
            text,
            "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total {seconds}\n\n"
        );
    }
    if let Some(bytes) = resident_bytes() {
        let _ = write!(
            text,
            "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {bytes}\n\n"
        );
    }
    text
}

/// User and system time, from proc_pid_stat(5). `None` where there is no such file.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command in parentheses and may hold spaces; utime and stime are the
    // 14th and 15th, so the 12th and 13th after it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / CLOCK_TICKS_PER_SECOND)
}

/// `VmRSS` of proc_pid_status(5), which is in KiB.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
