//! The figures, as Markdown and as JSON.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::Serialize;

use super::cpu::{Memory, Usage};
use super::latency::Percentiles;
use super::servers::Servers;
use devstack::fetch::workspace;

/// A measured run.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) leg: String,
    /// The measured process.
    pub(crate) process: &'static str,
    /// The number of events or rows.
    pub(crate) events: u64,
    /// Wall-clock time.
    pub(crate) seconds: f64,
    /// CPU time of the process.
    pub(crate) cpu_seconds: f64,
    pub(crate) events_per_second: f64,
    pub(crate) events_per_cpu_second: f64,
    /// The budget of `docs/benchmarks.md` in events per CPU-second.
    pub(crate) budget: Option<f64>,
    /// The bare run of the same minute, for comparison.
    pub(crate) bare: Option<Bare>,
    pub(crate) memory: Option<Memory>,
    /// The time from POST to acknowledgement, in milliseconds.
    pub(crate) acknowledged: Option<Percentiles>,
    /// The time from POST until the row can be read, in milliseconds.
    pub(crate) readable: Option<Percentiles>,
    /// The time from the answer to the event that breaks a rule until the page is received, in milliseconds.
    pub(crate) paged: Option<Percentiles>,
    /// The time from the answer to an event until its recipient is suppressed.
    pub(crate) suppressed: Option<Percentiles>,
    /// Remarks.
    pub(crate) notes: Vec<String>,
}

/// A run without a service: a client library or server alone.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Bare {
    pub(crate) what: String,
    pub(crate) events: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) events_per_second: f64,
    pub(crate) events_per_cpu_second: f64,
}

impl Bare {
    pub(crate) fn new(what: impl Into<String>, events: u64, usage: Usage) -> Self {
        let Usage { seconds, cpu_seconds } = usage;
        Self {
            what: what.into(),
            events,
            seconds,
            cpu_seconds,
            events_per_second: events as f64 / seconds,
            events_per_cpu_second: events as f64 / cpu_seconds,
        }
    }
}

impl Figure {
    pub(crate) fn new(
        leg: impl Into<String>,
        process: &'static str,
        events: u64,
        usage: Usage,
    ) -> Self {
        let Usage { seconds, cpu_seconds } = usage;
        Self {
            leg: leg.into(),
            process,
            events,
            seconds,
            cpu_seconds,
            events_per_second: events as f64 / seconds,
            events_per_cpu_second: events as f64 / cpu_seconds,
            budget: None,
            bare: None,
            memory: None,
            acknowledged: None,
            readable: None,
            paged: None,
            suppressed: None,
            notes: Vec::new(),
        }
    }

    pub(crate) fn budget(mut self, events_per_cpu_second: f64) -> Self {
        self.budget = Some(events_per_cpu_second);
        self
    }

    pub(crate) fn beside(mut self, bare: &Bare) -> Self {
        self.bare = Some(bare.clone());
        self
    }

    pub(crate) fn memory(mut self, memory: Memory) -> Self {
        self.memory = Some(memory);
        self
    }

