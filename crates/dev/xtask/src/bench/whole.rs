//! All services at once: how much they take together, and how fresh ClickHouse is at half of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use devstack::Running;

use super::Arguments;
use super::archive::rows;
use super::client::{Arrivals, Job, Posted, post, unix_millis};
use super::probe;
use super::report::{Figure, Report, thousands};
use super::script::{Dates, Script};
use super::site::{Line, Site, bar};
use super::usage::{Spent, Watch, memory};
use crate::build::SERVICES;

/// Between one event a request and fifty.
const EVENTS_PER_REQUEST: u64 = 10;
/// The burst that finds the best rate is a share of what the other legs get: all of it passes
/// through five processes here.
const BURST_SHARE: u64 = 4;
const WARM_UP_SHARE: u64 = 50;
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// A burst at full load, then a while at half of what that gave.
pub(crate) fn whole(site: &Site, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let line = site.line("whole")?;
    let mut all = All { line: &line, services: Vec::new(), connections: arguments.connections };
    for job in SERVICES {
        all.services.push((job, line.start(job)?));
    }
    all.burst("w", arguments.events / WARM_UP_SHARE)?;
    let best = all.burst("b", arguments.events / BURST_SHARE)?;
    let half = best.events_per_second / 2.0;
    report.add(best);
    for figure in all.at(half, arguments.seconds)? {
        report.add(figure);
    }
    for (_, service) in all.services {
        line.stop(service)?;
    }
    Ok(())
}

/// The running pipeline.
struct All<'a> {
    line: &'a Line<'a>,
    services: Vec<(&'static str, Running)>,
    connections: usize,
}

impl All<'_> {
    /// Posts so many events as fast as they are taken and waits for the last row.
    fn burst(&self, run: &str, events: u64) -> anyhow::Result<Figure> {
        let run = format!("{run}{}", unix_millis());
        let script = Arc::new(Script::new(&run, events, EVENTS_PER_REQUEST, Dates::Live));
        let before = rows(self.line.site, &self.line.database)?;
        let watches = self.watches()?;
        let started = Instant::now();
        let posted = self.post(&script, Arrivals::Closed, "the whole, at full load")?;
        self.await_rows(before + script.events())?;
        let seconds = started.elapsed().as_secs_f64();
        let mut cpu_seconds = 0.0;
        for (_, watch) in &watches {
            cpu_seconds += watch.spent()?.cpu_seconds;
        }
        let spent = Spent { seconds, cpu_seconds };
        let figure = Figure::new("the whole, full load", "all services", script.events(), spent);
        Ok(figure.acknowledged(posted.acks).note(format!(
            "requests of {EVENTS_PER_REQUEST} events; from the first POST to the last row; {} \
             events a second were acknowledged",
            thousands(script.events() as f64 / posted.took.as_secs_f64())
        )))
    }

    /// Posts at a given rate for a while, with a probe beside it.
    fn at(&self, per_second: f64, seconds: u64) -> anyhow::Result<Vec<Figure>> {
        let events = (per_second * seconds as f64) as u64;
        let run = format!("h{}", unix_millis());
        let script = Arc::new(Script::new(&run, events, EVENTS_PER_REQUEST, Dates::Live));
        let arrivals = Arrivals::Paced(per_second / EVENTS_PER_REQUEST as f64);
        let before = rows(self.line.site, &self.line.database)?;
        let watches = self.watches()?;
        let done = AtomicBool::new(false);
        let url = self.line.site.clickhouse_url();
        let (posted, seen, on_the_way) = std::thread::scope(|scope| {
            let poster = scope.spawn(|| {
                let posted = self.post(&script, arrivals, "the whole, at half load");
                done.store(true, Ordering::Relaxed);
                posted
            });
            let probe = scope.spawn(|| probe::run(&url, self.line, &done));
            let on_the_way = self.sample(&done);
            (poster.join(), probe.join(), on_the_way)
        });
        let panicked = |_| anyhow::anyhow!("a thread of the benchmark panicked");
        let posted = posted.map_err(panicked)??;
        let seen = seen.map_err(panicked)??;
        let mut figures = Vec::new();
        for ((job, service), (_, watch)) in self.services.iter().zip(&watches) {
            let spent = Spent { seconds: posted.took.as_secs_f64(), ..watch.spent()? };
            let figure = Figure::new("the whole, half load", job, script.events(), spent);
            figures.push(figure.memory(memory(service.pid())?));
        }
        self.await_rows(before + script.events() + seen.posted)?;
        if let Some(first) = figures.first_mut() {
            first.acknowledged = posted.acks;
            first.readable = seen.readable;
            first.notes.push(growth(&on_the_way?));
        }
        Ok(figures)
    }

    fn post(&self, script: &Arc<Script>, arrivals: Arrivals, what: &str) -> anyhow::Result<Posted> {
        let bar = bar(what, script.requests);
        let posted = post(&Job {
            address: &self.line.ingress,
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
        let Line { site, database, .. } = self.line;
        self.line.watch("rows in ClickHouse", goal, || rows(site, database))?;
        let distinct =
            site.number(&format!("SELECT uniqExact(event_id) FROM {database}.events"))?;
        ensure!(distinct == goal, "{distinct} distinct events of {goal}");
        Ok(())
    }

    fn watches(&self) -> anyhow::Result<Vec<(&'static str, Watch)>> {
        let watch = |(job, service): &(_, Running)| Ok((*job, Watch::start(service.pid())?));
        self.services.iter().map(watch).collect()
    }

    /// Every second, the events that were acknowledged and are no rows yet.
    fn sample(&self, done: &AtomicBool) -> anyhow::Result<Vec<u64>> {
        let Line { site, database, .. } = self.line;
        let ingress = self.services.iter().find(|(job, _)| *job == "ingress");
        let mut samples = Vec::new();
        while let (false, Some((_, ingress))) = (done.load(Ordering::Relaxed), ingress) {
            // Rows first: an event cannot be one before it was acknowledged.
            let rows = rows(site, database)?;
            let accepted = site.metric(ingress, "mailpulse_ingress_events_total", "")?;
            samples.push(accepted.saturating_sub(rows));
            std::thread::sleep(SAMPLE_EVERY);
        }
        Ok(samples)
    }
}

/// Whether a backlog grew: what was on the way in the first third and in the last, on average.
fn growth(on_the_way: &[u64]) -> String {
    let third = (on_the_way.len() / 3).max(1);
    let mean = |part: &[u64]| part.iter().sum::<u64>() as f64 / part.len().max(1) as f64;
    let first = mean(&on_the_way[..third.min(on_the_way.len())]);
    let last = mean(&on_the_way[on_the_way.len().saturating_sub(third)..]);
    format!(
        "acknowledged and not yet rows: {} on average in the first third of the run, {} in the last",
        thousands(first),
        thousands(last)
    )
}
