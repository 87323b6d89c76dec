//! The legs of the ingress: from webhooks to acknowledged records.

use std::sync::Arc;

use devstack::Running;

use super::client::{Arrivals, Posted, Posting, post, unix_millis};
use super::cpu::{CpuMeter, Usage, memory};
use super::report::{Bare, Figure, Report};
use super::script::{Dates, Script};
use super::servers::{Namespace, Servers, bar};
use super::{Arguments, bare};

/// The budgets of `docs/benchmarks.md` in events per CPU-second.
const BUDGET_SINGLE: f64 = 100_000.0;
const BUDGET_BATCHED: f64 = 300_000.0;
/// Events of a batched request.
pub(crate) const BATCH: u64 = 50;
/// One of this many requests is posted before the measurement, to warm up connections and caches.
const WARM_UP_ONE_IN: u64 = 20;
/// The run at half load posts one of this many events: enough for steady percentiles.
const PACED_SHARE: u64 = 4;
/// The events of a backlog are spread over this time before the start.
pub(crate) const BACKLOG_MILLIS: i64 = 3_600_000;

/// Requests with one event: at full load, then at half of that rate.
pub(crate) fn single(
    servers: &Servers,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let namespace = servers.namespace("single")?;
    let service = namespace.start("ingress")?;
    let bare = bare_runs(servers, report)?;

    let run = format!("s{}", unix_millis());
    let script = Arc::new(Script::new(&run, arguments.events, 1, Dates::Live));
    let leg = Leg { namespace: &namespace, service: &service, connections: arguments.connections };
    let (posted, usage) = leg.drive("ingress, single events", &script, Arrivals::Closed)?;
    let events = script.requests - warm_up(&script);
    let rate = events as f64 / usage.seconds;
    let figure = Figure::new("POST of one event", "ingress", events, usage)
        .budget(BUDGET_SINGLE)
        .beside(&bare)
        .memory(memory(service.pid())?)
        .acknowledged(posted.acks);
    report.add(figure.note(format!("{} connections, full load", arguments.connections)));

    let run = format!("h{}", unix_millis());
    let paced = Arc::new(Script::new(&run, arguments.events / PACED_SHARE, 1, Dates::Live));
    let arrivals = Arrivals::Paced(rate / 2.0);
    let (posted, usage) = leg.drive("ingress, half load", &paced, arrivals)?;
    let events = paced.requests - warm_up(&paced);
    let figure = Figure::new("POST of one event, half load", "ingress", events, usage)
        .beside(&bare)
        .memory(memory(service.pid())?)
        .acknowledged(posted.acks);
    report.add(figure);
    namespace.stop(service)
}

/// Requests with fifty events, of which a tenth are repeated. They also fill the raw topics for the later
/// legs.
pub(crate) fn batched(
    namespace: &Namespace<'_>,
    script: &Arc<Script>,
    arguments: &Arguments,
    report: &mut Report,
) -> anyhow::Result<()> {
    let service = namespace.start("ingress")?;
    let bare = bare_runs(namespace.servers, report)?;
    let leg = Leg { namespace, service: &service, connections: arguments.connections };
    let (posted, usage) = leg.drive("ingress, batches of 50", script, Arrivals::Closed)?;
    let events = (script.requests - warm_up(script)) * script.events_per_request;
    let figure = Figure::new("POST of 50 events", "ingress", events, usage)
        .budget(BUDGET_BATCHED)
        .beside(&bare)
        .memory(memory(service.pid())?)
        .acknowledged(posted.acks);
    report.add(figure.note(format!("{} connections, full load", arguments.connections)));
    namespace.stop(service)
}

/// Runs the bare producer with lz4 and without compression. The ingress is compared with the first.
fn bare_runs(servers: &Servers, report: &mut Report) -> anyhow::Result<Bare> {
    let lz4 = bare::produce(servers, "lz4")?;
    report.add_bare(&lz4);
    report.add_bare(&bare::produce(servers, "none")?);
    Ok(lz4)
}

fn warm_up(script: &Script) -> u64 {
    script.requests / WARM_UP_ONE_IN
}

/// A running ingress and its load.
struct Leg<'a> {
    namespace: &'a Namespace<'a>,
    service: &'a Running,
    connections: usize,
}

impl Leg<'_> {
    /// Posts all requests of a script. Returns the measurement without the warm-up.
    fn drive(
        &self,
        what: &str,
        script: &Arc<Script>,
        arrivals: Arrivals,
    ) -> anyhow::Result<(Posted, Usage)> {
        let bar = bar(what, script.requests);
        let warm = warm_up(script);
        let posting = |requests| Posting {
            address: &self.namespace.ingress,
            script,
            requests,
            connections: self.connections,
            arrivals,
            bar: &bar,
        };
        post(&posting(0..warm))?;
        let meter = CpuMeter::start(self.service.pid())?;
        let posted = post(&posting(warm..script.requests))?;
        let usage = Usage { seconds: posted.took.as_secs_f64(), ..meter.usage()? };
        bar.finish_and_clear();
        Ok((posted, usage))
    }
}
