//! All services together: their highest rate, and how soon events can be read at half of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use devstack::Running;

use super::Arguments;
use super::archive::rows;
use super::client::{Arrivals, Posted, Posting, post, unix_millis};
use super::cpu::{CpuMeter, Usage, memory};
use super::probe;
use super::report::{Figure, Report, thousands};
use super::script::{Dates, Script};
use super::servers::{Namespace, Servers, bar};
use crate::binaries::SERVICES;

/// Between the one and fifty events of the other legs.
const EVENTS_PER_REQUEST: u64 = 10;
/// The burst that measures the highest rate has one of this many events of the other legs, because all
/// services process it.
const BURST_SHARE: u64 = 4;
const WARM_UP_SHARE: u64 = 50;
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Posts a burst at full load, and then at half of the measured rate.
pub(crate) fn together(
    servers: &Servers,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let namespace = servers.namespace("whole")?;
    let mut all =
        All { namespace: &namespace, services: Vec::new(), connections: arguments.connections };
    for service in SERVICES {
        all.services.push((service, namespace.start(service)?));
    }
    all.burst("w", arguments.events / WARM_UP_SHARE)?;
    let best = all.burst("b", arguments.events / BURST_SHARE)?;
    let half = best.events_per_second / 2.0;
    report.add(best);
    for figure in all.at(half, arguments.seconds)? {
        report.add(figure);
    }
    for (_, service) in all.services {
        namespace.stop(service)?;
    }
    Ok(())
}

/// The running pipeline.
struct All<'a> {
    namespace: &'a Namespace<'a>,
    services: Vec<(&'static str, Running)>,
    connections: usize,
}

impl All<'_> {
    /// Posts events at full load and waits for the last row.
    fn burst(&self, run: &str, events: u64) -> anyhow::Result<Figure> {
        let run = format!("{run}{}", unix_millis());
        let script = Arc::new(Script::new(&run, events, EVENTS_PER_REQUEST, Dates::Live));
        let before = rows(self.namespace.servers, &self.namespace.database)?;
        let meters = self.meters()?;
        let started = Instant::now();
        let posted = self.post(&script, Arrivals::Closed, "all services, full load")?;
        self.await_rows(before + script.events())?;
        let seconds = started.elapsed().as_secs_f64();
        let mut cpu_seconds = 0.0;
        for (_, meter) in &meters {
            cpu_seconds += meter.usage()?.cpu_seconds;
        }
        let usage = Usage { seconds, cpu_seconds };
        let figure = Figure::new("all services, full load", "all services", script.events(), usage);
        Ok(figure.acknowledged(posted.acks).note(format!(
            "requests of {EVENTS_PER_REQUEST} events; from the first POST to the last row; {} \
             events per second were acknowledged",
            thousands(script.events() as f64 / posted.took.as_secs_f64())
        )))
    }

    /// Posts at a given rate, and measures marked events meanwhile.
    fn at(&self, per_second: f64, seconds: u64) -> anyhow::Result<Vec<Figure>> {
        let events = (per_second * seconds as f64) as u64;
        let run = format!("h{}", unix_millis());
        let script = Arc::new(Script::new(&run, events, EVENTS_PER_REQUEST, Dates::Live));
        let arrivals = Arrivals::Paced(per_second / EVENTS_PER_REQUEST as f64);
        let before = rows(self.namespace.servers, &self.namespace.database)?;
        let meters = self.meters()?;
        let done = AtomicBool::new(false);
        let url = self.namespace.servers.clickhouse_url();
        let (posted, found, unarchived) = std::thread::scope(|scope| {
            let poster = scope.spawn(|| {
                let posted = self.post(&script, arrivals, "all services, half load");
                done.store(true, Ordering::Relaxed);
                posted
            });
            let probe = scope.spawn(|| probe::run(&url, self.namespace, &done));
            let unarchived = self.sample(&done);
            (poster.join(), probe.join(), unarchived)
        });
        let panicked = |_| anyhow::anyhow!("a thread of the benchmark panicked");
        let posted = posted.map_err(panicked)??;
        let found = found.map_err(panicked)??;
        let mut figures = Vec::new();
        for ((name, service), (_, meter)) in self.services.iter().zip(&meters) {
            let usage = Usage { seconds: posted.took.as_secs_f64(), ..meter.usage()? };
            let figure = Figure::new("all services, half load", name, script.events(), usage);
            figures.push(figure.memory(memory(service.pid())?));
        }
        self.await_rows(before + script.events() + found.posted)?;
        if let Some(first) = figures.first_mut() {
            first.acknowledged = posted.acks;
            first.readable = found.readable;
            first.notes.push(growth(&unarchived?));
        }
        Ok(figures)
    }

    fn post(&self, script: &Arc<Script>, arrivals: Arrivals, what: &str) -> anyhow::Result<Posted> {
        let bar = bar(what, script.requests);
        let posted = post(&Posting {
            address: &self.namespace.ingress,
            script,
            requests: 0..script.requests,
            connections: self.connections,
            arrivals,
            bar: &bar,
        })?;
        bar.finish_and_clear();
        Ok(posted)
    }

    fn await_rows(&self, goal: u64) -> anyhow::Result<()> {
        let Namespace { servers, database, .. } = self.namespace;
        self.namespace.wait_for("rows in ClickHouse", goal, || rows(servers, database))?;
        let distinct =
            servers.number(&format!("SELECT uniqExact(event_id) FROM {database}.events"))?;
        ensure!(distinct == goal, "{distinct} distinct events instead of {goal}");
        Ok(())
    }

    fn meters(&self) -> anyhow::Result<Vec<(&'static str, CpuMeter)>> {
        let meter = |(name, service): &(_, Running)| Ok((*name, CpuMeter::start(service.pid())?));
        self.services.iter().map(meter).collect()
    }

    /// Counts every second the acknowledged events that are not archived yet.
    fn sample(&self, done: &AtomicBool) -> anyhow::Result<Vec<u64>> {
        let Namespace { servers, database, .. } = self.namespace;
        let ingress = self.services.iter().find(|(name, _)| *name == "ingress");
        let mut samples = Vec::new();
        while let (false, Some((_, ingress))) = (done.load(Ordering::Relaxed), ingress) {
            // Rows are counted first, so that the difference is never negative.
            let rows = rows(servers, database)?;
            let accepted = servers.metric(ingress, "mailpulse_ingress_events_total", "")?;
            samples.push(accepted.saturating_sub(rows));
            std::thread::sleep(SAMPLE_INTERVAL);
        }
        Ok(samples)
    }
}

/// Compares the average number of unarchived events in the first and the last third of the run, to show
/// whether a backlog grew.
fn growth(unarchived: &[u64]) -> String {
    let third = (unarchived.len() / 3).max(1);
    let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len().max(1) as f64;
    let first = mean(&unarchived[..third.min(unarchived.len())]);
    let last = mean(&unarchived[unarchived.len().saturating_sub(third)..]);
    format!(
        "acknowledged and not archived: {} on average in the first third of the run, {} in the last",
        thousands(first),
        thousands(last)
    )
}
