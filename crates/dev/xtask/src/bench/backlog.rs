//! The leg of the backlog: what every process takes in memory while millions of events wait before it
//! and ClickHouse is stopped, and while all of it is caught up with.

use anyhow::ensure;
use devstack::Running;

use super::report::{Figure, Report};
use super::script::{Dates, Script};
use super::site::{Line, Site};
use super::steps::{await_records, figure};
use super::usage::{Watch, memory};
use super::{Arguments, client::unix_millis, ingress};

/// No process may take more, whatever waits before it: `docs/benchmarks.md`.
const BUDGET_BYTES: u64 = 300_000_000;

/// Everything is posted while nothing behind the ingress runs; then all stages start at once, the
/// archive before a ClickHouse that is stopped; then ClickHouse comes back.
pub(crate) fn backlog(
    site: &Site,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let line = site.line("backlog")?;
    let now = unix_millis();
    let dates = Dates::Past { millis: ingress::BACKLOG_MILLIS, until: now };
    let script = Script::new(&format!("b{now}"), arguments.events, ingress::BATCH, dates);
    let script = std::sync::Arc::new(script.with_repeats());
    let (events, distinct) = (script.events(), script.distinct_events());
    ingress::batched(&line, &script, arguments, report)?;

    let archive = line.start("archive")?;
    site.stop_clickhouse()?;
    let stages = Stages::start(&line)?;
    stages.catch_up(&line, (events, distinct), report)?;
    let held = memory(archive.pid())?;
    site.restart_clickhouse()?;
    let watch = Watch::start(archive.pid())?;
    let count = format!("SELECT count() FROM {}.events", line.database);
    line.watch("archive, catching up", distinct, || site.number(&count))?;
    let figure = Figure::new("archive, backlog", "archive", distinct, watch.spent()?);
    report.add(
        within_budget(figure, &archive)?
            .note(format!("{} MB resident while ClickHouse was stopped", held.bytes / 1_000_000)),
    );
    stages.stop(&line)?;
    line.stop(archive)
}

/// The stages that read and write Kafka.
struct Stages {
    enrich: Running,
    dedupe: Running,
    monitor: Running,
}

impl Stages {
    fn start(line: &Line<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            enrich: line.start("enrich")?,
            dedupe: line.start("dedupe")?,
            monitor: line.start("monitor")?,
        })
    }

    fn catch_up(
        &self,
        line: &Line<'_>,
        (events, distinct): (u64, u64),
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let stages: [(&Running, &'static str, &str, u64); 3] = [
            (&self.enrich, "enrich", "enrich", events),
            (&self.dedupe, "dedupe", "dedupe", events),
            (&self.monitor, "monitor", "monitor-fold", distinct),
        ];
        for (service, process, job, records) in stages {
            let leg = format!("{process}, backlog");
            let progress = await_records(line, service, &leg, job, records)?;
            let figure = figure(&leg, process, records, service, &progress)?;
            report.add(within_budget(figure, service)?);
        }
        Ok(())
    }

    fn stop(self, line: &Line<'_>) -> anyhow::Result<()> {
        [self.enrich, self.dedupe, self.monitor].into_iter().try_for_each(|it| line.stop(it))
    }
}

/// The figure with the most the process ever took, which must not be more than the budget.
fn within_budget(figure: Figure, service: &Running) -> anyhow::Result<Figure> {
    let memory = memory(service.pid())?;
    let (peak, figure) = (memory.peak_bytes, figure.memory(memory));
    ensure!(peak <= BUDGET_BYTES, "{} took {peak} bytes", figure.process);
    Ok(figure)
}