    pub(crate) fn acknowledged(mut self, acks: Option<Percentiles>) -> Self {
        self.acknowledged = acks;
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// All figures, and the environment of the run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    commit: String,
    /// Whether the checkout differs from the commit.
    modified: bool,
    command: String,
    date: String,
    cores: usize,
    kernel: String,
    versions: Vec<(&'static str, String)>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) bare: Vec<Bare>,
}

impl Report {
    pub(crate) fn new(servers: &Servers) -> anyhow::Result<Self> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let clickhouse = String::from_utf8(servers.sql("SELECT version()")?)?;
        let versions = vec![
            ("rustc", output("rustc", &["--version"])),
            ("librdkafka", kafka::baseline::librdkafka_version()),
            ("kafka", format!("{} ({:?})", kafka_version(), servers.kafka.kind())),
            ("clickhouse", format!("{} ({:?})", clickhouse.trim(), servers.clickhouse_kind())),
        ];
        let words = std::env::args().skip(1).collect::<Vec<_>>();
        Ok(Self {
            commit: output("git", &["rev-parse", "HEAD"]),
            modified: !output("git", &["status", "--porcelain"]).is_empty(),
            command: format!("cargo xtask {}", words.join(" ")),
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel.trim().to_owned(),
            versions,
            figures: Vec::new(),
            bare: Vec::new(),
        })
    }

    /// Adds a bare run and prints it.
    pub(crate) fn add_bare(&mut self, bare: &Bare) {
        eprintln!("    {}: {} per CPU-second", bare.what, thousands(bare.events_per_cpu_second));
        self.bare.push(bare.clone());
    }

    /// Adds a figure and prints it.
    pub(crate) fn add(&mut self, figure: Figure) {
        let (rate, cpu) = (figure.events_per_second, figure.events_per_cpu_second);
        let (leg, process) = (&figure.leg, figure.process);
        eprintln!(
            "    {leg}: {} per second, {} per CPU-second of {process}",
            thousands(rate),
            thousands(cpu)
        );
        self.figures.push(figure);
    }

    /// Writes the JSON.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Returns Markdown that can be copied to `docs/benchmarks.md`.
    pub(crate) fn table(&self) -> String {
        let mut text = self.environment();
        self.throughput(&mut text);
        self.latencies(&mut text);
        self.bare_runs(&mut text);
        let notes = self.figures.iter().flat_map(|f| f.notes.iter().map(move |n| (&f.leg, n)));
        for (number, (leg, note)) in notes.enumerate() {
            let space = if number == 0 { "\n" } else { "" };
            let _ = writeln!(text, "{space}- {leg}: {note}");
        }
        text
    }

    fn environment(&self) -> String {
        let modified = if self.modified { ", modified" } else { "" };
        let mut text = format!(
            "`{}` at {}{modified}, {}, {} cores, Linux {}",
            self.command,
            self.commit.get(..12).unwrap_or(&self.commit),
            self.date,
            self.cores,
            self.kernel
        );
        for (name, version) in &self.versions {
            let _ = write!(text, ", {name} {}", version.trim_start_matches(name).trim());
        }
        text + "\n"
    }

    fn throughput(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "\n| leg | process | events | events/s | per CPU-second | budget | of bare | RSS peak |\n\
             |---|---|--:|--:|--:|--:|--:|--:|"
        );
        for figure in &self.figures {
            let of_bare = figure.bare.as_ref().map_or_else(String::new, |bare| {
                format!("{:.2}", figure.events_per_cpu_second / bare.events_per_cpu_second)
            });
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {of_bare} | {} |",
                figure.leg,
                figure.process,
                thousands(figure.events as f64),
                thousands(figure.events_per_second),
                thousands(figure.events_per_cpu_second),
                figure.budget.map_or_else(String::new, thousands),
                figure.memory.map_or_else(String::new, |memory| mebibytes(memory.peak_bytes)),
            );
        }
    }

    fn latencies(&self, text: &mut String) {
        let mut rows = String::new();
        for figure in &self.figures {
            let kinds = [
                ("acknowledged", figure.acknowledged),
                ("readable in ClickHouse", figure.readable),
                ("paged, from the answer", figure.paged),
                ("suppressed, from the answer", figure.suppressed),
            ];
            for (until, percentiles) in kinds {
                let Some(Percentiles { p50, p99, max, samples }) = percentiles else { continue };
                let leg = &figure.leg;
                let _ = writeln!(
                    rows,
                    "| {leg} | {until} | {p50:.1} | {p99:.1} | {max:.1} | {} |",
                    thousands(samples as f64)
                );
            }
        }
        if !rows.is_empty() {
            let head = "\n| leg | from POST until | p50 ms | p99 ms | max ms | samples |\n\
                        |---|---|--:|--:|--:|--:|\n";
            *text += &(head.to_owned() + &rows);
        }
    }

    fn bare_runs(&self, text: &mut String) {
        if self.bare.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n| bare run | events | events/s | per CPU-second |\n|---|--:|--:|--:|"
        );
        for bare in &self.bare {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                bare.what,
                thousands(bare.events as f64),
                thousands(bare.events_per_second),
                thousands(bare.events_per_cpu_second)
            );
        }
    }
}

/// Returns the version of Kafka's jars.
fn kafka_version() -> String {
    let pom = workspace().join("deploy/devstack/pom.xml");
    let pom = std::fs::read_to_string(pom).unwrap_or_default();
    let version = pom.split_once("<artifactId>kafka_2.13</artifactId>").and_then(|(_, rest)| {
        Some(rest.split_once("<version>")?.1.split_once("</version>")?.0.to_owned())
    });
    version.unwrap_or_else(|| "unknown".to_owned())
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(workspace()).output();
    output.map_or_else(|_| String::new(), |out| String::from_utf8_lossy(&out.stdout).trim().into())
}

/// Returns an integer with its digits in groups of three.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_in_groups_of_three() {
        let grouped = [0.0, 999.4, 1000.0, 1_234_567.0].map(thousands);
        assert_eq!(grouped, ["0", "999", "1 000", "1 234 567"]);
    }
}
