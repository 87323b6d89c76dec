//! The legs of the ingress: webhooks in, acknowledged records out.

use std::sync::Arc;

use devstack::Running;

use super::client::{Arrivals, Job, Posted, post, unix_millis};
use super::report::{Bare, Figure, Report};
use super::script::{Dates, Script};
use super::site::{Line, Site, bar};
use super::usage::{Spent, Watch, memory};
use super::{Arguments, bare};

/// Budgets of `docs/benchmarks.md`, events per CPU-second.
const BUDGET_SINGLE: f64 = 100_000.0;
const BUDGET_BATCHED: f64 = 300_000.0;
/// Events of a batched request.
pub(crate) const BATCH: u64 = 50;
/// Of all requests, the first share warms connections and caches up and is not measured.
const WARM_UP_ONE_IN: u64 = 20;
/// The paced run needs fewer for steady percentiles.
const PACED_SHARE: u64 = 4;
/// A backlog's events lie in the hour before it is worked off.
pub(crate) const BACKLOG_MILLIS: i64 = 3_600_000;

/// One event a request: at full load, then at half of that.
pub(crate) fn single(
    site: &Site,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let line = site.line("single")?;
    let service = line.start("ingress")?;
    let bare = references(site, report)?;

    let run = format!("s{}", unix_millis());
    let script = Arc::new(Script::new(&run, arguments.events, 1, Dates::Live));
    let leg = Leg { line: &line, service: &service, connections: arguments.connections };
    let (posted, spent) = leg.drive("ingress, single events", &script, Arrivals::Closed)?;
    let events = script.requests - warm_up(&script);
    let rate = events as f64 / spent.seconds;
    let figure = Figure::new("POST of one event", "ingress", events, spent)
        .budget(BUDGET_SINGLE)
        .beside(&bare)
        .memory(memory(service.pid())?)
        .acknowledged(posted.acks);
    report.add(figure.note(format!("{} connections, full load", arguments.connections)));

    let run = format!("h{}", unix_millis());
    let paced = Arc::new(Script::new(&run, arguments.events / PACED_SHARE, 1, Dates::Live));
    let arrivals = Arrivals::Paced(rate / 2.0);
    let (posted, spent) = leg.drive("ingress, half load", &paced, arrivals)?;
    let events = paced.requests - warm_up(&paced);
    let figure = Figure::new("POST of one event, half load", "ingress", events, spent)
        .beside(&bare)
        .memory(memory(service.pid())?)
        .acknowledged(posted.acks);
    report.add(figure);
    line.stop(service)
}

/// Fifty events a request, a tenth of the requests repeats: also fills the raw topics for the legs
/// behind. The measured part is what follows the warm-up.
pub(crate) fn batched(
    line: &Line<'_>,
    script: &Arc<Script>,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let service = line.start("ingress")?;
    let bare = references(line.site, report)?;
    let leg = Leg { line, service: &service, connections: arguments.connections };
    let (posted, spent) = leg.drive("ingress, batches of 50", script, Arrivals::Closed)?;
    let events = (script.requests - warm_up(script)) * script.events_per_request;
    let figure = Figure::new("POST of 50 events", "ingress", events, spent)
        .budget(BUDGET_BATCHED)
        .beside(&bare)
        .memory(memory(service.pid())?)
        .acknowledged(posted.acks);
    report.add(figure.note(format!("{} connections, full load", arguments.connections)));
    line.stop(service)
}

/// Bare produces with lz4 and without compression; what the ingress does is held against the first.
fn references(site: &Site, report: &mut Report) -> anyhow::Result<Bare> {
    let lz4 = bare::produce(site, "lz4")?;
    report.add_bare(&lz4);
    report.add_bare(&bare::produce(site, "none")?);
    Ok(lz4)
}

fn warm_up(script: &Script) -> u64 {
    script.requests / WARM_UP_ONE_IN
}

/// An ingress under load.
struct Leg<'a> {
    line: &'a Line<'a>,
    service: &'a Running,
    connections: usize,
}

impl Leg<'_> {
    /// Posts all of a script; what is returned is of the part behind the warm-up.
    fn drive(
        &self,
        what: &str,
        script: &Arc<Script>,
        arrivals: Arrivals,
    ) -> anyhow::Result<(Posted, Spent)> {
        let bar = bar(what, script.requests);
        let warm = warm_up(script);
        let job = |requests| Job {
            address: &self.line.ingress,
            script,
            requests,
            connections: self.connections,
            arrivals,
            bar: &bar,
        };
        post(&job(0..warm))?;
        let watch = Watch::start(self.service.pid())?;
        let posted = post(&job(warm..script.requests))?;
        let spent = Spent { seconds: posted.took.as_secs_f64(), ..watch.spent()? };
        bar.finish_and_clear();
        Ok((posted, spent))
    }
}
