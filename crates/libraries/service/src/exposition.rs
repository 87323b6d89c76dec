//! `/metrics`: the recorder behind the `metrics` macros, and the metrics of the process itself.

use std::fmt::{Display, Write};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::collector;

use crate::metrics_table::{METRICS, MetricKind};

/// Installs the recorder of this process, registers the HELP texts of all metrics and sets the
/// metrics that never change.
///
/// # Errors
/// Fails if the process has a recorder already.
pub(crate) fn install(
    component: &'static str,
    version: &'static str,
) -> anyhow::Result<PrometheusHandle> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let MetricKind::Histogram(bounds) = metric.kind {
            let name = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(name, bounds)?;
        }
    }
    let handle = builder.install_recorder().context("cannot install the metrics recorder")?;
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => {
                metrics::describe_counter!(metric.name, metric.unit, metric.help)
            }
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            MetricKind::Histogram(_) => {
                metrics::describe_histogram!(metric.name, metric.unit, metric.help);
            }
        }
    }
    metrics::gauge!("mailpulse_build_info", "component" => component, "version" => version)
        .set(1.0);
    metrics::gauge!("mailpulse_up", "component" => component).set(1.0);
    Ok(handle)
}

/// Returns all metrics in Prometheus's text format.
pub(crate) fn render(handle: &PrometheusHandle) -> String {
    let mut text = handle.render();
    append_process_metrics(&mut text);
    text
}

/// Appends Prometheus's standard process metrics.
///
/// They do not go through the recorder because its counters are integers, and a CPU time in whole
/// seconds is useless over short ranges.
fn append_process_metrics(text: &mut String) {
    let process = collector::collect();
    // 0 means no limit. Prometheus's own clients omit an unknown limit.
    let limited = |limit: Option<u64>| limit.filter(|&limit| limit > 0);
    let mut counter = Exposition { text, kind: "counter" };
    counter.metric(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        process.cpu_seconds_total,
    );
    let mut gauge = Exposition { text, kind: "gauge" };
    for (name, help, value) in [
        ("process_open_fds", "Number of open file descriptors.", process.open_fds),
        ("process_max_fds", "Maximum number of open file descriptors.", limited(process.max_fds)),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            process.virtual_memory_bytes,
        ),
        (
            "process_virtual_memory_max_bytes",
            "Maximum amount of virtual memory available in bytes.",
            limited(process.virtual_memory_max_bytes),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            process.resident_memory_bytes,
        ),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            process.start_time_seconds,
        ),
        ("process_threads", "Number of OS threads in the process.", process.threads),
    ] {
        gauge.metric(name, help, value);
    }
}

/// Metrics of one kind in the text format.
struct Exposition<'a> {
    text: &'a mut String,
    kind: &'static str,
}

impl Exposition<'_> {
    fn metric(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            let kind = self.kind;
            // Writing to a String does not fail.
            let _ =
                write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
        }
    }
}
