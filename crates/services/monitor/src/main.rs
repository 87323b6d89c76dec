//! `monitor`: events in, rates and alerts out.
//!
//! Two steps with a topic between them, because events are keyed by recipient and a campaign lies
//! on every partition:
//!
//! 1. *fold*: `mail.events` → `mail.panes`. Per commit, what the events add to each scope's
//!    ten-second panes, and how far event time has come in each partition.
//! 2. *rate*: `mail.panes` → `mail.rates`, `mail.alerts`. The owner of a scope adds the deltas,
//!    slides the windows up to the least event time of all partitions, and judges the rules.
//!
//! Both are exactly-once, each a thread with a Kafka transaction of its own. Fold's only state, the
//! watermark, rides on its committed offset; rate's is restored from `mail.changelog.monitor`. A
//! crash loses nothing and repeats nothing; the numbers are the same however many members run.

mod clock;
mod facts;
mod fold;
mod journal;
mod progress;
mod rate;
mod rebuild;
mod settings;
mod shard;
mod tally;

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, anyhow};
use fold::Fold;
use rate::Rate;
use service::Service;
use settings::MonitorSettings;
use kafka::step::{Step, StepSettings};
use kafka::{Cluster, Connection};

fn main() -> anyhow::Result<()> {
    let service = Service::load("monitor", env!("CARGO_PKG_VERSION"))?;
    let settings: MonitorSettings = service.settings.section("monitor")?;
    let cluster = Cluster::read(&service)?;
    let Cluster { connection, topics, partitions, .. } = &cluster;
    service.open(settings.admin)?;

    cluster.prepare()?;
    let event_partitions = usize::try_from(partitions.recipient_partitions)?;
    let pane_partitions = usize::try_from(partitions.scope_partitions)?;
    let fold = Fold::new(topics, partitions.scope_partitions, &settings);
    let rate = Rate::new(topics, event_partitions, &settings);
    let half = |job, input: &str, input_partitions| StepSettings {
        job,
        group: topics.group(job),
        inputs: vec![input.to_owned()],
        input_partitions,
        dead_letters: topics.dead_letters.clone(),
        batch_records: settings.batch_records,
        batch_wait: settings.batch_wait,
        refusals_to_hold: settings.refusals_to_hold,
    };
    let fold_loop = half("monitor-fold", &topics.events, event_partitions);
    let rate_loop = half("monitor-rate", &topics.panes, pane_partitions);
    let pulse = Pulse { service: &service, rounds: Mutex::default() };
    std::thread::scope(|scope| {
        let _together = EndsBoth(&service);
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let folding =
            thread("fold").spawn_scoped(scope, || pulse.run(0, connection, &fold_loop, fold))?;
        let rating =
            thread("rate").spawn_scoped(scope, || pulse.run(1, connection, &rate_loop, rate))?;
        for half in [folding, rating] {
            half.join().map_err(|_| anyhow!("a half of monitor panicked"))??;
        }
        Ok(())
    })
}

/// What the halves share: one life.
struct Pulse<'a> {
    service: &'a Service,
    /// By half, whether it has partitions, as of its last round; taken when both had one.
    rounds: Mutex<[Option<bool>; 2]>,
}

impl Pulse<'_> {
    /// Runs one half; when it ends, for whatever reason, so does the other.
    fn run(
        &self,
        half: usize,
        connection: &Connection,
        settings: &StepSettings,
        mut step: impl Step,
    ) -> anyhow::Result<()> {
        let _together = EndsBoth(self.service);
        let stop = || self.service.shutdown.requested();
        kafka::step::run(connection, settings, &mut step, &stop, &|is_assigned| {
            self.beat(half, is_assigned)
        })
        .with_context(|| settings.job)
    }

    /// The process is alive while both halves are, and of use while one has partitions.
    fn beat(&self, half: usize, is_assigned: bool) {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        rounds[half] = Some(is_assigned);
        if let [Some(fold), Some(rate)] = *rounds {
            *rounds = [None; 2];
            self.service.health.report(fold || rate);
        }
    }
}

/// Asks for the end when it is dropped, be it by a panic.
struct EndsBoth<'a>(&'a Service);

impl Drop for EndsBoth<'_> {
    fn drop(&mut self) {
        self.0.shutdown.request();
    }
}
