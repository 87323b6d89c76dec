//! The legs that read one topic and write another: `enrich`, `dedupe`, `monitor`.

use std::time::Instant;

use anyhow::ensure;
use devstack::Running;

use super::report::{Figure, Report};
use super::site::{Line, Progress, Site};
use super::usage::{Spent, cpu_seconds, memory};
use super::{bare, fill};

/// Budgets of `docs/benchmarks.md`, events per CPU-second.
const BUDGET_ENRICH: f64 = 100_000.0;
const BUDGET_DEDUPE: f64 = 150_000.0;
const BUDGET_RATES: f64 = 300_000.0;
/// The end of a topic written in transactions.
const ONE_MARKER: i64 = 1;

/// `mail.raw.*` to `mail.enriched`.
pub(crate) fn enrich(line: &Line<'_>, events: u64, report: &mut Report) -> anyhow::Result<()> {
    let service = line.start("enrich")?;
    let progress = await_records(line, &service, "enrich", "enrich", events)?;
    let figure = figure("enrich", "enrich", events, &service, &progress)?.budget(BUDGET_ENRICH);
    for topic in line.topics.all_raw() {
        let left = line.lag("enrich", topic, 0)?;
        ensure!(left == 0, "enrich has not committed {left} records of {topic}");
    }
    line.stop(service)?;
    let bare = bare::pass_through(line, &line.topics.enriched, events)?;
    report.add_bare(&bare);
    report.add(figure.beside(&bare));
    Ok(())
}

/// `mail.enriched` to `mail.events`, of which `distinct` are no repeats.
pub(crate) fn dedupe(
    line: &Line<'_>,
    events: u64,
    distinct: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let bare = bare::pass_through(line, &line.topics.enriched, events)?;
    report.add_bare(&bare);
    let service = line.start("dedupe")?;
    let progress = await_records(line, &service, "dedupe", "dedupe", events)?;
    let figure = figure("dedupe", "dedupe", events, &service, &progress)?.budget(BUDGET_DEDUPE);
    let left = line.lag("dedupe", &line.topics.enriched, ONE_MARKER)?;
    ensure!(left == 0, "dedupe has not committed {left} records");
    let dropped = line.site.metric(&service, "mailpulse_duplicates_total", "")?;
    ensure!(dropped == events - distinct, "{dropped} dropped of {events}, {distinct} distinct");
    line.stop(service)?;
    report.add(figure.beside(&bare).note(format!("{dropped} repeats dropped")));
    Ok(())
}

/// `mail.events` to `mail.rates` and `mail.alerts`, both halves.
pub(crate) fn monitor(site: &Site, events: u64, report: &mut Report) -> anyhow::Result<()> {
    let line = site.line("rates")?;
    line.create_topics()?;
    fill::events(&line, events)?;
    let bare = bare::consume(&line, &line.topics.events, events)?;
    report.add_bare(&bare);
    let service = line.start("monitor")?;
    let progress = await_records(&line, &service, "monitor, folding", "monitor-fold", events)?;
    line.watch("monitor, rating the last panes", 1, || {
        Ok(u64::from(line.lag("monitor-rate", &line.topics.panes, ONE_MARKER)? == 0))
    })?;
    let figure = figure("monitor", "monitor", events, &service, &progress)?.budget(BUDGET_RATES);
    let late = site.metric(&service, "mailpulse_late_events_total", "")?;
    ensure!(late == 0, "{late} events were late, though they came in order");
    let deltas = site.metric(&service, "mailpulse_records_total", "job=\"monitor-rate\"")?;
    line.stop(service)?;
    report.add(figure.beside(&bare).note(format!(
        "{} h of event time in order, {} scopes, {deltas} records between the halves; CPU of both \
         halves until everything was committed",
        fill::EVENT_HOURS,
        fill::SCOPES
    )));
    Ok(())
}

/// `--ids`: what `dedupe` needs in memory when it remembers that many events.
pub(crate) fn ids(site: &Site, ids: u64, report: &mut Report) -> anyhow::Result<()> {
    let line = site.line("ids")?;
    line.create_topics()?;
    fill::enriched(&line, ids)?;
    let service = line.start("dedupe")?;
    let progress = await_records(&line, &service, "dedupe, ids", "dedupe", ids)?;
    let leg = "dedupe, ids remembered";
    let figure = figure(leg, "dedupe", ids, &service, &progress)?.budget(BUDGET_DEDUPE);
    line.stop(service)?;
    report.add(figure.note(format!(
        "records without content, no repeats; ids over {} hours of event time",
        fill::ID_HOURS
    )));
    restore(&line, "dedupe, started over its files", ids, report)?;
    line.wipe()?;
    restore(&line, "dedupe, restored from its changelog", ids, report)
}

/// How long a new process takes until it is ready, its start and its joining the group included.
fn restore(line: &Line<'_>, leg: &str, ids: u64, report: &mut Report) -> anyhow::Result<()> {
    let started = Instant::now();
    let service = line.start("dedupe")?;
    let seconds = started.elapsed().as_secs_f64();
    let spent = Spent { seconds, cpu_seconds: cpu_seconds(service.pid())? };
    let figure = Figure::new(leg, "dedupe", ids, spent).memory(memory(service.pid())?);
    line.stop(service)?;
    report.add(figure.note(format!("ready after {seconds:.1} s")));
    Ok(())
}

/// Waits until a service has committed so many records.
pub(crate) fn await_records(
    line: &Line<'_>,
    service: &Running,
    what: &str,
    job: &str,
    records: u64,
) -> anyhow::Result<Progress> {
    let label = format!("job=\"{job}\"");
    line.watch(what, records, || line.site.metric(service, "mailpulse_records_total", &label))
}

/// Events per second between the first commit seen and the last; CPU time since the process began,
/// so that its start and what it had fetched ahead are not left out.
pub(crate) fn figure(
    leg: &str,
    process: &'static str,
    events: u64,
    service: &Running,
    progress: &Progress,
) -> anyhow::Result<Figure> {
    let seconds = events as f64 / progress.per_second();
    let spent = Spent { seconds, cpu_seconds: cpu_seconds(service.pid())? };
    Ok(Figure::new(leg, process, events, spent).memory(memory(service.pid())?))
}
