//! `cargo xtask bench`: a million events through each service alone, then through all of them.
//!
//! On shared cores events per second drift with the neighbours. Steadier are events per CPU-second
//! of the process under test, and steadier still their ratio to a bare run of the same minute:
//! librdkafka or ClickHouse alone, doing the least that the same work can cost. They have the
//! allocator of the services, which comes with the crate `stream`.

mod archive;
mod backlog;
mod bare;
mod client;
mod fill;
mod ingress;
mod latency;
mod probe;
mod report;
mod script;
mod site;
mod steps;
mod usage;
mod whole;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use clap::ValueEnum;

use crate::build::{self, Profile};
use client::unix_millis;
use report::Report;
use script::{Dates, Script};
use site::Site;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Events driven through each leg.
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Which legs to report; those in front of them run too, to fill their topics.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Leg::ALL)]
    legs: Vec<Leg>,
    /// Connections that post to the ingress.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Also have `dedupe` remember so many events, and see what memory that takes.
    #[arg(long)]
    ids: Option<u64>,
    /// How long the whole is kept at half load, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where to write the figures as JSON.
    #[arg(long, default_value = ".mailpulse/bench.json")]
    json: PathBuf,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Leg {
    /// POST of one event.
    Ingress,
    /// POST of 50 events. This and those up to `archive` are a chain: each reads what the one
    /// before has written.
    Batch,
    /// Raw events to canonical ones.
    Enrich,
    /// First sights pass.
    Dedupe,
    /// Rows in ClickHouse.
    Archive,
    /// Rates and alerts.
    Monitor,
    /// All of them together.
    Whole,
    /// Memory with `--events` waiting before every stage and ClickHouse stopped; only when asked for.
    Backlog,
}

impl Leg {
    const ALL: [Self; 7] = [
        Self::Ingress,
        Self::Batch,
        Self::Enrich,
        Self::Dedupe,
        Self::Archive,
        Self::Monitor,
        Self::Whole,
    ];
}

/// Builds, starts the servers, measures, prints.
pub(crate) fn bench(arguments: &Arguments) -> anyhow::Result<()> {
    eprintln!("building release binaries …");
    let binaries = build::services(Profile::Release)?;
    if cfg!(debug_assertions) {
        // The load generator would be the slowest part.
        let own = binaries.join("xtask");
        return Err(Command::new(own).args(std::env::args_os().skip(1)).exec().into());
    }
    eprintln!("starting Kafka and ClickHouse …");
    let site = Site::start(binaries)?;
    let mut report = Report::new(&site)?;
    let measured = measure(&site, arguments, &mut report);
    println!("{}", report.table());
    report.write(&build::workspace().join(&arguments.json))?;
    measured
}

fn measure(site: &Site, arguments: &Arguments, report: &mut Report) -> anyhow::Result<()> {
    let wanted = |leg| arguments.legs.contains(&leg);
    if wanted(Leg::Ingress) {
        ingress::single(site, arguments, report)?;
    }
    let chained = Leg::Batch..=Leg::Archive;
    if let Some(last) = arguments.legs.iter().filter(|leg| chained.contains(leg)).max() {
        chain(site, arguments, *last, report)?;
    }
    if wanted(Leg::Monitor) {
        steps::monitor(site, arguments.events, report)?;
    }
    if let Some(ids) = arguments.ids {
        steps::ids(site, ids, report)?;
    }
    if wanted(Leg::Whole) {
        whole::whole(site, arguments, report)?;
    }
    if wanted(Leg::Backlog) {
        backlog::backlog(site, arguments, report)?;
    }
    Ok(())
}

/// The legs in a row, up to the last one wanted.
fn chain(site: &Site, arguments: &Arguments, last: Leg, report: &mut Report) -> anyhow::Result<()> {
    let line = site.line("chain")?;
    let now = unix_millis();
    let dates = Dates::Past { millis: ingress::BACKLOG_MILLIS, until: now };
    let script = Script::new(&format!("c{now}"), arguments.events, ingress::BATCH, dates);
    let script = Arc::new(script.with_repeats());
    let (events, distinct) = (script.events(), script.distinct_events());
    ingress::batched(&line, &script, arguments, report)?;
    if last >= Leg::Enrich {
        steps::enrich(&line, events, report)?;
    }
    if last >= Leg::Dedupe {
        steps::dedupe(&line, events, distinct, report)?;
    }
    if last >= Leg::Archive {
        archive::archive(&line, distinct, report)?;
    }
    Ok(())
}
