//! The legs that read a topic and write another: `enrich`, `dedupe` and `monitor`.

use std::time::Instant;

use anyhow::ensure;
use devstack::Running;

use super::cpu::{Usage, cpu_seconds, memory};
use super::report::{Figure, Report};
use super::servers::{Namespace, Progress, Servers};
use super::{bare, fill};

/// The budgets of `docs/benchmarks.md` in events per CPU-second.
const BUDGET_ENRICH: f64 = 100_000.0;
const BUDGET_DEDUPE: f64 = 150_000.0;
const BUDGET_RATES: f64 = 300_000.0;
/// The transaction marker at the end of each partition.
const ONE_MARKER: i64 = 1;

/// Measures `enrich`: `mail.raw.*` to `mail.enriched`.
pub(crate) fn enrich(
    namespace: &Namespace<'_>,
    events: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let service = namespace.start("enrich")?;
    let progress = await_records(namespace, &service, "enrich", "enrich", events)?;
    let figure = figure("enrich", "enrich", events, &service, &progress)?.budget(BUDGET_ENRICH);
    for topic in namespace.topics.all_raw() {
        let left = namespace.lag("enrich", topic, 0)?;
        ensure!(left == 0, "enrich has not committed {left} records of {topic}");
    }
    namespace.stop(service)?;
    let bare = bare::pass_through(namespace, &namespace.topics.enriched, events)?;
    report.add_bare(&bare);
    report.add(figure.beside(&bare));
    Ok(())
}

/// Measures `dedupe`: `mail.enriched` to `mail.events`. Of the events, `distinct` are not duplicates.
pub(crate) fn dedupe(
    namespace: &Namespace<'_>,
    events: u64,
    distinct: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let bare = bare::pass_through(namespace, &namespace.topics.enriched, events)?;
    report.add_bare(&bare);
    let service = namespace.start("dedupe")?;
    let progress = await_records(namespace, &service, "dedupe", "dedupe", events)?;
    let figure = figure("dedupe", "dedupe", events, &service, &progress)?.budget(BUDGET_DEDUPE);
    let left = namespace.lag("dedupe", &namespace.topics.enriched, ONE_MARKER)?;
    ensure!(left == 0, "dedupe has not committed {left} records");
    let dropped = namespace.servers.metric(&service, "mailpulse_dedupe_duplicates_total", "")?;
    ensure!(
        dropped == events - distinct,
        "{dropped} of {events} events dropped, but {distinct} are distinct"
    );
    namespace.stop(service)?;
    report.add(figure.beside(&bare).note(format!("{dropped} duplicates dropped")));
    Ok(())
}

/// Measures both stages of `monitor`: `mail.events` to `mail.rates` and `mail.alerts`.
pub(crate) fn monitor(servers: &Servers, events: u64, report: &mut Report) -> anyhow::Result<()> {
    let namespace = servers.namespace("rates")?;
    namespace.create_topics()?;
    fill::events(&namespace, events)?;
    let bare = bare::consume(&namespace, &namespace.topics.events, events)?;
    report.add_bare(&bare);
    let service = namespace.start("monitor")?;
    let progress = await_records(&namespace, &service, "monitor, fold", "monitor-fold", events)?;
    namespace.wait_for("monitor, rates of the last panes", 1, || {
        Ok(u64::from(namespace.lag("monitor-rate", &namespace.topics.panes, ONE_MARKER)? == 0))
    })?;
    let figure = figure("monitor", "monitor", events, &service, &progress)?.budget(BUDGET_RATES);
    let late = servers.metric(&service, "mailpulse_monitor_late_events_total", "")?;
    ensure!(late == 0, "{late} events were late, although all were in order");
    let deltas = servers.metric(
        &service,
        "mailpulse_processed_records_total",
        "component=\"monitor-rate\"",
    )?;
    namespace.stop(service)?;
    report.add(figure.beside(&bare).note(format!(
        "{} h of event time in order, {} scopes, {deltas} records between the stages; CPU time of \
         both stages until everything was committed",
        fill::EVENT_HOURS,
        fill::SCOPES
    )));
    Ok(())
}

/// Measures the memory of `dedupe` with `ids` event ids, for `--ids`.
pub(crate) fn ids(servers: &Servers, ids: u64, report: &mut Report) -> anyhow::Result<()> {
    let namespace = servers.namespace("ids")?;
    namespace.create_topics()?;
    fill::enriched(&namespace, ids)?;
    let service = namespace.start("dedupe")?;
    let progress = await_records(&namespace, &service, "dedupe, ids", "dedupe", ids)?;
    let leg = "dedupe, ids remembered";
    let figure = figure(leg, "dedupe", ids, &service, &progress)?.budget(BUDGET_DEDUPE);
    namespace.stop(service)?;
    report.add(figure.note(format!(
        "records without content and without duplicates, three of each message; ids over {} hours of \
         event time",
        fill::ID_HOURS
    )));
    restore(&namespace, "dedupe, started with its files", ids, report)?;
    namespace.wipe()?;
    restore(&namespace, "dedupe, restored from its changelog", ids, report)
}

/// Measures the time until a new process is ready. It includes joining the group.
fn restore(
    namespace: &Namespace<'_>,
    leg: &str,
    ids: u64,
    report: &mut Report,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let service = namespace.start("dedupe")?;
    let seconds = started.elapsed().as_secs_f64();
    let usage = Usage { seconds, cpu_seconds: cpu_seconds(service.pid())? };
    let figure = Figure::new(leg, "dedupe", ids, usage).memory(memory(service.pid())?);
    namespace.stop(service)?;
    report.add(figure.note(format!("ready after {seconds:.1} s")));
    Ok(())
}

/// Waits until a service has committed `records`.
pub(crate) fn await_records(
    namespace: &Namespace<'_>,
    service: &Running,
    what: &str,
    component: &str,
    records: u64,
) -> anyhow::Result<Progress> {
    let label = format!("component=\"{component}\"");
    namespace.wait_for(what, records, || {
        namespace.servers.metric(service, "mailpulse_processed_records_total", &label)
    })
}

/// Returns events per second between the first and the last commit. The CPU time is counted from the
/// start of the process, because it fetches records before its first commit.
pub(crate) fn figure(
    leg: &str,
    process: &'static str,
    events: u64,
    service: &Running,
    progress: &Progress,
) -> anyhow::Result<Figure> {
    let seconds = events as f64 / progress.per_second();
    let usage = Usage { seconds, cpu_seconds: cpu_seconds(service.pid())? };
    Ok(Figure::new(leg, process, events, usage).memory(memory(service.pid())?))
}
