//! `cargo xtask bench`: a million events through each service alone, then through all of them.
//!
//! On shared cores, events per second depend on other programs. Events per CPU-second of the measured
//! process are steadier. Their ratio to a bare run of the same minute is the steadiest: librdkafka or
//! ClickHouse alone, with the least work. Bare runs use the allocator of the services, which is part of
//! the crate `kafka`.

mod archive;
mod backlog;
mod bare;
mod client;
mod cpu;
mod fill;
mod ingress;
mod latency;
mod page;
mod probe;
mod queries;
mod report;
mod script;
mod servers;
mod stages;
mod suppress;
mod together;
mod urgent;
mod views;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::ensure;
use clap::ValueEnum;

use crate::phase::Phase;
use client::unix_millis;
use report::Report;
use script::{Dates, Script};
use servers::Servers;

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    /// The number of events of each leg.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// The legs to report. Earlier legs of the chain run too, because they fill the topics.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Leg::ALL)]
    legs: Vec<Leg>,
    /// The number of connections to the ingress.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Also measure the memory of `dedupe` with this number of event ids.
    #[arg(long)]
    ids: Option<u64>,
    /// How many seconds the legs `whole` and `urgent` post at a given rate.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The number of pages of the leg `page`.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=5000))]
    incidents: u64,
    /// Write the figures as JSON to this file.
    #[arg(long, default_value = ".mailpulse/bench.json")]
    json: PathBuf,
}

/// Another benchmark.
#[derive(clap::Subcommand)]
enum Other {
    /// Fill ClickHouse with a month of events, and measure the questions of docs/analysts.md.
    Queries(queries::Arguments),
    /// Fill mail.suppressions, and measure the memory and the lookups of suppress.
    Suppress(suppress::Arguments),
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Leg {
    /// Requests with one event.
    Ingress,
    /// Requests with 50 events. The legs from this one to `archive` are a chain: each reads what the
    /// previous one has written.
    Batch,
    /// Raw events become canonical events.
    Enrich,
    /// Duplicates are dropped.
    Dedupe,
    /// Rows in ClickHouse.
    Archive,
    /// Rates and alerts.
    Monitor,
    /// All services together.
    Whole,
    /// How late pages are while all services run at half load.
    Page,
    /// How soon complaints, hard bounces and unsubscribes are suppressed while opens arrive at the highest rate. Not run by
    /// default.
    Urgent,
    /// Memory while `--events` wait before every stage and ClickHouse is stopped. Not run by default.
    Backlog,
}

impl Leg {
    const ALL: [Self; 8] = [
        Self::Ingress,
        Self::Batch,
        Self::Enrich,
        Self::Dedupe,
        Self::Archive,
        Self::Monitor,
        Self::Whole,
        Self::Page,
    ];
}

/// Starts the servers, measures and prints the figures.
pub(crate) fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.other {
        Some(Other::Queries(arguments)) => return queries::queries(arguments),
        Some(Other::Suppress(arguments)) => return suppress::suppress(arguments),
        None => {}
    }
    let is_smoke_test = arguments.legs == [Leg::Page] && arguments.incidents <= page::SMOKE_TEST;
    ensure!(
        !cfg!(debug_assertions) || is_smoke_test,
        "this is a debug build, whose load generator is too slow; start it with `cargo xtask bench`"
    );
    if cfg!(debug_assertions) {
        eprintln!(
            "this is a debug build: it shows that the leg works, and its figures mean nothing"
        );
    }
    let phase = Phase::begin("starting Kafka and ClickHouse", "10 s");
    let servers = Servers::start()?;
    drop(phase);
    let _phase = Phase::begin("running the legs", "10 min with the default options");
    let mut report = Report::new(&servers)?;
    let measured = measure(&servers, arguments, &mut report);
    println!("{}", report.table());
    report.write(&devstack::fetch::workspace().join(&arguments.json))?;
    measured
}

fn measure(servers: &Servers, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let wanted = |leg| arguments.legs.contains(&leg);
    if wanted(Leg::Ingress) {
        ingress::single(servers, arguments, report)?;
    }
    let chained = Leg::Batch..=Leg::Archive;
    if let Some(last) = arguments.legs.iter().filter(|leg| chained.contains(leg)).max() {
        chain(servers, arguments, *last, report)?;
    }
    if wanted(Leg::Monitor) {
        stages::monitor(servers, arguments.events, report)?;
    }
    if let Some(ids) = arguments.ids {
        stages::ids(servers, ids, report)?;
    }
    if wanted(Leg::Whole) {
        together::together(servers, arguments, report)?;
    }
    if wanted(Leg::Page) {
        page::page(servers, arguments, report)?;
    }
    if wanted(Leg::Urgent) {
        urgent::urgent(servers, arguments, report)?;
    }
    if wanted(Leg::Backlog) {
        backlog::backlog(servers, arguments, report)?;
    }
    Ok(())
}

/// Runs the legs of the chain, up to the last one to report.
fn chain(
    servers: &Servers,
    arguments: &Arguments,
    last: Leg,
    report: &mut Report,
) -> anyhow::Result<()> {
    let namespace = servers.namespace("chain")?;
    let now = unix_millis();
    let dates = Dates::Past { millis: ingress::BACKLOG_MILLIS, until: now };
    let script = Script::new(&format!("c{now}"), arguments.events, ingress::BATCH, dates);
    let script = Arc::new(script.with_repeats());
    let (events, distinct) = (script.events(), script.distinct_events());
    ingress::batched(&namespace, &script, arguments, report)?;
    if last >= Leg::Enrich {
        stages::enrich(&namespace, events, report)?;
    }
    if last >= Leg::Dedupe {
        stages::dedupe(&namespace, events, distinct, report)?;
    }
    if last >= Leg::Archive {
        archive::archive(&namespace, distinct, report)?;
    }
    Ok(())
}
