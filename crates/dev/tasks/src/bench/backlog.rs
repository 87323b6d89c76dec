//! The backlog leg: the memory of every process while millions of events wait before it and ClickHouse
//! is stopped, and while it catches up.

use anyhow::ensure;
use devstack::Running;

use super::cpu::{CpuMeter, memory};
use super::report::{Figure, Report};
use super::script::{Dates, Script};
use super::servers::{Namespace, Servers};
use super::stages::{await_records, figure};
use super::{Arguments, client::unix_millis, ingress};

/// The memory limit of every process, independent of its backlog; see `docs/benchmarks.md`.
const BUDGET_BYTES: u64 = 300_000_000;

/// Posts everything while only the ingress runs. Then starts all stages at once while ClickHouse is
/// stopped, and then restarts ClickHouse.
pub(crate) fn backlog(
    servers: &Servers,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let namespace = servers.namespace("backlog")?;
    let now = unix_millis();
    let dates = Dates::Past { millis: ingress::BACKLOG_MILLIS, until: now };
    let script = Script::new(&format!("b{now}"), arguments.events, ingress::BATCH, dates);
    let script = std::sync::Arc::new(script.with_repeats());
    let (events, distinct) = (script.events(), script.distinct_events());
    ingress::batched(&namespace, &script, arguments, report)?;

    let archive = namespace.start("archive")?;
    servers.stop_clickhouse()?;
    let stages = Stages::start(&namespace)?;
    stages.catch_up(&namespace, (events, distinct), report)?;
    let before = memory(archive.pid())?;
    servers.restart_clickhouse()?;
    let meter = CpuMeter::start(archive.pid())?;
    let count = format!("SELECT count() FROM {}.events", namespace.database);
    namespace.wait_for("archive, catching up", distinct, || servers.number(&count))?;
    let figure = Figure::new("archive, backlog", "archive", distinct, meter.usage()?);
    report.add(
        within_budget(figure, &archive)?
            .note(format!("{} MB resident while ClickHouse was stopped", before.bytes / 1_000_000)),
    );
    stages.stop(&namespace)?;
    namespace.stop(archive)
}

/// The services that read and write Kafka.
struct Stages {
    enrich: Running,
    dedupe: Running,
    monitor: Running,
}

impl Stages {
    fn start(namespace: &Namespace<'_>) -> anyhow::Result<Self> {
        Ok(Self {
            enrich: namespace.start("enrich")?,
            dedupe: namespace.start("dedupe")?,
            monitor: namespace.start("monitor")?,
        })
    }

    fn catch_up(
        &self,
        namespace: &Namespace<'_>,
        (events, distinct): (u64, u64),
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let stages: [(&Running, &'static str, &str, u64); 3] = [
            (&self.enrich, "enrich", "enrich", events),
            (&self.dedupe, "dedupe", "dedupe", events),
            (&self.monitor, "monitor", "monitor-fold", distinct),
        ];
        for (service, process, component, records) in stages {
            let leg = format!("{process}, backlog");
            let progress = await_records(namespace, service, &leg, component, records)?;
            let figure = figure(&leg, process, records, service, &progress)?;
            report.add(within_budget(figure, service)?);
        }
        Ok(())
    }

    fn stop(self, namespace: &Namespace<'_>) -> anyhow::Result<()> {
        [self.enrich, self.dedupe, self.monitor].into_iter().try_for_each(|it| namespace.stop(it))
    }
}

/// Adds the peak memory to the figure. It must be within the budget.
fn within_budget(figure: Figure, service: &Running) -> anyhow::Result<Figure> {
    let memory = memory(service.pid())?;
    let (peak, figure) = (memory.peak_bytes, figure.memory(memory));
    ensure!(peak <= BUDGET_BYTES, "{} needed {peak} bytes of memory", figure.process);
    Ok(figure)
}
